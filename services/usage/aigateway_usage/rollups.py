"""Sums of attempts by hour and by day, kept in the transactions that insert them.

So they are exact at any moment, whatever order attempts arrive in and whoever is killed; nothing is rolled up later.
What is summed up is told apart by its series: a project, a provider, a status and the three names of a model.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from aigateway_usage.budgets import cost_nano
from aigateway_usage.bulk import insert_rows
from aigateway_usage.pricing import is_unpriced
from aigateway_usage.tables import INPUT_CLASSES, OUTPUT_CLASSES, days, hours, key_days, series

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection, Table

    from aigateway_usage.rows import Row

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
MOST: Final = 10**17
"""What a sum of tokens, nano-dollars or microseconds stops at. A provider's nonsense count must not overflow it, or the
ledger could not write the attempt at all."""
MAX_KNOWN: Final = 100_000
"""Series whose ids are kept at hand."""

DIMENSIONS: Final = ("project", "provider", "status", "requested_model", "sent_model", "answered_model")
SUMS: Final = ("attempts", "unpriced", "input_tokens", "output_tokens", "cost_nano", "duration_us", "cost_usd")
_LIMITED: Final = frozenset({"input_tokens", "output_tokens", "cost_nano", "duration_us"})
_ASKED: Final = 500
"""Digests of one statement."""

Dimensions = tuple[str | None, ...]
_dimensions: Final = itemgetter(*DIMENSIONS)
_input: Final = itemgetter(*INPUT_CLASSES)
_output: Final = itemgetter(*OUTPUT_CLASSES)
_Sums = list[Any]


class Rollups:
    """The sums of one database. Series that a transaction adds are known once it is said to be committed."""

    def __init__(self) -> None:
        self._known: dict[Dimensions, int] = {}
        self._new: dict[Dimensions, int] = {}

    def add(self, connection: Connection, rows: Iterable[Row]) -> None:
        """Count attempts that were just inserted. Locks are taken in one order, or two transactions could deadlock."""
        by_hour, by_key = _tally(rows)
        ids = self._ids(connection, {named for _, named in by_hour})
        by_day: dict[tuple[int, Dimensions], _Sums] = {}
        for (hour, named), sums in by_hour.items():
            _merge(by_day, (hour // 24, named), sums)
        for table, cells in ((hours, by_hour), (days, by_day)):
            values = sorted((at, ids[named], *sums) for (at, named), sums in cells.items())
            insert_rows(connection, table, values, _adding(connection.dialect.name, table))
        costs = sorted((key, day, min(cost, MOST)) for (key, day), cost in by_key.items())
        if costs:
            insert_rows(connection, key_days, costs, _adding(connection.dialect.name, key_days))

    def committed(self) -> None:
        """The transaction of the last `add` is committed: its new series may be relied on."""
        if len(self._known) + len(self._new) > MAX_KNOWN:
            self._known.clear()
        self._known |= self._new
        self._new = {}

    def _ids(self, connection: Connection, named: Iterable[Dimensions]) -> dict[Dimensions, int]:
        self._new = {}  # of a transaction that was never committed
        missing = {digest(each): each for each in named if each not in self._known}
        for digests in _chunks(sorted(missing)):
            found = _find(connection, digests)
            rows = [(each, *missing[each]) for each in digests if each not in found]
            if rows:
                insert_rows(connection, series, rows, "ON CONFLICT DO NOTHING", ("digest", *DIMENSIONS))
                found = _find(connection, digests)
            self._new |= {missing[each]: found[each] for each in digests}
        return {each: self._new[each] if each in self._new else self._known[each] for each in named}


@cache
def _adding(dialect: str, table: Table) -> str:
    """ON CONFLICT that adds what is new to what is there."""
    least = "min" if dialect == "sqlite" else "least"
    keys = [column.name for column in table.primary_key]
    sums = [column.name for column in table.columns if column.name not in keys]
    changes = [
        f"{name} = {table.name}.{name} + {least}(excluded.{name}, {MOST} - {table.name}.{name})"
        if name in _LIMITED
        else f"{name} = {table.name}.{name} + excluded.{name}"
        for name in sums
    ]
    return f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {', '.join(changes)}"


def digest(named: Dimensions) -> str:
    """The one digest of a series."""
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:32]


def _tally(rows: Iterable[Row]) -> tuple[dict[tuple[int, Dimensions], _Sums], dict[tuple[str, int], int]]:
    """Sums by hour and series, and costs by key and day."""
    by_hour: dict[tuple[int, Dimensions], _Sums] = {}
    by_key: dict[tuple[str, int], int] = {}
    for row in rows:
        usd, started = row["cost_usd"] or 0.0, row["started_at_us"]
        nano = cost_nano(usd) if usd else 0
        tokens_in, tokens_out = sum(filter(None, _input(row))), sum(filter(None, _output(row)))
        sums = [1, is_unpriced(row), tokens_in, tokens_out, nano, row["duration_us"], usd]
        _merge(by_hour, (started // HOUR_US, _dimensions(row)), sums)
        if nano and row["key_id"]:
            place = (row["key_id"], started // DAY_US)
            by_key[place] = by_key.get(place, 0) + nano
    return by_hour, by_key


def _merge(cells: dict[tuple[int, Dimensions], _Sums], place: tuple[int, Dimensions], sums: _Sums) -> None:
    cell = cells.get(place)
    if cell is None:
        cells[place] = [sums[0], int(sums[1]), *(min(each, MOST) for each in sums[2:6]), sums[6]]
        return
    cell[0] += sums[0]
    cell[1] += sums[1]
    for at in range(2, 6):
        cell[at] = min(cell[at] + sums[at], MOST)
    cell[6] += sums[6]


def _find(connection: Connection, digests: Sequence[str]) -> dict[str, int]:
    query = select(series.c.digest, series.c.id).where(series.c.digest.in_(digests))
    return {row.digest: row.id for row in connection.execute(query)}


def _chunks(digests: Sequence[str]) -> Iterable[Sequence[str]]:
    return (digests[start : start + _ASKED] for start in range(0, len(digests), _ASKED))
