"""PostgreSQL only: the attempts of a month lie in a partition of their own, so that an old month goes at once.

Partitions are made ahead. What fits none, as of a clock that is wrong by months, lies in `attempts_default` until its
month gets one. What a ledger held before it had partitions is one too: `attempts_before_2026_08`. A partition is known
by its name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from aigateway_usage.budgets import MONTH, iso, period_end, period_start

if TYPE_CHECKING:
    from sqlalchemy import Connection

AHEAD: Final = 3
"""Months after this one that have a partition."""
PATIENCE: Final = "2s"
"""How long a change waits for questions under way, and writers behind it; then it is tried another time."""

_DEFAULT: Final = "attempts_default"
_NAME: Final = re.compile(r"attempts_(before_)?(\d{4})_(\d{2})")
_NAMES: Final = (
    "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'attempts'::regclass"
)


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition; times are microseconds since 1970, and `first_us` is None for all the time before."""

    name: str
    first_us: int | None
    end_us: int


def of_month(at_us: int) -> Partition:
    """The partition of the month around a time."""
    first, end = period_start(MONTH, at_us), period_end(MONTH, at_us)
    return Partition(f"attempts_{iso(first)[:7].replace('-', '_')}", first, end or 0)


def existing(connection: Connection) -> list[Partition]:
    """The partitions that there are, by name; the default one is not among them."""
    found = (_NAME.fullmatch(name) for name in connection.exec_driver_sql(_NAMES).scalars())
    return sorted((_known(each) for each in found if each), key=lambda partition: partition.name)


def make_ahead(connection: Connection, now_us: int) -> list[str]:
    """Make the partitions of this month and the next ones, as far as they are missing; their names."""
    have, at_us, made = existing(connection), now_us, list[str]()
    for _ in range(AHEAD + 1):
        wanted = of_month(at_us)
        if not any((each.first_us or 0) < wanted.end_us and (wanted.first_us or 0) < each.end_us for each in have):
            _make(connection, wanted)
            made.append(wanted.name)
        at_us = wanted.end_us
    return made


def drop_before(connection: Connection, horizon_us: int) -> list[str]:
    """Drop the partitions of which everything lies before a time; their names."""
    old = [each.name for each in existing(connection) if each.end_us <= horizon_us]
    for name in old:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{PATIENCE}'")
        connection.exec_driver_sql(f"DROP TABLE {name}")
    return old


def _make(connection: Connection, wanted: Partition) -> None:
    """Make a partition of what lies in the default one, and of nothing else; writers wait for a moment."""
    name, first, end = wanted.name, wanted.first_us, wanted.end_us
    within = f"started_at_us >= {first} AND started_at_us < {end}"
    moved = f"DELETE FROM {_DEFAULT} WHERE {within} RETURNING *"  # noqa: S608 -- names and numbers of our own
    for statement in (
        f"SET LOCAL lock_timeout = '{PATIENCE}'",
        f"LOCK TABLE {_DEFAULT} IN ACCESS EXCLUSIVE MODE",
        f"CREATE TABLE {name} (LIKE attempts INCLUDING DEFAULTS)",
        f"WITH moved AS ({moved}) INSERT INTO {name} SELECT * FROM moved",  # noqa: S608 -- as above
        f"ALTER TABLE attempts ATTACH PARTITION {name} FOR VALUES FROM ({first}) TO ({end})",
    ):
        connection.exec_driver_sql(statement)


def _known(named: re.Match[str]) -> Partition:
    before, year, month = named.groups()
    start = _month_us(int(year), int(month))
    if before:
        return Partition(named[0], None, start)
    return Partition(named[0], start, of_month(start).end_us)


def _month_us(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 1_000_000
