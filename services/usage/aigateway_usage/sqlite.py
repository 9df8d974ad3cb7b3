"""An SQLite file: each transaction is one visit to a thread, not one visit for each of its statements.

A visit costs as much as dozens of plain statements. Work that is cancelled is interrupted in the middle of its
statement, and its end is waited for: a connection is never left with somebody still at it.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

_T = TypeVar("_T")
_CACHE_KIB: Final = 16 * 1024
"""Of each connection: the pages that a ledger of millions writes to again and again are some thousand."""

_INTERRUPTED_EVERY: Final = 0.1
"""Seconds: between two statements there is nothing to interrupt."""


class SqliteFile:
    """Connections to the file of a ledger."""

    def __init__(self, url: URL, *, busy_timeout: float, size: int) -> None:
        """`size` is how many connections there may be at once."""
        Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="ledger")
        # The driver begins a transaction at its first change, and takes the write lock at once: one that asks for it
        # later is refused instead of waiting.
        self.engine: Engine = create_engine(
            url.set(drivername="sqlite+pysqlite"),
            connect_args={"timeout": busy_timeout, "isolation_level": "IMMEDIATE", "check_same_thread": False},
            pool_size=size,
            max_overflow=0,
            pool_reset_on_return=None,  # closing rolls back what was not committed
            pool_use_lifo=True,  # so that the writer keeps its connection, with its cache
        )
        event.listen(self.engine, "connect", _prepare)

    async def connect(self) -> SqliteSession:
        """A connection, which its user closes."""
        return SqliteSession(self._threads, await _visit(self._threads, self.engine.connect))

    async def dispose(self) -> None:
        """Close the file; nobody uses a connection any more."""
        await _visit(self._threads, self.engine.dispose)
        self._threads.shutdown()  # they are idle, and end at once


class SqliteSession:
    """A connection to the file."""

    def __init__(self, threads: ThreadPoolExecutor, connection: Connection) -> None:
        self._threads = threads
        self._connection = connection

    async def run(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` in a thread."""
        return await _visit(self._threads, lambda: work(self._connection), interrupt=self._interrupt)

    async def close(self) -> None:
        """Undo what is not committed, and give the connection back."""
        await _visit(self._threads, self._connection.close)

    def _interrupt(self) -> None:
        driver: Any = self._connection.connection.driver_connection
        driver.interrupt()


async def _visit(
    threads: ThreadPoolExecutor, work: Callable[[], _T], *, interrupt: Callable[[], None] | None = None
) -> _T:
    visit = asyncio.get_running_loop().run_in_executor(threads, work)
    cancelled: asyncio.CancelledError | None = None
    while not visit.done():
        try:
            await asyncio.wait([visit], timeout=_INTERRUPTED_EVERY if cancelled else None)
        except asyncio.CancelledError as error:
            cancelled = error
        if cancelled and interrupt and not visit.done():
            interrupt()
    if cancelled is not None:
        visit.exception()  # has been looked at
        raise cancelled
    return visit.result()


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    """Set a new connection up.

    With a write-ahead log and `synchronous=NORMAL` a commit has reached the operating system, so it survives `kill -9`
    of this process at any time; only a crash of the machine itself may lose the last moments, never damage the file
    (https://www.sqlite.org/pragma.html#pragma_synchronous).
    """
    connection.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA journal_size_limit=67108864; "
        f"PRAGMA cache_size=-{_CACHE_KIB}"
    )
