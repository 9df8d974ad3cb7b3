"""Joining JSON objects without reading what is inside: big integers, key order and spacing survive.

Values that the gateway makes are Python objects, values of the caller are `orjson.Fragment`s of their bytes.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import orjson
from aigateway_common.errors import invalid

from aigateway_providers.upstream_errors import UNREADABLE

__all__ = ["UNREADABLE", "caller_fields", "fields", "fragment", "is_null", "merge", "rest", "text"]

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def fields(source: bytes | memoryview | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The fields of a JSON object, each still JSON.

    Raises:
        UNREADABLE: it is not a JSON object.
    """
    return _OBJECT.decode(source)


def caller_fields(source: bytes, param: str) -> dict[str, msgspec.Raw]:
    """The same for JSON of the caller; the error names `param`."""
    try:
        return fields(source)
    except UNREADABLE as error:
        raise invalid(param, f"`{param}` must be a JSON object") from error


def fragment(source: bytes | msgspec.Raw) -> orjson.Fragment:
    """JSON to be put into a body as it is."""
    return orjson.Fragment(bytes(source))


def merge(body: dict[str, Any], extra: dict[str, msgspec.Raw]) -> None:
    """Put `extra` into `body`: objects are merged field by field, anything else replaces what was there."""
    for key, value in extra.items():
        ours = body.get(key)
        text = bytes(value)
        if isinstance(ours, dict) and text.lstrip().startswith(b"{"):
            merge(ours, fields(value))
        else:
            body[key] = orjson.Fragment(text)


def is_null(value: msgspec.Raw) -> bool:
    """Whether the JSON value is null."""
    return bytes(value) == b"null"


def text(source: dict[str, msgspec.Raw], key: str) -> str:
    """The string under `key`; empty when absent or null.

    Raises:
        UNREADABLE: it is something else.
    """
    value = source.get(key)
    return "" if value is None else msgspec.json.decode(value, type=str | None) or ""


def rest(source: dict[str, msgspec.Raw], *known: str) -> bytes:
    """The fields beside `known` as one JSON object; empty when there are none."""
    extra = {key: value for key, value in source.items() if key not in known}
    return msgspec.json.encode(extra) if extra else b""
