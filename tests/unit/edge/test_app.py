"""The application as it is built: nothing stands between the server and a route that would hide a disconnect.

That a disconnect does reach every route is shown over HTTP in `tests/integration/test_edge_http.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from aigateway_common.inprocess import InProcessChannel, InProcessServer
from aigateway_edge.anthropic.routes import CountTokens, Messages
from aigateway_edge.app import create_app
from aigateway_edge.chat_route import ChatRoute
from aigateway_edge.embeddings import Embeddings
from aigateway_edge.models import Models
from aigateway_edge.responses.surface import Responses
from aigateway_edge.settings import EdgeSettings
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount, Route, Router
from starlette.staticfiles import StaticFiles

LEADS_ON = ("app", "router", "original_router", "middleware_stack", "endpoint", "func")
"""The attributes behind which Starlette and FastAPI keep what comes next."""


def built(**settings: Any) -> FastAPI:
    app = create_app(EdgeSettings(**settings), gateway=InProcessChannel(InProcessServer()))
    app.middleware_stack = app.build_middleware_stack()  # as the first request would
    return app


def layers(part: Any, seen: dict[int, Any] | None = None) -> Iterator[Any]:
    """Whatever a request may pass: each middleware, router and route, functions that wrap others included."""
    seen = {} if seen is None else seen
    if id(part) in seen or not callable(part):
        return
    seen[id(part)] = part
    yield part
    inner = [getattr(part, name, None) for name in LEADS_ON]
    inner += getattr(part, "routes", None) or []
    inner += getattr(part, "short_cuts", {}).values()
    inner += [cell.cell_contents for cell in getattr(part, "__closure__", None) or ()]
    for one in inner:
        yield from layers(one, seen)


def hiding(app: Any) -> list[Any]:
    return [layer for layer in layers(app) if isinstance(layer, BaseHTTPMiddleware)]


@pytest.mark.parametrize("origins", [(), ("https://page.example",)], ids=["no CORS", "CORS"])
def test_no_middleware_that_hides_disconnects_stands_anywhere(origins: tuple[str, ...]) -> None:
    app = built(cors_origins=origins)
    kinds = {type(layer) for layer in layers(app)}
    reached = {ChatRoute, Responses, Messages, CountTokens, Embeddings, Models, APIRoute, StaticFiles}
    assert reached <= kinds
    assert (CORSMiddleware in kinds) is bool(origins)
    assert hiding(app) == []


async def passed(request: Any, call_next: Any) -> Any:
    return await call_next(request)


def of_the_application(app: FastAPI) -> None:
    app.middleware("http")(passed)


def of_a_route(app: FastAPI) -> None:
    app.router.routes.append(Route("/x", passed, middleware=[Middleware(BaseHTTPMiddleware, dispatch=passed)]))


def of_a_router(app: FastAPI) -> None:
    app.router.routes.append(Mount("/x", Router(middleware=[Middleware(BaseHTTPMiddleware, dispatch=passed)])))


def of_an_application_below(app: FastAPI) -> None:
    below = Starlette(middleware=[Middleware(BaseHTTPMiddleware, dispatch=passed)])
    below.middleware_stack = below.build_middleware_stack()
    app.mount("/x", below)


@pytest.mark.parametrize("plant", [of_the_application, of_a_route, of_a_router, of_an_application_below])
def test_one_that_stood_there_would_be_found(plant: Any) -> None:
    app = create_app(EdgeSettings(), gateway=InProcessChannel(InProcessServer()))
    plant(app)
    app.middleware_stack = app.build_middleware_stack()
    assert len(hiding(app)) == 1
