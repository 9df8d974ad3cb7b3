"""Who is let in by the name in the certificate, whatever the call, and who is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from aigateway.v1 import chat_pb2, gateway_service_pb2, gateway_service_pb2_grpc
from aigateway_common.errors import from_rpc_error
from aigateway_common.serving import grpc_channel, grpc_server
from aigateway_common.tls import Certificates, Tls
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from support.certificates import Authority, Secret
from typing_extensions import override

NAME = "aigateway.v1.GatewayService"
LIST = gateway_service_pb2.ListModelsRequest()
STREAM = gateway_service_pb2.StreamChatRequest(call=chat_pb2.ChatCall(model="m"))


class _Servicer(gateway_service_pb2_grpc.GatewayServiceServicer):
    @override
    async def ListModels(self, request: Any, context: Any) -> gateway_service_pb2.ListModelsResponse:
        return gateway_service_pb2.ListModelsResponse()

    @override
    async def StreamChat(self, request: Any, context: Any) -> None:  # type: ignore[override] # it writes, as ours do
        for _ in range(2):
            await context.write(gateway_service_pb2.StreamChatResponse())


class _Component:
    service_names: tuple[str, ...] = (NAME,)

    def register(self, server: aio.Server) -> None:
        gateway_service_pb2_grpc.add_GatewayServiceServicer_to_server(_Servicer(), server)  # type: ignore[abstract] # two methods are enough

    async def start(self) -> None: ...

    async def stop(self, grace: float) -> None: ...


def of(secret: Secret, *callers: str) -> Certificates:
    folder = secret.folder
    return Certificates(Tls(folder / "tls.crt", folder / "tls.key", folder / "ca.crt", "usage", callers))


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def target(authority: Authority, tmp_path: Path) -> AsyncIterator[str]:
    certificates = of(authority.mounted(tmp_path / "usage", "usage"), "router", "operator")
    server = grpc_server([_Component()], "127.0.0.1:0", reflection=True, certificates=certificates)
    await server.start()
    yield f"127.0.0.1:{server.port}"
    await server.drain(1)


@pytest.mark.parametrize("names", [("router",), ("localhost", "router.aigateway.svc", "operator")])
async def test_who_is_named_is_served(
    target: str, authority: Authority, tmp_path: Path, names: tuple[str, ...]
) -> None:
    async with grpc_channel(target, of(authority.mounted(tmp_path / "here", *names))) as channel:
        stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
        assert await stub.ListModels(LIST, timeout=20) == gateway_service_pb2.ListModelsResponse()
        assert len([one async for one in stub.StreamChat(STREAM, timeout=20)]) == 2
        assert NAME in await reflected(channel)


@pytest.mark.parametrize("name", ["provider-openai", "usage", "router.elsewhere", "ROUTER"])
async def test_who_is_not_named_gets_the_health_and_nothing_else(
    target: str, authority: Authority, tmp_path: Path, name: str
) -> None:
    async with grpc_channel(target, of(authority.mounted(tmp_path / "here", name))) as channel:
        stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
        errors = []
        for call in (stub.ListModels(LIST, timeout=20), stub.StreamChat(STREAM, timeout=20).read(), reflected(channel)):
            with pytest.raises(aio.AioRpcError) as caught:
                await call
            errors.append(caught.value)
        assert {error.code() for error in errors} == {grpc.StatusCode.PERMISSION_DENIED}
        assert {from_rpc_error(error).reason.name for error in errors} == {"PERMISSION_DENIED"}
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def reflected(channel: aio.Channel) -> set[str]:
    """The services that the server names by reflection, whose method is a generator."""
    through: Any = channel
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(through)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async for answer in stub.ServerReflectionInfo(iter([request]), timeout=20):
        return {service.name for service in answer.list_services_response.service}
    return set()
