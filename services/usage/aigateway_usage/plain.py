"""Fixed statements handed to the driver as they are, for what calls wait for.

Making one of SQLAlchemy's takes several times as long as SQLite takes to run it, so on SQLite they go past it, within
the transaction that it knows of. Lists go as one parameter, a JSON array, so that each statement has one text, which
drivers keep prepared.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

LIST: Final = "(SELECT value FROM json_each(?))"
"""A list of texts, to stand after IN."""
PAIRS: Final = "(SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"
"""A list of pairs of texts."""
_POSTGRESQL: Final = {
    LIST: "(SELECT jsonb_array_elements_text(?::text::jsonb))",
    PAIRS: "(SELECT value ->> 0, value ->> 1 FROM jsonb_array_elements(?::text::jsonb) AS each(value))",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement in the words of either driver."""

    sqlite: str
    postgresql: str

    @classmethod
    def of(cls, text: str) -> Statement:
        """The statement whose text for SQLite is given, with `?` for each value."""
        other = text
        for sqlite, postgresql in _POSTGRESQL.items():
            other = other.replace(sqlite, postgresql)
        count = itertools.count(1)
        return cls(text, re.sub(r"\?", lambda _: f"${next(count)}", other))

    def rows(self, connection: Connection, *values: Any) -> Sequence[tuple[Any, ...]]:
        """Run it; what it answers."""
        if connection.dialect.name == "sqlite":
            return run(connection, self.sqlite, values).fetchall()
        return [tuple(row) for row in connection.exec_driver_sql(self.postgresql, values)]


def run(connection: Connection, text: str, values: Sequence[Any]) -> sqlite3.Cursor:
    """Run a statement on SQLite. Raises SQLAlchemy's errors."""
    if not connection.in_transaction():
        connection.begin()
    driver = cast("sqlite3.Connection", connection.connection.dbapi_connection)
    try:
        return driver.execute(text, values)
    except sqlite3.Error as error:
        raise DBAPIError.instance(text, None, error, sqlite3.Error, dialect=connection.dialect) from error
