"""How calls, channels and servers end, held to on both transports."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from aigateway.v1 import chat_pb2
from grpc import aio
from support.channels import (
    ANSWER,
    REQUEST,
    SOON,
    STREAM,
    Code,
    Connect,
    Hanging,
    Stream,
    open_link,
    servicer,
    soon,
    text,
)

# Cancellation.


async def test_cancelling_a_unary_call_cancels_its_handler(connect: Connect) -> None:
    handler = Hanging()
    link = await connect(Chat=handler.handler())
    call = link.stub.Chat(REQUEST)
    await soon(handler.started.wait())

    assert call.cancel()
    assert not call.cancel()
    assert call.cancelled()
    assert call.done()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await call.code() is Code.CANCELLED
    assert await call.details() == "Locally cancelled by application!"
    await soon(handler.cancelled.wait())
    await soon(handler.done.wait())


async def test_cancelling_the_task_that_awaits_cancels_the_handler(connect: Connect) -> None:
    handler = Hanging()
    link = await connect(Chat=handler.handler())
    call = link.stub.Chat(REQUEST, timeout=60)

    async def wait() -> Any:
        return await call

    task = asyncio.create_task(wait())
    await soon(handler.started.wait())
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.cancelled()
    await soon(handler.cancelled.wait())


async def test_cancellation_does_not_wait_for_a_handler_that_lingers(connect: Connect) -> None:
    go = asyncio.Event()
    started = asyncio.Event()

    async def chat(request: Any, context: Any) -> Any:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await go.wait()

    link = await connect(Chat=chat)

    async def wait() -> Any:
        return await link.stub.Chat(REQUEST)

    task = asyncio.create_task(wait())
    await soon(started.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
    go.set()


async def test_cancelling_before_the_handler_begins_leaves_nothing_behind(connect: Connect) -> None:
    async def chat(request: Any, context: Any) -> Any:
        return ANSWER

    link = await connect(Chat=chat)
    call = link.stub.Chat(REQUEST)
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert await link.stub.Chat(REQUEST) == ANSWER
    await soon(link.server.stop(SOON * 2))


async def test_giving_up_the_wait_for_the_status_does_not_cancel_the_call(connect: Connect) -> None:
    handler = Hanging()
    link = await connect(Chat=handler.handler())
    call = link.stub.Chat(REQUEST)
    await soon(handler.started.wait())

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call.code(), 0.01)
    assert not call.done()
    call.cancel()


async def test_cancelling_a_stream_cancels_its_handler(connect: Connect) -> None:
    handler = Hanging(1)
    link = await connect(StreamChat=handler.handler())
    call = link.stub.StreamChat(STREAM)
    assert await call.read() == text(0)

    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.read()
    assert await call.code() is Code.CANCELLED
    await soon(handler.cancelled.wait())
    await soon(handler.done.wait())


async def test_cancelling_the_task_that_reads_cancels_the_handler(connect: Connect) -> None:
    handler = Hanging(1)
    link = await connect(StreamChat=handler.handler())
    call = link.stub.StreamChat(STREAM)
    await call.read()
    task = asyncio.create_task(call.read())
    await asyncio.sleep(0.01)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.cancelled()
    await soon(handler.cancelled.wait())


async def test_cancelling_the_task_that_iterates_cancels_the_handler(connect: Connect) -> None:
    handler = Hanging(1)
    link = await connect(StreamChat=handler.handler())

    async def drain() -> None:
        async for _ in link.stub.StreamChat(STREAM):
            pass

    task = asyncio.create_task(drain())
    await soon(handler.started.wait())
    await asyncio.sleep(0.01)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await soon(handler.cancelled.wait())


async def _break_out(call: Any) -> None:
    async for message in call:
        assert message == text(0)
        break


async def _read_once(call: Any) -> None:
    assert await call.read() == text(0)


@pytest.mark.parametrize("use", [_break_out, _read_once])
async def test_a_stream_dropped_in_process_is_cancelled(use: Callable[[Any], Awaitable[None]]) -> None:
    """On the wire it goes on until its deadline unless its call is cancelled, so callers must; this is a safety net."""
    handler = Hanging(1)
    link = await open_link("inprocess", servicer(StreamChat=handler.handler()))

    await use(link.stub.StreamChat(STREAM))

    await soon(handler.cancelled.wait())
    await link.server.stop(None)


async def test_a_cancelled_client_frees_a_writer_that_waits(connect: Connect) -> None:
    ended = asyncio.Event()

    async def stream(request: Any, context: Any) -> None:
        try:
            while True:
                await context.write(text(0, 1_000_000))
        finally:
            ended.set()

    link = await connect(StreamChat=stream)
    call = link.stub.StreamChat(STREAM)
    await call.initial_metadata()
    await asyncio.sleep(0.02)
    call.cancel()

    await soon(ended.wait())


async def test_a_generator_is_closed_when_its_client_goes(connect: Connect) -> None:
    started, closed = asyncio.Event(), asyncio.Event()

    async def stream(request: Any, context: Any) -> Any:
        try:
            while True:
                started.set()
                yield text(0, 100_000)
        finally:
            closed.set()

    link = await connect(StreamChat=stream)
    call = link.stub.StreamChat(STREAM)
    await soon(started.wait())
    call.cancel()

    await soon(closed.wait())


async def test_writing_to_a_client_that_is_gone_fails(connect: Connect) -> None:
    failed = asyncio.Event()

    async def stream(request: Any, context: Any) -> None:
        await context.write(text(0))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            with pytest.raises(aio.InternalError):
                await context.write(text(1))
            failed.set()

    link = await connect(StreamChat=stream)
    call = link.stub.StreamChat(STREAM)
    await call.read()
    call.cancel()

    await soon(failed.wait())


async def test_a_cancelled_handler_is_not_told_by_its_context(connect: Connect) -> None:
    """grpc.aio's `cancelled` speaks of the status that the server set; CancelledError is what tells."""
    seen: list[tuple[bool, bool]] = []
    started, ended = asyncio.Event(), asyncio.Event()

    async def chat(request: Any, context: Any) -> Any:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append((context.cancelled(), context.done()))
            ended.set()

    link = await connect(Chat=chat)
    call = link.stub.Chat(REQUEST)
    await soon(started.wait())
    call.cancel()
    await soon(ended.wait())

    assert seen == [(False, False)]


# Callbacks and contexts.


async def test_done_callbacks_are_told_once(connect: Connect) -> None:
    server: list[Any] = []
    contexts: list[Any] = []
    client: list[Any] = []

    async def chat(request: Any, context: Any) -> Any:
        contexts.append(context)
        context.add_done_callback(server.append)
        return ANSWER

    link = await connect(Chat=chat)
    call = link.stub.Chat(REQUEST)
    call.add_done_callback(client.append)
    await call
    await asyncio.sleep(0.02)

    assert client == [call]
    assert server == contexts
    assert server[0].done()


async def test_the_handler_does_not_change_the_callers_context(connect: Connect) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="caller")

    async def chat(request: Any, context: Any) -> Any:
        variable.set("handler")
        assert asyncio.current_task() is not caller
        return ANSWER

    link = await connect(Chat=chat)
    caller = asyncio.current_task()
    await link.stub.Chat(REQUEST)

    assert variable.get() == "caller"


# Servers and channels.


async def test_stop_lets_running_calls_finish(connect: Connect) -> None:
    go, started = asyncio.Event(), asyncio.Event()

    async def chat(request: Any, context: Any) -> Any:
        started.set()
        await go.wait()
        return ANSWER

    link = await connect(Chat=chat)
    call = link.stub.Chat(REQUEST)
    await soon(started.wait())
    stopping = asyncio.create_task(link.server.stop(SOON * 2))
    await asyncio.sleep(0.01)
    with pytest.raises(aio.AioRpcError) as caught:
        await link.stub.Chat(REQUEST)
    assert caught.value.code() is Code.UNAVAILABLE
    go.set()

    assert await soon(call) == ANSWER
    await soon(stopping)
    assert await link.server.wait_for_termination(SOON) is False


async def test_stop_cancels_calls_that_outlast_the_grace(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    handler = Hanging(1)
    link = await connect(StreamChat=handler.handler())
    call = link.stub.StreamChat(STREAM)
    await call.read()
    reading = asyncio.create_task(call.read())

    await soon(link.server.stop(0.05))
    await soon(handler.cancelled.wait())
    with pytest.raises(aio.AioRpcError) as caught:
        await soon(reading)
    assert caught.value.code() is Code.UNAVAILABLE


async def test_calls_after_stop_are_unavailable(connect: Connect) -> None:
    async def chat(request: Any, context: Any) -> Any:
        return ANSWER

    link = await connect(Chat=chat)
    await link.stub.Chat(REQUEST)
    await link.server.stop(None)
    await link.server.stop(None)

    with pytest.raises(aio.AioRpcError) as caught:
        await link.stub.Chat(REQUEST)
    assert caught.value.code() is Code.UNAVAILABLE


async def test_a_closed_channel_takes_no_calls(connect: Connect) -> None:
    link = await connect()
    await link.channel.close()

    with pytest.raises(aio.UsageError):
        await link.stub.Chat(REQUEST)
    assert link.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_closing_a_channel_cancels_its_calls(connect: Connect) -> None:
    handler = Hanging(1)
    link = await connect(StreamChat=handler.handler())
    call = link.stub.StreamChat(STREAM)
    await call.read()

    await link.channel.close()
    await soon(handler.cancelled.wait())
    assert call.cancelled()


async def test_a_channel_becomes_ready(connect: Connect) -> None:
    link = await connect()

    await soon(link.channel.channel_ready())
    assert link.channel.get_state() is grpc.ChannelConnectivity.READY


async def test_no_interleaving_of_finish_cancel_and_deadline_loses_a_call(connect: Connect) -> None:
    """Every call ends exactly once, with one of the outcomes that its race allows, and every handler ends."""
    begun = ended = 0

    async def stream(request: Any, context: Any) -> None:
        nonlocal begun, ended
        begun += 1
        try:
            for number in range(5):
                await asyncio.sleep(request.call.options.top_k / 10_000)
                await context.write(text(number))
        finally:
            ended += 1

    link = await connect(StreamChat=stream)

    async def one(number: int) -> str:
        call = link.stub.StreamChat(
            Stream(call=chat_pb2.ChatCall(options=chat_pb2.GenerationOptions(top_k=number % 7))),
            timeout=0.002 * (number % 5) + 0.0005 if number % 2 else 30,
        )
        ends: list[Any] = []
        call.add_done_callback(ends.append)
        if number % 3 == 0:
            asyncio.get_running_loop().call_later(number % 11 / 2_000, call.cancel)
        try:
            count = len([message async for message in call])
        except asyncio.CancelledError:
            count = -1
        except aio.AioRpcError:
            count = -2
        code = await soon(call.code())
        assert len(ends) == 1
        assert (code, count) in {(Code.OK, 5), (Code.CANCELLED, -1), (Code.DEADLINE_EXCEEDED, -2)}
        return str(code)

    codes = await soon(asyncio.gather(*(one(number) for number in range(300))))
    await soon(link.server.stop(SOON))

    assert len(set(codes)) == 3
    assert begun == ended
