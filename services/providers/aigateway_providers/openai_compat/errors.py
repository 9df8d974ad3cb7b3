"""What an OpenAI-compatible host says when it fails, as a `GatewayError`; pure.

https://platform.openai.com/docs/guides/error-codes and https://console.groq.com/docs/errors. Bodies are
`{"error": {"message", "type", "code", "param"}}`; some hosts write a bare string, or nothing that is JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from aigateway_providers import upstream_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_common.errors import GatewayError

MAX_GENERATION: Final = 2000
"""Characters of Groq's `failed_generation` that are passed on; gRPC metadata is small."""

_REASONS: Final[Mapping[str, str]] = {
    "context_length_exceeded": "CONTEXT_TOO_LONG",
    "insufficient_quota": "UPSTREAM_QUOTA",
    "billing_hard_limit_reached": "UPSTREAM_QUOTA",
    "billing_not_active": "UPSTREAM_BILLING",
    "model_not_found": "MODEL_NOT_FOUND",
    "unknown_url": "UPSTREAM_INVALID",
}
"""Codes that say more than the status they come with."""

_STATUSES: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "tool_use_failed": 400,
    "invalid_prompt": 400,
    "invalid_image": 400,
    "invalid_image_format": 400,
    "invalid_base64_image": 400,
    "invalid_image_url": 400,
    "invalid_image_mode": 400,
    "image_too_large": 400,
    "image_too_small": 400,
    "image_file_too_large": 400,
    "image_parse_error": 400,
    "image_content_policy_violation": 400,
    "image_file_not_found": 400,
    "unsupported_image_media_type": 400,
    "empty_image_file": 400,
    "failed_to_download_image": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "tokens": 429,
    "requests": 429,
    "overloaded_error": 503,
    "service_unavailable_error": 503,
    "engine_overloaded_error": 503,
}
"""Statuses that an error inside a 200 stands for, by its code or type; any other is 500."""


def from_answer(provider: str, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
    """The error for an answer with a failing status; a redirect is one, since it is never followed."""
    if status < 400:
        return upstream_errors.not_json(provider, status)
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        if status == 404:  # not the API: it would name what it does not find
            message = "HTTP 404 with a body that is not JSON; check the base URL"
            return upstream_errors.from_status(provider, status, message, reason="UPSTREAM_INVALID")
        return upstream_errors.not_json(provider, status)
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else parsed
    return _error(provider, status, error, headers)


def from_event(provider: str, error: object) -> GatewayError:
    """The error for an `error` object that came with HTTP status 200."""
    status = 500
    if isinstance(error, dict):
        said = error.get("status_code", error.get("status", error.get("code")))
        if isinstance(said, int) and 400 <= said < 600:
            status = said
        else:
            words = (error.get("code"), error.get("type"))
            status = next((_STATUSES[word] for word in words if isinstance(word, str) and word in _STATUSES), 500)
    return _error(provider, status, error, {})


def _error(provider: str, status: int, error: object, headers: Mapping[str, str]) -> GatewayError:
    if not isinstance(error, dict):
        return upstream_errors.from_status(provider, status, error if isinstance(error, str) else "")
    code = _text(error.get("code"))
    reason = _REASONS.get(code or "") or _REASONS.get(_text(error.get("type")) or "")
    mapped = upstream_errors.from_status(
        provider,
        status,
        _text(error.get("message")) or "",
        reason=reason,
        retry_after=_retry_after(status, headers, error) if reason != "UPSTREAM_QUOTA" else None,
        native={"type": _text(error.get("type")), "code": code, "param": _text(error.get("param"))},
    )
    if generation := _text(error.get("failed_generation")):
        mapped.details["failed_generation"] = generation[:MAX_GENERATION]
    return mapped


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None if value is None else str(value)


def _retry_after(status: int, headers: Mapping[str, str], error: Mapping[str, Any]) -> float | None:
    """Seconds by `retry-after`, else until the exhausted `x-ratelimit-*` is full again."""
    if status not in {429, 498, 500, 502, 503, 529}:
        return None
    if (seconds := upstream_errors.retry_after(headers)) is not None or status != 429:
        return seconds
    waits = [
        wait
        for kind in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{kind}") == "0" or error.get("type") == kind
        if (wait := upstream_errors.duration(headers.get(f"x-ratelimit-reset-{kind}", ""))) is not None
    ]
    return max(waits, default=None)
