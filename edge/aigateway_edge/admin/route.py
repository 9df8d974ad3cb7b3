"""How every route of `/admin` begins and ends: a bounded body, one answer in OpenAI's shape, one log line.

A FastAPI route class, which is FastAPI's way to do this without middleware:
https://fastapi.tiangolo.com/how-to/custom-request-and-route/
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from aigateway_common import logs, metrics
from aigateway_common.errors import GatewayError, invalid
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import override

from aigateway_edge import errors
from aigateway_edge.admin.caller import inbound_of
from aigateway_edge.inbound import ClientGoneError, Held

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from starlette.types import Message

MAX_BODY: Final = 1024 * 1024
_SERVICE: Final = "edge"
_OPERATION: Final = "admin"
_log = logs.get(_SERVICE)


class AdminRoute(APIRoute):
    """One route."""

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What FastAPI makes of the route, with a beginning and an end."""
        handle = super().get_route_handler()
        name = self.name

        async def answer(request: Request) -> Response:
            inbound, began, outcome = inbound_of(request), time.monotonic(), metrics.OK
            try:
                response = await handle(await _bounded(request))
            except ClientGoneError:
                outcome = "CANCELLED"
                response = Response(status_code=499)  # nobody is left to read it
            except Exception as error:  # noqa: BLE001 # an operator, too, is owed an answer
                failure = _failure(error, inbound.request_id)
                outcome, response = failure.reason.name, _refusal(failure, inbound.request_id)
            response.headers["x-request-id"] = inbound.request_id
            response.headers["cache-control"] = "no-store"
            _note(name, inbound.request_id, response.status_code, outcome, time.monotonic() - began)
            return response

        return answer


async def _bounded(request: Request) -> Request:
    """The request with its body read, if it is not too large, and not from a page that asked nobody."""
    if request.method == "GET":
        return request
    body = await inbound_of(request).body(request.receive, MAX_BODY, Held(MAX_BODY))
    if body and "json" not in request.headers.get("content-type", ""):
        raise GatewayError("UNSUPPORTED_MEDIA_TYPE", "the body must be JSON: send `Content-Type: application/json`")

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive)


def _failure(error: Exception, request_id: str) -> GatewayError:
    match error:
        case GatewayError():
            return error
        case RequestValidationError():
            return _mistake(error.errors())
        case HTTPException() if error.status_code < 500:  # FastAPI's own, for bodies that are no text
            return GatewayError("INVALID_REQUEST", str(error.detail))
    _log.error("fault", request_id=request_id, operation=_OPERATION, exc_info=error)
    return GatewayError("INTERNAL", "internal error; the logs have it under the request id")


def _mistake(found: Sequence[Any]) -> GatewayError:
    """The first thing that is wrong with a request, by the name of its field."""
    first = found[0]
    if first["type"] == "json_invalid":
        return invalid("body", "the body is not JSON")
    param = _path(first["loc"][1:]) or "body"
    if first["type"] == "extra_forbidden":
        return invalid(param, f"`{param}` is not a field that this takes")
    return invalid(param, f"`{param}`: {first['msg']}")


def _path(location: Sequence[str | int]) -> str:
    """`limits.requests_per_minute`, `allowed_models[2]`."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step[:64]}" if path else step[:64]
    return path


def _refusal(failure: GatewayError, request_id: str) -> Response:
    shape = errors.OPENAI
    response = Response(shape.body(failure, request_id), shape.status(failure), media_type="application/json")
    for name, value in errors.headers(failure):
        response.headers[name.decode()] = value.decode()
    return response


def _note(name: str, request_id: str, status: int, outcome: str, seconds: float) -> None:
    metrics.call_finished(_SERVICE, _OPERATION, "", outcome, seconds)
    fields: dict[str, str | int | float] = {
        "operation": f"{_OPERATION}.{name}",
        "status": status,
        "outcome": outcome,
        "seconds": round(seconds, 6),
    }
    logs.call(_log, _SERVICE, request_id, fields)
