"""What a call leaves behind: nothing that only the collector would find."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, gateway_service_pb2, gateway_service_pb2_grpc
from aigateway_common.inprocess import InProcessChannel, InProcessServer
from aigateway_edge.app import create_app
from aigateway_edge.exchange import Exchange
from aigateway_edge.settings import EdgeSettings
from aigateway_edge.sse_out import SseOut
from typing_extensions import override


class Router(gateway_service_pb2_grpc.GatewayServiceServicer):
    """Answers at once, and at the second model fails in mid-answer."""

    @override
    async def Chat(self, request: Any, context: Any) -> gateway_service_pb2.ChatResponse:
        return gateway_service_pb2.ChatResponse(completion=chat_pb2.ChatCompletion(id="x"))

    @override
    async def StreamChat(self, request: Any, context: Any) -> None:  # type: ignore[override] # as grpc.aio takes it too
        event = chat_pb2.ChatEvent(start=chat_pb2.StreamStart(id="x", model="m"))
        await context.write(gateway_service_pb2.StreamChatResponse(events=[event]))
        if request.call.model == "failing":
            raise RuntimeError("in mid-answer")


async def call(app: Any, body: bytes) -> int:
    """Make one call; its status."""
    asked = asyncio.Event()
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if asked.is_set():
            await asyncio.get_running_loop().create_future()
        asked.set()
        return {"type": "http.request", "body": body}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}, receive, send)
    status: int = sent[0]["status"]
    return status


@pytest.mark.parametrize(("model", "stream"), [("m", False), ("m", True), ("failing", True)])
async def test_a_call_is_freed_without_the_collector(model: str, stream: bool) -> None:
    server = InProcessServer()
    gateway_service_pb2_grpc.add_GatewayServiceServicer_to_server(Router(), server)  # type: ignore[abstract] # the rest says UNIMPLEMENTED
    await server.start()
    app = create_app(EdgeSettings(), gateway=InProcessChannel(server))
    body = b'{"model":"%b","stream":%b,"messages":[{"role":"user","content":"Hi"}]}' % (
        model.encode(),
        b"true" if stream else b"false",
    )
    gc.collect()
    gc.disable()
    try:
        assert await call(app, body) == 200
        for _ in range(3):  # cancelled tasks end on the loop's next turns
            await asyncio.sleep(0)
        assert [kept for kept in gc.get_objects() if type(kept) in {Exchange, SseOut}] == []
    finally:
        gc.enable()
    await server.stop(None)
