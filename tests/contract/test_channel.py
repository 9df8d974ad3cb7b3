"""What every servicer and every caller relies on in a channel, held to on both transports."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
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
        link = await _link(request.param, _servicer(**handlers))
        links.append(link)
        return link

    yield connect
    for link in links:
        await link.channel.close()
        await link.server.stop(None)


class _Unimplemented(gateway_service_pb2_grpc.GatewayServiceServicer):
    """The generated defaults."""


def _servicer(**handlers: Callable[..., Any]) -> gateway_service_pb2_grpc.GatewayServiceServicer:
    servicer = _Unimplemented()  # type: ignore[abstract] # that is what it is for
    for name, handler in handlers.items():
        setattr(servicer, name, handler)
    return servicer


async def _link(transport: str, servicer: gateway_service_pb2_grpc.GatewayServiceServicer) -> Link:
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
    link = await _link("inprocess", _servicer(StreamChat=handler.handler()))

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
