"""Asking for money: one question to the usage service at a time, of all calls that wait for the answer.

A hop of gRPC costs more than what is asked. Calls that come while a question is under way are the next one, so nobody
waits for others to come, and the busier the router, the fewer its questions. Not for who needs money (see `budget`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc
from aigateway.v1 import account_service_pb2 as pb
from aigateway_common.errors import GatewayError, from_status
from grpc import aio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aigateway.v1.account_service_pb2_grpc import AccountServiceAsyncStub

MAX_TOGETHER: Final = 500
"""Reservations of one question, which is what the usage service takes."""
APART: Final = 60.0
"""Seconds that an older usage service, which takes one at a time, is taken for one."""

Failure = GatewayError | aio.AioRpcError


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: pb.ReserveBudgetRequest
    until: float
    """By the event loop's clock."""
    done: asyncio.Future[pb.ReserveBudgetResponse]


class Reserver:
    """Asks.

    Args:
        stub: The usage service.
        release: Told the event id of a reservation that may have been made after its call had left.
    """

    def __init__(self, stub: AccountServiceAsyncStub, release: Callable[[str], None]) -> None:
        self._stub = stub
        self._release = release
        self._queue: deque[_Waiting] = deque()
        self._asking: asyncio.Task[None] | None = None
        self._apart_until = 0.0

    async def reserve(self, request: pb.ReserveBudgetRequest, within: float) -> pb.ReserveBudgetResponse:
        """What became of a reservation, within seconds. When it is cancelled or late, what it took is released.

        Raises:
            GatewayError: What the usage service says against it, where it was asked with others.
            AioRpcError: The same where it was asked alone, or why there is no answer.
            TimeoutError: There is none in time.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(request, loop.time() + within, loop.create_future())
        self._queue.append(waiting)
        if self._asking is None:  # in a context of its own: it is not of the call that happened to come first
            self._asking = asyncio.create_task(self._ask(), name="reserve budgets", context=Context())
        async with asyncio.timeout_at(waiting.until):
            return await waiting.done

    async def stop(self) -> None:
        """Wait until nothing is asked any more."""
        if self._asking is not None:
            await asyncio.shield(self._asking)

    async def _ask(self) -> None:
        try:
            while self._queue:
                group = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_TOGETHER))]
                group = [each for each in group if not each.done.done()]  # the others have left
                if group:
                    await self._ask_for(group)
        finally:
            self._asking = None

    async def _ask_for(self, group: Sequence[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        if len(group) > 1 and loop.time() >= self._apart_until:
            timeout = max(each.until for each in group) - loop.time()
            request = pb.ReserveBudgetsRequest(reservations=[each.request for each in group])
            try:
                answers = (await self._stub.ReserveBudgets(request, timeout=timeout)).answers
            except aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    for each in group:
                        self._failed(each, error)
                    return
                self._apart_until = loop.time() + APART
            else:
                for at, each in enumerate(group):
                    self._answered(each, answers[at] if at < len(answers) else pb.ReservationAnswer())
                return
        await asyncio.gather(*map(self._alone, group))

    async def _alone(self, waiting: _Waiting) -> None:
        timeout = waiting.until - asyncio.get_running_loop().time()
        try:
            response = await self._stub.ReserveBudget(waiting.request, timeout=timeout)
        except aio.AioRpcError as error:
            self._failed(waiting, error)
        else:
            self._reserved(waiting, response)

    def _answered(self, waiting: _Waiting, answer: pb.ReservationAnswer) -> None:
        if answer.WhichOneof("answer") == "reserved":
            self._reserved(waiting, answer.reserved)
        else:
            failure = from_status(answer.refusal) or GatewayError("UNAVAILABLE", "the reservation was not answered")
            self._failed(waiting, failure)

    def _reserved(self, waiting: _Waiting, response: pb.ReserveBudgetResponse) -> None:
        if waiting.done.done():
            self._release(waiting.request.event_id)
        else:
            waiting.done.set_result(response)

    def _failed(self, waiting: _Waiting, failure: Failure) -> None:
        if waiting.done.done():
            self._release(waiting.request.event_id)  # whether it was made is not always known
        else:
            waiting.done.set_exception(failure)
