"""Attempts to rows of the ledger and back; pure. What a row cannot hold is refused here, before anything is queued."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from aigateway.v1 import tokens_pb2, usage_service_pb2
from aigateway_common.errors import invalid

from aigateway_usage.tables import TOKEN_CLASSES, TOKEN_SPLITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_common.errors import GatewayError

Row = dict[str, Any]
"""The values of one row by column."""

MAX_EVENT_ID: Final = 64
MAX_ERROR_MESSAGE: Final = 500
MAX_TEXT: Final = 1024
"""Characters of any other text; what is longer is cut, for no name of that length means anything to a reader."""

_Status = usage_service_pb2.AttemptStatus
_Operation = usage_service_pb2.Operation

STATUSES: Final[Mapping[int, str]] = {
    _Status.ATTEMPT_STATUS_OK: "ok",
    _Status.ATTEMPT_STATUS_ERROR: "error",
    _Status.ATTEMPT_STATUS_CANCELLED: "cancelled",
}
OPERATIONS: Final[Mapping[int, str]] = {
    _Operation.OPERATION_CHAT: "chat",
    _Operation.OPERATION_STREAM_CHAT: "stream_chat",
    _Operation.OPERATION_EMBED: "embed",
}
_STATUS_OF: Final = {word: _Status.ValueType(value) for value, word in STATUSES.items()}
_OPERATION_OF: Final = {word: _Operation.ValueType(value) for value, word in OPERATIONS.items()}
_TEXTS: Final = (
    "key_id",
    "requested_model",
    "sent_model",
    "answered_model",
    "error_reason",
    "finish_reason",
    "fallback_from",
)
_texts: Final = attrgetter(*_TEXTS)
_measured: Final = attrgetter("duration_us", "first_event_us", "upstream_status")
_TOKENS: Final = (*TOKEN_CLASSES, *TOKEN_SPLITS)
_NO_TOKENS: Final[Mapping[str, None]] = dict.fromkeys(_TOKENS)


def to_row(attempt: usage_service_pb2.Attempt, index: int) -> Row:
    """The row of `attempts[index]` of a request, its cost still unknown.

    Raises:
        GatewayError: INVALID_REQUEST that names the field, such as `attempts[3].event_id`.
    """
    _check(attempt, index)
    row: Row = {
        "event_id": attempt.event_id,
        "request_id": _clean(attempt.request_id),
        "attempt": attempt.attempt,
        "project": _clean(attempt.project) or "default",
        "operation": OPERATIONS[attempt.operation],
        "provider": _clean(attempt.provider),
        "started_at_us": attempt.started_at_us,
        "duration_us": attempt.duration_us,
        "first_event_us": attempt.first_event_us if attempt.HasField("first_event_us") else None,
        "upstream_status": attempt.upstream_status if attempt.HasField("upstream_status") else None,
        "status": STATUSES[attempt.status],
        "error_message": _clean(attempt.error_message, MAX_ERROR_MESSAGE) or None,
        "trace_id": _clean(attempt.trace_id, 32) or None,
        "hedge": attempt.hedge,
    }
    row.update(zip(_TEXTS, _cleaned(_texts(attempt)), strict=True))
    row.update(_NO_TOKENS)
    usage = attempt.usage
    for field, count in usage.ListFields():
        name = field.name
        if name in _NO_TOKENS:
            if count < 0:
                raise _bad(index, f"usage.{name}", "may not be negative")
            row[name] = count
    row["usage_estimated"] = usage.estimated
    row["native_usage"] = _native(usage.native_json, index)
    row["cost_usd"] = row["price_source"] = None
    return row


def from_row(row: Mapping[str, Any]) -> usage_service_pb2.Attempt:
    """The attempt that a row holds."""
    attempt = usage_service_pb2.Attempt(
        event_id=row["event_id"],
        request_id=row["request_id"],
        attempt=row["attempt"],
        project=row["project"],
        operation=_OPERATION_OF[row["operation"]],
        provider=row["provider"],
        started_at_us=row["started_at_us"],
        duration_us=row["duration_us"],
        first_event_us=row["first_event_us"],
        status=_STATUS_OF[row["status"]],
        upstream_status=row["upstream_status"],
        error_message=row["error_message"] or "",
        trace_id=row["trace_id"] or "",
        hedge=bool(row["hedge"]),
        cost_usd=row["cost_usd"],
    )
    for name in _TEXTS:
        setattr(attempt, name, row[name] or "")
    tokens = {name: row[name] for name in _TOKENS if row[name] is not None}
    native = (row["native_usage"] or "").encode()
    if tokens or native or row["usage_estimated"]:
        attempt.usage.CopyFrom(
            tokens_pb2.TokenUsage(**tokens, estimated=bool(row["usage_estimated"]), native_json=native)
        )
    return attempt


def _check(attempt: usage_service_pb2.Attempt, index: int) -> None:
    if not attempt.event_id:
        raise _bad(index, "event_id", "is missing")
    if len(attempt.event_id) > MAX_EVENT_ID or not attempt.event_id.isascii() or not attempt.event_id.isprintable():
        raise _bad(index, "event_id", f"must be at most {MAX_EVENT_ID} printable ASCII characters")
    if not attempt.request_id:
        raise _bad(index, "request_id", "is missing")
    if not attempt.provider:
        raise _bad(index, "provider", "is missing")
    if attempt.operation not in OPERATIONS:
        raise _bad(index, "operation", "is missing or unknown")
    if attempt.status not in STATUSES:
        raise _bad(index, "status", "is missing or unknown")
    if attempt.attempt < 1:
        raise _bad(index, "attempt", "must be 1 or more")
    if attempt.started_at_us < 1:
        raise _bad(index, "started_at_us", "must be 1 or more")
    if min(_measured(attempt)) < 0:
        for name in ("duration_us", "first_event_us", "upstream_status"):
            if getattr(attempt, name) < 0:
                raise _bad(index, name, "may not be negative")


def _native(value: bytes, index: int) -> str | None:
    try:
        return value.decode().replace("\0", "\N{REPLACEMENT CHARACTER}") or None
    except UnicodeDecodeError as error:
        raise _bad(index, "usage.native_json", "is not UTF-8") from error


def _cleaned(texts: tuple[str, ...]) -> list[str | None]:
    """Each of `texts` as `_clean` has it; None for an empty one."""
    if len(together := "".join(texts)) <= MAX_TEXT and "\0" not in together:
        return [text or None for text in texts]
    return [_clean(text) or None for text in texts]


def _clean(text: str, limit: int = MAX_TEXT) -> str:
    """`text` as both databases take it: PostgreSQL has no NUL in text, and a caller's model name may hold one."""
    return text[:limit].replace("\0", "\N{REPLACEMENT CHARACTER}") if text else text


def _bad(index: int, name: str, what: str) -> GatewayError:
    return invalid(f"attempts[{index}].{name}", f"`attempts[{index}].{name}` {what}")
