"""Failures as HTTP responses: in OpenAI's shape, and what any dialect needs to have one of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from aigateway_edge import call_headers
from aigateway_edge.header_values import safe

if TYPE_CHECKING:
    from collections.abc import Callable

    from aigateway_common.errors import GatewayError

Headers = call_headers.Headers

_RETRIED_BY_SDKS: Final = frozenset({408, 409, 429})


def body(error: GatewayError) -> bytes:
    """The error's body."""
    return orjson.dumps(error.to_openai())


def headers(error: GatewayError, *, anthropic: bool = False) -> Headers:
    """What the error adds to the response's headers; `anthropic` in that dialect.

    OpenAI's SDKs retry every 408, 409, 429 and 5xx unless `x-should-retry` says that it is no use.
    """
    found = call_headers.of_error(error, anthropic=anthropic)
    status = error.http_status
    if error.retry_after is not None:
        found.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after))))
    elif status == 503 and error.reason.retryable:
        found.append((b"retry-after", b"1"))
    if not error.reason.retryable and (status >= 500 or status in _RETRIED_BY_SDKS):
        found.append((b"x-should-retry", b"false"))
    if provider := error.details.get("provider"):
        found.append((b"x-provider", safe(provider)))
    if status == 401:
        found.append((b"www-authenticate", b"Bearer"))
    return found


@dataclass(frozen=True, slots=True)
class Shape:
    """How a dialect tells of failures, and keeps a silent stream alive."""

    body: Callable[[GatewayError, str], bytes]
    """The body of a failure, given the request's id."""
    status: Callable[[GatewayError], int]
    """The HTTP status."""
    heartbeat: bytes = b": keep-alive\n\n"
    """What is written into a stream that has been silent for a while."""
    request_id_header: bytes = b""
    """The dialect's own name for `x-request-id`, where it has one."""
    anthropic: bool = False
    """Limits are told in Anthropic's headers too."""


OPENAI: Final = Shape(
    body=lambda error, _: body(error),
    status=lambda error: error.http_status,
)
