"""Bringing a ledger's schema to the current revision, cheaply when it is there already or made from nothing.

Alembic takes a fifth of a second to import and eleven megabytes, so the stored revision is read with plain SQL first,
and a new SQLite ledger is made by the SQL that `snapshot` took of one that Alembic made.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

HEAD: Final = "0003"
"""The newest revision in `migrations/versions`."""

NEW: Final = Path(__file__).with_name("migrations") / "new_sqlite.sql"
"""A new SQLite ledger; see `snapshot`."""
BETWEEN: Final = "\n\n"
"""What stands between its statements, and in none of them."""
_LOCK: Final = 0x616967_6C6564
"""Any number of our own: the advisory lock that PostgreSQL holds while one process migrates."""


class NewerSchemaError(RuntimeError):
    """The database was migrated by a newer release than this one."""


def to_head(connection: Connection) -> None:
    """Create or upgrade the schema. Safe when several processes start at once: one migrates, the others find it done.

    Raises:
        NewerSchemaError: The schema is of a release that this one does not know.
    """
    stored = _stored(connection)
    connection.rollback()
    if stored == HEAD:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver begins by itself for rows, not for schemas
    if connection.dialect.name == "sqlite" and _is_empty(connection):
        _create(connection)
    else:
        upgrade(connection)
    connection.commit()


def config(connection: Connection) -> Config:
    """Alembic's configuration for a connection: the scripts lie in this package, there is no .ini file."""
    from alembic.config import Config  # noqa: PLC0415 -- slow to import, seldom needed

    result = Config()
    result.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    result.set_main_option("path_separator", "os")
    result.attributes["connection"] = connection
    return result


def _stored(connection: Connection) -> str | None:
    try:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except DBAPIError:  # no such table; whatever else is wrong, the upgrade meets it again and says so
        return None


def _is_empty(connection: Connection) -> bool:
    return connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar() == 0


def _create(connection: Connection) -> None:
    for statement in NEW.read_text().split(BETWEEN):
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql("UPDATE projects SET created_at_us = ?", (time.time_ns() // 1000,))


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing. Raises NewerSchemaError."""
    from alembic import command  # noqa: PLC0415 -- slow to import, seldom needed
    from alembic.util.exc import CommandError  # noqa: PLC0415 -- as above

    try:
        command.upgrade(config(connection), "head")
    except CommandError as error:
        raise NewerSchemaError(
            f"the ledger's schema is newer than this release, which knows revision {HEAD}; "
            "run the release that wrote it, or restore a backup"
        ) from error
