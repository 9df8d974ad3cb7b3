"""A PostgreSQL server, over asyncpg. Work runs on the event loop and only its statements leave it.

`AsyncConnection.run_sync` runs the work together with its commit: one entry into SQLAlchemy's bridge per transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from aigateway_common import logs
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import URL, Connection, Dialect, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.ext.asyncio import AsyncConnection

_T = TypeVar("_T")
_REFUSED: Final = "28"
"""The class of errors about logins, such as a wrong password."""
_log = logs.get("usage")


class PostgresServer:
    """Connections to the database of a ledger.

    Raises:
        RuntimeError: The driver is not installed.
    """

    def __init__(self, url: URL, *, size: int) -> None:
        """`size` is how many connections there may be at once."""
        self._logins = [_login(url)]
        """The newest, and after it the last one that was taken where the newest was not yet."""
        try:
            self._async_engine = create_async_engine(url, pool_pre_ping=True, pool_size=size, max_overflow=0)
        except ModuleNotFoundError as error:
            raise RuntimeError("a ledger on PostgreSQL needs its driver: `pip install asyncpg`") from error
        self.engine: Engine = self._async_engine.sync_engine
        event.listen(self.engine, "do_connect", self._connect)

    def log_in(self, url: URL) -> None:
        """Show the login of `url` from now on, and the former while the server refuses it.

        Who changes a password changes it in two places, one after the other.
        """
        login = _login(url)
        if login != self._logins[0]:
            self._logins = [login, self._logins[-1]]

    async def connect(self) -> PostgresSession:
        """A connection, which its user closes."""
        return PostgresSession(await self._async_engine.connect())

    async def dispose(self) -> None:
        """Disconnect; nobody uses a connection any more."""
        await self._async_engine.dispose()

    def _connect(
        self, dialect: Dialect, _record: object, arguments: Sequence[Any], parameters: Mapping[str, Any]
    ) -> DBAPIConnection:
        newest, *former = self._logins
        try:
            result = dialect.connect(*arguments, **{**parameters, **newest})
        except Exception as error:
            if not former or not str(getattr(error, "sqlstate", None)).startswith(_REFUSED):
                raise
            result = dialect.connect(*arguments, **{**parameters, **former[0]})
            _log.error("the database refuses the new login: the former is in use", error=str(error))
        else:
            # Where another came meanwhile, it goes before this one, which is known to be taken.
            self._logins = [newest] if self._logins[0] is newest else [self._logins[0], newest]
        return result


def _login(url: URL) -> dict[str, str]:
    given = {"user": url.username, "password": url.password and str(url.password)}
    return {name: value for name, value in given.items() if value is not None}


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
