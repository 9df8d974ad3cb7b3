"""Fills a ledger with months of events in minutes: one day of them as the service would write them, then copies of it.

What comes out is what recording every one of them would have left, which a test holds it to.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from aigateway_usage import partitions
from aigateway_usage.bulk import insert_rows
from aigateway_usage.migrations.versions.v0003_rollups import fill
from aigateway_usage.pricing import Pricer
from aigateway_usage.rows import to_row
from aigateway_usage.settings import UsageSettings
from aigateway_usage.tables import attempts

from bench.ledger_events import DAY_US, FIRST_US, PRICES, events

if TYPE_CHECKING:
    from collections.abc import Callable

    from aigateway.v1 import usage_service_pb2
    from aigateway_usage.database import Database
    from aigateway_usage.rows import Row
    from sqlalchemy import Connection

_PORTION: Final = 5000
_NAMES: Final = [column.name for column in attempts.columns]


async def load(database: Database, count: int, days: int, told: Callable[[str], None]) -> None:
    """Write `count` events of `days` days, as many on each; the ledger is empty."""
    rows = priced(list(events(count // days, FIRST_US, FIRST_US + DAY_US, seed=0)))
    await database.write(_prepare)
    for start in range(0, len(rows), _PORTION):
        values = [tuple(row[name] for name in _NAMES) for row in rows[start : start + _PORTION]]
        await database.write(partial(insert_rows, table=attempts, rows=values, after=""))
    for day in range(1, days):
        await database.write(partial(_copy, day=day))
        if day % 10 == 0:
            told(f"{day} of {days} days")
    await database.write(fill)
    await database.write(_analyze)


def priced(attempts_: list[usage_service_pb2.Attempt]) -> list[Row]:
    """Rows as the service makes them."""
    pricer = Pricer(UsageSettings("sqlite:///unused.db", price_overrides=PRICES))
    rows = [to_row(attempt, 0) for attempt in attempts_]
    for row in rows:
        pricer.price(row)
    return rows


def copied(row: Row, day: int) -> Row:
    """The copy of a row of the first day; `_copy` in Python."""
    at_us = row["started_at_us"] + day * DAY_US
    prefix, request = f"{at_us // 1000:012x}", row["request_id"]
    turned = request[day % 36 :] + request[: day % 36] + f"-{day}" if "-" in request else prefix + request[12:]
    return row | {"event_id": prefix + row["event_id"][12:], "request_id": turned, "started_at_us": at_us}


def _prepare(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        partitions.make_ahead(connection, FIRST_US)


def _copy(connection: Connection, day: int) -> None:
    """Copy the first day to another: the same but for times, and ids, which tell them."""
    milliseconds = f"(started_at_us + {day * DAY_US}) / 1000"
    sqlite = connection.dialect.name == "sqlite"
    prefix = f"printf('%012x', {milliseconds})" if sqlite else f"lpad(to_hex({milliseconds}), 12, '0')"
    has_dash = "instr(request_id, '-') > 0" if sqlite else "strpos(request_id, '-') > 0"
    turned = f"substr(request_id, {day % 36 + 1}) || substr(request_id, 1, {day % 36}) || '-{day}'"
    values = dict(zip(_NAMES, _NAMES, strict=True)) | {
        "event_id": f"{prefix} || substr(event_id, 13)",
        "request_id": f"CASE WHEN {has_dash} THEN {turned} ELSE {prefix} || substr(request_id, 13) END",
        "started_at_us": f"started_at_us + {day * DAY_US}",
    }
    first = f"started_at_us >= {FIRST_US} AND started_at_us < {FIRST_US + DAY_US}"
    connection.exec_driver_sql(
        f"INSERT INTO attempts ({', '.join(values)}) SELECT {', '.join(values.values())} FROM attempts "
        f"WHERE {first} ORDER BY started_at_us"
    )


def _analyze(connection: Connection) -> None:
    """As PostgreSQL does by itself after a while."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("ANALYZE")
