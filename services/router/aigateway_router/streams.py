"""One attempt at a streamed answer, in two halves: until there is something to show, and all that follows.

Up to the first content nothing has reached the caller, so the attempt may still be given up for another; what came
before it (the start of the stream) is held back until then, but not for longer than `PEEK_SECONDS`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from aigateway.v1 import chat_pb2, gateway_service_pb2, provider_service_pb2
from aigateway_common import metrics, streaming
from grpc import aio

from aigateway_router import estimates
from aigateway_router.attempt_guard import LEFT, CallerLeftError, Errand, Guard, metadata
from aigateway_router.stream_state import StreamState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from aigateway.v1 import tokens_pb2
    from aigateway.v1.provider_service_pb2_grpc import ProviderServiceAsyncStub
    from aigateway_common.errors import GatewayError

    Write = Callable[[gateway_service_pb2.StreamChatResponse], Awaitable[None]]
    Put = Callable[[gateway_service_pb2.StreamChatResponse], bool]
    _Events = provider_service_pb2.ProviderServiceStreamChatResponse

_MAX_HELD: Final = 1000
"""Events after the last finish that are held back for the final usage; no provider sends more than a few."""
PEEK_SECONDS: Final = 5.0
"""From the first message on: a caller of a model that thinks for longer gets its headers, and signs of life."""
_MAX_UNSHOWN: Final = 1000
"""Events without content that are held back before the first one; no provider sends more than a few."""


class Stream:
    """One attempt. `open`, then `forward`, or `close` at any time."""

    def __init__(self, guard: Guard, errand: Errand, request: chat_pb2.ChatCall) -> None:
        self._guard = guard
        self._errand = errand
        self._request = request
        self.state = StreamState()
        """What has come of it."""
        self._attempt, self._span = guard.begin(errand)
        self._rpc: aio.UnaryStreamCall[provider_service_pb2.ProviderServiceStreamChatRequest, _Events] | None = None
        self._held: list[chat_pb2.ChatEvent] = []
        """What is not written yet."""
        self._head: chat_pb2.CallTiming | None = None
        self._reading: asyncio.Task[_Events | None] | None = None
        """A read that was under way when the caller had waited long enough."""
        self._ended = False

    async def open(self, stub: ProviderServiceAsyncStub) -> Self:
        """Send it, and read until there is content, or the end. Raises GatewayError."""
        call = self._errand.call
        with self._guard.watching(call, self._attempt, self._span, self._guess):
            sent = provider_service_pb2.ProviderServiceStreamChatRequest()
            sent.call.CopyFrom(self._request)
            sent.call.model = self._errand.target.model
            timeout = self._guard.timeout(call)
            self._rpc = stub.StreamChat(sent, timeout=timeout, metadata=metadata(call, self._span))
            try:
                await self._until_content()
            except BaseException:
                self.close()
                raise
        return self

    async def forward(self, write: Write, put: Put | None = None) -> None:
        """Write everything, as it comes. Raises GatewayError, also after some was written.

        `put`, where there is one, writes without waiting; see `aigateway_common.streaming`.
        """
        with self._guard.watching(self._errand.call, self._attempt, self._span, self._guess):
            try:
                await self._forward(_Outlet(self._errand, self._head, write, put))
            finally:
                self.close()
        self._span.end()

    def close(self) -> None:
        """Stop the provider; changes nothing once the stream has ended."""
        if self._reading is not None:
            self._reading.cancel()
        if self._rpc is not None:
            self._rpc.cancel()

    def abandon(self) -> None:
        """Give an opened stream up for another attempt's answer."""
        with (
            suppress(CallerLeftError),
            self._guard.watching(self._errand.call, self._attempt, self._span, self._guess),
        ):
            raise CallerLeftError
        self.close()

    async def _until_content(self) -> None:
        message = await self._read()
        if message is not None:
            self._attempt.first_event_ns = self._attempt.elapsed_ns()
            self._head = self._errand.call.timing(message.timing)
            metrics.overhead("router", self._head.router_us / 1e6)
        loop = asyncio.get_running_loop()
        patience = loop.time() + PEEK_SECONDS
        while message is not None:
            self.state.follow(message.events[:])
            self._held.extend(message.events)
            if self.state.has_content or len(self._held) >= _MAX_UNSHOWN:
                return
            if not await self._comes(patience - loop.time()):
                return
            message, self._reading = await (self._reading or self._read()), None
        self._ended = True
        self.state.check_ended()

    async def _comes(self, seconds: float) -> bool:
        """Whether the next message, or the end, comes by then; reading goes on where it does not."""
        if (comes := await streaming.comes(self._opened, seconds)) is not None:
            return comes
        self._reading = asyncio.ensure_future(self._read())  # a read that is cancelled cancels the whole call
        await asyncio.wait((self._reading,), timeout=seconds)
        return self._reading.done()

    async def _forward(self, outlet: _Outlet) -> None:
        """Forward every message as it comes, and hold back the end until its usage event is kept.

        The end begins with the finish of the last open choice: a caller that sees it counts itself as answered.
        """
        attempt, state, put = self._attempt, self.state, outlet.put
        held = await self._pass_on(outlet, self._held, [])
        message = await self._next()
        while message is not None:
            if held or state.complete or attempt.recorded:
                held = await self._pass_on(outlet, message.events, held)
                message = await self._followed()
            else:
                await outlet.copy(message)
                message = await (self._relay(outlet) if put is None else self._hand_on(put))
        if not attempt.recorded:
            state.check_ended()
            self._succeeded()
            await outlet.write(held)

    async def _pass_on(
        self, outlet: _Outlet, events: Iterable[chat_pb2.ChatEvent], held: list[chat_pb2.ChatEvent]
    ) -> list[chat_pb2.ChatEvent]:
        """Write `events`, or add them to what is `held`; what is held from now on."""
        state = self.state
        if self._attempt.recorded or not (state.complete or held):
            await outlet.write(events)
            return []
        held.extend(events)
        if state.complete and not state.has_final_usage and len(held) < _MAX_HELD:
            return held
        if state.complete:
            self._succeeded()
        await outlet.write(held)
        return []

    async def _next(self) -> _Events | None:
        """The first message after those that `open` has read."""
        if self._ended:
            return None
        if (reading := self._reading) is None:
            return await self._followed()
        message = await reading
        self._reading = None
        if message is not None:
            self.state.follow(message.events[:])
        return message

    async def _followed(self) -> _Events | None:
        """The next message, which the state knows already; None at the end."""
        message = await self._read()
        if message is not None:
            self.state.follow(message.events[:])
        return message

    async def _hand_on(self, put: Callable[[_Events], bool]) -> _Events | None:
        """Hand on what comes until a message needs more than that, which is answered; None at the end."""
        state, last = self.state, None

        def take(message: _Events) -> bool:
            nonlocal last
            state.follow(message.events[:])
            if state.complete:
                last = message
                return False
            return put(message)

        ended = await streaming.consume(self._opened, take)
        return last if ended or last is not None else await self._followed()

    async def _relay(self, outlet: _Outlet) -> _Events | None:
        """As `_hand_on`, where messages are awaited: one loop, since each coroutine in between costs."""
        read, follow, state = self._opened.read, self.state.follow, self.state
        write, copied = outlet.send, outlet.copied
        while isinstance(message := await read(), provider_service_pb2.ProviderServiceStreamChatResponse):
            follow(message.events[:])
            if state.complete:
                return message
            try:
                await write(copied(message))
            except (aio.InternalError, aio.UsageError) as error:
                raise CallerLeftError from error
        return None

    @property
    def _opened(self) -> aio.UnaryStreamCall[provider_service_pb2.ProviderServiceStreamChatRequest, _Events]:
        if self._rpc is None:
            raise AssertionError("a stream is opened first")
        return self._rpc

    async def _read(self) -> _Events | None:
        """The next message; None at the end. A failure after the answer has ended changes nothing any more."""
        try:
            message = await self._opened.read()
        except aio.AioRpcError:
            if self._attempt.recorded:
                return None
            raise
        return message if isinstance(message, provider_service_pb2.ProviderServiceStreamChatResponse) else None

    def _succeeded(self) -> None:
        attempt, state = self._attempt, self.state
        attempt.answered_model, attempt.finish_reason = state.answered_model, state.finish_reason
        attempt.usage = state.usage
        self._guard.emitter.succeeded(attempt)

    def _guess(self, error: GatewayError) -> tokens_pb2.TokenUsage | None:
        attempt, state = self._attempt, self.state
        attempt.answered_model, attempt.finish_reason = state.answered_model, state.finish_reason
        if state.has_final_usage or not (attempt.first_event_ns or error.reason.name in LEFT):
            return state.usage
        return estimates.estimated(
            state.usage,
            prompt=estimates.chat_prompt(self._request),
            output_characters=state.text,
            reasoning_characters=state.reasoning,
        )


class _Outlet:
    """Writes the messages of one stream; the first one written says where the call went and where the time went."""

    __slots__ = ("_errand", "_head", "_put", "send")

    def __init__(self, errand: Errand, head: chat_pb2.CallTiming | None, write: Write, put: Put | None) -> None:
        self._errand = errand
        self._head = head
        self._put = put
        self.send = write
        """Writes what `copied` answers, and raises gRPC's own errors where the caller is gone."""

    async def write(self, events: Iterable[chat_pb2.ChatEvent]) -> None:
        """Raises a cancellation when the caller is gone."""
        await self._send(self._response(events))

    async def copy(self, message: _Events) -> None:
        """As `write` does with the events of `message`."""
        await self._send(self.copied(message))

    @property
    def put(self) -> Callable[[_Events], bool] | None:
        """As `copy`, without waiting; answers whether there is room for more. None where there is no such thing."""
        put = self._put
        if put is None:
            return None

        def copy(message: _Events) -> bool:
            try:
                return put(self.copied(message))
            except (aio.InternalError, aio.UsageError) as error:
                raise CallerLeftError from error

        return copy

    def _response(self, events: Iterable[chat_pb2.ChatEvent]) -> gateway_service_pb2.StreamChatResponse:
        head, self._head = self._head, None
        if head is None:
            return gateway_service_pb2.StreamChatResponse(events=events)
        route = self._errand.call.route(self._errand)
        return gateway_service_pb2.StreamChatResponse(events=events, route=route, timing=head)

    def copied(self, message: _Events) -> gateway_service_pb2.StreamChatResponse:
        """The events of `message`, which are the same bytes in both messages."""
        if self._head is not None or message.HasField("timing"):
            return self._response(message.events)
        return gateway_service_pb2.StreamChatResponse.FromString(message.SerializeToString())

    async def _send(self, response: gateway_service_pb2.StreamChatResponse) -> None:
        try:
            await self.send(response)
        except (aio.InternalError, aio.UsageError) as error:
            raise CallerLeftError from error
