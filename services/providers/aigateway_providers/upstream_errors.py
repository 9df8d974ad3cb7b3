"""Provider failures by HTTP status: the one table from what a provider says to a `GatewayError`.

An adapter digs the message, code and retry hint out of its provider's body and calls `from_status`; what a status
means is decided here, the same for all.
"""

from __future__ import annotations

import math
import re
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import msgspec
from aigateway_common.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Mapping

UNREADABLE: Final = (msgspec.DecodeError, ValueError, TypeError, KeyError, OverflowError, RecursionError)
"""What reading an answer raises: no JSON or UTF-8, of another shape, beyond the contract's numbers, nested too deep."""
MAX_MESSAGE: Final = 1000
"""Characters of a provider's message that are passed on."""

_BY_STATUS: Final[Mapping[int, str]] = {
    400: "INVALID_REQUEST",
    401: "UPSTREAM_AUTH",
    402: "UPSTREAM_BILLING",
    403: "UPSTREAM_DENIED",
    404: "MODEL_NOT_FOUND",
    405: "UPSTREAM_INVALID",
    408: "UPSTREAM_TIMEOUT",
    409: "UPSTREAM_ERROR",
    413: "REQUEST_TOO_LARGE",
    422: "INVALID_REQUEST",
    424: "UPSTREAM_ERROR",
    429: "UPSTREAM_RATE_LIMITED",
    498: "UPSTREAM_OVERLOADED",  # Groq: flex tier capacity exceeded
    503: "UPSTREAM_OVERLOADED",
    504: "UPSTREAM_TIMEOUT",
    529: "UPSTREAM_OVERLOADED",  # Anthropic: overloaded
}
_KEY_LIKE: Final = re.compile(r"\b(?:sk-|gsk_|AIza|xai-|Bearer\s+)[A-Za-z0-9_*.\-]{6,}")
_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


def from_status(
    provider: str,
    status: int,
    message: str,
    *,
    reason: str | None = None,
    retry_after: float | None = None,
    native: Mapping[str, str | None] | None = None,
) -> GatewayError:
    """The error for an HTTP `status` of `provider`.

    Args:
        provider: The provider's name.
        status: Its HTTP status (or the one its in-stream error stands for).
        message: Its own words; cut, and freed of anything that looks like a key.
        reason: Where the body says more than the status.
        retry_after: Seconds, where it says when to come back.
        native: Its own `type`, `code` and `param`, as far as it gave them.
    """
    reason = reason or _BY_STATUS.get(status) or ("UPSTREAM_ERROR" if status >= 500 else "INVALID_REQUEST")
    details = {"provider": provider, "upstream_status": str(status)}
    for key, value in (native or {}).items():
        if value:
            details["param" if key == "param" else f"upstream_{key}"] = value[:200]
    if reason == "UPSTREAM_AUTH":
        text = f"{provider} refused the gateway's own key; set a valid one for this provider"
    else:
        text = f"{provider}: {clean(message) or f'HTTP {status}'}"
    return GatewayError(reason, text, details=details, retry_after=retry_after)


def not_json(provider: str, status: int) -> GatewayError:
    """The error for an answer that is not the JSON it should be (a proxy's HTML page, for one)."""
    if status >= 400:
        return from_status(provider, status, f"HTTP {status} with a body that is not JSON")
    return GatewayError(
        "UPSTREAM_INVALID",
        f"{provider} answered with something that is not JSON; check its base URL",
        details={"provider": provider, "upstream_status": str(status)},
    )


def cut_short(provider: str) -> GatewayError:
    """The error for a stream that ended before its terminal event."""
    return GatewayError(
        "UPSTREAM_INVALID",
        f"{provider} ended the stream before the answer was complete",
        details={"provider": provider},
    )


def clean(message: str) -> str:
    """A provider's message, cut to length, on one line, with key-like words masked."""
    return _KEY_LIKE.sub("[key]", " ".join(message.split()))[:MAX_MESSAGE]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `retry-after-ms` or `retry-after` (seconds or an HTTP date), or None."""
    if (ms := headers.get("retry-after-ms")) and (value := _number(ms)) is not None:
        return value / 1000
    text = headers.get("retry-after")
    if not text:
        return None
    if (seconds := _number(text)) is not None:
        return seconds
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    when = date if date.tzinfo else date.replace(tzinfo=UTC)  # an HTTP date is of UTC even where it does not say so
    return max(0.0, when.timestamp() - time.time())


def duration(text: str) -> float | None:
    """Seconds of `1m2.5s`, `58.93s`, `20ms` or `6h0m0s`; None when it is none of these."""
    match = _DURATION.fullmatch(text.strip())
    if not match or not any(match.groups()):
        return None
    hours, minutes, seconds, ms = (float(group) if group else 0.0 for group in match.groups())
    return hours * 3600 + minutes * 60 + seconds + ms / 1000


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
