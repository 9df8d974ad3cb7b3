"""The one error: whole over gRPC and back, and in OpenAI's shape."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from aigateway.v1 import gateway_service_pb2, gateway_service_pb2_grpc
from aigateway_common import errors, serving
from aigateway_common.errors import GatewayError, from_rpc_error
from aigateway_common.inprocess import InProcessChannel, InProcessServer
from aigateway_common.reasons import REASONS
from grpc import aio


async def travelled(error: GatewayError, *, wire: bool) -> GatewayError:
    """`error` after it ended a call."""

    class Servicer(gateway_service_pb2_grpc.GatewayServiceServicer):
        async def Chat(self, request: Any, context: Any) -> Any:  # type: ignore[explicit-override] # as servicers do
            await errors.abort(context, error)

    server: aio.Server = aio.server() if wire else InProcessServer()
    channel: aio.Channel
    if wire:
        channel = serving.grpc_channel(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    else:
        assert isinstance(server, InProcessServer)
        channel = InProcessChannel(server)
    gateway_service_pb2_grpc.add_GatewayServiceServicer_to_server(Servicer(), server)  # type: ignore[abstract] # one method is enough
    await server.start()
    with pytest.raises(aio.AioRpcError) as caught:
        await gateway_service_pb2_grpc.GatewayServiceStub(channel).Chat(gateway_service_pb2.ChatRequest())
    await channel.close()
    await server.stop(None)
    return from_rpc_error(caught.value)


@pytest.mark.parametrize("wire", [False, True])
@pytest.mark.parametrize("retry_after", [None, 2.5])
async def test_an_error_crosses_a_channel_whole(wire: bool, retry_after: float | None) -> None:
    sent = GatewayError(
        "RATE_LIMITED", "slow down, “please”", details={"provider": "openai", "param": "model"}, retry_after=retry_after
    )
    got = await travelled(sent, wire=wire)

    assert (got.reason, got.message, got.details, got.retry_after) == (
        sent.reason,
        sent.message,
        sent.details,
        retry_after,
    )


@pytest.mark.parametrize("name", REASONS)
async def test_every_reason_survives_the_way(name: str) -> None:
    assert (await travelled(GatewayError(name, "m"), wire=False)).reason is REASONS[name]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
        (grpc.StatusCode.CANCELLED, "UNAVAILABLE"),
        (grpc.StatusCode.UNKNOWN, "INTERNAL"),
        (grpc.StatusCode.DATA_LOSS, "INTERNAL"),
    ],
)
def test_an_error_of_the_transport_itself_gets_a_reason(code: grpc.StatusCode, name: str) -> None:
    error = aio.AioRpcError(code, aio.Metadata(), aio.Metadata(), details="the transport's words")

    assert from_rpc_error(error).reason.name == name


def test_the_body_is_openais() -> None:
    assert errors.invalid("messages[0].role", "unknown role").to_openai() == {
        "error": {
            "message": "unknown role",
            "type": "invalid_request_error",
            "code": None,
            "param": "messages[0].role",
        }
    }
