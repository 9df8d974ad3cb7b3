"""Writing attempts down: idempotent, and in groups without timers.

Requests that arrive while a transaction is under way wait together and are written by the next one, so the busier the
ledger, the larger its transactions. A request is answered after its transaction has been committed, never before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aigateway_common import logs
from aigateway_common.errors import GatewayError

from aigateway_usage.inserts import insert
from aigateway_usage.rollups import Rollups
from aigateway_usage.spending import settle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from aigateway_usage.database import Database
    from aigateway_usage.rows import Row

MAX_GROUP: Final = 5000
"""Attempts in one transaction, unless a single request has more; bounds how long the event loop shares the interpreter
with it, or on PostgreSQL is held by it: some ten microseconds for each."""

_log = logs.get("usage")


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a request's attempts."""

    new: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    rows: list[Row]
    done: asyncio.Future[Recorded]


class Ledger:
    """The one writer of a database."""

    def __init__(self, database: Database, *, max_queued: int, written: Callable[[Row], None]) -> None:
        """`written` is called once for each new attempt, after it has been committed."""
        self._database = database
        self._written = written
        self._max_queued = max_queued
        self._queue: deque[_Waiting] = deque()
        self._queued = 0
        self._writer: asyncio.Task[None] | None = None
        self._rollups = Rollups()

    async def record(self, rows: list[Row]) -> Recorded:
        """Write `rows` down; returns once they are committed.

        Raises:
            GatewayError: OVERLOADED when too much waits already; UNAVAILABLE when the database fails. Either way
                nothing of the request is written, and it may be sent again.
        """
        if not rows:
            return Recorded(0, 0)
        if self._queue and self._queued + len(rows) > self._max_queued:
            raise GatewayError("OVERLOADED", "the ledger is behind; try again", retry_after=1)
        waiting = _Waiting(rows, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._queued += len(rows)
        if self._writer is None:
            self._writer = asyncio.create_task(self._drain(), name="ledger-drain")
        return await waiting.done

    async def flush(self) -> None:
        """Wait until nothing waits to be written."""
        if self._writer is not None:
            await asyncio.shield(self._writer)

    async def _drain(self) -> None:
        try:
            while self._queue:
                await self._write(self._take())
        finally:
            self._writer = None

    def _take(self) -> list[_Waiting]:
        """Everything that waits, up to the size of a transaction."""
        group = [self._queue.popleft()]
        size = len(group[0].rows)
        while self._queue and size + len(self._queue[0].rows) <= MAX_GROUP:
            group.append(self._queue.popleft())
            size += len(group[-1].rows)
        self._queued -= size
        return group

    async def _write(self, group: list[_Waiting]) -> None:
        """Write a group; when the database refuses it, each of its requests alone: none fails for another's sake."""
        rows = [row for waiting in group for row in waiting.rows]
        try:
            new = await self._database.write(lambda connection: self._record(connection, rows))
        except Exception as error:  # noqa: BLE001 -- whatever it is, those who wait are told
            if len(group) == 1 or _unavailable(error):  # a database that is away is away for all of them
                for waiting in group:
                    _fail(waiting.done, error)
                return
            for waiting in group:
                await self._write([waiting])
            return
        self._rollups.committed()
        for waiting in group:
            recorded = self._recorded(waiting.rows, new)
            if not waiting.done.done():  # its caller may have gone away
                waiting.done.set_result(recorded)

    def _record(self, connection: Connection, rows: Sequence[Row]) -> set[str]:
        """Insert the new rows, sum them up and count them in their budgets, all or nothing; the ids of those."""
        new = insert(connection, rows)
        if new:
            first = {row["event_id"]: row for row in reversed(rows) if row["event_id"] in new}
            self._rollups.add(connection, first.values())
            settle(connection, list(first.values()))
        return new

    def _recorded(self, rows: Sequence[Row], new: set[str]) -> Recorded:
        """Count a request's new attempts and take them out of `new`, so that their repetition is a duplicate."""
        count = 0
        for row in rows:
            if row["event_id"] in new:
                new.remove(row["event_id"])
                self._written(row)
                count += 1
        return Recorded(count, len(rows) - count)


def _unavailable(error: Exception) -> bool:
    return isinstance(error, GatewayError) and error.reason.retryable


def _fail(done: asyncio.Future[Recorded], error: Exception) -> None:
    if not isinstance(error, GatewayError):
        _log.error("attempts could not be written", exc_info=error)
        error = GatewayError("INTERNAL", "the ledger failed; the logs have it")
    if not done.done():
        done.set_exception(error)
