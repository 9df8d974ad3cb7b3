"""The edge as an ASGI application.

The routes that matter for speed are plain ASGI callables inside the FastAPI application, with a short cut to them; no
middleware that wraps requests or responses stands before them, since it would hide disconnects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aigateway.v1 import gateway_service_pb2_grpc
from aigateway_common import logs
from aigateway_common.errors import GatewayError
from aigateway_common.telemetry import Telemetry
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from aigateway_edge import call_headers, chat, docs_page, errors, health, openapi
from aigateway_edge.admin.late import LateAdmin
from aigateway_edge.anthropic.failures import ANTHROPIC
from aigateway_edge.anthropic.routes import CountTokens, Messages
from aigateway_edge.chat_route import ChatRoute
from aigateway_edge.completions import surface as completions
from aigateway_edge.embeddings import Embeddings
from aigateway_edge.exchange import Edge
from aigateway_edge.fast_path import FastPathApp
from aigateway_edge.inbound import Held, Inbound
from aigateway_edge.models import Models
from aigateway_edge.responses.surface import Responses

if TYPE_CHECKING:
    from fastapi import FastAPI
    from grpc import aio
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from aigateway_edge.settings import EdgeSettings

_MESSAGES: Final = "/v1/messages"
_EXPOSED: Final = (
    "x-request-id",
    "x-provider",
    "x-model",
    "server-timing",
    "x-gateway-translation",
    "retry-after",
    "x-should-retry",
    "x-next-page-token",
    *call_headers.EXPOSED,
)


def create_app(
    settings: EdgeSettings,
    *,
    gateway: aio.Channel,
    telemetry: Telemetry = Telemetry.off(),  # noqa: B008 # one no-op for all
) -> FastAPI:
    """The application; `gateway` leads to the router, in process or over the wire."""
    stub: gateway_service_pb2_grpc.GatewayServiceAsyncStub = gateway_service_pb2_grpc.GatewayServiceStub(gateway)
    edge = Edge(settings, gateway, stub, telemetry, logs.get("edge"), Held(settings.max_buffered_bytes))
    app = FastPathApp(
        title="AI gateway",
        docs_url=None,  # FastAPI's own page is fetched from elsewhere: see `docs_page`
        openapi_url="/openapi.json" if settings.docs else None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: _http_error},
    )
    chats, embed, models = ChatRoute(edge, chat.asked), Embeddings(edge), Models(edge)
    answers, texts = Responses(edge), ChatRoute(edge, completions.asked)
    messages = Messages(edge)
    app.router.routes[:0] = [
        Route("/v1/chat/completions", chats, methods=["POST"], name="chat"),
        Route("/chat/completions", chats, methods=["POST"], name="chat_short"),
        Route("/v1/responses", answers, methods=["POST"], name="responses"),
        Route("/responses", answers, methods=["POST"], name="responses_short"),
        Route("/v1/completions", texts, methods=["POST"], name="completions"),
        Route("/completions", texts, methods=["POST"], name="completions_short"),
        Route("/v1/embeddings", embed, methods=["POST"], name="embeddings"),
        Route("/embeddings", embed, methods=["POST"], name="embeddings_short"),
        Route(_MESSAGES, messages, methods=["POST"], name="messages"),
        Route(f"{_MESSAGES}/count_tokens", CountTokens(edge), methods=["POST"], name="count_tokens"),
        Route("/v1/models", models, methods=["GET"], name="models"),
        Route("/models", models, methods=["GET"], name="models_short"),
        Route("/v1/models/{id:path}", models, methods=["GET"], name="model"),
        Route("/models/{id:path}", models, methods=["GET"], name="model_short"),
    ]
    if settings.docs:
        app.router.routes += docs_page.routes()
    app.include_router(health.router(edge))
    admin = LateAdmin(gateway, {HTTPException: _http_error})
    app.router.routes.append(Route("/admin/{path:path}", admin, name="admin"))
    fast: dict[str, ASGIApp] = {
        "/v1/chat/completions": chats,
        "/v1/responses": answers,
        "/v1/embeddings": embed,
        _MESSAGES: messages,
    }
    app.openapi = openapi.cached(app, admin)  # type: ignore[method-assign] # FastAPI's documented way to extend the page
    if settings.cors_origins:
        cors: dict[str, Any] = {
            "allow_origins": settings.cors_origins,
            "allow_methods": ["GET", "POST", "PUT", "PATCH", "DELETE"],
            "allow_headers": ["*"],
            "expose_headers": _EXPOSED,
        }
        app.add_middleware(CORSMiddleware, **cors)
        fast = {path: CORSMiddleware(route, **cors) for path, route in fast.items()}
    else:  # a browser would have to be told more
        app.refusals = {path.encode(): _shape(path) for path in fast}
    app.short_cuts = fast
    return app


def _shape(path: str) -> errors.Shape:
    """The dialect whose path it is."""
    return ANTHROPIC if path.startswith(_MESSAGES) else errors.OPENAI


async def _http_error(request: Request, error: Exception) -> Response:
    """Unknown paths and methods, in the shape of the dialect whose path it is."""
    assert isinstance(error, HTTPException)  # noqa: S101 # registered for it alone
    where = f"`{request.method} {request.url.path[:128]}`"
    match error.status_code:
        case 404:
            failure = GatewayError("NOT_FOUND", f"there is no route {where}; `/docs` lists them")
        case 405:
            failure = GatewayError("METHOD_NOT_ALLOWED", f"{where} is not allowed; `/docs` lists what is")
        case status:
            failure = GatewayError("INVALID_REQUEST" if status < 500 else "INTERNAL", str(error.detail))
    shape = _shape(request.url.path)
    request_id = Inbound(request.scope).request_id
    response = Response(shape.body(failure, request_id), error.status_code, media_type="application/json")
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    response.headers["x-request-id"] = request_id
    return response
