"""The queue of webhooks as SQL: which are due, who takes them, and what became of them.

Several usage services may look at once. Who takes a delivery moves its next try ahead by a lease, on the condition that
nobody else has; when that service dies, the delivery is due again once the lease is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, delete, desc, exists, select, update

from aigateway_usage.tables import webhook_deliveries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from aigateway_usage.rows import Row

BATCH: Final = 16
"""Deliveries that are taken together."""
MAX_KEPT: Final = 10_000
"""Deliveries of which the newest are kept once they are over, and those that wait at most."""

_table: Final = webhook_deliveries
_WAITING: Final = and_(_table.c.delivered_at_us.is_(None), _table.c.abandoned_at_us.is_(None))
_earlier: Final = _table.alias("earlier")
_FIRST: Final = ~exists().where(
    _earlier.c.alert_id == _table.c.alert_id,
    _earlier.c.url == _table.c.url,
    _earlier.c.id < _table.c.id,
    _earlier.c.delivered_at_us.is_(None),
    _earlier.c.abandoned_at_us.is_(None),
)
"""Nothing that happened to the alert before still waits for the same receiver: who hears of the end knows the begin."""


def waiting(connection: Connection) -> list[Row]:
    """The deliveries whose turn comes next, due or not."""
    query = select(_table).where(_WAITING, _FIRST).order_by(_table.c.next_try_us, _table.c.id).limit(BATCH)
    return [dict(row) for row in connection.execute(query).mappings()]


def take(connection: Connection, rows: Sequence[Row], until_us: int) -> list[Row]:
    """Take deliveries until then; those that nobody else has taken meanwhile."""
    taken: list[Row] = []
    for row in sorted(rows, key=lambda each: str(each["id"])):  # in this order everywhere, as in `register.apply`
        mine = and_(_table.c.id == row["id"], _table.c.next_try_us == row["next_try_us"], _WAITING)
        values = {"next_try_us": until_us, "tries": row["tries"] + 1}
        if connection.execute(update(_table).where(mine).values(values)).rowcount:
            taken.append(row | values)
    return taken


def delivered(connection: Connection, delivery: str, now_us: int) -> None:
    """It arrived."""
    connection.execute(update(_table).where(_table.c.id == delivery, _WAITING).values(delivered_at_us=now_us))


def abandoned(connection: Connection, delivery: str, now_us: int) -> None:
    """It is given up."""
    connection.execute(update(_table).where(_table.c.id == delivery, _WAITING).values(abandoned_at_us=now_us))


def again(connection: Connection, delivery: str, next_try_us: int) -> None:
    """It is tried again then."""
    connection.execute(update(_table).where(_table.c.id == delivery, _WAITING).values(next_try_us=next_try_us))


def prune(connection: Connection, now_us: int) -> int:
    """Give up the oldest of too many that wait, and forget the oldest that are over; how many were given up."""
    last = select(_table.c.id).where(_WAITING).order_by(desc(_table.c.id)).offset(MAX_KEPT - 1).limit(1)
    too_many = update(_table).where(_WAITING, _table.c.id < last.scalar_subquery())
    dropped = connection.execute(too_many.values(abandoned_at_us=now_us)).rowcount
    over = select(_table.c.id).where(~_WAITING).order_by(desc(_table.c.id)).offset(MAX_KEPT - 1).limit(1)
    connection.execute(delete(_table).where(~_WAITING, _table.c.id < over.scalar_subquery()))
    return dropped
