"""`/admin/alerts`, `/audit` and `/health`: what needs attention, who did what, and how the providers are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from aigateway.v1 import account_service_pb2, alert_service_pb2, router_admin_service_pb2
from fastapi import Query
from starlette.requests import Request  # noqa: TC002 - FastAPI reads it

from aigateway_edge.admin.json_form import to_json
from aigateway_edge.admin.report_shapes import Acts, Alerts, Health

if TYPE_CHECKING:
    from fastapi import APIRouter

    from aigateway_edge.admin.caller import Admin

OpenOnly = Annotated[bool, Query(description="Only those that are not over.")]
PageSize = Annotated[int, Query(ge=1, le=1000, description="The most to answer.")]
BeforeId = Annotated[int, Query(ge=0, le=2**63 - 1, description="Only those before this id: where to go on.")]


class WatchRoutes:
    """The routes."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    def add_to(self, routes: APIRouter) -> None:
        """Add them."""
        add = routes.add_api_route
        add("/alerts", self.alerts, name="listAlerts", summary="List alerts", response_model=Alerts)
        add("/audit", self.audit, name="listAuditEvents", summary="List administrative acts", response_model=Acts)
        add("/health", self.health, name="providerHealth", summary="How the providers are", response_model=Health)

    async def alerts(self, request: Request, *, open_only: OpenOnly = False, page_size: PageSize = 100) -> Any:
        """List alerts, newest first."""
        asked = alert_service_pb2.ListAlertsRequest(open_only=open_only, page_size=page_size)
        answer = await self._admin.call(request, self._admin.alerts.ListAlerts, asked)
        return to_json(answer)

    async def audit(self, request: Request, page_size: PageSize = 100, before_id: BeforeId = 0) -> Any:
        """List administrative acts, newest first."""
        asked = account_service_pb2.ListAuditEventsRequest(page_size=page_size, before_id=before_id)
        answer = await self._admin.call(request, self._admin.accounts.ListAuditEvents, asked)
        return to_json(answer)

    async def health(self, request: Request) -> Any:
        """Show breakers and health of the providers, as the router that answers sees them."""
        asked = router_admin_service_pb2.GetRouterHealthRequest()
        answer = await self._admin.call(request, self._admin.router.GetRouterHealth, asked)
        return to_json(answer)
