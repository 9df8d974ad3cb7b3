"""Alerts as a part of the usage service: the watch, the courier when somebody is to be told, and AlertService."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from aigateway.v1 import alert_service_pb2 as pb
from aigateway.v1 import alert_service_pb2_grpc
from aigateway_common import logs
from aigateway_common.errors import invalid
from typing_extensions import override

from aigateway_usage.alerts import register
from aigateway_usage.alerts.signs import KINDS
from aigateway_usage.alerts.watch import Watch
from aigateway_usage.budget_calls import now_us
from aigateway_usage.calls import Calls

if TYPE_CHECKING:
    from collections.abc import Callable

    from aigateway_common.telemetry import Telemetry
    from grpc import aio

    from aigateway_usage.alerts.courier import Courier
    from aigateway_usage.database import Database
    from aigateway_usage.rows import Row
    from aigateway_usage.settings import AlertSettings

SERVICE: Final = pb.DESCRIPTOR.services_by_name["AlertService"].full_name
MAX_PAGE: Final = 1000
DEFAULT_PAGE: Final = 100

_log = logs.get("usage")


class Alerting:
    """Everything about alerts. `start` after the database is open, `stop` before it is closed."""

    def __init__(
        self, database: Database, settings: AlertSettings, telemetry: Telemetry, clock: Callable[[], int] = now_us
    ) -> None:
        self._courier = _courier(database, settings, clock)
        told = self._courier.wake if self._courier is not None else _nobody
        self._watch = Watch(database, settings, clock, told)
        self._servicer = _Servicer(database, telemetry)
        self._tasks: list[asyncio.Task[None]] = []

    def register(self, server: aio.Server) -> None:
        """Add the servicer to `server`, before the server starts."""
        alert_service_pb2_grpc.add_AlertServiceServicer_to_server(self._servicer, server)

    def see(self, row: Row) -> None:
        """Look at an attempt that was written; takes some microseconds and never fails."""
        self._watch.see(row)

    async def start(self) -> None:
        """Go on where the last run ended."""
        await self._watch.begin()
        self._tasks.append(asyncio.create_task(self._watch.run(), name="usage-alerts"))
        if self._courier is not None:
            self._tasks.append(asyncio.create_task(self._courier.run(), name="usage-webhooks"))

    async def stop(self, grace: float) -> None:
        """Write what has changed, for at most `grace` seconds. What is not delivered stays in the queue."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
            self._tasks.clear()
            try:
                async with asyncio.timeout(grace):
                    await self._watch.flush()
            except TimeoutError:
                _log.warning("alerts were still waiting at the end; the next start finds them in the ledger")


def _courier(database: Database, settings: AlertSettings, clock: Callable[[], int]) -> Courier | None:
    if not settings.webhooks:
        return None
    from aigateway_usage.alerts.courier import Courier  # noqa: PLC0415 -- an HTTP client, only when it is needed

    return Courier(database, settings.webhooks, clock)


def _nobody() -> None:
    """Nobody is told."""


class _Servicer(alert_service_pb2_grpc.AlertServiceServicer):
    def __init__(self, database: Database, telemetry: Telemetry) -> None:
        self._database = database
        self._calls = Calls(SERVICE, telemetry)

    @override
    async def ListAlerts(
        self, request: pb.ListAlertsRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.ListAlertsResponse:
        return await self._calls.answer("ListAlerts", self._list, request, context)

    async def _list(self, request: pb.ListAlertsRequest) -> pb.ListAlertsResponse:
        if not 0 <= request.page_size <= MAX_PAGE:
            raise invalid("page_size", f"`page_size` must be from 1 to {MAX_PAGE}, or 0 for {DEFAULT_PAGE}")
        size = request.page_size or DEFAULT_PAGE
        rows = await self._database.read(
            lambda connection: register.listed(connection, open_only=request.open_only, limit=size)
        )
        return pb.ListAlertsResponse(alerts=[_alert(row) for row in rows])


def _alert(row: Row) -> pb.Alert:
    return pb.Alert(
        id=row["id"],
        kind=KINDS[row["kind"]],
        subject=row["subject"],
        message=row["message"],
        opened_at_us=row["opened_at_us"],
        seen_at_us=row["seen_at_us"],
        resolved_at_us=row["resolved_at_us"],
    )
