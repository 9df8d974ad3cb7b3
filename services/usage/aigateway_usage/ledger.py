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
from sqlalchemy.dialects import postgresql, sqlite

from aigateway_usage.tables import attempts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection
    from sqlalchemy.sql.dml import Insert

    from aigateway_usage.database import Database
    from aigateway_usage.pricing import Pricer
    from aigateway_usage.rows import Row

MAX_GROUP: Final = 20_000
"""Attempts in one transaction, unless a single request has more; bounds how long a reader of the answer waits."""

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

    def __init__(self, database: Database, pricer: Pricer, *, max_queued: int) -> None:
        self._database = database
        self._pricer = pricer
        self._max_queued = max_queued
        self._queue: deque[_Waiting] = deque()
        self._queued = 0
        self._writer: asyncio.Task[None] | None = None

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
        try:
            results = await self._database.write(lambda connection: self._insert(connection, group))
        except Exception as error:  # noqa: BLE001 -- whatever it is, those who wait are told
            if len(group) == 1 or _unavailable(error):  # a database that is away is away for all of them
                for waiting in group:
                    _fail(waiting.done, error)
                return
            for waiting in group:
                await self._write([waiting])
            return
        for waiting, result in zip(group, results, strict=True):
            if not waiting.done.done():  # its caller may have gone away
                waiting.done.set_result(result)

    def _insert(self, connection: Connection, group: Sequence[_Waiting]) -> list[Recorded]:
        """Runs on the writing thread, in a transaction."""
        for waiting in group:
            for row in waiting.rows:
                self._pricer.price(row)
        statement = insert_new(connection.dialect.name)
        if len(group) > 1:
            rows = [row for waiting in group for row in waiting.rows]
            with connection.begin_nested() as attempt:
                if connection.execute(statement, rows).rowcount == len(rows):  # all new: no need to ask whose
                    return [Recorded(len(waiting.rows), 0) for waiting in group]
                attempt.rollback()
        return [_insert_one(connection, statement, waiting.rows) for waiting in group]


def insert_new(dialect: str) -> Insert:
    """INSERT that leaves a row alone when its event id is known, in the words of `sqlite` or `postgresql`."""
    if dialect == "postgresql":
        return postgresql.insert(attempts).on_conflict_do_nothing(index_elements=["event_id"])
    return sqlite.insert(attempts).on_conflict_do_nothing(index_elements=["event_id"])


def _insert_one(connection: Connection, statement: Insert, rows: list[Row]) -> Recorded:
    new = connection.execute(statement, rows).rowcount
    return Recorded(new, len(rows) - new)


def _unavailable(error: Exception) -> bool:
    return isinstance(error, GatewayError) and error.reason.retryable


def _fail(done: asyncio.Future[Recorded], error: Exception) -> None:
    if not isinstance(error, GatewayError):
        _log.error("attempts could not be written", exc_info=error)
        error = GatewayError("INTERNAL", "the ledger failed; the logs have it")
    if not done.done():
        done.set_exception(error)
