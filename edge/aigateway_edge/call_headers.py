"""What headers say of a call beside its answer: what stood in for what, what is left of limits and budgets.

A success has it from the router's `Route`, a failure from the error's details. Not for deciding any of it.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from aigateway.v1 import gateway_service_pb2

from aigateway_edge.header_values import duration, safe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_common.errors import GatewayError

Headers = list[tuple[bytes, bytes]]
Limit = gateway_service_pb2.LimitState

_MAX_BUDGETS: Final = 512
_MAX_NUMBER: Final = 2**63 - 1
_KINDS: Final = (b"requests", b"tokens")

EXPOSED: Final = (
    "x-hub-fallback",
    "x-hub-original-provider",
    "x-hub-actual-provider",
    "x-gateway-attempts",
    "x-gateway-budget",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    *(f"x-ratelimit-{what}-{kind.decode()}" for kind in _KINDS for what in ("limit", "remaining", "reset")),
    *(f"anthropic-ratelimit-{kind.decode()}-{what}" for kind in _KINDS for what in ("limit", "remaining", "reset")),
)
"""All of them, for pages in browsers."""


def of_route(route: gateway_service_pb2.Route, *, anthropic: bool) -> Headers:
    """The headers of an answer; `anthropic` adds those of Anthropic's dialect."""
    found: Headers = []
    if route.original_provider:
        found += _fallback(route.original_provider, route.provider)
    if route.attempts > 1:
        found.append((b"x-gateway-attempts", b"%d" % route.attempts))
    if route.HasField("request_limit"):
        found += _limit(b"requests", route.request_limit, anthropic=anthropic)
    if route.HasField("token_limit"):
        found += _limit(b"tokens", route.token_limit, anthropic=anthropic)
    if route.low_budgets:
        found.append((b"x-gateway-budget", safe("; ".join(route.low_budgets), _MAX_BUDGETS)))
    return found


def of_error(error: GatewayError, *, anthropic: bool) -> Headers:
    """The headers of a failure, as far as its details know."""
    details = error.details
    if not details:
        return []
    found: Headers = []
    if original := details.get("original_provider"):
        found += _fallback(original, details.get("provider", ""))
    attempts = _number(details, "attempts")
    if attempts is not None and attempts > 1:
        found.append((b"x-gateway-attempts", b"%d" % attempts))
    for kind in _KINDS:
        if (limit := _told(details, kind.decode())) is not None:
            found += _limit(kind, limit, anthropic=anthropic)
    return found


def _fallback(original: str, actual: str) -> Headers:
    found: Headers = [(b"x-hub-fallback", b"true"), (b"x-hub-original-provider", safe(original))]
    return [*found, (b"x-hub-actual-provider", safe(actual))] if actual else found


def _limit(kind: bytes, limit: Limit, *, anthropic: bool) -> Headers:
    """One limit in OpenAI's words, that on calls in plain ones too, and in Anthropic's.

    https://platform.openai.com/docs/guides/rate-limits and https://platform.claude.com/docs/en/api/rate-limits
    """
    most, left = b"%d" % limit.limit, b"%d" % limit.remaining
    found: Headers = [
        (b"x-ratelimit-limit-" + kind, most),
        (b"x-ratelimit-remaining-" + kind, left),
        (b"x-ratelimit-reset-" + kind, duration(limit.reset_ms)),
    ]
    if kind == b"requests":
        found += [
            (b"x-ratelimit-limit", most),
            (b"x-ratelimit-remaining", left),
            (b"x-ratelimit-reset", b"%d" % math.ceil(limit.reset_ms / 1000)),
        ]
    if anthropic:
        name = b"anthropic-ratelimit-%b-" % kind
        found += [(name + b"limit", most), (name + b"remaining", left), (name + b"reset", _moment(limit.reset_ms))]
    return found


def _moment(ahead_ms: int) -> bytes:
    """The first whole second at which so many milliseconds have passed, in RFC 3339."""
    seconds = math.ceil(datetime.now(UTC).timestamp() + ahead_ms / 1000)
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").encode()


def _told(details: Mapping[str, str], kind: str) -> Limit | None:
    most, left = _number(details, f"limit_{kind}"), _number(details, f"remaining_{kind}")
    if most is None or left is None:
        return None
    return Limit(limit=most, remaining=left, reset_ms=_number(details, f"reset_{kind}_ms") or 0)


def _number(details: Mapping[str, str], name: str) -> int | None:
    """A whole number; details are words, and those of a service elsewhere may be any."""
    text = details.get(name, "")
    return min(int(text), _MAX_NUMBER) if text.isascii() and text.isdigit() and len(text) < 20 else None
