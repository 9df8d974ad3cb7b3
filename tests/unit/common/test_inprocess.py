"""What is the in-process transport's own; what it shares with the wire is in tests/contract/test_channel_*.py."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from aigateway.v1 import gateway_service_pb2, gateway_service_pb2_grpc
from aigateway_common.health import Health
from aigateway_common.inprocess import InProcessChannel, InProcessServer, rpc, server
from aigateway_common.streaming import comes, consume
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable


CHAT = "/aigateway.v1.GatewayService/Chat"
REQUEST = gateway_service_pb2.ChatRequest()
STREAM = gateway_service_pb2.StreamChatRequest()
ANSWER = gateway_service_pb2.ChatResponse()
MESSAGE = gateway_service_pb2.StreamChatResponse()


class Servicer(gateway_service_pb2_grpc.GatewayServiceServicer):
    """The generated defaults, but for what a test gives."""


async def serve(
    **handlers: Callable[..., Any],
) -> tuple[InProcessServer, gateway_service_pb2_grpc.GatewayServiceAsyncStub]:
    servicer = Servicer()  # type: ignore[abstract] # the tests need a method at a time
    for name, handler in handlers.items():
        setattr(servicer, name, handler)
    local = InProcessServer()
    gateway_service_pb2_grpc.add_GatewayServiceServicer_to_server(servicer, local)
    await local.start()
    return local, gateway_service_pb2_grpc.GatewayServiceStub(InProcessChannel(local))


async def test_messages_pass_by_reference() -> None:
    seen: list[object] = []

    async def chat(request: Any, context: Any) -> Any:
        seen.append(request)
        return ANSWER

    _, stub = await serve(Chat=chat)

    assert await stub.Chat(REQUEST) is ANSWER
    assert seen[0] is REQUEST


async def test_a_writer_is_never_more_than_the_buffer_ahead() -> None:
    written = 0

    async def stream(request: Any, context: Any) -> None:
        nonlocal written
        while True:
            await context.write(MESSAGE)
            written += 1

    _, stub = await serve(StreamChat=stream)
    call = stub.StreamChat(STREAM)
    for count in range(1, 100):
        assert await call.read() is MESSAGE
        await asyncio.sleep(0)
        assert written <= count + rpc.BUFFER
    call.cancel()


async def test_a_client_learns_whether_something_comes_without_taking_it() -> None:
    going_on, started = asyncio.Event(), asyncio.Event()

    async def stream(request: Any, context: Any) -> None:
        started.set()
        await context.send_initial_metadata(())  # wakes the client up, and is nothing to read
        await going_on.wait()
        await context.write(MESSAGE)

    _, stub = await serve(StreamChat=stream)
    call = stub.StreamChat(STREAM)
    assert await comes(call, 0.02) is False
    assert started.is_set()
    coming = asyncio.ensure_future(comes(call, 60))
    await asyncio.sleep(0)
    going_on.set()
    assert await coming is True
    assert await comes(call, 0) is True
    assert await call.read() is MESSAGE
    assert await comes(call, 60) is True  # the end
    assert await call.read() is aio.EOF


async def test_giving_up_to_learn_whether_something_comes_cancels_the_call_as_reading_does() -> None:
    cancelled = asyncio.Event()

    async def stream(request: Any, context: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    _, stub = await serve(StreamChat=stream)
    call = stub.StreamChat(STREAM)
    assert await comes(call, 0.01) is False
    coming = asyncio.ensure_future(comes(call, 60))
    await asyncio.sleep(0)
    coming.cancel()
    await cancelled.wait()
    assert call.cancelled()


async def test_a_writer_is_as_little_ahead_of_one_who_takes_messages_at_once() -> None:
    written = taken = 0

    async def stream(request: Any, context: Any) -> None:
        nonlocal written
        while True:
            await context.write(MESSAGE)
            written += 1

    def take(message: Any) -> bool:
        nonlocal taken
        taken += 1
        return taken % 5 > 0

    _, stub = await serve(StreamChat=stream)
    call = stub.StreamChat(STREAM)
    for times in range(1, 50):
        assert await consume(call, take) is False
        await asyncio.sleep(0)
        assert taken == 5 * times
        assert written <= taken + rpc.BUFFER
    call.cancel()


async def test_writers_in_several_tasks_all_get_through() -> None:
    async def stream(request: Any, context: Any) -> None:
        async def some() -> None:
            for _ in range(50):
                await context.write(MESSAGE)

        await asyncio.gather(*(some() for _ in range(8)))

    _, stub = await serve(StreamChat=stream)

    assert len([message async for message in stub.StreamChat(STREAM)]) == 400


async def test_client_streaming_is_unimplemented() -> None:
    channel = InProcessChannel(InProcessServer())

    for method in (channel.stream_unary(CHAT), channel.stream_stream(CHAT)):
        with pytest.raises(aio.AioRpcError, match="streams requests") as caught:
            method(iter([REQUEST]))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_server_has_no_ports() -> None:
    with pytest.raises(aio.UsageError):
        InProcessServer().add_insecure_port("127.0.0.1:0")


async def test_a_handler_that_is_no_coroutine_function_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    def chat(request: Any, context: Any) -> Any:
        return ANSWER

    _, stub = await serve(Chat=chat)

    with pytest.raises(aio.AioRpcError, match="neither a coroutine function nor an async generator"):
        await stub.Chat(REQUEST)


async def test_a_misspelt_argument_is_an_error() -> None:
    _, stub = await serve()

    with pytest.raises(TypeError):
        stub.Chat(REQUEST, timeouts=5)  # type: ignore[call-arg] # that is the point


async def test_a_handler_that_cancels_itself_still_answers() -> None:
    async def chat(request: Any, context: Any) -> Any:
        raise asyncio.CancelledError

    _, stub = await serve(Chat=chat)

    with pytest.raises(aio.AioRpcError) as caught:
        await stub.Chat(REQUEST)
    assert caught.value.code() is grpc.StatusCode.CANCELLED


async def test_calls_before_start_are_unavailable_and_readiness_can_be_awaited() -> None:
    local = InProcessServer()
    channel = InProcessChannel(local)
    stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
    assert channel.get_state() is grpc.ChannelConnectivity.IDLE
    with pytest.raises(aio.AioRpcError) as caught:
        await stub.Chat(REQUEST)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    waiting = asyncio.create_task(channel.channel_ready())
    await asyncio.sleep(0)
    await local.start()
    await waiting
    await local.stop(None)
    assert channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE
    with pytest.raises(aio.UsageError):
        await local.start()


async def test_stop_names_handlers_that_refuse_to_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CLEAN_UP", 0.05)
    started, go = asyncio.Event(), asyncio.Event()

    async def chat(request: Any, context: Any) -> Any:
        started.set()
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue
        return ANSWER

    local, stub = await serve(Chat=chat)
    call = stub.Chat(REQUEST)
    await started.wait()
    await local.stop(None)

    assert "1 handlers still run" in caplog.text
    assert await call.code() is grpc.StatusCode.UNAVAILABLE
    go.set()
    await asyncio.sleep(0)


async def test_a_shorter_grace_overrides_a_longer_one() -> None:
    started = asyncio.Event()

    async def chat(request: Any, context: Any) -> Any:
        started.set()
        await asyncio.Event().wait()

    local, stub = await serve(Chat=chat)
    call = stub.Chat(REQUEST)
    await started.wait()
    patient = asyncio.create_task(local.stop(60))
    await asyncio.sleep(0)
    assert await local.wait_for_termination(0.01) is True
    await local.stop(None)
    await asyncio.wait_for(patient, 1)

    assert await call.code() is grpc.StatusCode.UNAVAILABLE
    assert await local.wait_for_termination() is False


async def test_failing_callbacks_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: object) -> None:
        raise ValueError("callback")

    async def chat(request: Any, context: Any) -> Any:
        context.add_done_callback(fail)
        return ANSWER

    _, stub = await serve(Chat=chat)
    call = stub.Chat(REQUEST)
    call.add_done_callback(fail)

    assert await call is ANSWER
    assert caplog.text.count("ValueError: callback") == 2


async def test_ended_calls_leave_nothing_in_the_server() -> None:
    async def chat(request: Any, context: Any) -> Any:
        return ANSWER

    local, stub = await serve(Chat=chat)
    calls = [stub.Chat(REQUEST, timeout=60) for _ in range(10)]
    for call in calls[:5]:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)

    assert not local._running
    assert all(call._rpc.timer is None for call in calls)  # type: ignore[attr-defined] # looks inside on purpose


async def test_an_aborted_call_is_freed_without_the_collector() -> None:
    contexts: list[weakref.ref[Any]] = []

    async def chat(request: Any, context: Any) -> Any:
        contexts.append(weakref.ref(context))
        await context.abort(grpc.StatusCode.NOT_FOUND, "d")

    _, stub = await serve(Chat=chat)
    gc.disable()
    try:
        with pytest.raises(aio.AioRpcError):
            await stub.Chat(REQUEST)
        await asyncio.sleep(0)
        assert contexts[0]() is None
    finally:
        gc.enable()


async def test_health_is_served_in_process_too() -> None:
    local = InProcessServer()
    health = Health(["a.Service"])
    health_pb2_grpc.add_HealthServicer_to_server(health, local)
    await local.start()
    health.serving()
    stub: Any = health_pb2_grpc.HealthStub(InProcessChannel(local))

    answer = await stub.Check(health_pb2.HealthCheckRequest(service="a.Service"))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    await local.stop(None)
