"""What a caller is answered on a channel, and the metadata with it, held to on both transports."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from grpc import aio
from support.channels import (
    ANSWER,
    REQUEST,
    STREAM,
    Code,
    Connect,
    Hanging,
    soon,
    text,
)

# Answers.


async def test_a_unary_call_carries_request_and_response(connect: Connect) -> None:
    seen = []

    async def chat(request: Any, context: Any) -> Any:
        seen.append(request)
        return ANSWER

    link = await connect(Chat=chat)
    call = link.stub.Chat(REQUEST)

    assert await call == ANSWER
    assert await call == ANSWER
    assert seen == [REQUEST]
    assert call.done()
    assert not call.cancelled()
    assert await call.code() is Code.OK
    assert await call.details() == ""
    assert not call.cancel()


async def test_calls_run_side_by_side_and_begin_without_being_awaited(connect: Connect) -> None:
    met = asyncio.Barrier(3)

    async def chat(request: Any, context: Any) -> Any:
        await met.wait()
        return ANSWER

    link = await connect(Chat=chat)
    calls = [link.stub.Chat(REQUEST) for _ in range(3)]

    assert [await soon(call) for call in calls] == [ANSWER] * 3


async def test_a_unary_call_nobody_waits_for_is_still_served(connect: Connect) -> None:
    served = asyncio.Event()

    async def chat(request: Any, context: Any) -> Any:
        await asyncio.sleep(0.01)
        served.set()
        return ANSWER

    link = await connect(Chat=chat)
    link.stub.Chat(REQUEST)
    gc.collect()

    await soon(served.wait())


async def _write(request: Any, context: Any) -> None:
    for number in range(40):
        await context.write(text(number))


async def _generate(request: Any, context: Any) -> Any:
    for number in range(40):
        yield text(number)


@pytest.mark.parametrize("handler", [_write, _generate])
async def test_a_stream_is_iterated_over_in_order(connect: Connect, handler: Any) -> None:
    link = await connect(StreamChat=handler)
    call = link.stub.StreamChat(STREAM)

    assert [message async for message in call] == [text(number) for number in range(40)]
    assert await call.code() is Code.OK
    assert [message async for message in call] == []


@pytest.mark.parametrize("handler", [_write, _generate])
async def test_a_stream_is_read_until_eof(connect: Connect, handler: Any) -> None:
    link = await connect(StreamChat=handler)
    call = link.stub.StreamChat(STREAM)

    assert [await call.read() for _ in range(40)] == [text(number) for number in range(40)]
    assert await call.read() is aio.EOF
    assert await call.read() is aio.EOF
    assert call.done()


async def test_a_stream_is_not_done_while_messages_wait_to_be_read(connect: Connect) -> None:
    written = asyncio.Event()

    async def stream(request: Any, context: Any) -> None:
        await context.write(text(0))
        context.add_done_callback(lambda _: written.set())

    link = await connect(StreamChat=stream)
    call = link.stub.StreamChat(STREAM)
    await soon(written.wait())

    assert not call.done()
    assert await call.read() == text(0)
    assert await call.read() is aio.EOF
    assert call.done()


async def test_an_empty_stream_ends_at_once(connect: Connect) -> None:
    async def stream(request: Any, context: Any) -> None:
        return

    link = await connect(StreamChat=stream)

    assert await link.stub.StreamChat(STREAM).read() is aio.EOF


async def test_reads_and_iteration_do_not_mix(connect: Connect) -> None:
    link = await connect(StreamChat=Hanging(2).handler())
    call = link.stub.StreamChat(STREAM)
    await call.read()

    with pytest.raises(aio.UsageError):
        call.__aiter__()
    call.cancel()


async def test_a_writer_waits_for_a_slow_reader(connect: Connect) -> None:
    written = 0
    stuck = asyncio.Event()

    async def stream(request: Any, context: Any) -> None:
        nonlocal written
        for number in range(200):
            try:
                await asyncio.wait_for(context.write(text(number, 1_000_000)), 0.3)
            except TimeoutError:
                stuck.set()
                return
            written += 1

    link = await connect(StreamChat=stream)
    call = link.stub.StreamChat(STREAM)

    await soon(stuck.wait())
    assert written < 64
    call.cancel()


async def test_a_waiting_writer_goes_on_as_the_reader_does(connect: Connect) -> None:
    async def stream(request: Any, context: Any) -> None:
        for number in range(100):
            await context.write(text(number, 10_000))

    link = await connect(StreamChat=stream)
    call = link.stub.StreamChat(STREAM)
    await call.initial_metadata()
    await asyncio.sleep(0.02)

    assert [message.events[0].part async for message in call] == list(range(100))


# Metadata.


async def test_metadata_travels_both_ways(connect: Connect) -> None:
    seen: list[tuple[str, str | bytes]] = []

    async def chat(request: Any, context: Any) -> Any:
        seen.extend((key, value) for key, value in context.invocation_metadata() if key != "user-agent")
        await context.send_initial_metadata((("begin", "1"),))
        context.set_trailing_metadata((("end", "2"), ("end", "3"), ("end-bin", b"\x00\xff")))
        return ANSWER

    link = await connect(Chat=chat)
    call = link.stub.Chat(REQUEST, metadata=(("authorization", "Bearer k"), ("k-bin", b"\x00\xff"), ("plain", b"b")))

    assert await call == ANSWER
    assert seen == [("authorization", "Bearer k"), ("k-bin", b"\x00\xff"), ("plain", "b")]
    assert list(await call.initial_metadata()) == [("begin", "1")]
    assert list(await call.trailing_metadata()) == [("end", "2"), ("end", "3"), ("end-bin", b"\x00\xff")]


async def test_metadata_may_be_a_metadata_object(connect: Connect) -> None:
    seen: list[Any] = []

    async def chat(request: Any, context: Any) -> Any:
        seen.extend(value for key, value in context.invocation_metadata() if key == "k")
        return ANSWER

    link = await connect(Chat=chat)
    await link.stub.Chat(REQUEST, metadata=aio.Metadata(("k", "1"), ("k", "2")))

    assert seen == ["1", "2"]


@pytest.mark.parametrize("pair", [("Upper", "x"), ("k", "line\nbreak"), ("k", "é"), ("", "x")])
async def test_metadata_that_gRPC_cannot_carry_is_refused(connect: Connect, pair: tuple[str, str]) -> None:
    async def chat(request: Any, context: Any) -> Any:
        return ANSWER

    link = await connect(Chat=chat)

    with pytest.raises(aio.InternalError):
        await link.stub.Chat(REQUEST, metadata=(pair,))


async def test_the_initial_metadata_of_a_stream_comes_before_its_messages(connect: Connect) -> None:
    go = asyncio.Event()

    async def stream(request: Any, context: Any) -> None:
        await context.send_initial_metadata((("begin", "1"),))
        await go.wait()
        await context.write(text(0))

    link = await connect(StreamChat=stream)
    call = link.stub.StreamChat(STREAM)

    assert list(await soon(call.initial_metadata())) == [("begin", "1")]
    await soon(call.wait_for_connection())
    go.set()
    assert [message async for message in call] == [text(0)]


async def test_initial_metadata_cannot_be_sent_twice(connect: Connect) -> None:
    async def chat(request: Any, context: Any) -> Any:
        await context.send_initial_metadata(())
        with pytest.raises(aio.UsageError):
            await context.send_initial_metadata(())
        return ANSWER

    link = await connect(Chat=chat)

    assert await link.stub.Chat(REQUEST) == ANSWER
