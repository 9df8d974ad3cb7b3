"""Attacks on the router's gRPC port: bytes that are no gRPC, calls beyond all limits, streams in floods."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from aigateway.v1 import chat_pb2, gateway_service_pb2, message_pb2
from aigateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from aigateway_router.authn import key_id
from grpc import aio
from support.chaos.attacked import KEY, Attacked, Verdicts
from support.chaos.echo import MODELS, prompt
from support.chaos.raw import send
from support.ledger import wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CODE = grpc.StatusCode
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_metadata_size", 2**24)]
FLOOD = 2000


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


SETTINGS = PREFACE + frame(4, 0, 0, b"")
RAW = {
    "garbage": bytes(range(256)) * 100,
    "HTTP/1.1": b"POST /aigateway.v1.GatewayService/Chat HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "a preface, then garbage": PREFACE + b"\xff" * 5000,
    "a frame of 16 MB": SETTINGS + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + bytes(100_000),
    "headers that are no HPACK": SETTINGS + frame(1, 4, 1, b"\xff" * 200),
    "headers on stream 0": SETTINGS + frame(1, 4, 0, b"\x82"),
    "headers that never end": SETTINGS + frame(1, 0, 1, b"\x82" * 1000) + frame(9, 0, 1, b"\x82" * 16_000) * 200,
    "settings in a flood": SETTINGS + frame(4, 0, 0, b"") * 20_000,
    "pings in a flood": SETTINGS + frame(6, 0, 0, bytes(8)) * 20_000,
    "resets in a flood": SETTINGS
    + b"".join(frame(1, 4, n, b"\x82") + frame(3, 0, n, bytes(4)) for n in range(1, 9999, 2)),
}


def call(text: str = "x 2 0") -> chat_pb2.ChatCall:
    part = message_pb2.Part(text=message_pb2.TextPart(text=text))
    return chat_pb2.ChatCall(
        model=MODELS["openai"], messages=[message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])]
    )


def key(value: str = KEY) -> tuple[tuple[str, str], ...]:
    return (("x-api-key", value),)


async def test_what_is_no_grpc_ends_its_connection_and_nothing_else(attacked: Attacked) -> None:
    verdicts = Verdicts("attacks: bytes on the gRPC port")
    for name, data in RAW.items():
        got = await send(attacked.gateway.grpc, data, quiet=0.1, seconds=2)
        verdicts.add(name, "no 200", f"{len(got.data)} bytes{', closed' * got.closed}", good=b" 200 " not in got.data)
    verdicts.conclude()
    await attacked.is_as_before()


Send = Callable[[aio.Channel], Awaitable[Any]]


def chat(text: str = "x 2 0", metadata: tuple[tuple[str, str | bytes], ...] = key()) -> Send:
    async def made(channel: aio.Channel) -> Any:
        stub: Any = GatewayServiceStub(channel)
        return await stub.Chat(gateway_service_pb2.ChatRequest(call=call(text)), metadata=metadata, timeout=20)

    return made


def bare(method: str, data: bytes) -> Send:
    async def made(channel: aio.Channel) -> Any:
        send_bytes: Any = channel.unary_unary(method)
        return await send_bytes(data, metadata=key(), timeout=20)

    return made


CALLS: list[tuple[str, Send, tuple[grpc.StatusCode, ...]]] = [
    ("no key", chat(metadata=()), (CODE.UNAUTHENTICATED,)),
    ("wrong key", chat(metadata=key("wrong")), (CODE.UNAUTHENTICATED,)),
    (
        "who I am, without a key",
        chat(metadata=(("x-key-id", "key-0"), ("x-project", "admin"))),
        (CODE.UNAUTHENTICATED,),
    ),
    ("key as bytes", chat(metadata=(("x-api-key-bin", KEY.encode()),)), (CODE.UNAUTHENTICATED,)),
    ("overlong key", chat(metadata=key("k" * 100_000)), (CODE.RESOURCE_EXHAUSTED, CODE.UNAVAILABLE)),
    (
        "1 MB of metadata",
        chat(metadata=(*key(), *((f"x-{n}", "a" * 1000) for n in range(1000)))),
        (CODE.RESOURCE_EXHAUSTED, CODE.UNAVAILABLE),
    ),
    ("a message of 65 MB", chat("x" * 65 * 2**20), (CODE.RESOURCE_EXHAUSTED,)),
    (
        "bytes that are no message",
        bare("/aigateway.v1.GatewayService/Chat", b"\xff" * 1000),
        (CODE.INTERNAL, CODE.UNKNOWN),
    ),
    ("an unknown method", bare("/aigateway.v1.GatewayService/Drop", b""), (CODE.UNIMPLEMENTED,)),
    ("another service", bare("/aigateway.v1.UsageService/RecordAttempts", b""), (CODE.PERMISSION_DENIED,)),
    ("an adapter, past the router", bare("/aigateway.v1.ProviderService/Chat", b""), (CODE.UNIMPLEMENTED,)),
    ("a path that is no method", bare("/../../etc/passwd", b""), (CODE.UNIMPLEMENTED,)),
]


async def test_calls_beyond_the_limits_are_refused(attacked: Attacked) -> None:
    verdicts = Verdicts("attacks: gRPC calls")
    for name, made, allowed in CALLS:
        async with aio.insecure_channel(attacked.gateway.grpc, options=UNLIMITED) as channel:
            try:
                await made(channel)
                got: object = "OK"
            except aio.AioRpcError as error:
                got = error.code()
            verdicts.add(name, ", ".join(code.name for code in allowed), got, good=got in allowed)
    verdicts.conclude()
    await attacked.is_as_before()


async def test_metadata_makes_nobody_somebody_else(attacked: Attacked) -> None:
    forged = (("x-key-id", "key-0"), ("x-project", "admin"), ("x-actor", "root"), ("x-request-id", "grpc-forged"))
    async with aio.insecure_channel(attacked.gateway.grpc) as channel:
        await GatewayServiceStub(channel).Chat(gateway_service_pb2.ChatRequest(call=call()), metadata=(*key(), *forged))
    (row,) = wait_for(attacked.gateway.data, 1, "select * from requests where request_id = 'grpc-forged'")
    assert (row["project"], row["key_id"]) == ("default", key_id(KEY))


async def test_streams_opened_and_left_in_a_flood_are_over_at_once(attacked: Attacked) -> None:
    request = gateway_service_pb2.StreamChatRequest(call=call(prompt("flood", 50, 50)))
    async with aio.insecure_channel(attacked.gateway.grpc) as channel:
        stub: Any = GatewayServiceStub(channel)
        for _ in range(FLOOD // 100):
            streams = [stub.StreamChat(request, metadata=key()) for _ in range(100)]
            await asyncio.sleep(0)
            for stream in streams:
                stream.cancel()
    await attacked.is_as_before()
