"""Writing rows once each, as cheaply as a driver allows; knows nothing of who sent them."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Final

from sqlalchemy.dialects import sqlite

from aigateway_usage.bulk import insert_arrays, insert_rows
from aigateway_usage.tables import attempts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from aigateway_usage.rows import Row

_CHUNK: Final = 500
"""Rows of one statement; on PostgreSQL the event loop is held for some milliseconds to encode it."""
_NEW: Final = "ON CONFLICT DO NOTHING"
_NAMED: Final = sqlite.insert(attempts).on_conflict_do_nothing().returning(attempts.c.event_id)
_COLUMNS: Final = tuple(column.name for column in attempts.columns)
_values: Final = itemgetter(*_COLUMNS)


def insert(connection: Connection, rows: Sequence[Row]) -> set[str]:
    """Insert the rows whose event id is new; the ids of those.

    SQLite tells how many were new, not which; only when some were not, which is rare, they are written again by a
    statement that names the new ones.
    """
    if connection.dialect.name == "sqlite":
        if insert_rows(connection, attempts, [_values(row) for row in rows], _NEW) == len(rows):
            return {row["event_id"] for row in rows}
        connection.rollback()
    else:
        # In one order everywhere, or two services that are sent the same events would wait for each other.
        rows = sorted(rows, key=itemgetter("event_id"))
    new = set[str]()
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        if connection.dialect.name == "sqlite":
            new.update(connection.scalars(_NAMED, part))
        else:
            values = [_values(row) for row in part]
            named = insert_arrays(connection, attempts, values, f"{_NEW} RETURNING event_id", _COLUMNS)
            new.update(named.scalars())
    return new
