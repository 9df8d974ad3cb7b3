"""Reservations asked for at the same time are made together: as many as wait, in the next transaction, without timers.

As in `ledger`, the busier, the larger the transactions, so that a call pays for a part of one only. What is held, and
whether there is room for it, is `reservations`' business.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aigateway_common import logs
from aigateway_common.errors import GatewayError

from aigateway_usage import reservations
from aigateway_usage.reservations import Apart, Asked, Reserved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aigateway_usage.database import Database

MAX_GROUP: Final = 500
"""Reservations of one transaction."""
_log = logs.get("usage")


@dataclass(frozen=True, slots=True)
class _Waiting:
    asked: Asked
    now_us: int
    done: asyncio.Future[Reserved | GatewayError]


class Holds:
    """Whoever sets money aside in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: deque[_Waiting] = deque()
        self._writer: asyncio.Task[None] | None = None

    async def reserve(self, asked: Asked, now_us: int) -> Reserved | GatewayError:
        """Set money aside, or say why not; returns once that is committed.

        Raises:
            GatewayError: UNAVAILABLE when the database fails. Whether anything was set aside is not known then.
        """
        waiting = _Waiting(asked, now_us, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._writer is None:  # in a context of its own: it is not of the call that happened to come first
            self._writer = asyncio.create_task(self._drain(), name="holds-drain", context=Context())
        return await waiting.done

    async def flush(self) -> None:
        """Wait until nobody waits."""
        if self._writer is not None:
            await asyncio.shield(self._writer)

    async def _drain(self) -> None:
        try:
            while self._queue:
                group = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_GROUP))]
                await self._write([each for each in group if not each.done.done()])  # else its caller has gone away
        finally:
            self._writer = None

    async def _write(self, group: list[_Waiting]) -> None:
        """Reserve for a group; those that it cannot be done for together, each alone."""
        while len(group) > 1:
            try:
                answer = await self._together(group)
            except Exception as error:  # noqa: BLE001 -- whatever it is, those who wait are told
                if _unavailable(error):  # a database that is away is away for all of them
                    _fail(group, error)
                    return
                break
            if not isinstance(answer, Apart):
                for each, given in zip(group, answer, strict=True):
                    _answer(each, given)
                return
            for at in sorted(answer.which):
                await self._alone(group[at])
            group = [each for at, each in enumerate(group) if at not in answer.which]
        for each in group:
            await self._alone(each)

    async def _together(self, group: Sequence[_Waiting]) -> list[Reserved | GatewayError] | Apart:
        asked, now_us = [each.asked for each in group], max(each.now_us for each in group)
        return await self._database.write(lambda connection: reservations.reserve_all(connection, asked, now_us))

    async def _alone(self, waiting: _Waiting) -> None:
        asked, now_us = waiting.asked, waiting.now_us
        try:
            given = await self._database.write(lambda connection: reservations.reserve(connection, asked, now_us))
        except Exception as error:  # noqa: BLE001 -- as above
            _fail([waiting], error)
        else:
            _answer(waiting, given)


def _answer(waiting: _Waiting, given: Reserved | GatewayError) -> None:
    if not waiting.done.done():  # its caller may have gone away
        waiting.done.set_result(given)


def _unavailable(error: Exception) -> bool:
    return isinstance(error, GatewayError) and error.reason.retryable


def _fail(group: Sequence[_Waiting], error: Exception) -> None:
    if not isinstance(error, GatewayError):
        _log.error("money could not be set aside", exc_info=error)
        error = GatewayError("INTERNAL", "the ledger failed; the logs have it")
    for waiting in group:
        if not waiting.done.done():
            waiting.done.set_exception(error)
