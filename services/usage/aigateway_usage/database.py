"""The one way to the database: an SQLAlchemy engine whose work runs in threads, one for writing, two for reading.

SQLite has one writer at a time in any case, and a driver of its own thread per connection would cost two thread
switches per statement; here a whole transaction costs two. Callers pass functions of a `Connection`, as they would to
`AsyncConnection.run_sync`. What drivers raise is mapped to `GatewayError` here and nowhere else.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aigateway_common import logs
from aigateway_common.errors import GatewayError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from aigateway_usage import migrate

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

READERS: Final = 2
"""Queries that run at the same time; more wait."""
MAX_QUERIES: Final = 100
"""Queries that run or wait; more are refused with OVERLOADED at once."""

_WRITE: Final = {"aigateway_write": True}
_DRIVERS: Final = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
_T = TypeVar("_T")
_log = logs.get("usage")


class Database:
    """A ledger's database. `open` before use, `close` after."""

    def __init__(self, url: str, *, busy_timeout: float) -> None:
        self._url = _sync_url(url)
        self._busy_timeout = busy_timeout
        self._engine: Engine | None = None
        self._writer = ThreadPoolExecutor(1, "ledger-write")
        self._reading = 0
        self._readers = ThreadPoolExecutor(READERS, "ledger-read")

    async def open(self) -> None:
        """Connect and bring the schema up to date.

        Raises:
            NewerSchemaError: A newer release wrote the database.
            RuntimeError: PostgreSQL's driver is not installed.
            GatewayError: The database cannot be opened.
        """
        await asyncio.get_running_loop().run_in_executor(self._writer, self._open)

    async def write(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` in a transaction of its own, one after the other; returns once it is committed."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._run, work, _WRITE)

    async def read(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` on one consistent state of the database."""
        if self._reading >= MAX_QUERIES:
            raise GatewayError("OVERLOADED", "the ledger answers too many questions already; try again", retry_after=1)
        self._reading += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._run, work, {})
        finally:
            self._reading -= 1

    async def close(self) -> None:
        """Wait for the work under way, and disconnect."""
        await asyncio.to_thread(self._close)

    def _open(self) -> None:
        if self._url.database and self._url.get_backend_name() == "sqlite":
            Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
        self._engine = _engine(self._url, self._busy_timeout)
        try:
            migrate.to_head(self._engine, _WRITE)
        except SQLAlchemyError as error:
            raise _mapped(error) from error

    def _run(self, work: Callable[[Connection], _T], options: dict[str, bool]) -> _T:
        if self._engine is None:
            raise GatewayError("UNAVAILABLE", "the ledger is not open")
        try:
            with self._engine.connect().execution_options(**options) as connection, connection.begin():
                return work(connection)
        except SQLAlchemyError as error:
            raise _mapped(error) from error

    def _close(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


def _sync_url(given: str) -> URL:
    url = make_url(given)
    backend = url.get_backend_name()
    if backend not in _DRIVERS:
        raise ValueError(f"`{backend}` is no database of the ledger; use sqlite or postgresql")
    if backend == "sqlite" and url.database in {None, "", ":memory:"}:
        raise ValueError("the ledger needs a file, such as `sqlite+aiosqlite:////var/lib/aigateway/ledger.db`")
    return url.set(drivername=_DRIVERS[backend])


def _engine(url: URL, busy_timeout: float) -> Engine:
    if url.get_backend_name() != "sqlite":
        try:
            return create_engine(url, pool_size=READERS + 1, max_overflow=0, pool_pre_ping=True)
        except ModuleNotFoundError as error:
            raise RuntimeError("a ledger on PostgreSQL needs its driver: `pip install 'psycopg[binary]'`") from error
    engine = create_engine(url, pool_size=READERS + 1, max_overflow=0, connect_args={"timeout": busy_timeout})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
    """Set a new SQLite connection up.

    With a write-ahead log and `synchronous=NORMAL` a commit has reached the operating system, so it survives `kill -9`
    of this process at any time; only a crash of the machine itself may lose the last moments, never damage the file
    (https://www.sqlite.org/pragma.html#pragma_synchronous).
    """
    connection.isolation_level = None  # transactions begin in `_begin`, so that schema changes are in them too
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA journal_size_limit=67108864")


def _begin(connection: Connection) -> None:
    """Begin; a writer takes the lock at once, for one that asks for it later is refused instead of waiting."""
    writing = connection.get_execution_options().get("aigateway_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _mapped(error: SQLAlchemyError) -> GatewayError:
    _log.error("the database failed", error=str(getattr(error, "orig", None) or error), kind=type(error).__name__)
    if isinstance(error, OperationalError | InterfaceError):
        return GatewayError("UNAVAILABLE", "the ledger's database cannot be used right now; try again", retry_after=1)
    return GatewayError("INTERNAL", "the ledger failed; the logs have it")
