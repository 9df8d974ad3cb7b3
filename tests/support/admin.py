"""`/admin` over HTTP in front of the real ledger, and of services that a test scripts beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from aigateway.v1 import (
    alert_service_pb2,
    alert_service_pb2_grpc,
    router_admin_service_pb2,
    router_admin_service_pb2_grpc,
    usage_service_pb2,
    usage_service_pb2_grpc,
)
from aigateway_common.errors import GatewayError, abort
from aigateway_common.inprocess import InProcessChannel, InProcessServer
from aigateway_edge.app import create_app
from aigateway_edge.settings import EdgeSettings
from aigateway_usage.server import UsageComponent
from aigateway_usage.settings import UsageSettings
from typing_extensions import override

from support.edge import serve_http

ADMIN_KEY = "operator-key-0123456789"


class Alerts(alert_service_pb2_grpc.AlertServiceServicer):
    """Answers by script."""

    def __init__(self) -> None:
        self.answer = alert_service_pb2.ListAlertsResponse()
        self.failure: GatewayError | None = None
        self.asked: list[alert_service_pb2.ListAlertsRequest] = []
        self.metadata: dict[str, str] = {}

    @override
    async def ListAlerts(self, request: Any, context: Any) -> alert_service_pb2.ListAlertsResponse:
        self.asked.append(request)
        self.metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        if self.failure is not None:
            await abort(context, self.failure)
        return self.answer


class Health(router_admin_service_pb2_grpc.RouterAdminServiceServicer):
    """Answers by script, to operators alone, and remembers the metadata."""

    def __init__(self) -> None:
        self.answer: router_admin_service_pb2.GetRouterHealthResponse | Exception = (
            router_admin_service_pb2.GetRouterHealthResponse()
        )
        self.metadata: dict[str, str] = {}

    @override
    async def GetRouterHealth(self, request: Any, context: Any) -> router_admin_service_pb2.GetRouterHealthResponse:
        self.metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        if ADMIN_KEY not in self.metadata.get("authorization", "") + self.metadata.get("x-api-key", ""):
            await abort(context, GatewayError("UNAUTHENTICATED", "this needs an admin key"))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@asynccontextmanager
async def over_http(server: InProcessServer, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The edge on a port, in front of what `server` holds."""
    channel = InProcessChannel(server)
    await server.start()
    try:
        app = create_app(EdgeSettings(**settings), gateway=channel)
        async with serve_http(app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        await channel.close()
        await server.stop(None)


@asynccontextmanager
async def ledger(
    folder: Path, *attempts: usage_service_pb2.Attempt, **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """The edge on a port, in front of a ledger of its own in which `attempts` are recorded."""
    component = UsageComponent(UsageSettings(database_url=f"sqlite+aiosqlite:///{folder / 'ledger.db'}"))
    server = InProcessServer()
    component.register(server)
    await component.start()
    try:
        async with over_http(server, **settings) as client:
            if attempts:
                stub: Any = usage_service_pb2_grpc.UsageServiceStub(InProcessChannel(server))
                await stub.RecordAttempts(usage_service_pb2.RecordAttemptsRequest(attempts=attempts))
            yield client
    finally:
        await component.stop(1)
