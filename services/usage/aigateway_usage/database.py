"""The one way to the database: transactions on an SQLite file (`sqlite`) or a PostgreSQL server (`postgresql`).

Writers run one at a time on a connection that stays theirs, readers a few at a time, look-ups one after the other. Work
is a function of a `Connection`; it knows nothing but that, since it may run in another thread. What drivers raise is
mapped to `GatewayError` here and nowhere else.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, TypeVar

from aigateway_common import logs
from aigateway_common.errors import GatewayError
from aigateway_common.logins import same_place
from sqlalchemy import URL, Connection, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError, SQLAlchemyError

from aigateway_usage import migrate, plain
from aigateway_usage.sqlite import SqliteFile, SqliteSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Table

    from aigateway_usage.postgresql import PostgresServer, PostgresSession

READERS: Final = 2
"""Queries that run at the same time; more wait."""
MAX_QUERIES: Final = 100
"""Queries that run or wait; more are refused with OVERLOADED at once."""

NOT_NOW: Final = ("08", "28", "3D", "53", "57")
"""Classes of errors by which PostgreSQL says that it, or this database, is not to be had now: a broken connection, a
refused login, no such database, nothing left, stopping or starting
(https://www.postgresql.org/docs/current/errcodes-appendix.html)."""

_SQLITE: Final = "sqlite+aiosqlite"
_POSTGRESQL: Final = "postgresql+asyncpg"
_DRIVERS: Final = {"sqlite": _SQLITE, _SQLITE: _SQLITE, "postgresql": _POSTGRESQL, _POSTGRESQL: _POSTGRESQL}
_T = TypeVar("_T")
_log = logs.get("usage")


class Database:
    """A ledger's database. `open` before use, `close` after."""

    def __init__(self, url: str, *, busy_timeout: float) -> None:
        self._given = url
        self._url = async_url(url)
        self._busy_timeout = busy_timeout
        self._connections: SqliteFile | PostgresServer | None = None
        self._writer: SqliteSession | PostgresSession | None = None
        self._writing = asyncio.Lock()
        self._readers = asyncio.Semaphore(READERS)
        self._looking = asyncio.Lock()
        self._reading = 0

    async def open(self) -> None:
        """Connect and bring the schema up to date.

        Raises:
            NewerSchemaError: A newer release wrote the database.
            RuntimeError: PostgreSQL's driver is not installed.
            GatewayError: The database cannot be opened.
        """
        try:
            if self._url.drivername == _SQLITE:
                self._connections = SqliteFile(self._url, busy_timeout=self._busy_timeout)
            else:
                from aigateway_usage.postgresql import PostgresServer  # noqa: PLC0415 -- brings SQLAlchemy's ORM along

                self._connections = PostgresServer(self._url, size=READERS + 2)
            await self._run(migrate.to_head)
        except BaseException as error:
            await self.close()
            if isinstance(error, SQLAlchemyError | OSError):
                raise _mapped(error) from error
            raise

    def log_in(self, url: str) -> None:
        """Show user and password of `url` for new connections; those that are open stay.

        Nothing changes when it leads to another database.
        """
        if not same_place(url, self._given):
            return
        self._given, self._url = url, async_url(url)
        if self._connections is not None and not isinstance(self._connections, SqliteFile):
            self._connections.log_in(self._url)

    async def write(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` in a transaction of its own, one after the other; returns once it is committed."""
        async with self._writing:
            try:
                if self._writer is None:
                    self._writer = await self._opened().connect()
                return await self._writer.run(_transaction(work))
            except BaseException as error:
                await self._release_writer()
                if isinstance(error, SQLAlchemyError | OSError):
                    raise _mapped(error) from error
                raise

    async def read(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work`, which asks one question."""
        if self._reading >= MAX_QUERIES:
            raise GatewayError("OVERLOADED", "the ledger answers too many questions already; try again", retry_after=1)
        self._reading += 1
        try:
            async with self._readers:
                return await self._ask(work)
        finally:
            self._reading -= 1

    async def look_up(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work`, which asks a question that takes a moment; it waits for no `read`, since calls wait for it."""
        async with self._looking:
            return await self._ask(work)

    async def _ask(self, work: Callable[[Connection], _T]) -> _T:
        try:
            return await self._run(_transaction(work))
        except (SQLAlchemyError, OSError) as error:
            raise _mapped(error) from error

    async def _run(self, work: Callable[[Connection], _T]) -> _T:
        session = await self._opened().connect()
        try:
            return await session.run(work)
        finally:
            await session.close()

    async def close(self) -> None:
        """Wait for the work under way, and disconnect; work that still waits is told that the ledger is not open."""
        connections, self._connections = self._connections, None
        if connections is None:
            return
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._writing)
            await self._release_writer()
            await stack.enter_async_context(self._looking)
            for _ in range(READERS):
                await stack.enter_async_context(self._readers)
            await connections.dispose()

    def _opened(self) -> SqliteFile | PostgresServer:
        if self._connections is None:
            raise GatewayError("UNAVAILABLE", "the ledger is not open", retry_after=1)
        return self._connections

    async def _release_writer(self) -> None:
        """Give the writer's connection back, what it has not committed undone; the next writer takes another."""
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.close()


def _transaction(work: Callable[[Connection], _T]) -> Callable[[Connection], _T]:
    def whole(connection: Connection) -> _T:
        result = work(connection)
        connection.commit()
        return result

    return whole


def begin(connection: Connection) -> None:
    """Take SQLite's write lock before the first look, for work that writes what follows from what it sees."""
    if connection.dialect.name == "sqlite":
        plain.run(connection, "BEGIN IMMEDIATE", ())


def lock(connection: Connection, mode: str, *tables: Table) -> None:
    """`begin`; on PostgreSQL, hold the tables' locks in `mode` until the transaction ends."""
    begin(connection)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"LOCK TABLE {', '.join(table.name for table in tables)} IN {mode} MODE")


def async_url(given: str) -> URL:
    """The URL with the driver that this ledger uses; `sslmode`, libpq's word, in asyncpg's.

    Raises:
        ValueError: It names no database of the ledger.
    """
    url = make_url(given)
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        known = ", ".join(f"`{name}://`" for name in _DRIVERS)
        raise ValueError(f"`{url.drivername}://` is no database of the ledger; use one of {known}")
    if driver == _SQLITE and url.database in {None, "", ":memory:"}:
        raise ValueError("the ledger needs a file, such as `sqlite+aiosqlite:////var/lib/aigateway/ledger.db`")
    if driver == _POSTGRESQL and (mode := url.query.get("sslmode")):
        url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
    return url.set(drivername=driver)


def _mapped(error: SQLAlchemyError | OSError) -> GatewayError:
    _log.error("the database failed", error=str(getattr(error, "orig", None) or error), kind=type(error).__name__)
    ended = isinstance(error, DBAPIError) and error.connection_invalidated
    refused = str(getattr(getattr(error, "orig", None), "sqlstate", None)).startswith(NOT_NOW)
    if ended or refused or isinstance(error, OperationalError | InterfaceError | InternalError | OSError):
        # InternalError too: asyncpg says so of a connection that the server ends while something is asked.
        return GatewayError("UNAVAILABLE", "the ledger's database cannot be used right now; try again", retry_after=1)
    return GatewayError("INTERNAL", "the ledger failed; the logs have it")
