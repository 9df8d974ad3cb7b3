"""A router on a real port, with a provider and a ledger beside it that do what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aigateway.v1 import (
    chat_pb2,
    gateway_service_pb2,
    gateway_service_pb2_grpc,
    message_pb2,
    model_pb2,
    provider_service_pb2,
    provider_service_pb2_grpc,
    tokens_pb2,
    usage_service_pb2,
    usage_service_pb2_grpc,
)
from aigateway_common.errors import GatewayError, abort, from_rpc_error
from aigateway_common.inprocess import InProcessChannel, InProcessServer
from aigateway_common.serving import GrpcServer, grpc_channel, grpc_server
from aigateway_common.telemetry import Telemetry
from aigateway_router.server import RouterComponent
from aigateway_router.settings import RetryPolicy, RouterSettings
from grpc import aio
from typing_extensions import override

Event = chat_pb2.ChatEvent
Chunk = provider_service_pb2.ProviderServiceStreamChatResponse
TIMING = chat_pb2.CallTiming(upstream_us=30, adapter_us=20)
USAGE = tokens_pb2.TokenUsage(input_uncached=11, output_text=5)
START = Event(start=chat_pb2.StreamStart(id="a1", created=7, model="acme-1-2026"))
FINISH = Event(finish=chat_pb2.StreamFinish(reason=chat_pb2.FINISH_REASON_STOP, native_reason="end_turn"))
COMPLETION = chat_pb2.ChatCompletion(
    id="a1",
    model="acme-1-2026",
    choices=[
        chat_pb2.Choice(
            message=message_pb2.Message(
                role=message_pb2.ROLE_ASSISTANT, parts=[message_pb2.Part(text=message_pb2.TextPart(text="hello"))]
            ),
            finish_reason=chat_pb2.FINISH_REASON_STOP,
            native_finish_reason="end_turn",
        )
    ],
    usage=USAGE,
)


def chat_call(model: str = "acme/acme-1", text: str = "hi") -> chat_pb2.ChatCall:
    part = message_pb2.Part(text=message_pb2.TextPart(text=text))
    return chat_pb2.ChatCall(model=model, messages=[message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])])


def stream_request(model: str = "acme/acme-1") -> gateway_service_pb2.StreamChatRequest:
    return gateway_service_pb2.StreamChatRequest(call=chat_call(model))


def text(words: str, choice: int = 0) -> chat_pb2.ChatEvent:
    return Event(choice=choice, text=words)


def chunks(*batches: list[chat_pb2.ChatEvent]) -> list[provider_service_pb2.ProviderServiceStreamChatResponse]:
    """Messages as an adapter sends them: timing in the first alone."""
    return [Chunk(events=batch, timing=None if number else TIMING) for number, batch in enumerate(batches)]


@dataclass
class Seen:
    """One call as the provider saw it."""

    request: Any
    metadata: dict[str, str]
    remaining: float | None
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)


Answer = Callable[[Any, Any], Awaitable[Any]]


class ScriptedProvider(provider_service_pb2_grpc.ProviderServiceServicer):
    """Answers each rpc by the function of its name; the last of `calls` is the latest call."""

    service_names = ("aigateway.v1.ProviderService",)

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        self.calls: list[Seen] = []
        self.called = asyncio.Event()

    def register(self, server: aio.Server) -> None:
        provider_service_pb2_grpc.add_ProviderServiceServicer_to_server(self, server)

    async def start(self) -> None:
        pass

    async def stop(self, grace: float) -> None:
        pass

    async def _run(self, name: str, request: Any, context: Any) -> Any:
        metadata = {key: str(value) for key, value in context.invocation_metadata()}
        seen = Seen(request, metadata, context.time_remaining())
        self.calls.append(seen)
        self.called.set()
        try:
            return await self.answers[name](request, context)
        except asyncio.CancelledError:
            seen.cancelled.set()
            raise

    @override
    async def Chat(self, request: Any, context: Any) -> Any:
        return await self._run("chat", request, context)

    @override
    async def StreamChat(self, request: Any, context: Any) -> Any:  # type: ignore[override] # writes, yields nothing
        return await self._run("stream", request, context)

    @override
    async def Embed(self, request: Any, context: Any) -> Any:
        return await self._run("embed", request, context)

    @override
    async def CountTokens(self, request: Any, context: Any) -> Any:
        return await self._run("count", request, context)

    @override
    async def ListModels(self, request: Any, context: Any) -> Any:
        return await self._run("models", request, context)

    @override
    async def GetCapabilities(self, request: Any, context: Any) -> Any:
        return provider_service_pb2.GetCapabilitiesResponse()


class ScriptedLedger(usage_service_pb2_grpc.UsageServiceServicer):
    """Remembers attempts by event id. `before` runs before each recording and may abort it."""

    service_names: tuple[str, ...] = ("aigateway.v1.UsageService",)

    def __init__(self, before: Answer | None = None) -> None:
        self.before = before
        self.events: dict[str, usage_service_pb2.Attempt] = {}
        self.deliveries: list[list[str]] = []
        self._changed = asyncio.Condition()

    def register(self, server: aio.Server) -> None:
        usage_service_pb2_grpc.add_UsageServiceServicer_to_server(self, server)

    async def start(self) -> None:
        pass

    async def stop(self, grace: float) -> None:
        pass

    @override
    async def RecordAttempts(self, request: Any, context: Any) -> Any:
        if self.before is not None:
            await self.before(request, context)
        new = [attempt for attempt in request.attempts if attempt.event_id not in self.events]
        async with self._changed:
            self.deliveries.append([attempt.event_id for attempt in request.attempts])
            self.events |= {attempt.event_id: attempt for attempt in new}
            self._changed.notify_all()
        return usage_service_pb2.RecordAttemptsResponse(recorded=len(new), duplicates=len(request.attempts) - len(new))

    @override
    async def ListAttempts(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    @override
    async def SummarizeAttempts(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def of(self, count: int) -> list[usage_service_pb2.Attempt]:
        """The attempts recorded, once there are `count`."""
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: len(self.events) >= count)
        return list(self.events.values())


@asynccontextmanager
async def served(component: Any, port: int = 0) -> AsyncIterator[GrpcServer]:
    server = grpc_server([component], f"127.0.0.1:{port}")
    await server.start()
    try:
        yield server
    finally:
        await server.drain(2)


@dataclass
class Router:
    """A router under test."""

    stub: gateway_service_pb2_grpc.GatewayServiceAsyncStub
    ledger: ScriptedLedger
    folder: Path


@dataclass
class Hops:
    """The servers and channels of one test; every hop on a real port, or every hop in process."""

    in_process: ClassVar[bool] = False
    stops: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def to(self, component: Any) -> aio.Channel:
        """A channel to `component`, started."""
        return await (self._in_process(component) if self.in_process else self._on_port(component))

    async def _on_port(self, component: Any) -> aio.Channel:
        server = grpc_server([component], "127.0.0.1:0")
        await server.start()
        channel = grpc_channel(f"127.0.0.1:{server.port}")

        async def stop() -> None:
            await channel.close()
            await server.drain(2)

        self.stops.append(stop)
        return channel

    async def _in_process(self, component: Any) -> aio.Channel:
        server = InProcessServer()
        component.register(server)
        await component.start()
        await server.start()

        async def stop() -> None:
            await server.stop(2)
            await component.stop(2)

        self.stops.append(stop)
        return InProcessChannel(server)

    async def stop(self) -> None:
        """Stop all, the last first."""
        while self.stops:
            await self.stops.pop()()


@asynccontextmanager
async def router(
    folder: Path,
    providers: Mapping[str, Any],
    *,
    ledger: Any = None,
    telemetry: Telemetry | None = None,
    **settings: Any,
) -> AsyncIterator[Router]:
    """A router before `providers`. It makes one attempt unless `retries` says otherwise."""
    settings = {"retries": RetryPolicy(attempts=1)} | settings
    ledger = ledger or ScriptedLedger()
    hops = Hops()
    try:
        component = RouterComponent(
            RouterSettings(outbox_dir=folder / "outbox", **settings),
            providers={name: await hops.to(provider) for name, provider in providers.items()},
            usage=await hops.to(ledger),
            telemetry=telemetry or Telemetry.off(),
        )
        stub = gateway_service_pb2_grpc.GatewayServiceStub(await hops.to(component))
        yield Router(stub, ledger, folder / "outbox")
    finally:
        await hops.stop()


def always(answer: Any) -> Answer:
    async def give(_request: Any, _context: Any) -> Any:
        return answer

    return give


def streams(messages: list[provider_service_pb2.ProviderServiceStreamChatResponse]) -> Answer:
    async def write(_request: Any, context: Any) -> None:
        for message in messages:
            await context.write(message)

    return write


def hangs(*messages: provider_service_pb2.ProviderServiceStreamChatResponse) -> Answer:
    """Writes `messages`, then waits for ever."""

    async def wait(_request: Any, context: Any) -> None:
        for message in messages:
            await context.write(message)
        await asyncio.Event().wait()

    return wait


def fails(error: GatewayError, *messages: provider_service_pb2.ProviderServiceStreamChatResponse) -> Answer:
    """Writes `messages`, then ends with `error`."""

    async def end(_request: Any, context: Any) -> None:
        for message in messages:
            await context.write(message)
        await abort(context, error)

    return end


def models(*ids: str) -> provider_service_pb2.ProviderServiceListModelsResponse:
    return provider_service_pb2.ProviderServiceListModelsResponse(models=[model_pb2.Model(id=one) for one in ids])


OK = usage_service_pb2.ATTEMPT_STATUS_OK
ERROR = usage_service_pb2.ATTEMPT_STATUS_ERROR
CANCELLED = usage_service_pb2.ATTEMPT_STATUS_CANCELLED
END_USAGE = Event(usage=USAGE)

ChatAnswer = provider_service_pb2.ProviderServiceChatResponse
EmbedAnswer = provider_service_pb2.ProviderServiceEmbedResponse
Response = gateway_service_pb2.StreamChatResponse


def answering() -> ScriptedProvider:
    return ScriptedProvider(chat=always(ChatAnswer(completion=COMPLETION, timing=TIMING)))


def chat_request(model: str = "acme/acme-1") -> gateway_service_pb2.ChatRequest:
    return gateway_service_pb2.ChatRequest(call=chat_call(model))


def route(request_id: str, requested: str = "acme/acme-1", sent: str = "acme-1") -> gateway_service_pb2.Route:
    return gateway_service_pb2.Route(
        provider="acme", requested_model=requested, sent_model=sent, request_id=request_id, attempts=1
    )


async def refused(call: Any) -> GatewayError:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def collected(call: Any) -> list[gateway_service_pb2.StreamChatResponse]:
    return [message async for message in call]


async def only_attempt(running: Router) -> usage_service_pb2.Attempt:
    (attempt,) = await running.ledger.of(1)
    return attempt
