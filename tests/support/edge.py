"""The edge on a real HTTP server, in front of a router that the test scripts, in process or over gRPC."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from aigateway.v1 import chat_pb2, gateway_service_pb2, gateway_service_pb2_grpc, message_pb2
from aigateway_common import health
from aigateway_common.errors import GatewayError, abort
from aigateway_common.inprocess import InProcessChannel, InProcessServer
from aigateway_edge.app import create_app
from aigateway_edge.settings import EdgeSettings
from grpc import aio
from grpc_health.v1 import health_pb2_grpc
from typing_extensions import override

Event = chat_pb2.ChatEvent
ROUTE = gateway_service_pb2.Route(provider="acme", requested_model="acme/m", sent_model="m", request_id="r")
TIMING = chat_pb2.CallTiming(upstream_us=100, adapter_us=20, router_us=30)


def start(**fields: Any) -> chat_pb2.ChatEvent:
    """The event that begins a stream."""
    given: dict[str, Any] = {
        "id": "chat-1",
        "created": 7,
        "model": "m-1",
        "dialect": message_pb2.DIALECT_ANTHROPIC_MESSAGES,
    } | fields
    return Event(start=chat_pb2.StreamStart(**given))


def finish(reason: str = "STOP", choice: int = 0, native: str = "") -> chat_pb2.ChatEvent:
    """The event that ends a choice."""
    value = chat_pb2.FinishReason.Value(f"FINISH_REASON_{reason}")
    return Event(choice=choice, finish=chat_pb2.StreamFinish(reason=value, native_reason=native))


class Hold:
    """A step of a script: wait until the call is cancelled."""


@dataclass
class Router(gateway_service_pb2_grpc.GatewayServiceServicer):
    """A router that answers by script, and remembers what it was asked."""

    completion: chat_pb2.ChatCompletion | GatewayError | Hold = field(default_factory=chat_pb2.ChatCompletion)
    steps: list[list[chat_pb2.ChatEvent] | GatewayError | Hold | asyncio.Event] = field(default_factory=list)
    """What a stream does: send one message, fail, wait for an event, or wait for ever."""
    embeddings: gateway_service_pb2.EmbedResponse = field(default_factory=gateway_service_pb2.EmbedResponse)
    listed: gateway_service_pb2.ListModelsResponse = field(default_factory=gateway_service_pb2.ListModelsResponse)
    counted: gateway_service_pb2.CountTokensResponse = field(default_factory=gateway_service_pb2.CountTokensResponse)
    requests: list[Any] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    remaining: float | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def _note(self, request: Any, context: aio.ServicerContext[Any, Any]) -> None:
        self.requests.append(request)
        self.metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        self.remaining = context.time_remaining()
        self.arrived.set()

    async def _noted(self, request: Any, context: aio.ServicerContext[Any, Any]) -> None:
        self._note(request, context)
        if isinstance(self.completion, Hold):
            await self._hold()

    async def _hold(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    @override
    async def Chat(self, request: Any, context: Any) -> gateway_service_pb2.ChatResponse:
        self._note(request, context)
        match self.completion:
            case GatewayError() as error:
                await abort(context, error)
            case Hold():
                await self._hold()
        assert isinstance(self.completion, chat_pb2.ChatCompletion)
        return gateway_service_pb2.ChatResponse(completion=self.completion, route=ROUTE, timing=TIMING)

    @override
    async def StreamChat(self, request: Any, context: Any) -> AsyncIterator[gateway_service_pb2.StreamChatResponse]:
        self._note(request, context)
        first = True
        for step in self.steps:
            match step:
                case list():
                    message = gateway_service_pb2.StreamChatResponse(events=step)
                    if first:
                        message.route.CopyFrom(ROUTE)
                        message.timing.CopyFrom(TIMING)
                    first = False
                    yield message
                case GatewayError():
                    await abort(context, step)
                case asyncio.Event():
                    await step.wait()
                case Hold():
                    await self._hold()

    @override
    async def CountTokens(self, request: Any, context: Any) -> gateway_service_pb2.CountTokensResponse:
        await self._noted(request, context)
        return self.counted

    @override
    async def Embed(self, request: Any, context: Any) -> gateway_service_pb2.EmbedResponse:
        await self._noted(request, context)
        return self.embeddings

    @override
    async def ListModels(self, request: Any, context: Any) -> gateway_service_pb2.ListModelsResponse:
        await self._noted(request, context)
        return self.listed


@dataclass
class Served:
    """A running edge."""

    url: str
    port: int
    router: Router
    stop_router: Callable[[], Awaitable[None]]


@asynccontextmanager
async def serve_http(app: Any) -> AsyncIterator[int]:
    """An ASGI application on a free port of loopback, on the server that the product uses."""
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    listener = socket.create_server(("127.0.0.1", 0))
    await server.startup(sockets=[listener])
    try:
        yield listener.getsockname()[1]
    finally:
        await server.shutdown(sockets=[listener])


@asynccontextmanager
async def edge(router: Router, *, wire: bool = False, **settings: Any) -> AsyncIterator[Served]:
    """The edge over HTTP; the router joined in process, or with `wire` over gRPC."""
    server: Any = aio.server() if wire else InProcessServer()
    gateway_service_pb2_grpc.add_GatewayServiceServicer_to_server(router, server)
    checks = health.Health(["aigateway.v1.GatewayService"])
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    channel: Any
    if wire:
        channel = aio.insecure_channel(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    else:
        channel = InProcessChannel(server)
    await server.start()
    checks.serving()

    async def stop() -> None:
        checks.drain()
        await server.stop(None)

    try:
        async with serve_http(create_app(EdgeSettings(**settings), gateway=channel)) as port:
            yield Served(f"http://127.0.0.1:{port}", port, router, stop)
    finally:
        await channel.close()
        await server.stop(None)
