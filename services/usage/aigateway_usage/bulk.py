"""Many rows in one statement, as cheaply as each driver allows: SQLite takes tuples, PostgreSQL an array per column."""

from __future__ import annotations

from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Boolean, Double, Integer, String, Text

from aigateway_usage import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, CursorResult, Table

_ARRAYS: Final = {
    BigInteger: "bigint",
    Boolean: "boolean",
    Double: "double precision",
    Integer: "integer",
    String: "text",
    Text: "text",
}
"""What a column's values are sent as."""
_MOST_TOGETHER: Final = 64
"""Rows of one statement of SQLite, with a few thousand values: below the 32,766 that it takes, and small to keep."""


def insert_rows(
    connection: Connection,
    table: Table,
    rows: Sequence[tuple[Any, ...]],
    after: str,
    columns: tuple[str, ...] | None = None,
) -> int:
    """INSERT `rows`, with what comes `after` their values; of all columns unless they are named. Says how many it were.

    SQLite's driver lets go of the interpreter around each statement and waits to have it back, so that a statement for
    each row would cost the event loop more than the rows themselves.
    """
    names = columns or tuple(column.name for column in table.columns)
    if connection.dialect.name != "sqlite":
        return insert_arrays(connection, table, rows, after, names).rowcount
    count = start = 0
    while start < len(rows):
        # A power of two, so that few statements are kept for all numbers of rows.
        size = min(_MOST_TOGETHER, 1 << ((len(rows) - start).bit_length() - 1))
        values = tuple(chain.from_iterable(rows[start : start + size]))
        count += plain.run(connection, _of_rows(table, after, names, size), values).rowcount
        start += size
    return count


def insert_arrays(
    connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]], after: str, columns: tuple[str, ...]
) -> CursorResult[Any]:
    """INSERT `rows` into PostgreSQL, with what comes `after` their values."""
    statement = _of_arrays(table, after, columns)
    return connection.exec_driver_sql(statement, tuple(list(values) for values in zip(*rows, strict=True)))


@cache
def _of_rows(table: Table, after: str, columns: tuple[str, ...], size: int) -> str:
    # FAIL, since whatever fails undoes its transaction: to undo the statement alone SQLite would keep a journal of it.
    row = f"({', '.join('?' * len(columns))})"
    values = f"VALUES {', '.join([row] * size)}"
    return f"INSERT OR FAIL INTO {table.name} ({', '.join(columns)}) {values} {after}"


@cache
def _of_arrays(table: Table, after: str, columns: tuple[str, ...]) -> str:
    arrays = (f"${at}::{_ARRAYS[type(table.c[name].type)]}[]" for at, name in enumerate(columns, 1))
    values = f"SELECT * FROM unnest({', '.join(arrays)})"  # noqa: S608 -- names of our own tables
    return f"INSERT INTO {table.name} ({', '.join(columns)}) {values} {after}"
