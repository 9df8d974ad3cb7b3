"""Calls through Envoy as applications make them: HTTP/1.1, HTTP/2, gRPC and gRPC-Web, plain and with TLS."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import struct
import subprocess
from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import uuid4

import grpc
import httpx
import openai
import pytest
from aigateway.v1 import gateway_service_pb2, gateway_service_pb2_grpc, message_pb2
from grpc import aio
from support.cases import CASES
from support.certificates import Mounted
from support.envoy import Envoy
from support.fleet import KEY, Fleet
from support.replay import Answer, Upstream
from support.router import chat_call

CASE = CASES[0]
HI: Any = [{"role": "user", "content": "Hi"}]
BEARER = {"authorization": f"Bearer {KEY}"}
METADATA = (("authorization", f"Bearer {KEY}"),)
LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def begun() -> Answer:
    """The provider's stream up to its first word, and then nothing more."""
    pieces = list(CASE.stream.pieces)
    upto = next(number for number, piece in enumerate(pieces) if b"Hello" in piece) + 1
    return replace(CASE.stream, pieces=pieces[:upto], hold=True)


def chat() -> gateway_service_pb2.ChatRequest:
    return gateway_service_pb2.ChatRequest(call=chat_call(CASE.name))


def stub(channel: aio.Channel) -> gateway_service_pb2_grpc.GatewayServiceAsyncStub:
    return gateway_service_pb2_grpc.GatewayServiceStub(channel)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_openais_sdk(
    stream: bool, tls: bool, plain: Envoy, secured: Envoy, mounted: Mounted, upstream: Upstream
) -> None:
    upstream.reset(CASE.stream if stream else CASE.whole)
    base = f"https://{secured.address}" if tls else plain.http
    context = ssl.create_default_context(cafile=mounted.certificate) if tls else ssl.create_default_context()
    http = openai.DefaultAsyncHttpxClient(verify=context)
    async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key=KEY, max_retries=0, http_client=http) as client:
        if stream:
            chunks = await client.chat.completions.create(model=CASE.name, messages=HI, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])
        else:
            answer = await client.chat.completions.create(model=CASE.name, messages=HI)
            text = answer.choices[0].message.content or ""
    assert text == "Hello there"


async def test_openais_sdk_gets_the_gateways_own_errors(plain: Envoy, upstream: Upstream) -> None:
    async with openai.AsyncOpenAI(base_url=f"{plain.http}/v1", api_key="wrong-key", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(model=CASE.name, messages=HI)


@pytest.mark.parametrize("tls", [False, True], ids=["prior-knowledge", "tls"])
def test_http2(tls: bool, plain: Envoy, secured: Envoy, mounted: Mounted, upstream: Upstream) -> None:
    curl = shutil.which("curl")
    if curl is None or b"HTTP2" not in subprocess.run([curl, "--version"], capture_output=True, check=True).stdout:
        pytest.skip("there is no curl with HTTP/2 on PATH")
    upstream.reset(CASE.whole)
    how = ["--http2", "--cacert", str(mounted.certificate)] if tls else ["--http2-prior-knowledge"]
    url = f"https://{secured.address}" if tls else plain.http
    headers = [f"-HAuthorization: Bearer {KEY}", "-HContent-Type: application/json"]
    body = json.dumps({"model": CASE.name, "messages": HI})
    command = [curl, "-sS", *how, *headers, "-d", body, "-w", "\n%{http_version}", f"{url}/v1/chat/completions"]
    text, _, version = subprocess.run(command, capture_output=True, check=True, text=True).stdout.rpartition("\n")
    assert json.loads(text)["choices"][0]["message"]["content"] == "Hello there"
    assert version == "2"


async def test_each_record_arrives_before_the_next_is_sent_and_leaving_closes_the_provider(
    plain: Envoy, upstream: Upstream
) -> None:
    upstream.reset(begun())
    async with httpx.AsyncClient(base_url=plain.http, headers=BEARER) as client:
        body = {"model": CASE.name, "messages": HI, "stream": True}
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            async with asyncio.timeout(10):
                async for line in answer.aiter_lines():
                    if "Hello" in line:
                        break
            assert not upstream.hung_up.is_set()
    await upstream.wait_hung_up()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_grpc(tls: bool, plain: Envoy, secured: Envoy, mounted: Mounted, upstream: Upstream) -> None:
    roots = grpc.ssl_channel_credentials(mounted.certificate.read_bytes())
    channel = aio.secure_channel(secured.address, roots) if tls else aio.insecure_channel(plain.address)
    async with channel:
        upstream.reset(CASE.whole)
        whole = await stub(channel).Chat(chat(), metadata=METADATA, timeout=20)
        assert whole.completion.choices[0].message.parts[0].text.text == "Hello there"
        upstream.reset(CASE.stream)
        request = gateway_service_pb2.StreamChatRequest(call=chat_call(CASE.name))
        messages = [message async for message in stub(channel).StreamChat(request, metadata=METADATA, timeout=20)]
        assert "".join(event.text for message in messages for event in message.events) == "Hello there"


async def test_a_grpc_stream_arrives_message_by_message_and_cancelling_closes_the_provider(
    plain: Envoy, upstream: Upstream
) -> None:
    upstream.reset(begun())
    async with aio.insecure_channel(plain.address) as channel:
        request = gateway_service_pb2.StreamChatRequest(call=chat_call(CASE.name))
        call = stub(channel).StreamChat(request, metadata=METADATA)
        text = ""
        async with asyncio.timeout(10):
            while "Hello" not in text:
                message = await call.read()
                assert isinstance(message, gateway_service_pb2.StreamChatResponse)
                text += "".join(event.text for event in message.events)
        assert not upstream.hung_up.is_set()
        call.cancel()
        await upstream.wait_hung_up()


async def test_a_deadline_is_the_calls_all_the_way(plain: Envoy, upstream: Upstream) -> None:
    upstream.reset(Answer(hold_before_headers=True))
    async with aio.insecure_channel(plain.address) as channel:
        call = stub(channel).Chat(chat(), metadata=METADATA, timeout=1)
        with pytest.raises(aio.AioRpcError) as caught:
            await call
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await upstream.wait_hung_up()


async def test_grpc_callers_get_the_routers_own_errors(plain: Envoy) -> None:
    async with aio.insecure_channel(plain.address) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await stub(channel).Chat(chat(), metadata=(("authorization", "Bearer wrong"),))
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    trailers = caught.value.trailing_metadata()
    assert trailers is not None
    assert "grpc-status-details-bin" in {name for name, _ in trailers}


def grpc_web(
    front: str, method: str, request: Any, verify: ssl.SSLContext | bool = True, **headers: str
) -> tuple[list[bytes], dict[str, str]]:
    """A call as browsers make it (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md): messages, trailers."""
    body = request.SerializeToString()
    given = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"} | BEARER | headers
    url = f"{front}/aigateway.v1.GatewayService/{method}"
    got = httpx.post(url, content=struct.pack("!BI", 0, len(body)) + body, headers=given, verify=verify)
    assert got.status_code == 200
    assert got.headers["content-type"] == "application/grpc-web+proto"
    frames, rest = [], got.content
    while rest:
        flags, length = struct.unpack_from("!BI", rest)
        frames.append((flags, rest[5 : 5 + length]))
        rest = rest[5 + length :]
    trailers = b"".join(frame for flags, frame in frames if flags & 0x80).decode().split("\r\n")
    found = dict(line.split(":", 1) for line in trailers if line)
    found |= {name: value for name, value in got.headers.items() if name.startswith("grpc-")}
    return [frame for flags, frame in frames if not flags & 0x80], found


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_grpc_web(stream: bool, tls: bool, plain: Envoy, secured: Envoy, mounted: Mounted, upstream: Upstream) -> None:
    upstream.reset(CASE.stream if stream else CASE.whole)
    front = f"https://{secured.address}" if tls else plain.http
    verify = ssl.create_default_context(cafile=mounted.certificate) if tls else True
    if stream:
        request = gateway_service_pb2.StreamChatRequest(call=chat_call(CASE.name))
        messages, trailers = grpc_web(front, "StreamChat", request, verify)
        events = [event for one in messages for event in gateway_service_pb2.StreamChatResponse.FromString(one).events]
        text = "".join(event.text for event in events)
    else:
        messages, trailers = grpc_web(front, "Chat", chat(), verify)
        (message,) = messages
        answer = gateway_service_pb2.ChatResponse.FromString(message)
        text = answer.completion.choices[0].message.parts[0].text.text
    assert text == "Hello there"
    assert trailers["grpc-status"].strip() == "0"


def test_grpc_web_tells_failures(plain: Envoy) -> None:
    messages, trailers = grpc_web(plain.http, "Chat", chat(), authorization="Bearer wrong")
    assert messages == []
    assert trailers["grpc-status"].strip() == str(grpc.StatusCode.UNAUTHENTICATED.value[0])


def test_the_largest_bodies_pass(plain: Envoy, upstream: Upstream) -> None:
    upstream.reset(CASE.whole)
    limit = 32 * 1024 * 1024
    empty = json.dumps({"model": CASE.name, "messages": [{"role": "user", "content": ""}]})
    body = empty.replace('""', '"' + "x" * (limit - len(empty)) + '"').encode()
    headers = BEARER | {"content-type": "application/json"}
    with httpx.Client(base_url=plain.http, headers=headers, timeout=60) as client:
        got = client.post("/v1/chat/completions", content=body)
        assert got.status_code == 200, got.text
        assert len(upstream.requests[0].body) > limit - 200
        refused = client.post("/v1/chat/completions", content=body + b" ")
        assert refused.status_code == 413
        assert refused.json()["error"]["code"] == "request_too_large"


async def test_the_largest_messages_pass(plain: Envoy) -> None:
    part = message_pb2.Part(text=message_pb2.TextPart(text="x" * (64 * 1024 * 1024 - 1024)))
    call = chat_call("nobody/nothing")
    call.messages[0].parts.append(part)
    async with aio.insecure_channel(plain.address, options=LARGE) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await stub(channel).Chat(gateway_service_pb2.ChatRequest(call=call), metadata=METADATA)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND, "the router has read it all"


async def test_calls_of_one_connection_spread_over_edges_and_routers(
    plain: Envoy, fleet: Fleet, upstream: Upstream
) -> None:
    upstream.reset(CASE.whole)
    for service in ("edge", "router"):  # one that was too busy to say that it is well gets no calls for a while
        plain.wait_healthy(f"{service}s", fleet.addresses(service))
    run, calls = uuid4().hex, 100
    body = {"model": CASE.name, "messages": HI}
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=1)) as client:
        for number in range(calls):
            headers = BEARER | {"x-request-id": f"{run}-http-{number}"}
            (await client.post(f"{plain.http}/v1/chat/completions", json=body, headers=headers)).raise_for_status()
    async with aio.insecure_channel(plain.address) as channel:
        metadata = [(*METADATA, ("x-request-id", f"{run}-grpc-{number}")) for number in range(calls)]
        await asyncio.gather(*(stub(channel).Chat(chat(), metadata=one) for one in metadata))
    for kind, service in (("http", "edge"), ("grpc", "router")):
        lines = plain.entries(lambda line, kind=kind: line["request_id"].startswith(f"{run}-{kind}-"), calls)  # type: ignore[misc] # mypy takes the default for a second argument
        assert len({(line["client"], line["protocol"]) for line in lines}) == 1
        served = Counter(line["upstream"] for line in lines)
        print(f"{kind}: {dict(served)}")
        assert set(served) == fleet.addresses(service)
        assert min(served.values()) >= calls // 5
