"""An SQLite file over aiosqlite: each transaction is one visit to a connection's thread, not one for each statement.

A visit costs as much as dozens of plain statements. Work that is cancelled is interrupted in the middle of its
statement, and its end is waited for: a connection is never left with somebody still at it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import aiosqlite
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine
from sqlalchemy.exc import OperationalError

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
_INTERRUPTED_EVERY: Final = 0.1
"""Seconds: between two statements there is nothing to interrupt."""

# Values that are no text, integer or double are looked for in four places before they are bound as they are, each time
# at the cost of an exception or two. Of a row's values two dozen are NULL or booleans.
sqlite3.register_adapter(type(None), lambda nothing: nothing)
sqlite3.register_adapter(bool, int)


class _Driver(aiosqlite.Connection):
    """aiosqlite's connection and thread, in which whole transactions are run."""

    async def visit(self, work: Callable[[], _T]) -> _T:
        """Run `work` in the thread."""
        result: _T = await self._execute(work)  # type: ignore[no-untyped-call] # aiosqlite says nothing of it
        return result

    async def opened(self) -> None:
        """Start the thread and connect; when that fails, the thread has ended before it is said.

        aiosqlite tells the thread to stop but does not wait for it, and it would report to a loop that may be gone.
        """
        self._thread.daemon = True
        try:
            await self
        except BaseException as error:
            await asyncio.to_thread(self._thread.join)
            if isinstance(error, sqlite3.Error):
                raise OperationalError("connect", None, error) from error
            raise

    async def closed(self) -> None:
        """Disconnect, and wait for the end of the thread."""
        await self.close()
        await asyncio.to_thread(self._thread.join)


class SqliteFile:
    """Connections to the file of a ledger."""

    def __init__(self, url: URL, *, busy_timeout: float) -> None:
        self._path = url.database or ""
        self._busy_timeout = busy_timeout
        Path(self._path).parent.mkdir(parents=True, exist_ok=True)
        self._opened = threading.local()
        """In a connection's thread, the connection."""
        self.engine: Engine = create_engine(
            "sqlite+pysqlite://", creator=lambda: self._opened.connection, poolclass=NullPool
        )
        self._idle: list[SqliteSession] = []

    async def connect(self) -> SqliteSession:
        """A connection, which its user closes; the one that was closed last, with its cache, where there is one."""
        if self._idle:
            return self._idle.pop()
        driver = _Driver(self._connected, iter_chunk_size=64)
        await driver.opened()
        made = ExitStack()
        try:
            connection = await driver.visit(lambda: made.enter_context(self.engine.connect()))
        except BaseException:
            # One that was cancelled is made all the same, and would complain once its driver is gone.
            await driver.visit(made.close)
            await driver.closed()
            raise
        return SqliteSession(driver, connection, self._idle)

    async def dispose(self) -> None:
        """Close the file; nobody uses a connection any more."""
        while self._idle:
            await self._idle.pop().end()

    def _connected(self) -> sqlite3.Connection:
        # The driver begins a transaction at its first change, and takes the write lock at once: one that asks for it
        # later is refused instead of waiting.
        connection = sqlite3.connect(self._path, timeout=self._busy_timeout, isolation_level="IMMEDIATE")
        try:
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._opened.connection = connection
        return connection


class SqliteSession:
    """A connection to the file."""

    def __init__(self, driver: _Driver, connection: Connection, idle: list[SqliteSession]) -> None:
        self._driver = driver
        self._connection = connection
        self._idle = idle

    async def run(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` in the connection's thread."""
        return await self._visit(lambda: work(self._connection))

    async def close(self) -> None:
        """Undo what is not committed, and give the connection back."""
        if self._connection.in_transaction():
            await self._visit(self._connection.rollback)
        self._idle.append(self)

    async def end(self) -> None:
        """Disconnect."""
        await self._driver.visit(self._connection.close)
        await self._driver.closed()

    async def _visit(self, work: Callable[[], _T]) -> _T:
        visit = asyncio.ensure_future(self._driver.visit(work))
        cancelled: asyncio.CancelledError | None = None
        while not visit.done():
            try:
                await asyncio.wait([visit], timeout=_INTERRUPTED_EVERY if cancelled else None)
            except asyncio.CancelledError as error:
                cancelled = error
            if cancelled and not visit.done():
                await self._driver.interrupt()
        if cancelled is not None:
            visit.exception()  # has been looked at
            raise cancelled
        return visit.result()


def _prepare(connection: sqlite3.Connection) -> None:
    """Set a new connection up.

    With a write-ahead log and `synchronous=NORMAL` a commit has reached the operating system, so it survives `kill -9`
    of this process at any time; only a crash of the machine itself may lose the last moments, never damage the file
    (https://www.sqlite.org/pragma.html#pragma_synchronous).
    """
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA journal_size_limit=67108864")
