"""Looking after the ledger now and then: partitions made ahead, attempts removed that are older than they are kept.

Of several services on one PostgreSQL one does it at a time: each transaction takes an advisory lock or leaves it be.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aigateway_common import logs
from aigateway_common.errors import GatewayError
from sqlalchemy import text

from aigateway_usage import partitions, retention

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from aigateway_usage.database import Database

EVERY: Final = 3600.0
"""Seconds between looks."""
PAUSE: Final = 0.1
"""Seconds between portions of what is removed: writers come first."""
_LOCK: Final = 0x616967_75706B
"""Any number of our own."""
_log = logs.get("usage")


class Upkeep:
    """The upkeep of one database.

    Args:
        database: The ledger's.
        retention_days: For how many days attempts are kept; None for ever.
        clock: Now, in microseconds since the Unix epoch.
    """

    def __init__(self, database: Database, retention_days: int | None, clock: Callable[[], int]) -> None:
        self._database = database
        self._retention_days = retention_days
        self._clock = clock

    async def run(self) -> None:
        """Look every `EVERY` seconds, and at once, until cancelled."""
        while True:
            try:
                await self.look()
            except GatewayError as error:  # the database is away or busy; it has been logged
                _log.warning("the ledger could not be looked after; it is tried again", why=error.message)
            await asyncio.sleep(EVERY)

    async def look(self) -> int:
        """Do what is due; how many attempts were removed one by one."""
        now = self._clock()
        if made := await self._database.write(lambda connection: _make_ahead(connection, now)):
            _log.info("partitions made", names=made)
        if self._retention_days is None:
            return 0
        horizon, total = retention.horizon(now, self._retention_days), 0
        if dropped := await self._database.write(lambda connection: _drop(connection, horizon)):
            _log.info("months removed", names=dropped)
        while await self._database.look_up(lambda connection: retention.has_expired(connection, horizon)):
            removed = await self._database.write(lambda connection: _remove(connection, horizon))
            if not removed:  # another service is at it
                break
            total += removed
            await asyncio.sleep(PAUSE)
        if total:
            _log.info("attempts removed", number=total)
        return total


def _make_ahead(connection: Connection, now_us: int) -> list[str]:
    if connection.dialect.name != "postgresql" or not _alone(connection):
        return []
    return partitions.make_ahead(connection, now_us)


def _drop(connection: Connection, horizon_us: int) -> list[str]:
    return retention.drop(connection, horizon_us) if _alone(connection) else []


def _remove(connection: Connection, horizon_us: int) -> int:
    return retention.remove(connection, horizon_us) if _alone(connection) else 0


def _alone(connection: Connection) -> bool:
    """Whether no other service is at it, until this transaction ends."""
    if connection.dialect.name != "postgresql":
        return True
    return bool(connection.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _LOCK}))
