"""Anthropic's failures to `GatewayError`, by status, `type` and `error_code`; never by message text.

The same error object comes as an HTTP answer and as the `error` event of a stream
(https://platform.claude.com/docs/en/api/errors). Too long a prompt has no type or code of its own there, so it stays
INVALID_REQUEST; a body over the size limit has one.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from aigateway_providers import upstream_errors
from aigateway_providers.anthropic.splice import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_common.errors import GatewayError

_STATUS_OF_TYPE: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_REASON_OF_TYPE: Final[Mapping[str, str]] = {
    "billing_error": "UPSTREAM_BILLING",
    "request_too_large": "REQUEST_TOO_LARGE",
    "rate_limit_error": "UPSTREAM_RATE_LIMITED",
    "timeout_error": "UPSTREAM_TIMEOUT",
    "overloaded_error": "UPSTREAM_OVERLOADED",
}
"""Types that say more than the status they come with."""
_REASON_OF_CODE: Final[Mapping[str, str]] = {
    "contract_spend_limit_reached": "UPSTREAM_QUOTA",
    "enforced_spend_limit_reached": "UPSTREAM_QUOTA",
    "linked_organization_spend_limit_reached": "UPSTREAM_QUOTA",
}
_BUCKETS: Final = ("requests", "tokens", "input-tokens", "output-tokens")


class _Details(msgspec.Struct):
    error_code: str | None = None


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""
    details: _Details | None = None


class _Body(msgspec.Struct):
    error: _Error
    request_id: str | None = None


_BODY: Final = msgspec.json.Decoder(_Body)


def from_answer(provider: str, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
    """The error of an HTTP answer that is none of 200."""
    try:
        found = _BODY.decode(body)
    except UNREADABLE:
        return upstream_errors.not_json(provider, status)
    return _error(provider, status, found, _retry_after(headers, status))


def from_event(provider: str, data: bytes) -> GatewayError:
    """The error of an `error` event, or of an error object inside a 200."""
    try:
        found = _BODY.decode(data)
    except UNREADABLE:
        return upstream_errors.not_json(provider, 200)
    return _error(provider, _STATUS_OF_TYPE.get(found.error.type, 500), found, None)


def _error(provider: str, status: int, body: _Body, retry_after: float | None) -> GatewayError:
    code = body.error.details.error_code if body.error.details else None
    return upstream_errors.from_status(
        provider,
        status,
        body.error.message,
        reason=_REASON_OF_CODE.get(code or "") or _REASON_OF_TYPE.get(body.error.type),
        retry_after=retry_after,
        native={"type": body.error.type, "code": code, "request_id": body.request_id},
    )


def _retry_after(headers: Mapping[str, str], status: int) -> float | None:
    """Seconds by `retry-after`, else until the exhausted rate limits are filled again."""
    seconds = upstream_errors.retry_after(headers)
    if seconds is not None or status not in {429, 529}:
        return seconds
    resets = [
        reset
        for bucket in _BUCKETS
        if headers.get(f"anthropic-ratelimit-{bucket}-remaining") == "0"
        and (reset := _until(headers.get(f"anthropic-ratelimit-{bucket}-reset", ""))) is not None
    ]
    return max(resets, default=None)


def _until(moment: str) -> float | None:
    """Seconds until an RFC 3339 moment."""
    try:
        return max(0.0, datetime.fromisoformat(moment).timestamp() - time.time())
    except ValueError:
        return None
