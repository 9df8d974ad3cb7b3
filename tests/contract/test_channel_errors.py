"""How a call on a channel fails, by error or deadline, held to on both transports."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from grpc import aio
from support.channels import (
    ANSWER,
    REQUEST,
    STREAM,
    Chat,
    ChatAnswer,
    Code,
    Connect,
    Hanging,
    Message,
    Stream,
    expect,
    soon,
    text,
)

# Errors.

TRAILERS = (("why", "because"), ("grpc-status-details-bin", b"\x00\x01\xff"))


async def test_abort_carries_code_details_and_trailing_metadata(connect: Connect) -> None:
    async def chat(request: Any, context: Any) -> Any:
        await context.abort(Code.NOT_FOUND, "no such model", TRAILERS)

    link = await connect(Chat=chat)
    call = link.stub.Chat(REQUEST)

    for _ in range(2):
        with pytest.raises(aio.AioRpcError) as caught:
            await call
        expect(caught.value, Code.NOT_FOUND, "no such model")
        assert list(caught.value.trailing_metadata()) == list(TRAILERS)
        assert list(caught.value.initial_metadata()) == []
    assert await call.code() is Code.NOT_FOUND
    assert await call.details() == "no such model"
    assert list(await call.trailing_metadata()) == list(TRAILERS)


async def test_abort_of_a_stream_comes_after_its_messages(connect: Connect) -> None:
    async def stream(request: Any, context: Any) -> None:
        await context.write(text(0))
        await context.write(text(1))
        await context.abort(Code.UNAVAILABLE, "gone", TRAILERS)

    link = await connect(StreamChat=stream)
    call = link.stub.StreamChat(STREAM)

    assert await call.read() == text(0)
    assert await call.read() == text(1)
    for _ in range(2):
        with pytest.raises(aio.AioRpcError) as caught:
            await call.read()
        expect(caught.value, Code.UNAVAILABLE, "gone")
        assert list(caught.value.trailing_metadata()) == list(TRAILERS)


async def test_abort_answers_at_once_even_when_the_handler_lingers(connect: Connect) -> None:
    go = asyncio.Event()

    async def chat(request: Any, context: Any) -> Any:
        try:
            await context.abort(Code.NOT_FOUND, "d")
        finally:
            await go.wait()

    link = await connect(Chat=chat)

    with pytest.raises(aio.AioRpcError):
        await soon(link.stub.Chat(REQUEST))
    go.set()


async def test_a_suppressed_abort_still_ends_the_call(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    async def stream(request: Any, context: Any) -> None:
        await context.write(text(0))
        with contextlib.suppress(aio.AbortError):
            await context.abort(Code.NOT_FOUND, "d")
        with contextlib.suppress(aio.AbortError):
            await context.write(text(1))

    link = await connect(StreamChat=stream)
    call = link.stub.StreamChat(STREAM)

    assert await call.read() == text(0)
    with pytest.raises(aio.AioRpcError) as caught:
        await call.read()
    expect(caught.value, Code.NOT_FOUND, "d")


async def test_a_set_code_discards_the_response(connect: Connect) -> None:
    async def chat(request: Any, context: Any) -> Any:
        context.set_code(Code.RESOURCE_EXHAUSTED)
        context.set_details("slow down")
        context.set_trailing_metadata(TRAILERS)
        assert (context.code(), context.details()) == (Code.RESOURCE_EXHAUSTED, "slow down")
        return ANSWER

    link = await connect(Chat=chat)

    with pytest.raises(aio.AioRpcError) as caught:
        await link.stub.Chat(REQUEST)
    expect(caught.value, Code.RESOURCE_EXHAUSTED, "slow down")
    assert list(caught.value.trailing_metadata()) == list(TRAILERS)


async def test_an_unhandled_exception_is_unknown(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    async def chat(request: Any, context: Any) -> Any:
        raise ValueError("boo")

    async def stream(request: Any, context: Any) -> None:
        await context.write(text(0))
        context.set_code(Code.DATA_LOSS)
        raise ValueError("boo")

    link = await connect(Chat=chat, StreamChat=stream)

    with pytest.raises(aio.AioRpcError) as caught:
        await link.stub.Chat(REQUEST)
    expect(caught.value, Code.UNKNOWN, "Unexpected <class 'ValueError'>: boo")
    call = link.stub.StreamChat(STREAM)
    assert await call.read() == text(0)
    with pytest.raises(aio.AioRpcError) as caught:
        await call.read()
    expect(caught.value, Code.DATA_LOSS, "Unexpected <class 'ValueError'>: boo")
    assert "boo" in caplog.text


async def test_no_response_is_unknown(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    async def chat(request: Any, context: Any) -> Any:
        return None

    link = await connect(Chat=chat)

    with pytest.raises(aio.AioRpcError) as caught:
        await link.stub.Chat(REQUEST)
    assert caught.value.code() is Code.UNKNOWN


async def test_an_unknown_method_is_unimplemented(connect: Connect) -> None:
    link = await connect()
    unary = link.channel.unary_unary("/aigateway.v1.GatewayService/Nope", Chat.SerializeToString, ChatAnswer.FromString)
    stream = link.channel.unary_stream("/no.Such/Nope", Stream.SerializeToString, Message.FromString)

    with pytest.raises(aio.AioRpcError) as caught:
        await unary(REQUEST)
    expect(caught.value, Code.UNIMPLEMENTED, "Method not found!")
    with pytest.raises(aio.AioRpcError) as caught:
        await stream(STREAM).read()
    expect(caught.value, Code.UNIMPLEMENTED, "Method not found!")


async def test_a_method_left_to_the_generated_default_is_unimplemented(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    link = await connect()

    for call in (link.stub.Chat(REQUEST), link.stub.StreamChat(STREAM).read()):
        with pytest.raises(aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is Code.UNIMPLEMENTED


# Deadlines.


async def test_the_server_sees_the_deadline(connect: Connect) -> None:
    seen = []

    async def chat(request: Any, context: Any) -> Any:
        seen.append(context.time_remaining())
        return ANSWER

    link = await connect(Chat=chat)
    call = link.stub.Chat(REQUEST, timeout=60)
    remaining = call.time_remaining()
    await call
    await link.stub.Chat(REQUEST)

    assert remaining is not None
    assert 55 < remaining <= 60
    assert 55 < seen[0] <= 60.1
    assert seen[1] is None


async def test_a_unary_deadline_ends_both_sides(connect: Connect) -> None:
    handler = Hanging()
    link = await connect(Chat=handler.handler())
    call = link.stub.Chat(REQUEST, timeout=0.1)

    with pytest.raises(aio.AioRpcError) as caught:
        await soon(call)
    expect(caught.value, Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
    await soon(handler.cancelled.wait())
    await soon(handler.done.wait())
    assert call.done()
    assert not call.cancelled()
    assert call.time_remaining() == 0


async def test_a_stream_deadline_ends_both_sides(connect: Connect) -> None:
    handler = Hanging(1)
    link = await connect(StreamChat=handler.handler())
    call = link.stub.StreamChat(STREAM, timeout=0.2)

    assert await call.read() == text(0)
    with pytest.raises(aio.AioRpcError) as caught:
        await soon(call.read())
    assert caught.value.code() is Code.DEADLINE_EXCEEDED
    await soon(handler.cancelled.wait())
    await soon(handler.done.wait())


@pytest.mark.parametrize("timeout", [0, -1])
async def test_a_deadline_in_the_past_ends_the_call_at_once(connect: Connect, timeout: float) -> None:
    link = await connect(Chat=Hanging().handler())

    with pytest.raises(aio.AioRpcError) as caught:
        await soon(link.stub.Chat(REQUEST, timeout=timeout))
    assert caught.value.code() is Code.DEADLINE_EXCEEDED


async def test_a_deadline_does_not_wait_for_a_handler_that_lingers(connect: Connect) -> None:
    go = asyncio.Event()

    async def chat(request: Any, context: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            await go.wait()

    link = await connect(Chat=chat)

    with pytest.raises(aio.AioRpcError) as caught:
        await soon(link.stub.Chat(REQUEST, timeout=0.05))
    assert caught.value.code() is Code.DEADLINE_EXCEEDED
    go.set()
