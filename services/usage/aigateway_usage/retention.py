"""Removing attempts that are older than they are kept. Their sums by hour and by day stay.

On PostgreSQL whole months go at once. What else is too old goes in small portions, so that no writer waits for long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, exists, select, tuple_

from aigateway_usage import database, partitions
from aigateway_usage.rollups import DAY_US
from aigateway_usage.tables import attempts

if TYPE_CHECKING:
    from sqlalchemy import Connection

PORTION: Final = 1000
"""Attempts that one transaction removes, in some milliseconds."""


def horizon(now_us: int, days: int) -> int:
    """The time before which attempts are removed: whole days, UTC, that ended so many days ago."""
    return (now_us - days * DAY_US) // DAY_US * DAY_US


def has_expired(connection: Connection, horizon_us: int) -> bool:
    """Whether there is something to remove."""
    return bool(connection.scalar(select(exists().where(attempts.c.started_at_us < horizon_us))))


def remove(connection: Connection, horizon_us: int) -> int:
    """Remove a portion of what lies before a time; how many attempts that was."""
    c = attempts.c
    database.begin(connection)
    old = select(c.event_id, c.started_at_us).where(c.started_at_us < horizon_us)
    old = old.order_by(c.started_at_us).limit(PORTION).with_for_update(skip_locked=True)
    query = delete(attempts).where(c.started_at_us < horizon_us, tuple_(c.event_id, c.started_at_us).in_(old))
    return connection.execute(query).rowcount


def drop(connection: Connection, horizon_us: int) -> list[str]:
    """Remove whole months where that is possible; the names of their partitions."""
    return partitions.drop_before(connection, horizon_us) if connection.dialect.name == "postgresql" else []
