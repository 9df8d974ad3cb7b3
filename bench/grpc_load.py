"""The load over gRPC, on one channel, as an internal service would make it.

Run as `python -m bench.grpc_load HOST:PORT FILE --key KEY`, FILE holding the JSON of one chat completion, which is
translated once. `bench.tally` says how it is talked to.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import uvloop
from aigateway.v1 import gateway_service_pb2, gateway_service_pb2_grpc
from aigateway_common.serving import grpc_channel
from aigateway_edge.openai import to_proto
from grpc import aio

from bench.load import options
from bench.tally import Tally, converse

_SERVICE = "/aigateway.v1.GatewayService/"


def one_call(channel: aio.Channel, file: Path, key: str, tally: Tally) -> Callable[[], Awaitable[None]]:
    """What makes one call."""
    parsed = to_proto.chat_call(file.read_bytes())
    metadata = (("authorization", f"Bearer {key}"),)
    sent = gateway_service_pb2.ChatRequest(
        call=parsed.call
    ).SerializeToString()  # the same bytes as a StreamChatRequest

    async def whole() -> None:
        began = time.perf_counter()
        await chat(sent, metadata=metadata)
        tally.ended(began, time.perf_counter(), 1)

    async def stream() -> None:
        began, last = time.perf_counter(), 0.0
        async for message in chat_stream(sent, metadata=metadata):
            now = time.perf_counter()
            tally.records(len(message.events), began, last, now)
            last = now
        tally.ended(began, time.perf_counter(), 0)

    answer: Any = gateway_service_pb2.ChatResponse.FromString
    part: Any = gateway_service_pb2.StreamChatResponse.FromString
    chat: Any = channel.unary_unary(_SERVICE + "Chat", response_deserializer=answer)
    chat_stream: Any = channel.unary_stream(_SERVICE + "StreamChat", response_deserializer=part)
    return stream if parsed.stream else whole


def records(target: str, body: bytes, authorization: str) -> int:
    """Events of one whole stream."""
    stream = to_proto.chat_call(body).call
    with grpc.insecure_channel(target) as channel:
        stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
        request = gateway_service_pb2.StreamChatRequest(call=stream)
        answer = stub.StreamChat(request, metadata=(("authorization", authorization),))
        return sum(len(message.events) for message in answer)


async def run(target: str, file: Path, key: str, *, at_once: int, warm: float, ramp: float) -> Tally:
    """Call until there are no more questions; callers begin one after the other within `ramp` seconds."""
    tally = Tally()
    async with grpc_channel(target) as channel:
        await channel.channel_ready()
        call = one_call(channel, file, key, tally)

        async def caller(number: int) -> None:
            await asyncio.sleep(ramp * number / at_once)
            while not tally.failure:
                try:
                    await call()
                except aio.AioRpcError as error:
                    tally.failure = f"{error.code()}: {error.details()}"

        callers = [asyncio.create_task(caller(number)) for number in range(at_once)]
        await converse(tally, warm)
        for one in callers:
            one.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
    return tally


def main() -> None:
    """The command."""
    parser = options("target")
    parser.add_argument("--key", required=True)
    given = parser.parse_args()
    coroutine = run(given.target, given.file, given.key, at_once=given.at_once, warm=given.warm, ramp=given.ramp)
    print(json.dumps(uvloop.run(coroutine).summary()), flush=True)


if __name__ == "__main__":
    main()
