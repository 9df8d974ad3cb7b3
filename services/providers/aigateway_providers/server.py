"""ProviderService over any adapter: timing, spans, metrics and errors, the same for every provider.

An adapter knows its provider; this module knows gRPC. It serves one adapter, adds nothing to its answers but the time
they took, and turns whatever goes wrong into a status with details. It never retries: the router decides that.
"""

from __future__ import annotations

import time
from asyncio import CancelledError
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aigateway.v1 import chat_pb2, provider_service_pb2, provider_service_pb2_grpc
from aigateway_common import attributes, logs, metrics
from aigateway_common.errors import GatewayError, abort, invalid
from aigateway_common.streaming import putter
from aigateway_common.telemetry import Span, SpanKind, Telemetry
from grpc import aio
from typing_extensions import override

from aigateway_providers.adapter import CallContext, Keyed, TokenCounter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from aigateway.v1 import tokens_pb2

    from aigateway_providers.adapter import Adapter

    _Context = aio.ServicerContext[Any, Any]

_T = TypeVar("_T")

SERVICE_NAME: Final = "aigateway.v1.ProviderService"
_OFF: Final = Telemetry.off()
_MAX_STRANGE: Final = 100
"""Unknown reasons for an answer's end that are logged at most."""


class ProviderComponent:
    """One adapter as a service.

    Args:
        adapter: The provider; closed when the component stops.
        name: The provider's name in this gateway, for metrics, spans and logs.
        telemetry: Where spans go.
    """

    service_names: tuple[str, ...] = (SERVICE_NAME,)

    def __init__(self, adapter: Adapter, *, name: str, telemetry: Telemetry = _OFF) -> None:
        self._adapter = adapter
        self._servicer = _ProviderServicer(adapter, name, telemetry)

    def rekey(self, key: str) -> None:
        """Show the provider `key` in calls that begin from now on. Raises ValueError for one that cannot be sent."""
        if isinstance(self._adapter, Keyed):
            self._adapter.rekey(key)

    def register(self, server: aio.Server) -> None:
        """Add ProviderService to `server`."""
        provider_service_pb2_grpc.add_ProviderServiceServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        """Nothing to open: upstream connections are made by the first call."""

    async def stop(self, grace: float) -> None:  # noqa: ARG002 - calls have ended by now; connections close at once
        """Close the upstream connections."""
        await self._adapter.aclose()


class _Call:
    """One call being served: its clock, its span, and what becomes of it."""

    __slots__ = ("_operation", "_provider", "_span", "_started", "context")

    def __init__(self, provider: str, operation: str, model: str, telemetry: Telemetry, context: _Context) -> None:
        self._started = time.perf_counter_ns()
        self._provider = provider
        self._operation = operation
        metadata = tuple(context.invocation_metadata() or ())
        self.context = CallContext(request_id=_request_id(metadata))
        name = f"{operation} {model}" if model else operation
        self._span: Span = telemetry.span(name, kind=SpanKind.CLIENT, parent=metadata)
        if self._span.recording:
            self._span.set(attributes.OPERATION, operation)
            self._span.set(attributes.PROVIDER, attributes.provider_name(provider))
            self._span.set(attributes.REQUEST_MODEL, model or None)
        logs.bind(request_id=self.context.request_id, trace_id=self._span.trace_id, span_id=self._span.span_id)

    def timing(self) -> chat_pb2.CallTiming:
        """Where the time went up to now."""
        upstream = self.context.upstream_ns
        own = max(0, time.perf_counter_ns() - self._started - upstream)
        if self._span.recording:
            self._span.set(attributes.UPSTREAM_TIME, upstream / 1e9)
            self._span.set(attributes.ADAPTER_TIME, own / 1e9)
        metrics.overhead("adapter", own / 1e9)
        return chat_pb2.CallTiming(upstream_us=upstream // 1000, adapter_us=own // 1000)

    def streams(self) -> None:
        """Note the first event of a stream."""
        seconds = (time.perf_counter_ns() - self._started) / 1e9
        self._span.set(attributes.REQUEST_STREAM, True)
        self._span.set(attributes.TIME_TO_FIRST_CHUNK, seconds)
        metrics.first_event(self._provider, seconds)

    def answered(self, model: str, response_id: str = "") -> None:
        """Note who answered."""
        self._span.set(attributes.RESPONSE_MODEL, model)
        self._span.set(attributes.RESPONSE_ID, response_id or None)

    def used(self, usage: tokens_pb2.TokenUsage) -> None:
        """Note the tokens."""
        if not self._span.recording:
            return
        cache_write = usage.input_cache_write_5m + usage.input_cache_write_1h
        prompt = usage.input_uncached + usage.input_cache_read + cache_write + usage.tool_use_prompt
        self._span.set(attributes.INPUT_TOKENS, prompt)
        self._span.set(attributes.OUTPUT_TOKENS, usage.output_text + usage.output_reasoning)
        self._span.set(attributes.CACHE_READ_TOKENS, usage.input_cache_read or None)
        self._span.set(attributes.CACHE_WRITE_TOKENS, cache_write or None)
        self._span.set(attributes.REASONING_TOKENS, usage.output_reasoning or None)

    def end(self, error: BaseException | None = None) -> None:
        """Close the span and count the call; `error` is a `GatewayError`, a cancellation, or None."""
        self._span.set(attributes.HTTP_STATUS, self.context.upstream_status)
        self._span.end(error)
        status = metrics.OK
        if isinstance(error, GatewayError):
            status = error.reason.name
            if status.startswith("UPSTREAM_"):
                metrics.upstream_error(self._provider, status)
        elif error is not None:
            status = "CANCELLED"
        seconds = (time.perf_counter_ns() - self._started) / 1e9
        metrics.call_finished("provider", self._operation, self._provider, status, seconds)


class _ProviderServicer(provider_service_pb2_grpc.ProviderServiceServicer):
    """The rpcs, each a few lines around the adapter."""

    def __init__(self, adapter: Adapter, name: str, telemetry: Telemetry) -> None:
        self._adapter = adapter
        self._name = name
        self._telemetry = telemetry
        self._log = logs.get("aigateway.provider")
        self._finish_reasons = frozenset(adapter.capabilities.finish_reasons)
        self._strange: set[str] = set()

    @override
    async def Chat(
        self, request: provider_service_pb2.ProviderServiceChatRequest, context: _Context
    ) -> provider_service_pb2.ProviderServiceChatResponse:
        async def answer(call: _Call) -> provider_service_pb2.ProviderServiceChatResponse:
            _require(request.call.messages, "messages")
            completion = await self._adapter.chat(request.call, call.context)
            call.answered(completion.model, completion.id)
            for choice in completion.choices:
                self._ended(choice.native_finish_reason)
            if completion.HasField("usage"):
                call.used(completion.usage)
            response = provider_service_pb2.ProviderServiceChatResponse()
            response.completion.CopyFrom(completion)
            response.timing.CopyFrom(call.timing())
            return response

        return await self._serve(attributes.CHAT, request.call.model, context, answer)

    @override
    async def StreamChat(  # type: ignore[override] # grpc.aio takes a coroutine that writes to its context as well
        self, request: provider_service_pb2.ProviderServiceStreamChatRequest, context: _Context
    ) -> None:
        async def answer(call: _Call) -> None:
            _require(request.call.messages, "messages")
            await self._stream(request.call, call, context)

        await self._serve(attributes.CHAT, request.call.model, context, answer)

    @override
    async def Embed(
        self, request: provider_service_pb2.ProviderServiceEmbedRequest, context: _Context
    ) -> provider_service_pb2.ProviderServiceEmbedResponse:
        async def answer(call: _Call) -> provider_service_pb2.ProviderServiceEmbedResponse:
            _require(request.call.inputs, "input")
            vectors = await self._adapter.embed(request.call, call.context)
            call.answered(vectors.model)
            if vectors.HasField("usage"):
                call.used(vectors.usage)
            return provider_service_pb2.ProviderServiceEmbedResponse(embeddings=vectors, timing=call.timing())

        return await self._serve(attributes.EMBEDDINGS, request.call.model, context, answer)

    @override
    async def CountTokens(
        self, request: provider_service_pb2.ProviderServiceCountTokensRequest, context: _Context
    ) -> provider_service_pb2.ProviderServiceCountTokensResponse:
        async def answer(call: _Call) -> provider_service_pb2.ProviderServiceCountTokensResponse:
            _require(request.call.messages, "messages")
            if not isinstance(self._adapter, TokenCounter):
                raise GatewayError(
                    "UNIMPLEMENTED",
                    f"{self._name} does not count tokens ahead of a call",
                    details={"provider": self._name},
                )
            count = await self._adapter.count_tokens(request.call, call.context)
            return provider_service_pb2.ProviderServiceCountTokensResponse(count=count, timing=call.timing())

        return await self._serve(attributes.COUNT_TOKENS, request.call.model, context, answer)

    @override
    async def ListModels(
        self, request: provider_service_pb2.ProviderServiceListModelsRequest, context: _Context
    ) -> provider_service_pb2.ProviderServiceListModelsResponse:
        async def answer(call: _Call) -> provider_service_pb2.ProviderServiceListModelsResponse:
            models = await self._adapter.list_models(call.context)
            return provider_service_pb2.ProviderServiceListModelsResponse(models=models)

        return await self._serve("list_models", "", context, answer)

    @override
    async def GetCapabilities(
        self, request: provider_service_pb2.GetCapabilitiesRequest, context: _Context
    ) -> provider_service_pb2.GetCapabilitiesResponse:
        return provider_service_pb2.GetCapabilitiesResponse(capabilities=self._adapter.capabilities)

    async def _stream(self, chat: chat_pb2.ChatCall, call: _Call, context: _Context) -> None:
        """Write each list of events as one message; leaving the loop in any way closes the upstream socket."""
        put = putter(context)
        first = True
        room = True
        events: list[chat_pb2.ChatEvent] = []

        def tell(texts: list[chat_pb2.ChatEvent]) -> bool:
            nonlocal room
            if put is None or not room:
                return False
            message = provider_service_pb2.ProviderServiceStreamChatResponse()
            message.events.extend(texts)
            try:
                room = put(message)
            except aio.BaseError:  # the call is over, which the next message that is yielded shows
                return False
            return True

        if put is not None:
            call.context.tell = tell
        async with aclosing(self._adapter.stream_chat(chat, call.context)) as batches:
            async for events in batches:
                message = provider_service_pb2.ProviderServiceStreamChatResponse()
                message.events.extend(events)
                if first:
                    first = False
                    message.timing.CopyFrom(call.timing())
                    call.streams()
                    call.answered(events[0].start.model, events[0].start.id)
                for event in events:
                    if event.HasField("finish"):
                        self._ended(event.finish.native_reason)
                if put is not None and room:
                    room = put(message)
                else:
                    await context.write(message)
                    room = True
        for event in events:  # usage comes last
            if event.WhichOneof("event") == "usage":
                call.used(event.usage)

    def _ended(self, native: str) -> None:
        """Count an end that the adapter does not know, and log each such word once."""
        if not native or not self._finish_reasons or native in self._finish_reasons:
            return
        metrics.unknown_finish_reason(self._name)
        if native not in self._strange and len(self._strange) < _MAX_STRANGE:
            self._strange.add(native)
            self._log.warning("unknown finish reason", provider=self._name, native=native[:100])

    async def _serve(
        self, operation: str, model: str, context: _Context, answer: Callable[[_Call], Awaitable[_T]]
    ) -> _T:
        call = _Call(self._name, operation, model, self._telemetry, context)
        try:
            result = await answer(call)
        except GatewayError as error:
            call.end(error)
            await abort(context, error)
        except CancelledError as error:
            call.end(error)
            raise
        except Exception:  # noqa: BLE001 - the caller learns that it failed, the log learns why
            self._log.exception("adapter failed", provider=self._name, operation=operation)
            fault = GatewayError("INTERNAL", "internal error; the logs have it under the request id")
            call.end(fault)
            await abort(context, fault)
        call.end()
        return result


def _require(items: object, param: str) -> None:
    if not items:
        raise invalid(param, f"`{param}` must not be empty")


def _request_id(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    for key, value in metadata:
        if key == "x-request-id":
            return str(value)
    return ""
