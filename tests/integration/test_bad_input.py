"""Bad input gets the right status and an error that names the field or the fix, on HTTP and on gRPC alike."""

from __future__ import annotations

from typing import Any

import grpc
import httpx
import pytest
from aigateway.v1 import chat_pb2, embedding_pb2, gateway_service_pb2, message_pb2
from aigateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from aigateway_common.errors import from_rpc_error
from support.gateway import Gateway

CHAT = "/v1/chat/completions"
USER = {"role": "user", "content": "Hi"}


def chat(**changes: Any) -> dict[str, Any]:
    return {"model": "sandbox/echo", "messages": [USER]} | changes


HTTP_CASES: list[Any] = [
    pytest.param(b"{", 400, None, id="malformed JSON"),
    pytest.param(b"[]", 400, None, id="not an object"),
    pytest.param(b"\xff\xfe", 400, None, id="not UTF-8"),
    pytest.param(chat(model=None), 400, "model", id="null model"),
    pytest.param({"messages": [USER]}, 400, "model", id="no model"),
    pytest.param(chat(messages=[]), 400, "messages", id="empty messages"),
    pytest.param({"model": "sandbox/echo"}, 400, "messages", id="no messages"),
    pytest.param(chat(messages="Hi"), 400, "messages", id="messages of a wrong type"),
    pytest.param(chat(messages=[{"role": "wizard", "content": "x"}]), 400, "messages[0].role", id="unknown role"),
    pytest.param(
        chat(messages=[{"role": "user", "content": 7}]), 400, "messages[0].content", id="content of a wrong type"
    ),
    pytest.param(
        chat(messages=[USER, {"role": "tool", "tool_call_id": "x", "content": "y"}]),
        400,
        "messages[1].tool_call_id",
        id="tool result without a call",
    ),
    pytest.param(chat(temperature="hot"), 400, "temperature", id="temperature of a wrong type"),
    pytest.param(chat(temperature=3), 400, "temperature", id="temperature out of range"),
    pytest.param(
        chat(
            messages=[
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,@@@"}}],
                }
            ]
        ),
        400,
        "messages[0].content[0].image_url.url",
        id="bad base64",
    ),
    pytest.param(chat(model="gpt-4o"), 404, "model", id="provider that is not enabled"),
    pytest.param(chat(model="sandbox/none"), 404, "model", id="unknown model"),
]


@pytest.mark.parametrize(("body", "status", "param"), HTTP_CASES)
def test_http(sandbox: Gateway, body: Any, status: int, param: str | None) -> None:
    content = body if isinstance(body, bytes) else None
    got = httpx.post(
        sandbox.http + CHAT,
        content=content,
        json=None if content else body,
        headers={"content-type": "application/json"},
    )
    assert got.status_code == status, got.text
    error = got.json()["error"]
    assert set(error) == {"message", "type", "code", "param"}
    assert error["message"]
    assert error["param"] == param
    assert got.headers["x-request-id"]


def test_an_over_long_body_is_refused_by_its_length_and_as_it_comes(sandbox: Gateway) -> None:
    size = 33 * 1024 * 1024
    whole = httpx.post(sandbox.http + CHAT, content=b" " * size)
    assert whole.status_code == 413
    assert whole.json()["error"]["code"] == "request_too_large"
    pieces = httpx.post(sandbox.http + CHAT, content=(b" " * 1024 * 1024 for _ in range(33)))
    assert pieces.status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/nothing", 404), ("GET", CHAT, 405), ("POST", "/v1/models", 405)]
)
def test_wrong_paths_and_methods_have_the_same_shape(sandbox: Gateway, method: str, path: str, status: int) -> None:
    got = httpx.request(method, sandbox.http + path)
    assert got.status_code == status
    assert set(got.json()["error"]) == {"message", "type", "code", "param"}


def _message(role: message_pb2.Role.ValueType = message_pb2.ROLE_USER) -> message_pb2.Message:
    return message_pb2.Message(role=role, parts=[message_pb2.Part(text=message_pb2.TextPart(text="Hi"))])


GRPC_CASES: list[Any] = [
    pytest.param(chat_pb2.ChatCall(messages=[_message()]), "INVALID_REQUEST", "call.model", id="no model"),
    pytest.param(chat_pb2.ChatCall(model="sandbox/echo"), "INVALID_REQUEST", "call.messages", id="no messages"),
    pytest.param(
        chat_pb2.ChatCall(model="sandbox/echo", messages=[_message(message_pb2.ROLE_UNSPECIFIED)]),
        "INVALID_REQUEST",
        "call.messages[0].role",
        id="no role",
    ),
    pytest.param(chat_pb2.ChatCall(model="gpt-4o", messages=[_message()]), "PROVIDER_DISABLED", "model", id="disabled"),
    pytest.param(
        chat_pb2.ChatCall(model="sandbox/x", messages=[_message()]), "MODEL_NOT_FOUND", "model", id="unknown model"
    ),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("call", "reason", "param"), GRPC_CASES)
async def test_grpc(sandbox: Gateway, call: chat_pb2.ChatCall, reason: str, param: str | None, stream: bool) -> None:
    async with grpc.aio.insecure_channel(sandbox.grpc) as channel:
        stub = GatewayServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (
                stub.StreamChat(gateway_service_pb2.StreamChatRequest(call=call)).read()
                if stream
                else stub.Chat(gateway_service_pb2.ChatRequest(call=call))
            )
    error = from_rpc_error(caught.value)
    assert (error.reason.name, error.details.get("param")) == (reason, param)
    assert error.message


async def test_grpc_embeddings_without_inputs(sandbox: Gateway) -> None:
    async with grpc.aio.insecure_channel(sandbox.grpc) as channel:
        request = gateway_service_pb2.EmbedRequest(call=embedding_pb2.EmbedCall(model="sandbox/embed"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await GatewayServiceStub(channel).Embed(request)
    assert from_rpc_error(caught.value).details["param"] == "call.inputs"
