"""Building JSON bodies out of our own values and the caller's JSON, which stays as the caller wrote it.

Only the splicing; what the fields mean is `request.py`'s business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import orjson
from aigateway_common.errors import invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_providers.report import Report

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def members(data: bytes, param: str) -> dict[str, msgspec.Raw]:
    """The members of the JSON object `data`, each as it is written.

    Raises:
        GatewayError: INVALID_REQUEST naming `param`, when `data` is not a JSON object.
    """
    try:
        data.decode()  # msgspec looks at the bytes of a member no closer than its syntax needs
        return _OBJECT.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(param, f"`{param}` must be a JSON object") from error


def json_object(data: bytes, param: str) -> orjson.Fragment:
    """`data` as it is, to be put into a body, once it has proved to be a JSON object."""
    members(data, param)
    return orjson.Fragment(data)


def merge(body: dict[str, object], data: bytes, param: str) -> None:
    """Put the members of the JSON object `data` into `body`; objects of `body` take theirs one by one."""
    for key, raw in members(data, param).items():
        old = body.get(key)
        text = bytes(raw)
        if isinstance(old, dict) and text.startswith(b"{"):
            merge(old, text, f"{param}.{key}")
        else:
            # A plain integer is one here too, so that it can be read again; as JSON it is the same.
            body[key] = int(text) if text.isdigit() and len(text) < 16 else orjson.Fragment(text)


def merge_mapping(body: dict[str, object], more: Mapping[str, object]) -> None:
    """The same for a mapping of our own settings, which is copied and not shared."""
    for key, value in more.items():
        if isinstance(value, dict):
            old = body.get(key)
            inner: dict[str, object] = old if isinstance(old, dict) else {}
            merge_mapping(inner, value)
            body[key] = inner
        else:
            body[key] = value


def report_members(report: Report, data: bytes, prefix: str, detail: str = "") -> None:
    """Report each member of the JSON object `data` as dropped, its path beginning with `prefix`."""
    if data:
        for key in members(data, prefix.rstrip(".") or "the request"):
            report.dropped(f"{prefix}{key}", detail)
