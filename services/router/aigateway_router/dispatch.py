"""Sends a call to its provider's adapter and brings the answer back: one attempt, one usage event.

Knows deadlines, cancellation, timing and the order in which things may leave; nothing of names (`routes`) or keys
(`authn`).
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from aigateway.v1 import (
    chat_pb2,
    embedding_pb2,
    gateway_service_pb2,
    provider_service_pb2,
    provider_service_pb2_grpc,
    usage_service_pb2,
)
from aigateway_common import attributes, metrics
from aigateway_common.errors import GatewayError
from aigateway_common.telemetry import Span, SpanKind, Telemetry
from grpc import aio

from aigateway_router import estimates
from aigateway_router.attempts import Attempt
from aigateway_router.provider_errors import from_provider, unreachable
from aigateway_router.stream_state import StreamState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from aigateway.v1 import tokens_pb2

    from aigateway_router.calls import Call
    from aigateway_router.routes import Target
    from aigateway_router.usage_emitter import UsageEmitter

    _Write = Callable[[gateway_service_pb2.StreamChatResponse], Awaitable[None]]
    _Events = provider_service_pb2.ProviderServiceStreamChatResponse
    _StreamCall = aio.UnaryStreamCall[provider_service_pb2.ProviderServiceStreamChatRequest, _Events]
    _Guess = Callable[[GatewayError], tokens_pb2.TokenUsage | None]

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")

_MAX_HELD: Final = 1000
"""Events after the last finish that are held back for the final usage; no provider sends more than a few."""
_LEFT: Final = frozenset({"CANCELLED", "DEADLINE_EXCEEDED"})
"""Reasons that mean that the caller no longer waits."""


class Dispatcher:
    """Makes attempts.

    Args:
        providers: A channel to the adapter of each enabled provider.
        emitter: Where usage events go.
        telemetry: Where spans go.
        default_timeout: Seconds for a call whose caller set no deadline.
    """

    def __init__(
        self,
        providers: Mapping[str, aio.Channel],
        emitter: UsageEmitter,
        telemetry: Telemetry,
        default_timeout: float,
    ) -> None:
        self._stubs = {
            name: provider_service_pb2_grpc.ProviderServiceStub(channel) for name, channel in providers.items()
        }
        self._emitter = emitter
        self._telemetry = telemetry
        self._default_timeout = default_timeout

    async def chat(self, call: Call, request: chat_pb2.ChatCall, target: Target) -> gateway_service_pb2.ChatResponse:
        """The whole answer. Raises GatewayError."""
        sent = provider_service_pb2.ProviderServiceChatRequest(call=request)
        sent.call.model = target.model
        timeout = self._timeout(call)
        attempt, span = self._begin(call, usage_service_pb2.OPERATION_CHAT, request.model, target)

        def guess(error: GatewayError) -> tokens_pb2.TokenUsage | None:
            return _prompt_only(estimates.chat_prompt(request)) if error.reason.name in _LEFT else None

        with self._guarded(call, attempt, span, guess):
            rpc = self._stubs[target.provider].Chat(sent, timeout=timeout, metadata=_metadata(call, span))
            answer = await _answer(rpc)
            if not answer.HasField("completion"):
                raise GatewayError("UPSTREAM_INVALID", "the provider's service answered without a completion")
            completion = answer.completion
            attempt.answered_model = completion.model
            attempt.usage = completion.usage if completion.HasField("usage") else None
            if completion.choices:
                attempt.finish_reason = completion.choices[0].native_finish_reason
            response = gateway_service_pb2.ChatResponse(
                completion=completion, route=call.route(request.model, target), timing=call.timing(answer.timing)
            )
            self._emitter.succeeded(attempt)
        return response

    async def embed(
        self, call: Call, request: embedding_pb2.EmbedCall, target: Target
    ) -> gateway_service_pb2.EmbedResponse:
        """The vectors. Raises GatewayError."""
        sent = provider_service_pb2.ProviderServiceEmbedRequest(call=request)
        sent.call.model = target.model
        timeout = self._timeout(call)
        attempt, span = self._begin(call, usage_service_pb2.OPERATION_EMBED, request.model, target)

        def guess(error: GatewayError) -> tokens_pb2.TokenUsage | None:
            return _prompt_only(estimates.embed_prompt(request)) if error.reason.name in _LEFT else None

        with self._guarded(call, attempt, span, guess):
            rpc = self._stubs[target.provider].Embed(sent, timeout=timeout, metadata=_metadata(call, span))
            answer = await _answer(rpc)
            if not answer.HasField("embeddings"):
                raise GatewayError("UPSTREAM_INVALID", "the provider's service answered without embeddings")
            vectors = answer.embeddings
            attempt.answered_model = vectors.model
            attempt.usage = vectors.usage if vectors.HasField("usage") else None
            response = gateway_service_pb2.EmbedResponse(
                embeddings=vectors, route=call.route(request.model, target), timing=call.timing(answer.timing)
            )
            self._emitter.succeeded(attempt)
        return response

    async def count_tokens(
        self, call: Call, request: chat_pb2.ChatCall, target: Target
    ) -> gateway_service_pb2.CountTokensResponse:
        """The tokens of the prompt. Raises GatewayError. The ledger is told nothing: providers count for free."""
        sent = provider_service_pb2.ProviderServiceCountTokensRequest(call=request)
        sent.call.model = target.model
        timeout = self._timeout(call)
        attempt, span = self._begin(call, usage_service_pb2.OPERATION_UNSPECIFIED, request.model, target)
        attempt.recorded = True
        with self._guarded(call, attempt, span, lambda _: None):
            rpc = self._stubs[target.provider].CountTokens(sent, timeout=timeout, metadata=_metadata(call, span))
            answer = await _answer(rpc)
            if not answer.HasField("count"):
                raise GatewayError("UPSTREAM_INVALID", "the provider's service answered without a count")
        return gateway_service_pb2.CountTokensResponse(
            count=answer.count, route=call.route(request.model, target), timing=call.timing(answer.timing)
        )

    async def stream(self, call: Call, request: chat_pb2.ChatCall, target: Target, write: _Write) -> None:
        """The answer in messages, each given to `write`. Raises GatewayError, also after some were written."""
        sent = provider_service_pb2.ProviderServiceStreamChatRequest(call=request)
        sent.call.model = target.model
        timeout = self._timeout(call)
        attempt, span = self._begin(call, usage_service_pb2.OPERATION_STREAM_CHAT, request.model, target)
        state = StreamState()

        def guess(error: GatewayError) -> tokens_pb2.TokenUsage | None:
            attempt.answered_model, attempt.finish_reason = state.answered_model, state.finish_reason
            if state.has_final_usage or not (attempt.first_event_ns or error.reason.name in _LEFT):
                return state.usage
            return estimates.estimated(
                state.usage,
                prompt=estimates.chat_prompt(request),
                output_characters=state.text,
                reasoning_characters=state.reasoning,
            )

        with self._guarded(call, attempt, span, guess):
            rpc = self._stubs[target.provider].StreamChat(sent, timeout=timeout, metadata=_metadata(call, span))
            try:
                await self._forward(rpc, _Outlet(call, call.route(request.model, target), write), attempt, state)
            finally:
                rpc.cancel()  # changes nothing once the stream has ended

    async def _forward(self, rpc: _StreamCall, outlet: _Outlet, attempt: Attempt, state: StreamState) -> None:
        """Forward every message as it comes, and hold back the end until its usage event is kept.

        The end begins with the finish of the last open choice: a caller that sees it counts itself as answered.
        """
        held: list[chat_pb2.ChatEvent] = []
        while (message := await _read(rpc, ended=attempt.recorded)) is not None:
            if not attempt.first_event_ns:
                attempt.first_event_ns = attempt.elapsed_ns()
                outlet.first(message.timing)
            state.follow(message.events)
            if attempt.recorded or not (state.complete or held):
                await outlet.write(message.events)
                continue
            held.extend(message.events)
            if state.complete and not state.has_final_usage and len(held) < _MAX_HELD:
                continue
            if state.complete:
                self._succeeded(attempt, state)
            await outlet.write(held)
            held = []
        if not attempt.recorded:
            state.check_ended()
            self._succeeded(attempt, state)
            await outlet.write(held)

    def _succeeded(self, attempt: Attempt, state: StreamState) -> None:
        attempt.answered_model, attempt.finish_reason, attempt.usage = (
            state.answered_model,
            state.finish_reason,
            state.usage,
        )
        self._emitter.succeeded(attempt)

    def _begin(
        self,
        call: Call,
        operation: usage_service_pb2.Operation.ValueType,
        requested_model: str,
        target: Target,
    ) -> tuple[Attempt, Span]:
        """Start an attempt. Raises GatewayError OVERLOADED when its event could not be kept."""
        self._emitter.admit()
        span = self._telemetry.span(f"attempt {target.provider}", kind=SpanKind.INTERNAL, parent=call.span)
        span.set(attributes.ATTEMPT, 1)
        span.set(attributes.PROVIDER, attributes.provider_name(target.provider))
        span.set(attributes.REQUEST_MODEL, target.model)
        attempt = Attempt(
            request_id=call.request_id,
            key_id=call.key_id,
            operation=operation,
            provider=target.provider,
            requested_model=requested_model,
            sent_model=target.model,
            trace_id=call.span.trace_id,
        )
        return attempt, span

    @contextmanager
    def _guarded(self, call: Call, attempt: Attempt, span: Span, guess: _Guess) -> Iterator[None]:
        """Whatever ends the attempt badly becomes one GatewayError (or stays a cancellation), recorded once."""
        try:
            yield
        except asyncio.CancelledError as cancelled:
            if not (_is_leaving() or isinstance(cancelled, _CallerLeftError)):
                error = unreachable(attempt.provider)
                self._failed(attempt, span, error, guess)
                raise error from cancelled
            self._failed(attempt, span, _left(call), guess)
            raise
        except aio.AioRpcError as failure:
            own_timeout = self._default_timeout if call.remaining() is None else None
            error = from_provider(failure, attempt.provider, own_timeout=own_timeout)
            self._failed(attempt, span, error, guess)
            raise error from failure
        except GatewayError as error:
            error.details.setdefault("provider", attempt.provider)
            self._failed(attempt, span, error, guess)
            raise
        except Exception:
            self._failed(attempt, span, GatewayError("INTERNAL", "a fault of the gateway"), guess)
            raise
        span.end()

    def _failed(self, attempt: Attempt, span: Span, error: GatewayError, guess: _Guess) -> None:
        span.end(error)
        if not attempt.recorded:
            attempt.usage = guess(error)
            self._emitter.failed(attempt, error)

    def _timeout(self, call: Call) -> float:
        """Seconds left for the provider. Raises GatewayError DEADLINE_EXCEEDED when there are none."""
        remaining = call.remaining()
        if remaining is None:
            return self._default_timeout
        if remaining <= 0:
            raise GatewayError("DEADLINE_EXCEEDED", "the deadline of the call passed")
        return remaining


class _CallerLeftError(asyncio.CancelledError):
    """A message could not be written: the caller is gone, and the cancellation of this task is on its way."""


class _Outlet:
    """Writes the messages of one stream; the first one written says where the call went and where the time went."""

    __slots__ = ("_call", "_head", "_route", "_write")

    def __init__(self, call: Call, route: gateway_service_pb2.Route, write: _Write) -> None:
        self._call = call
        self._route = route
        self._write = write
        self._head: chat_pb2.CallTiming | None = None

    def first(self, timing: chat_pb2.CallTiming) -> None:
        """Note what the adapter says of the time to the first event."""
        self._head = self._call.timing(timing)
        metrics.overhead("router", self._head.router_us / 1e6)

    async def write(self, events: Iterable[chat_pb2.ChatEvent]) -> None:
        """Raises a cancellation when the caller is gone."""
        head, self._head = self._head, None
        if head is None:
            response = gateway_service_pb2.StreamChatResponse(events=events)
        else:
            response = gateway_service_pb2.StreamChatResponse(events=events, route=self._route, timing=head)
        try:
            await self._write(response)
        except (aio.InternalError, aio.UsageError) as error:
            raise _CallerLeftError from error


async def _answer(rpc: aio.UnaryUnaryCall[_Request, _Answer]) -> _Answer:
    """The answer of a unary call, which is cancelled at once when nobody waits for it any more."""
    try:
        return await rpc
    finally:
        rpc.cancel()


async def _read(rpc: _StreamCall, *, ended: bool) -> _Events | None:
    """The next message; None at the end. A failure after the answer has `ended` changes nothing any more."""
    try:
        message = await rpc.read()
    except aio.AioRpcError:
        if ended:
            return None
        raise
    return message if isinstance(message, provider_service_pb2.ProviderServiceStreamChatResponse) else None


def _metadata(call: Call, span: Span) -> tuple[tuple[str, str], ...]:
    return (("x-request-id", call.request_id), *span.metadata())


def _prompt_only(prompt: int) -> tokens_pb2.TokenUsage:
    return estimates.estimated(None, prompt=prompt, output_characters=0, reasoning_characters=0)


def _is_leaving() -> bool:
    """Whether the task itself was cancelled: gRPC also says "cancelled" when the other side ended a stream so."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _left(call: Call) -> GatewayError:
    remaining = call.remaining()
    if remaining is not None and remaining <= 0:
        return GatewayError("DEADLINE_EXCEEDED", "the deadline of the call passed")
    return GatewayError("CANCELLED", "the caller went away")
