"""A PostgreSQL server, over asyncpg. Work runs on the event loop and only its statements leave it.

`AsyncConnection.run_sync` runs the work together with its commit: one entry into SQLAlchemy's bridge per transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.ext.asyncio import create_async_engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import URL, Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection

_T = TypeVar("_T")


class PostgresServer:
    """Connections to the database of a ledger.

    Raises:
        RuntimeError: The driver is not installed.
    """

    def __init__(self, url: URL, *, size: int) -> None:
        """`size` is how many connections there may be at once."""
        try:
            self._async_engine = create_async_engine(url, pool_pre_ping=True, pool_size=size, max_overflow=0)
        except ModuleNotFoundError as error:
            raise RuntimeError("a ledger on PostgreSQL needs its driver: `pip install asyncpg`") from error
        self.engine: Engine = self._async_engine.sync_engine

    async def connect(self) -> PostgresSession:
        """A connection, which its user closes."""
        return PostgresSession(await self._async_engine.connect())

    async def dispose(self) -> None:
        """Disconnect; nobody uses a connection any more."""
        await self._async_engine.dispose()


class PostgresSession:
    """A connection to the server."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def run(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` here."""
        return await self._connection.run_sync(work)

    async def close(self) -> None:
        """Undo what is not committed, and give the connection back."""
        await self._connection.close()
