"""The one way to the database: SQLAlchemy's async engine, over aiosqlite or asyncpg.

Writers run one at a time on a connection that stays theirs, readers a few at a time, look-ups one after the other. Work
is a function of a `Connection` that `AsyncConnection.run_sync` runs together with its commit: one entry into
SQLAlchemy's bridge per transaction, which at a few events each costs more than SQLite does. Work runs on the event loop
and only its statements leave it, so nothing else in it may be slow. What drivers raise is mapped to `GatewayError` here
and nowhere else.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import aiosqlite
from aigateway_common import logs
from aigateway_common.errors import GatewayError
from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from aigateway_usage import migrate

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Table
    from sqlalchemy.engine.interfaces import AdaptedConnection

READERS: Final = 2
"""Queries that run at the same time; more wait."""
MAX_QUERIES: Final = 100
"""Queries that run or wait; more are refused with OVERLOADED at once."""

_SQLITE: Final = "sqlite+aiosqlite"
_POSTGRESQL: Final = "postgresql+asyncpg"
_DRIVERS: Final = {"sqlite": _SQLITE, _SQLITE: _SQLITE, "postgresql": _POSTGRESQL, _POSTGRESQL: _POSTGRESQL}
_T = TypeVar("_T")
_log = logs.get("usage")


class Database:
    """A ledger's database. `open` before use, `close` after."""

    def __init__(self, url: str, *, busy_timeout: float) -> None:
        self._url = async_url(url)
        self._busy_timeout = busy_timeout
        self._engine: AsyncEngine | None = None
        self._writer: AsyncConnection | None = None
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
            if self._url.database and self._url.drivername == _SQLITE:
                Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
            self._engine = _engine(self._url, self._busy_timeout)
            async with self._engine.connect() as connection:
                await connection.run_sync(migrate.to_head)
        except (SQLAlchemyError, OSError) as error:
            raise _mapped(error) from error

    async def write(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` in a transaction of its own, one after the other; returns once it is committed."""
        async with self._writing:
            try:
                if self._writer is None:
                    self._writer = await self._opened().connect()
                return await self._writer.run_sync(_transaction, work)
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
            async with self._opened().connect() as connection:
                return await connection.run_sync(_transaction, work)
        except (SQLAlchemyError, OSError) as error:
            raise _mapped(error) from error

    async def close(self) -> None:
        """Wait for the work under way, and disconnect; work that still waits is told that the ledger is not open."""
        engine, self._engine = self._engine, None
        if engine is None:
            return
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._writing)
            await self._release_writer()
            await stack.enter_async_context(self._looking)
            for _ in range(READERS):
                await stack.enter_async_context(self._readers)
            await engine.dispose()

    def _opened(self) -> AsyncEngine:
        if self._engine is None:
            raise GatewayError("UNAVAILABLE", "the ledger is not open", retry_after=1)
        return self._engine

    async def _release_writer(self) -> None:
        """Give the writer's connection back, what it has not committed undone; the next writer takes another."""
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.close()


def _transaction(connection: Connection, work: Callable[[Connection], _T]) -> _T:
    result = work(connection)
    connection.commit()
    return result


def begin(connection: Connection) -> None:
    """Take SQLite's write lock before the first look, for work that writes what follows from what it sees."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


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


def _engine(url: URL, busy_timeout: float) -> AsyncEngine:
    size: dict[str, Any] = {"pool_size": READERS + 2, "max_overflow": 0}
    if url.drivername != _SQLITE:
        try:
            return create_async_engine(url, pool_pre_ping=True, **size)
        except ModuleNotFoundError as error:
            raise RuntimeError("a ledger on PostgreSQL needs its driver: `pip install asyncpg`") from error
    engine = create_async_engine(
        url,
        async_creator=lambda: _connected(str(url.database), busy_timeout),
        pool_reset_on_return=None,  # closing rolls back what was not committed; a second time is a thread switch
        pool_use_lifo=True,  # so that the writer keeps its connection, with its cache
        **size,
    )
    event.listen(engine.sync_engine, "connect", _prepare)
    return engine


async def _connected(path: str, busy_timeout: float) -> aiosqlite.Connection:
    """A connection to the file at `path`; when there can be none, its thread has ended before that is said.

    aiosqlite tells the thread to stop but does not wait for it, and the thread would report to a loop that may be gone.
    """
    # The driver begins a transaction at its first change, and takes the write lock at once: one that asks for it later
    # is refused instead of waiting.
    connection = aiosqlite.connect(path, timeout=busy_timeout, isolation_level="IMMEDIATE")
    thread = connection._thread  # noqa: SLF001 -- SQLAlchemy does the same, and there is no other way
    thread.daemon = True
    try:
        return await connection
    except BaseException:
        await asyncio.to_thread(thread.join)
        raise


def _prepare(connection: AdaptedConnection, _record: Any) -> None:
    """Set a new SQLite connection up.

    With a write-ahead log and `synchronous=NORMAL` a commit has reached the operating system, so it survives `kill -9`
    of this process at any time; only a crash of the machine itself may lose the last moments, never damage the file
    (https://www.sqlite.org/pragma.html#pragma_synchronous).
    """
    connection.run_async(
        lambda driver: driver.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA journal_size_limit=67108864"
        )
    )


def _mapped(error: SQLAlchemyError | OSError) -> GatewayError:
    _log.error("the database failed", error=str(getattr(error, "orig", None) or error), kind=type(error).__name__)
    if isinstance(error, OperationalError | InterfaceError | InternalError | OSError):
        # InternalError too: asyncpg says so of a connection that the server ends while something is asked.
        return GatewayError("UNAVAILABLE", "the ledger's database cannot be used right now; try again", retry_after=1)
    return GatewayError("INTERNAL", "the ledger failed; the logs have it")
