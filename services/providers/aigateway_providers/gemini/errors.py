"""Gemini's errors: `google.rpc.Status` as JSON, by its status and typed details, never by its words.

https://ai.google.dev/gemini-api/docs/troubleshooting and https://google.aip.dev/193. The details are `ErrorInfo`
(a reason), `RetryInfo` (when to come back; there is no header), `QuotaFailure` (which quota) and `BadRequest` (which
field).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from aigateway_providers import upstream_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_common.errors import GatewayError

_REASONS: Final[Mapping[str, str]] = {
    "API_KEY_INVALID": "UPSTREAM_AUTH",
    "API_KEY_EXPIRED": "UPSTREAM_AUTH",
    "BILLING_DISABLED": "UPSTREAM_BILLING",
}
"""What `ErrorInfo.reason` says beyond the HTTP status: a wrong key is a plain 400 here."""
_DAILY: Final = "PerDay"
"""In the ids of quotas that are full until tomorrow, such as `GenerateRequestsPerDayPerProjectPerModel-FreeTier`."""


def from_body(provider: str, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> GatewayError:
    """The error that `body` tells of.

    Args:
        provider: The provider's name.
        status: The HTTP status; 0 for an error inside a stream, which then tells its own.
        body: A `google.rpc.Status`, alone or in a list, as streams answer it.
        headers: The answer's headers.
    """
    found = _status(body)
    if found is None:
        return upstream_errors.not_json(provider, status or 502)
    code = found.get("code")
    number = status or (code if isinstance(code, int) and 400 <= code < 600 else 502)
    details = _objects(found.get("details"))
    native_reason = _first(details, "ErrorInfo", "reason")
    full_for_today = number == 429 and any(_DAILY in str(quota.get("quotaId")) for quota in _quotas(details))
    return upstream_errors.from_status(
        provider,
        number,
        str(found.get("message") or ""),
        reason="UPSTREAM_QUOTA" if full_for_today else _REASONS.get(native_reason or ""),
        retry_after=None if full_for_today else _retry_after(details, headers or {}),
        native={
            "code": str(found.get("status") or "") or None,
            "type": native_reason,
            "param": _field(details),
        },
    )


def _status(body: bytes) -> dict[str, Any] | None:
    """The `error` object, whatever it is wrapped in."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if isinstance(found, list):
        found = next((item for item in found if isinstance(item, dict) and "error" in item), None)
    error = found.get("error") if isinstance(found, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else None


def _objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list, where there is one."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _of(details: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [detail for detail in details if str(detail.get("@type")).endswith(f"google.rpc.{kind}")]


def _first(details: list[dict[str, Any]], kind: str, field: str) -> str | None:
    return next((str(detail[field]) for detail in _of(details, kind) if detail.get(field)), None)


def _quotas(details: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [violation for detail in _of(details, "QuotaFailure") for violation in _objects(detail.get("violations"))]


def _field(details: list[dict[str, Any]]) -> str | None:
    """The first field that `BadRequest` names, in the words of Gemini's own request."""
    violations = [v for detail in _of(details, "BadRequest") for v in _objects(detail.get("fieldViolations"))]
    return next((str(v["field"]) for v in violations if v.get("field")), None)


def _retry_after(details: list[dict[str, Any]], headers: Mapping[str, str]) -> float | None:
    delay = _first(details, "RetryInfo", "retryDelay")
    seconds = upstream_errors.duration(delay) if delay else None
    return seconds if seconds is not None else upstream_errors.retry_after(headers)
