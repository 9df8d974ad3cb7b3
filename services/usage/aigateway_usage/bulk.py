"""Many rows in one statement, as cheaply as each driver allows: SQLite takes tuples, PostgreSQL an array per column."""

from __future__ import annotations

from functools import cache
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


def insert_rows(
    connection: Connection,
    table: Table,
    rows: Sequence[tuple[Any, ...]],
    after: str,
    columns: tuple[str, ...] | None = None,
) -> CursorResult[Any]:
    """INSERT `rows`, with what comes `after` their values; of all columns unless they are named.

    On SQLite nothing can be read from the result but how many rows there were.
    """
    dialect = connection.dialect.name
    statement = _statement(dialect, table, after, columns or tuple(column.name for column in table.columns))
    if dialect == "sqlite":
        return connection.exec_driver_sql(statement, list(rows))
    return connection.exec_driver_sql(statement, tuple(list(values) for values in zip(*rows, strict=True)))


def written(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]], after: str) -> int:
    """`insert_rows` for what calls wait for; how many rows there were."""
    if connection.dialect.name == "sqlite":
        statement = _statement("sqlite", table, after, tuple(column.name for column in table.columns))
        return plain.run(connection, statement, rows, many=True).rowcount
    return insert_rows(connection, table, rows, after).rowcount


@cache
def _statement(dialect: str, table: Table, after: str, columns: tuple[str, ...]) -> str:
    names = ", ".join(columns)
    if dialect == "sqlite":
        values = f"VALUES ({', '.join('?' * len(columns))})"
    else:
        arrays = (f"${at}::{_ARRAYS[type(table.c[name].type)]}[]" for at, name in enumerate(columns, 1))
        values = f"SELECT * FROM unnest({', '.join(arrays)})"  # noqa: S608 -- names of our own tables
    return f"INSERT INTO {table.name} ({names}) {values} {after}"
