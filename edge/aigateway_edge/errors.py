"""Failures as HTTP responses in OpenAI's shape."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import orjson

from aigateway_edge.header_values import safe

if TYPE_CHECKING:
    from aigateway_common.errors import GatewayError

Headers = list[tuple[bytes, bytes]]

_RETRIED_BY_SDKS: Final = frozenset({408, 409, 429})


def body(error: GatewayError) -> bytes:
    """The error's body."""
    return orjson.dumps(error.to_openai())


def headers(error: GatewayError) -> Headers:
    """What the error adds to the response's headers.

    OpenAI's SDKs retry every 408, 409, 429 and 5xx unless `x-should-retry` says that it is no use.
    """
    found: Headers = []
    status = error.http_status
    if error.retry_after is not None:
        found.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after))))
    if not error.reason.retryable and (status >= 500 or status in _RETRIED_BY_SDKS):
        found.append((b"x-should-retry", b"false"))
    if provider := error.details.get("provider"):
        found.append((b"x-provider", safe(provider)))
    if status == 401:
        found.append((b"www-authenticate", b"Bearer"))
    return found
