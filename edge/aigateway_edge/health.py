"""`/health`, `/live` and `/ready`: whether the process runs, and whether its router takes calls.

Readiness never asks a provider: one that is down is no reason to take the gateway out of service.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import grpc
from fastapi import APIRouter, Request, Response
from grpc import aio
from grpc_health.v1 import health_pb2
from pydantic import BaseModel

if TYPE_CHECKING:
    from aigateway_edge.exchange import Edge

_GATEWAY: Final = "aigateway.v1.GatewayService"


class Status(BaseModel):
    """How the gateway is."""

    status: Literal["ok", "unavailable"]


def router(edge: Edge) -> APIRouter:
    """The three routes."""
    routes = APIRouter(tags=["health"])
    check = edge.gateway.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )

    async def live() -> Status:
        """Answer that the process runs."""
        return Status(status="ok")

    async def ready(request: Request, response: Response) -> Status:
        """Answer whether the router takes calls, and this edge goes on."""
        if request.app.leaving:
            response.status_code = 503
            return Status(status="unavailable")
        try:
            answer = await check(health_pb2.HealthCheckRequest(service=_GATEWAY), timeout=edge.settings.ready_timeout)
            serving = answer.status == health_pb2.HealthCheckResponse.SERVING
        except aio.AioRpcError as error:
            # A router joined in process may have no health service; that it answers is what was asked.
            serving = error.code() == grpc.StatusCode.UNIMPLEMENTED
        if serving:
            return Status(status="ok")
        response.status_code = 503
        return Status(status="unavailable")

    unavailable: dict[int | str, dict[str, Any]] = {
        503: {"model": Status, "description": "The router cannot be reached, or it or the edge is draining."}
    }
    routes.add_api_route("/health", live, summary="Whether the gateway runs")
    routes.add_api_route("/live", live, summary="Whether the process runs")
    routes.add_api_route("/ready", ready, summary="Whether the gateway takes calls", responses=unavailable)
    return routes
