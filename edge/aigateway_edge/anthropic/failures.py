"""Failures in Anthropic's shape: types by status, the request's id in the body and as `request-id`.

https://platform.claude.com/docs/en/api/errors
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from aigateway_edge.errors import Shape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_common.errors import GatewayError

_OVERLOADED: Final = 529
_OVERLOADS: Final = frozenset({"UPSTREAM_OVERLOADED", "OVERLOADED"})
_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    _OVERLOADED: "overloaded_error",
}


def status(error: GatewayError) -> int:
    """The HTTP status: the gateway's, but for overload, which has a status of its own here."""
    return _OVERLOADED if error.reason.name in _OVERLOADS else error.http_status


def body(error: GatewayError, request_id: str) -> bytes:
    """The error's body."""
    code = status(error)
    kind = _TYPES.get(code, "api_error" if code >= 500 else "invalid_request_error")
    detail = {"type": kind, "message": error.message}
    return orjson.dumps({"type": "error", "error": detail, "request_id": request_id})


def record(error: GatewayError, request_id: str) -> bytes:
    """The record of a failure in the middle of a stream; nothing follows it."""
    return b"event: error\ndata: %b\n\n" % body(error, request_id)


ANTHROPIC: Final = Shape(
    body=body, status=status, heartbeat=b'event: ping\ndata: {"type": "ping"}\n\n', request_id_header=b"request-id"
)
