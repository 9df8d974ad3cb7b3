"""Handing messages on as they come: the same on the wire, where each is read, and in process, where none is."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from aigateway_common.inprocess import rpc
from aigateway_common.streaming import consume, putter
from grpc import aio
from support.channels import STREAM, Connect, Hanging, Message, expect, soon, text


def writing(*numbers: int, gate: asyncio.Event | None = None) -> Any:
    """A handler that writes these messages, each after a turn of the loop, and waits for `gate` before it ends."""

    async def stream(request: Any, context: Any) -> None:
        for number in numbers:
            await context.write(text(number))
            await asyncio.sleep(0)
        if gate is not None:
            await gate.wait()

    return stream


async def test_every_message_is_taken_in_order(connect: Connect) -> None:
    link = await connect(StreamChat=writing(*range(100)))
    taken: list[int] = []

    def take(message: Message) -> bool:
        taken.append(message.events[0].part)
        return True

    call = link.stub.StreamChat(STREAM)
    assert (await soon(call.read())).events[0].part == 0
    assert await soon(consume(call, take)) is True
    assert taken == list(range(1, 100))
    assert await call.code() is grpc.StatusCode.OK
    assert await soon(consume(call, take)) is True


async def test_what_follows_a_refusal_is_left_for_the_next_reader(connect: Connect) -> None:
    link = await connect(StreamChat=writing(*range(50)))
    taken: list[int] = []

    def take(message: Message) -> bool:
        taken.append(message.events[0].part)
        return len(taken) % 10 > 0

    call = link.stub.StreamChat(STREAM)
    for times in range(1, 5):
        assert await soon(consume(call, take)) is False
        assert taken == list(range(10 * times))
    assert (await soon(call.read())).events[0].part == 40
    assert await soon(consume(call, take)) is True
    assert taken == [*range(40), *range(41, 50)]


async def test_a_refusal_counts_though_the_stream_has_ended_since(connect: Connect) -> None:
    link = await connect(StreamChat=writing(1))
    call = link.stub.StreamChat(STREAM)
    assert await soon(consume(call, lambda _: False)) is False
    assert await soon(consume(call, lambda _: False)) is True


async def test_the_error_that_a_stream_ends_with_is_raised_after_its_messages(connect: Connect) -> None:
    async def stream(request: Any, context: Any) -> None:
        await context.write(text(1))
        await asyncio.sleep(0)
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more")

    link = await connect(StreamChat=stream)
    taken: list[Message] = []

    def take(message: Message) -> bool:
        taken.append(message)
        return True

    with pytest.raises(aio.AioRpcError) as caught:
        await soon(consume(link.stub.StreamChat(STREAM), take))
    expect(caught.value, grpc.StatusCode.RESOURCE_EXHAUSTED, "no more")
    assert len(taken) == 1


@pytest.mark.parametrize("error", [ValueError("not this"), asyncio.CancelledError("not now")])
async def test_what_taking_raises_is_the_readers_and_not_the_writers(connect: Connect, error: BaseException) -> None:
    handler = Hanging(messages=3)
    link = await connect(StreamChat=handler.handler())

    def take(message: Message) -> bool:
        raise error

    call = link.stub.StreamChat(STREAM)
    with pytest.raises(type(error), match=str(error)):
        await soon(consume(call, take))
    await soon(handler.started.wait())
    assert not handler.cancelled.is_set()
    call.cancel()
    await soon(handler.cancelled.wait())


async def test_who_stops_consuming_cancels_the_call(connect: Connect) -> None:
    handler = Hanging(messages=2)
    link = await connect(StreamChat=handler.handler())
    taken = asyncio.Event()
    call = link.stub.StreamChat(STREAM)

    def take(message: Message) -> bool:
        taken.set()
        return True

    consuming = asyncio.create_task(consume(call, take))
    await soon(taken.wait())
    consuming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consuming
    await soon(handler.cancelled.wait())
    assert call.cancelled()


async def test_a_deadline_passes_while_messages_are_awaited(connect: Connect) -> None:
    handler = Hanging(messages=2)
    link = await connect(StreamChat=handler.handler())
    with pytest.raises(aio.AioRpcError) as caught:
        await soon(consume(link.stub.StreamChat(STREAM, timeout=0.2), lambda _: True))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await soon(handler.cancelled.wait())


async def test_writing_without_waiting_says_when_to_wait_and_is_refused_when_nobody_reads_any_more(
    connect: Connect,
) -> None:
    """On the wire there is no such thing."""
    seen: list[Any] = []
    ended = asyncio.Event()

    async def stream(request: Any, context: Any) -> None:
        put = putter(context)
        if put is not None:
            seen.extend(put(text(number)) for number in range(rpc.BUFFER))
        seen.append(put)
        await context.write(text(99))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if put is not None:
                with pytest.raises(aio.InternalError):
                    put(text(100))
            ended.set()
            raise

    link = await connect(StreamChat=stream)
    call = link.stub.StreamChat(STREAM)
    while (await soon(call.read())).events[0].part != 99:
        pass
    call.cancel()
    await soon(ended.wait())
    assert seen == [None] or seen[:-1] == [True] * (rpc.BUFFER - 1) + [False]
