"""Which keywords of a caller's JSON Schema Gemini leaves unread, told in the translation report. Pure.

A schema goes to the API whole, since the API takes any and "the model ignores unsupported properties"
(https://ai.google.dev/gemini-api/docs/structured-output#limitations). Which ones it reads is listed with
`responseJsonSchema` (https://ai.google.dev/api/generate-content#GenerationConfig). `parametersJsonSchema` of a function
has no list of its own (https://ai.google.dev/api/caching#FunctionDeclaration); it is held to the same one. Not for
whether a schema makes sense: what is wrong with it, such as a reference to nowhere, is for the API to say.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aigateway_providers.report import Report

MAX_LINES: Final = 20
"""Keywords of one call that are reported by name; those beyond are counted."""
_MAX_PATH: Final = 200
"""Characters of a path: names of properties are the caller's."""
_REMEMBERED: Final = 16 * 1024
"""Bytes of the largest schema whose result is remembered: agents send the same tools with every turn."""

_READ: Final = frozenset(
    {
        "$id",
        "$defs",
        "$ref",
        "$anchor",
        "type",
        "format",
        "title",
        "description",
        "enum",
        "items",
        "prefixItems",
        "minItems",
        "maxItems",
        "minimum",
        "maximum",
        "anyOf",
        "oneOf",  # the same as anyOf, the list says
        "properties",
        "additionalProperties",
        "required",
        "propertyOrdering",
    }
)
_SILENT: Final = frozenset({"$schema", "$comment"})
"""Keywords that ask for nothing: which edition of JSON Schema this is, and words for its authors."""
_NAMED: Final = frozenset({"properties", "$defs"})
"""Keywords whose keys are names, not keywords."""
_NESTED: Final = frozenset({"items", "prefixItems", "anyOf", "oneOf", "additionalProperties"})
"""Keywords that hold a schema or a list of them."""

_IGNORED: Final = "Gemini ignores this keyword"
_BESIDE: Final = "Gemini takes nothing beside `$ref`"
_ENUM: Final = "Gemini reads texts and numbers only"


class _Found(NamedTuple):
    """What of a schema is not read."""

    first: tuple[tuple[str, str], ...]
    """The path within the schema and the reason, of at most `MAX_LINES`."""
    total: int
    """How many there are in all."""


class Unread:
    """Reports the unread keywords of all schemas of one call, a bounded number of them by name."""

    __slots__ = ("_left", "_more", "_report", "_where")

    def __init__(self, report: Report) -> None:
        self._report = report
        self._left = MAX_LINES
        self._more = 0
        self._where = ""
        """The first schema with keywords that were only counted."""

    def note(self, schema: bytes, param: str) -> None:
        """Report what of `schema`, which the caller knows as `param`, is not read."""
        found = _remembered(schema) if len(schema) <= _REMEMBERED else _search(schema)
        named = found.first[: self._left]
        for path, why in named:
            self._report.dropped(param + path, why)
        self._left -= len(named)
        self._more += found.total - len(named)
        if self._more and not self._where:
            self._where = param

    def settle(self) -> None:
        """Report how many there were beyond those named."""
        if self._more:
            self._report.dropped(
                self._where, f"{self._more} more keywords that Gemini ignores, here or in later schemas"
            )


def _search(schema: bytes) -> _Found:
    try:
        root = orjson.loads(schema)
    except orjson.JSONDecodeError:  # an object it is, or it would have been refused; but deeper than is read here
        return _Found((("", "nested too deep to tell what Gemini ignores"),), 1)
    first: list[tuple[str, str]] = []
    count = 0
    waiting: deque[tuple[Any, str]] = deque([(root, "")])
    while waiting:
        node, path = waiting.popleft()
        if isinstance(node, list):
            waiting.extend((item, f"{path}[{number}]"[:_MAX_PATH]) for number, item in enumerate(node))
        elif isinstance(node, dict):
            for key, why in _unread(node):
                count += 1
                if len(first) < MAX_LINES:
                    first.append((f"{path}.{key}"[:_MAX_PATH], why))
            waiting.extend(_within(node, path))
    return _Found(tuple(first), count)


_remembered = lru_cache(maxsize=256)(_search)


def _unread(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The keywords of `schema` itself that are not read, and why."""
    for key, value in schema.items():
        if key in _SILENT:
            continue
        if key not in _READ:
            yield key, _IGNORED
        elif "$ref" in schema and not key.startswith("$"):
            yield key, _BESIDE
        elif key == "enum" and not _plain(value):
            yield key, _ENUM


def _within(schema: dict[str, Any], path: str) -> Iterator[tuple[Any, str]]:
    """The schemas right inside `schema`, with their paths."""
    for key in _NAMED & schema.keys():
        if isinstance(schema[key], dict):
            yield from ((inner, f"{path}.{key}.{name}"[:_MAX_PATH]) for name, inner in schema[key].items())
    for key in _NESTED & schema.keys():
        yield schema[key], f"{path}.{key}"[:_MAX_PATH]


def _plain(values: object) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, str | int | float) and not isinstance(value, bool) for value in values
    )
