"""Reading a caller's JSON object field by field, with errors that name the field.

An object is decoded one level deep: each value stays a slice of the body until somebody takes it, and what nobody
took is handed on as it was written (`rest`), so unknown fields, key order and big integers survive. Not for the
answers of providers.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import orjson
from aigateway_common.errors import GatewayError, invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

MAX_DEPTH: Final = 128
"""How deep a body may nest. Beyond that no schema makes sense, and recursive readers further down would overflow."""

Raw = msgspec.Raw
Object = dict[str, msgspec.Raw]

_object: Final[msgspec.json.Decoder[Object]] = msgspec.json.Decoder(Object)
_objects: Final[msgspec.json.Decoder[list[Object] | None]] = msgspec.json.Decoder(list[Object] | None)
_child: Final[msgspec.json.Decoder[Object | None]] = msgspec.json.Decoder(Object | None)
_text: Final[msgspec.json.Decoder[str | None]] = msgspec.json.Decoder(str | None)
_integer: Final[msgspec.json.Decoder[int | None]] = msgspec.json.Decoder(int | None)
_number: Final[msgspec.json.Decoder[float | None]] = msgspec.json.Decoder(float | None)
_boolean: Final[msgspec.json.Decoder[bool | None]] = msgspec.json.Decoder(bool | None)

_BRACKETS: Final = b"[]{}"
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in _BRACKETS)
_WHERE: Final = re.compile(r" - at `\$([^`]*)`$")


class Fields:
    """One object of the request; every taker removes its field, and answers None where it is absent or null."""

    __slots__ = ("_values", "path")

    def __init__(self, values: Object, path: str) -> None:
        self._values = values
        self.path = path
        """Where the object stands in the request, such as `messages[2]`; empty for the request itself."""

    def at(self, key: str) -> str:
        """The path of a field."""
        return f"{self.path}.{key}" if self.path else key

    def has(self, key: str) -> bool:
        """Whether the field is there, null or not."""
        return key in self._values

    def lacks(self, keys: frozenset[str]) -> bool:
        """Whether none of some fields is there; cheaper than to ask for each."""
        return keys.isdisjoint(self._values)

    @property
    def empty(self) -> bool:
        """Whether everything has been taken."""
        return not self._values

    def keys(self) -> list[str]:
        """The fields not taken yet."""
        return list(self._values)

    def take(self, key: str, decoder: msgspec.json.Decoder[T], kind: str) -> T | None:
        """The value as `decoder` reads it; `kind` says in words what it must be."""
        raw = self._values.pop(key, None)
        if raw is None:
            return None
        try:
            return decoder.decode(raw)
        except msgspec.ValidationError as error:
            where = _WHERE.search(str(error))
            path = self.at(key) + (where[1] if where else "")
            raise invalid(path, f"`{path}` has the wrong type: `{self.at(key)}` must be {kind}") from error

    def raw(self, key: str) -> bytes | None:
        """The value's JSON as it was written; null counts as absent."""
        raw = self._values.pop(key, None)
        if raw is None:
            return None
        value = bytes(raw)
        return None if value == b"null" else value

    def peek(self, key: str) -> bytes:
        """The value's JSON as it was written, left in place; empty when absent."""
        return bytes(self._values.get(key, b""))

    def object_json(self, key: str) -> bytes | None:
        """An object's JSON as it was written."""
        value = self.raw(key)
        if value is not None and not value.startswith(b"{"):
            raise invalid(self.at(key), f"`{self.at(key)}` must be an object")
        return value

    def text(self, key: str) -> str | None:
        """A string."""
        return self.take(key, _text, "a string")

    def required_text(self, key: str) -> str:
        """A string that must be there and not be empty."""
        value = self.take(key, _text, "a string")
        if not value:
            raise invalid(self.at(key), f"`{self.at(key)}` is required and must be a string that is not empty")
        return value

    def one_of(self, key: str, allowed: Iterable[str]) -> str | None:
        """One of some words."""
        value = self.text(key)
        if value is not None and value not in allowed:
            words = ", ".join(f"`{word}`" for word in allowed)
            raise invalid(self.at(key), f"`{self.at(key)}` must be one of {words}, not `{value[:40]}`")
        return value

    def integer(self, key: str, low: int, high: int) -> int | None:
        """An integer within bounds, both included."""
        value = self.take(key, _integer, "an integer")
        if value is not None and not low <= value <= high:
            raise invalid(self.at(key), f"`{self.at(key)}` must be between {low} and {high}")
        return value

    def number(self, key: str, low: float, high: float) -> float | None:
        """A number within bounds, both included."""
        value = self.take(key, _number, "a number")
        if value is not None and not low <= value <= high:
            raise invalid(self.at(key), f"`{self.at(key)}` must be between {low:g} and {high:g}")
        return value

    def boolean(self, key: str) -> bool | None:
        """True or false."""
        return self.take(key, _boolean, "true or false")

    def data(self, key: str) -> bytes | None:
        """Bytes written as base64."""
        value = self.text(key)
        return None if value is None else unbase64(value, self.at(key))

    def child(self, key: str) -> Fields | None:
        """An object."""
        values = self.take(key, _child, "an object")
        return None if values is None else Fields(values, self.at(key))

    def children(self, key: str) -> list[Fields] | None:
        """A list of objects."""
        items = self.take(key, _objects, "a list of objects")
        if items is None:
            return None
        path = self.at(key)
        return [Fields(item, f"{path}[{index}]") for index, item in enumerate(items)]

    def keep(self, key: str, json: bytes) -> None:
        """Put a value among the fields that nobody took."""
        self._values[key] = Raw(json)

    def put_back(self, key: str, child: Fields) -> None:
        """Keep what is left of a child among the fields that nobody took."""
        if rest := child.rest():
            self._values[key] = Raw(rest)

    def rest(self) -> bytes:
        """What nobody took, as one JSON object; empty when nothing is left."""
        if not self._values:
            return b""
        return b"{%b}" % b",".join(b"%b:%b" % (orjson.dumps(key), bytes(raw)) for key, raw in self._values.items())


def parse(body: bytes) -> Fields:
    """The request's body as an object.

    Raises:
        GatewayError: INVALID_REQUEST with the place of the fault, when it is not one JSON object in UTF-8.
    """
    _check_depth(body)
    try:
        if not body.isascii():
            body.decode()
        return Fields(_object.decode(body), "")
    except msgspec.ValidationError as error:
        raise GatewayError("INVALID_REQUEST", "the body must be a JSON object") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise GatewayError("INVALID_REQUEST", f"the body is not valid JSON: {_fault(body, error)}") from error


def unbase64(text: str, path: str) -> bytes:
    """Bytes from base64 in its standard alphabet, padded; `path` is named when it is not."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:  # binascii.Error is one; so is text outside ASCII
        raise invalid(path, f"`{path}` is not valid base64: {error}") from error
    if not data:
        raise invalid(path, f"`{path}` is empty")
    return data


def _fault(body: bytes, error: Exception) -> str:
    """Why and where the body is broken, by line and column."""
    if not body.strip():
        return "it is empty"
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as found:
        return str(found)
    return str(error)


def _check_depth(body: bytes) -> None:
    """Refuse deep nesting before any recursive reader meets it."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    brackets = body.translate(None, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):  # each round peels the innermost level off; brackets inside strings may remain
        peeled = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if len(peeled) == len(brackets):
            break
        brackets = peeled
    if brackets and _depth(body) > MAX_DEPTH:
        raise GatewayError("INVALID_REQUEST", f"the body nests deeper than {MAX_DEPTH} levels")


def _depth(body: bytes) -> int:
    """How deep the body nests, brackets inside strings left out."""
    depth = deepest = 0
    for token in re.finditer(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', body, re.DOTALL):
        match token[0]:
            case b"[" | b"{":
                depth += 1
                deepest = max(deepest, depth)
            case b"]" | b"}":
                depth -= 1
    return deepest
