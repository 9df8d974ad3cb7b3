"""Servers and channels on loopback: start, health, drain, and finding a server again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from aigateway.v1 import chat_pb2, gateway_service_pb2, gateway_service_pb2_grpc
from aigateway_common import serving
from aigateway_launcher.children import hold_port
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NAME = "aigateway.v1.GatewayService"
LOCAL = "127.0.0.1:0"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
REQUEST = gateway_service_pb2.ChatRequest()


class Echo:
    """A component that notes its life, and whose calls wait for `go`."""

    service_names: tuple[str, ...] = (NAME,)

    def __init__(self, life: list[str] | None = None, name: str = "echo") -> None:
        self.life = [] if life is None else life
        self.name = name
        self.go = asyncio.Event()
        self.go.set()
        self.begun = asyncio.Event()

    def register(self, server: aio.Server) -> None:
        class Servicer(gateway_service_pb2_grpc.GatewayServiceServicer):
            Chat = staticmethod(self.chat)

        gateway_service_pb2_grpc.add_GatewayServiceServicer_to_server(Servicer(), server)  # type: ignore[abstract] # one method is enough

    async def chat(self, request: Any, context: Any) -> gateway_service_pb2.ChatResponse:
        self.begun.set()
        await self.go.wait()
        return gateway_service_pb2.ChatResponse(completion=chat_pb2.ChatCompletion(id=request.call.model))

    async def start(self) -> None:
        self.life.append(f"{self.name} started")

    async def stop(self, grace: float) -> None:
        assert grace >= 0
        self.life.append(f"{self.name} stopped")


class Broken(Echo):
    @override
    async def start(self) -> None:
        raise OSError("no disk")


@pytest.fixture
async def channels() -> AsyncIterator[list[aio.Channel]]:
    opened: list[aio.Channel] = []
    yield opened
    for channel in opened:
        await channel.close()


def dial(channels: list[aio.Channel], port: int) -> aio.Channel:
    channels.append(serving.grpc_channel(f"127.0.0.1:{port}"))
    return channels[-1]


async def check(channel: aio.Channel, service: str = "") -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return int(answer.status)


async def test_a_server_serves_its_components_and_their_health(channels: list[aio.Channel]) -> None:
    echo = Echo()
    server = serving.grpc_server([echo], LOCAL)
    await server.start()
    channel = dial(channels, server.port)

    answer = await gateway_service_pb2_grpc.GatewayServiceStub(channel).Chat(
        gateway_service_pb2.ChatRequest(call=chat_pb2.ChatCall(model="m"))
    )
    assert answer.completion.id == "m"
    assert [await check(channel), await check(channel, NAME)] == [SERVING, SERVING]
    with pytest.raises(aio.AioRpcError) as caught:
        await check(channel, "no.Such")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    await server.drain(1)
    await server.wait()
    assert echo.life == ["echo started", "echo stopped"]


async def test_a_call_costs_no_more_for_the_methods_that_a_server_has(
    channels: list[aio.Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """grpc.aio waits for the next call of each registered method with a task of its own, and for all of them anew."""
    tasks: list[int] = []
    wait = asyncio.wait

    async def noted(waited: Any, **options: Any) -> Any:
        found = list(waited)
        if any("_request_call" in repr(task) for task in found):
            tasks.append(len(found))
        return await wait(found, **options)

    monkeypatch.setattr(asyncio, "wait", noted)
    server = serving.grpc_server([Echo()], LOCAL, reflection=True)
    await server.start()
    stub = gateway_service_pb2_grpc.GatewayServiceStub(dial(channels, server.port))
    for _ in range(3):
        await stub.Chat(REQUEST)
    assert len(tasks) >= 3
    assert set(tasks) == {1}
    await server.drain(1)


async def test_a_drain_finishes_running_calls_then_stops_components(channels: list[aio.Channel]) -> None:
    echo = Echo()
    echo.go.clear()
    server = serving.grpc_server([echo], LOCAL)
    await server.start()
    stub = gateway_service_pb2_grpc.GatewayServiceStub(dial(channels, server.port))
    call = stub.Chat(REQUEST)
    await echo.begun.wait()
    draining = asyncio.create_task(server.drain(30))
    while await stub.Chat(REQUEST, timeout=0.05).code() is not grpc.StatusCode.UNAVAILABLE:
        pass  # what arrives while the server closes may still be taken, or be cut off
    assert echo.life == ["echo started"]
    echo.go.set()

    assert isinstance(await call, gateway_service_pb2.ChatResponse)
    await asyncio.wait_for(draining, 5)
    assert echo.life == ["echo started", "echo stopped"]


async def test_a_drain_cancels_calls_that_outlast_its_grace(channels: list[aio.Channel]) -> None:
    echo = Echo()
    echo.go.clear()
    server = serving.grpc_server([echo], LOCAL)
    await server.start()
    call = gateway_service_pb2_grpc.GatewayServiceStub(dial(channels, server.port)).Chat(REQUEST)
    await echo.begun.wait()

    await asyncio.wait_for(server.drain(0.05), 5)
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_watchers_hear_of_a_drain_and_do_not_hold_it_up(channels: list[aio.Channel]) -> None:
    server = serving.grpc_server([Echo()], LOCAL)
    await server.start()
    stub: Any = health_pb2_grpc.HealthStub(dial(channels, server.port))
    watches = [stub.Watch(health_pb2.HealthCheckRequest(service=name)) for name in ("", NAME, "no.Such")]
    assert [(await watch.read()).status for watch in watches] == [SERVING, SERVING, SERVICE_UNKNOWN]
    draining = asyncio.create_task(server.drain(60))

    assert [message.status async for message in _rest(watches[0])] == [NOT_SERVING]
    assert [message.status async for message in _rest(watches[1])] == [NOT_SERVING]
    assert [message.status async for message in _rest(watches[2])] == []
    await asyncio.wait_for(draining, 5)


async def test_a_draining_server_takes_calls_until_its_watchers_are_elsewhere(
    channels: list[aio.Channel],
) -> None:
    server = serving.grpc_server([Echo()], LOCAL)
    await server.start()
    channel = aio.insecure_channel(f"127.0.0.1:{server.port}")  # ours would go elsewhere by itself
    channels.append(channel)
    stub: Any = health_pb2_grpc.HealthStub(channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    await watch.read()
    draining = asyncio.create_task(server.drain(60))

    assert (await watch.read()).status == NOT_SERVING
    await gateway_service_pb2_grpc.GatewayServiceStub(channel).Chat(REQUEST)
    await asyncio.wait_for(draining, 5)


async def _rest(watch: Any) -> AsyncIterator[health_pb2.HealthCheckResponse]:
    while (message := await watch.read()) is not aio.EOF:
        yield message


async def test_components_start_in_order_and_stop_in_reverse() -> None:
    life: list[str] = []
    first, second = Echo(life, "first"), Echo(life, "second")
    server = serving.grpc_server([first, second], LOCAL)
    await server.start()
    await server.drain(1)
    await server.drain(1)

    assert life == ["first started", "second started", "second stopped", "first stopped"]


async def test_a_component_that_cannot_start_takes_the_others_down() -> None:
    echo = Echo()
    broken = Broken(name="broken")
    server = serving.grpc_server([echo, broken], LOCAL)

    with pytest.raises(OSError, match="no disk"):
        await server.start()
    assert echo.life == ["echo started", "echo stopped"]
    assert broken.life == ["broken stopped"], "what it has opened before it failed is closed"


async def test_a_door_to_components_of_someone_else_leaves_them_alone(channels: list[aio.Channel]) -> None:
    echo = Echo()
    server = serving.grpc_server([echo], LOCAL, manage=False)
    await server.start()
    await gateway_service_pb2_grpc.GatewayServiceStub(dial(channels, server.port)).Chat(REQUEST)
    await server.drain(1)

    assert echo.life == []


async def test_a_taken_port_is_named() -> None:
    server = serving.grpc_server([], LOCAL)

    with pytest.raises(OSError, match=f"cannot listen on `127.0.0.1:{server.port}`"):
        serving.grpc_server([], f"127.0.0.1:{server.port}")
    await server.start()
    await server.drain(0)


async def test_messages_of_many_megabytes_pass(channels: list[aio.Channel]) -> None:
    server = serving.grpc_server([Echo()], LOCAL)
    await server.start()
    big = gateway_service_pb2.ChatRequest(call=chat_pb2.ChatCall(model="x" * 20_000_000))

    answer = await gateway_service_pb2_grpc.GatewayServiceStub(dial(channels, server.port)).Chat(big)
    assert answer.completion.id == big.call.model
    await server.drain(1)


async def test_a_channel_finds_a_restarted_server_again(channels: list[aio.Channel]) -> None:
    with hold_port() as held:
        server = serving.grpc_server([Echo()], f"127.0.0.1:{held.number}")
        await server.start()
        stub = gateway_service_pb2_grpc.GatewayServiceStub(dial(channels, held.number))
        await stub.Chat(REQUEST)
        await server.drain(0)
        with pytest.raises(aio.AioRpcError):
            await stub.Chat(REQUEST)
        again = serving.grpc_server([Echo()], f"127.0.0.1:{held.number}")
        await again.start()

        assert isinstance(await stub.Chat(REQUEST, wait_for_ready=True, timeout=10), gateway_service_pb2.ChatResponse)
        await again.drain(0)


@pytest.mark.parametrize("size", [0, 400_000])
async def test_connections_that_reach_their_age_lose_no_call(channels: list[aio.Channel], size: int) -> None:
    """Callers without a pause, so that some call always begins as its connection ends."""
    connections = set[str]()

    class Seen(Echo):
        @override
        async def chat(self, request: Any, context: Any) -> gateway_service_pb2.ChatResponse:
            connections.add(context.peer())
            return await super().chat(request, context)

    server = serving.grpc_server([Seen()], LOCAL, max_connection_age=0.05)
    await server.start()
    chat = gateway_service_pb2_grpc.GatewayServiceStub(dial(channels, server.port)).Chat

    request = gateway_service_pb2.ChatRequest(call=chat_pb2.ChatCall(model="m" * size))

    async def calls() -> None:
        while len(connections) < 60:
            await chat(request, timeout=30)

    await asyncio.gather(*(calls() for _ in range(32)))
    await server.drain(1)


async def test_reflection_lists_the_services_when_asked_for(channels: list[aio.Channel]) -> None:
    server = serving.grpc_server([Echo()], LOCAL, reflection=True, max_connection_age=60)
    await server.start()
    untyped: Any = reflection_pb2_grpc.ServerReflectionStub
    stub = untyped(dial(channels, server.port))
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    answer = await call.read()
    call.cancel()
    await server.drain(1)

    assert {service.name for service in answer.list_services_response.service} == {
        NAME,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
