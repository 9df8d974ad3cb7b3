"""Which JSON Schemas Claude can be held to token by token: those of strict tools and of `output_config.format`.

The API refuses the others, so a caller's schema is looked at before it is sent that way
(https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations).
"""

from __future__ import annotations

from typing import Any, Final

import orjson

_REFUSED: Final = frozenset(
    {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "maxItems",
        "uniqueItems",
        "contains",
        "minProperties",
        "maxProperties",
        "patternProperties",
        "propertyNames",
        "dependentRequired",
        "dependentSchemas",
        "if",
        "not",
        "oneOf",
        "pattern",
        "prefixItems",
    }
)
_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
_NAMED: Final = frozenset({"properties", "$defs", "definitions"})
"""Keywords whose keys are names, not keywords."""
_VALUES: Final = frozenset({"enum", "const", "default", "examples"})
"""Keywords that hold values, not schemas."""


def enforceable(schema: bytes) -> bool:
    """Whether the API takes `schema`: objects closed, no limits on sizes, no recursion."""
    try:
        root = orjson.loads(schema)
        return _plain(root) and not _recursive(root)
    except (orjson.JSONDecodeError, RecursionError):  # the second: nested beyond sense
        return False


def _plain(schema: Any) -> bool:
    if isinstance(schema, list):
        return all(_plain(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return False
    if not _REFUSED.isdisjoint(schema) or schema.get("minItems", 0) not in (0, 1):
        return False
    if isinstance(schema.get("format"), str) and schema["format"] not in _FORMATS:
        return False
    return all(
        all(_plain(item) for item in value.values()) if key in _NAMED and isinstance(value, dict) else _plain(value)
        for key, value in schema.items()
        if key not in _VALUES
    )


def _recursive(root: Any) -> bool:
    """Whether a definition reaches itself; a reference that is not to a definition counts as one that does."""
    if not isinstance(root, dict):
        return False
    graph = {
        f"#/{place}/{name}": _references(definition)
        for place in ("$defs", "definitions")
        if isinstance(definitions := root.get(place), dict)
        for name, definition in definitions.items()
    }
    if not _references(root) <= graph.keys():
        return True
    while leaves := {name for name, targets in graph.items() if not targets}:
        graph = {name: targets - leaves for name, targets in graph.items() if name not in leaves}
    return bool(graph)


def _references(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return {found for item in schema for found in _references(item)}
    if not isinstance(schema, dict):
        return set()
    own = {schema["$ref"]} if isinstance(schema.get("$ref"), str) else set()
    return own | {found for value in schema.values() for found in _references(value)}
