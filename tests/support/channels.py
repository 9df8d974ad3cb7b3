"""One channel and one server on either transport, for the promises that both must keep."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from aigateway.v1 import chat_pb2, gateway_service_pb2, gateway_service_pb2_grpc
from aigateway_common.inprocess import InProcessChannel, InProcessServer
from grpc import aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

Chat = gateway_service_pb2.ChatRequest
ChatAnswer = gateway_service_pb2.ChatResponse
Stream = gateway_service_pb2.StreamChatRequest
Message = gateway_service_pb2.StreamChatResponse
Code = grpc.StatusCode

REQUEST = Chat(call=chat_pb2.ChatCall(model="m"))
ANSWER = ChatAnswer(completion=chat_pb2.ChatCompletion(id="1"))
STREAM = Stream(call=chat_pb2.ChatCall(model="m"))
SOON = 5.0
"""Seconds after which something that has to happen did not."""


def text(number: int, size: int = 0) -> Message:
    return Message(events=[chat_pb2.ChatEvent(part=number, text="x" * size)])


@dataclass
class Link:
    server: aio.Server
    channel: aio.Channel
    stub: gateway_service_pb2_grpc.GatewayServiceAsyncStub


Connect = Any  # a coroutine function: handlers of GatewayService by name -> Link


@pytest.fixture(params=["inprocess", "wire"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    links: list[Link] = []

    async def connect(**handlers: Callable[..., Any]) -> Link:
        opened = await open_link(request.param, servicer(**handlers))
        links.append(opened)
        return opened

    yield connect
    for opened in links:
        await opened.channel.close()
        await opened.server.stop(None)


class _Unimplemented(gateway_service_pb2_grpc.GatewayServiceServicer):
    """The generated defaults."""


def servicer(**handlers: Callable[..., Any]) -> gateway_service_pb2_grpc.GatewayServiceServicer:
    servicer = _Unimplemented()  # type: ignore[abstract] # that is what it is for
    for name, handler in handlers.items():
        setattr(servicer, name, handler)
    return servicer


async def open_link(transport: str, servicer: gateway_service_pb2_grpc.GatewayServiceServicer) -> Link:
    server: aio.Server
    channel: aio.Channel
    if transport == "wire":
        server = aio.server()
        port = server.add_insecure_port("127.0.0.1:0")
        channel = aio.insecure_channel(f"127.0.0.1:{port}")
    else:
        server = InProcessServer()
        channel = InProcessChannel(server)
    gateway_service_pb2_grpc.add_GatewayServiceServicer_to_server(servicer, server)
    await server.start()
    return Link(server, channel, gateway_service_pb2_grpc.GatewayServiceStub(channel))


async def soon(awaitable: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaitable, SOON)


class Hanging:
    """A handler that answers nothing, and notes what becomes of it."""

    def __init__(self, messages: int = 0) -> None:
        self.messages = messages
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.done = asyncio.Event()
        self.remaining: float | None = None

    async def __call__(self, request: Any, context: Any) -> Any:
        context.add_done_callback(lambda _: self.done.set())
        self.remaining = context.time_remaining()
        for number in range(self.messages):
            await context.write(text(number))
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def handler(self) -> Callable[..., Any]:
        async def handle(request: Any, context: Any) -> Any:
            return await self(request, context)

        return handle


def expect(error: aio.AioRpcError, code: grpc.StatusCode, details: str) -> None:
    assert (error.code(), error.details()) == (code, details)
