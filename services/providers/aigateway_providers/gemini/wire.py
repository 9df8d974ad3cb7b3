"""JSON of the Gemini API, taken apart without losing anything: objects whose values stay text until they are needed.

Integers of any size, the order of keys and unknown fields survive. Not for what the fields mean: see `request`,
`response` and `stream`. What reads JSON here raises `msgspec.DecodeError` when it is broken or of another type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import orjson
from aigateway.v1 import message_pb2
from aigateway_common.errors import GatewayError, invalid
from msgspec import Raw

if TYPE_CHECKING:
    from collections.abc import Mapping

KIND: Final = "gemini"
"""The provider's name in `ProviderState.provider` and `provider_options`."""
DIALECT: Final = message_pb2.DIALECT_GEMINI

_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_OBJECTS: Final = msgspec.json.Decoder(list[dict[str, Raw]])
_VALUES: Final = msgspec.json.Decoder(list[Raw])
_TEXT: Final = msgspec.json.Decoder(str)
_INTEGER: Final = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)])
_PLACE: Final = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)])
_FLAG: Final = msgspec.json.Decoder(bool)


def compact(body: bytes) -> bytes:
    """`body` without the white space between its tokens; pieces of it then fit into one line of an event stream.

    Raises:
        UnicodeDecodeError: It is not UTF-8, which what is passed on unread must be, too.
    """
    body.decode()
    return bytes(msgspec.json.format(body, indent=-1)) if b"\n" in body else body


def fields(raw: bytes | Raw) -> dict[str, Raw]:
    """An object's fields."""
    return _OBJECT.decode(raw)


def objects(raw: bytes | Raw | None) -> list[dict[str, Raw]]:
    """A list of objects; empty when absent."""
    return _OBJECTS.decode(raw) if raw is not None else []


def values(raw: bytes | Raw | None) -> list[Raw]:
    """A list; empty when absent."""
    return _VALUES.decode(raw) if raw is not None else []


def text(raw: Raw | None) -> str:
    """A string; empty when absent."""
    return _TEXT.decode(raw) if raw is not None else ""


def integer(raw: Raw | None) -> int | None:
    """An integer of 64 bits; None when absent."""
    return _INTEGER.decode(raw) if raw is not None else None


def place(raw: Raw | None) -> int:
    """A place in a list; 0 when absent."""
    return _PLACE.decode(raw) if raw is not None else 0


def flag(raw: Raw | None) -> bool:
    """A boolean; false when absent."""
    return raw is not None and _FLAG.decode(raw)


def rest(source: Mapping[str, Raw], known: frozenset[str]) -> bytes:
    """The fields of `source` beyond `known` as one JSON object; empty when there are none."""
    extra = {key: orjson.Fragment(bytes(raw)) for key, raw in source.items() if key not in known}
    return orjson.dumps(extra) if extra else b""


def unreadable(provider: str) -> GatewayError:
    """The error for JSON that is not what the API's documentation promises."""
    return GatewayError(
        "UPSTREAM_INVALID",
        f"{provider} sent JSON that is not a Gemini answer; check its base URL",
        details={"provider": provider},
    )


def callers_object(raw: bytes, param: str) -> orjson.Fragment:
    """A JSON object of the caller, whole, to be put into a body.

    Raises:
        GatewayError: INVALID_REQUEST, when it is no JSON object.
    """
    try:
        _OBJECT.decode(raw)
    except msgspec.DecodeError as error:
        raise invalid(param, f"`{param}` must be a JSON object") from error
    return orjson.Fragment(raw)


def merge(target: dict[str, Any], raw: bytes, param: str, *, joined: frozenset[str] = frozenset()) -> None:
    """Put the fields of the object `raw` into `target`: objects are merged, the lists named in `joined` put together.

    The API reads `generation_config` and `generationConfig` alike, but refuses both at once, so a field that `target`
    has in camel case is met under either name.

    Raises:
        GatewayError: INVALID_REQUEST, when `raw` is no JSON object.
    """
    try:
        source = fields(raw)
    except msgspec.DecodeError as error:
        raise invalid(param, f"`{param}` must be a JSON object") from error
    for name, value in source.items():
        camel = _camel(name)
        key = camel if camel in target else name
        old = target.get(key)
        content = bytes(value)
        if isinstance(old, dict) and content.startswith(b"{"):
            merge(old, content, f"{param}.{name}")
        elif camel in joined and isinstance(old, list) and content.startswith(b"["):
            target[key] = [*(orjson.Fragment(bytes(item)) for item in values(value)), *old]
        else:
            target[key] = orjson.Fragment(content)


def opened(target: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The object that `target` has under `name` in camel or snake case, its fields open to changes; None without one.

    Raises:
        GatewayError: INVALID_REQUEST, when the caller put something else there.
    """
    key = next((key for key in target if _camel(key) == name), None)
    if key is None:
        return None
    if isinstance(target[key], orjson.Fragment):
        source, target[key] = target[key], {}
        merge(target[key], orjson.dumps(source), key)
    found: dict[str, Any] = target[key]
    return found


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
