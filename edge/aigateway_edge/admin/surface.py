"""`/admin/*` as a whole: projects, keys, budgets, reports, alerts, acts and health, for operators.

Not on the calls' hot path, so FastAPI and pydantic do here what the dialects do by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, FastAPI, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from aigateway_edge.admin.budgets import BudgetRoutes
from aigateway_edge.admin.caller import Admin
from aigateway_edge.admin.keys import KeyRoutes
from aigateway_edge.admin.projects import ProjectRoutes
from aigateway_edge.admin.reports import ReportRoutes
from aigateway_edge.admin.route import AdminRoute
from aigateway_edge.admin.watch import WatchRoutes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi.routing import APIRoute
    from grpc import aio

_ERROR: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
_FAILURES: Final[dict[int | str, dict[str, Any]]] = {
    "400": {"description": "A field is missing, malformed or out of range; `error.param` names it.", "content": _ERROR},
    "401": {"description": "The admin key is missing or wrong.", "content": _ERROR},
    "403": {"description": "The key is no admin key.", "content": _ERROR},
    "404": {"description": "There is no such thing, or this gateway does not offer it.", "content": _ERROR},
    "4XX": {"description": "The request cannot be met as it is.", "content": _ERROR},
    "5XX": {"description": "The gateway failed, or a service of it cannot be reached.", "content": _ERROR},
}
_SHOWN: Final = [
    Security(HTTPBearer(scheme_name="bearer", auto_error=False)),
    Security(APIKeyHeader(name="X-API-Key", scheme_name="x-api-key", auto_error=False)),
]
"""For the document alone: the router looks at the keys."""


def router(gateway: aio.Channel, *, actor: str = "") -> APIRouter:
    """The routes; `gateway` leads to the services, and `actor` is who asks where no router is between."""
    routes = APIRouter(
        prefix="/admin",
        tags=["admin"],
        route_class=AdminRoute,
        dependencies=_SHOWN,
        responses=_FAILURES,
        generate_unique_id_function=_operation_id,
    )
    admin = Admin(gateway, actor=actor)
    for group in (ProjectRoutes, KeyRoutes, BudgetRoutes, ReportRoutes, WatchRoutes):
        group(admin).add_to(routes)
    return routes


def application(
    gateway: aio.Channel, *, actor: str = "", exception_handlers: Mapping[Any, Any] | None = None
) -> FastAPI:
    """The routes as an application of their own; `exception_handlers` tell of paths and methods that there are not."""
    app = FastAPI(openapi_url=None, redirect_slashes=False, exception_handlers=dict(exception_handlers or {}))
    app.include_router(router(gateway, actor=actor))
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name
