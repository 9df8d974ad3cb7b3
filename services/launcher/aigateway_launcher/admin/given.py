"""From what options say to what `/admin` takes; pure. `none` takes something away; what is not given is not sent."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import typer

NONE: Final = "none"
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SPAN: Final = re.compile(r"(\d{1,9})([smhdw]?)")
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def rights(
    *,
    rpm: str | None,
    tpm: str | None,
    concurrent: str | None,
    allow: list[str] | None,
    model: str | None,
    max_tokens: str | None,
) -> dict[str, Any]:
    """Limits, allowed models and defaults of a project or a key."""
    limits = {
        "requests_per_minute": _number("--rpm", rpm),
        "tokens_per_minute": _number("--tpm", tpm),
        "concurrent_calls": _number("--concurrent", concurrent),
    }
    defaults = {"model": _text(model), "max_output_tokens": _number("--default-max-tokens", max_tokens)}
    body: dict[str, Any] = {"limits": _said(limits), "defaults": _said(defaults)}
    body = {name: value for name, value in body.items() if value}
    if allow:
        body["allowed_models"] = [] if allow == [NONE] else allow
    return body


def span(option: str, text: str) -> int:
    """Seconds, from `90`, `90s`, `15m`, `12h`, `30d` or `4w`."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise _wrong(option, f"must be a time such as 90s, 15m, 12h or 30d, not `{text}`")
    return int(found[1]) * _UNITS[found[2] or "s"]


def moment(option: str, text: str, now: datetime) -> str | None:
    """RFC 3339, from a time ahead (`30d`), a day, a moment, or `none`."""
    if text == NONE:
        return None
    if _SPAN.fullmatch(text):
        try:
            return (now + timedelta(seconds=span(option, text))).isoformat()
        except OverflowError as error:
            raise _wrong(option, f"`{text}` is beyond the calendar; `{NONE}` is for ever") from error
    if _DAY.fullmatch(text):
        text += "T00:00:00Z"
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise _wrong(option, f"must be a time ahead such as 30d, a day as YYYY-MM-DD, or `{NONE}`") from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat()


def something(body: dict[str, Any]) -> dict[str, Any]:
    """`body`, when it changes anything."""
    if not body:
        raise typer.BadParameter("say what to change; --help lists what can be")
    return body


class _Unsaid:
    """The option was not given."""


_UNSAID: Final = _Unsaid()


def _said(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not _UNSAID}


def _text(text: str | None) -> str | _Unsaid | None:
    if text is None:
        return _UNSAID
    return None if text == NONE else text


def _number(option: str, text: str | None) -> int | _Unsaid | None:
    if text is None:
        return _UNSAID
    if text == NONE:
        return None
    if not (text.isascii() and text.isdigit()):
        raise _wrong(option, f"must be a whole number, or `{NONE}`, not `{text}`")
    return int(text)


def _wrong(option: str, text: str) -> typer.BadParameter:
    return typer.BadParameter(text, param_hint=option)
