"""Writing rows once each, as cheaply as a driver allows; knows nothing of who sent them."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Final

from sqlalchemy.dialects import sqlite

from aigateway_usage.tables import attempts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection
    from sqlalchemy.sql.dml import ReturningInsert

    from aigateway_usage.rows import Row

_SQLITE: Final = sqlite.insert(attempts).on_conflict_do_nothing(index_elements=["event_id"])
_SQLITE_TEXT: Final = str(_SQLITE.compile(dialect=sqlite.dialect()))
_CHUNK: Final = 500
"""Rows of one statement that names the new ones; the event loop is held about five milliseconds to build it."""
_values: Final = itemgetter(*(column.name for column in attempts.columns))


def insert(connection: Connection, rows: Sequence[Row]) -> set[str]:
    """Insert the rows whose event id is new; the ids of those.

    On SQLite all rows go to the driver's thread as one call of plain tuples. That tells how many were new, not which;
    only when some were not, which is rare, they are written again by a statement that names the new ones.
    """
    if connection.dialect.name == "sqlite":
        done = connection.exec_driver_sql(_SQLITE_TEXT, [_values(row) for row in rows])
        if done.rowcount == len(rows):
            return {row["event_id"] for row in rows}
        connection.rollback()
    statement, new = returning_new(connection.dialect.name), set[str]()
    for start in range(0, len(rows), _CHUNK):
        new.update(connection.scalars(statement, rows[start : start + _CHUNK]))
    return new


def returning_new(dialect: str) -> ReturningInsert[str]:
    """INSERT that leaves known event ids alone and answers with the new ones, for `sqlite` or `postgresql`."""
    if dialect == "sqlite":
        return _SQLITE.returning(attempts.c.event_id)
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 -- slow to import

    statement = postgresql.insert(attempts).on_conflict_do_nothing(index_elements=["event_id"])
    return statement.returning(attempts.c.event_id)
