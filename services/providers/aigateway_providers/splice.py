"""The caller's own JSON put into a request body without being rewritten.

Big integers, key order and number spelling survive, since bytes are validated and spliced, never parsed into Python
values. Bodies are dicts whose values orjson can write, `orjson.Fragment` included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import orjson
from aigateway_common.errors import invalid

if TYPE_CHECKING:
    from collections.abc import Collection

_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VALUE: Final = msgspec.json.Decoder(msgspec.Raw)


def fragment(json: bytes, field: str) -> orjson.Fragment:
    """`json` as a value to be written unchanged.

    Raises:
        GatewayError: INVALID_REQUEST that names `field`, when it is not one JSON value.
    """
    try:
        return orjson.Fragment(bytes(_VALUE.decode(json)))
    except _UNREADABLE as error:
        raise invalid(field, f"`{field}` is not valid JSON") from error


def members(json: bytes, field: str) -> dict[str, bytes]:
    """The members of the JSON object `json`, each as it was written; none when it is empty.

    Raises:
        GatewayError: INVALID_REQUEST that names `field`, when it is not a JSON object.
    """
    if not json:
        return {}
    try:
        return {key: bytes(value) for key, value in _OBJECT.decode(json).items()}
    except _UNREADABLE as error:
        raise invalid(field, f"`{field}` is not a JSON object") from error


def merge(body: dict[str, object], json: bytes, field: str, *, refused: Collection[str] = ()) -> None:
    """Put the members of the JSON object `json` into `body`; where both have an object, their members are merged.

    Raises:
        GatewayError: INVALID_REQUEST that names `field`, when it is not a JSON object or has a `refused` member.
    """
    for key, value in members(json, field).items():
        if key in refused:
            raise invalid(f"{field}.{key}", f"`{key}` cannot be set by `{field}`")
        old = body.get(key)
        if isinstance(old, dict) and value.startswith(b"{"):
            merge(old, value, f"{field}.{key}")
        else:
            body[key] = orjson.Fragment(value)
