"""Which schemas Claude can be held to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway_providers.anthropic.schemas import enforceable
from hypothesis import given
from hypothesis import strategies as st


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "string", "enum": ["a"], "format": "date"},
        closed(a={"type": "integer"}, b=closed(c={"type": "array", "items": {"type": "string"}, "minItems": 1})),
        closed(minimum={"type": "string"}, **{"not": {"type": "string"}}),
        closed(a={"$ref": "#/$defs/A"}, b={"$ref": "#/$defs/B"})
        | {"$defs": {"A": closed(b={"$ref": "#/$defs/B"}), "B": {"type": "string"}}},
        closed(a={"enum": [{"type": "object"}]}),
    ],
)
def test_closed_schemas_without_limits_are(schema: Any) -> None:
    assert enforceable(json.dumps(schema).encode())


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {}},
        closed(a={"type": "object"}),
        closed(a={"anyOf": [{"type": "object"}, {"type": "null"}]}),
        closed(a={"type": "integer", "minimum": 0}),
        closed(a={"type": "array", "items": {"type": "string"}, "minItems": 2}),
        closed(a={"$ref": "#/$defs/A"}) | {"$defs": {"A": closed(a={"$ref": "#/$defs/A"})}},
        closed(a={"$ref": "#/$defs/A"})
        | {"$defs": {"A": closed(b={"$ref": "#/$defs/B"}), "B": closed(a={"$ref": "#/$defs/A"})}},
        closed(a={"type": "string", "format": "iri"}),
        closed(a={"oneOf": [{"type": "string"}]}),
        closed(a={"$ref": "#"}),
        closed(a={"$ref": "https://x.example/schema.json"}),
    ],
)
def test_open_limited_and_recursive_schemas_are_not(schema: Any) -> None:
    assert not enforceable(json.dumps(schema).encode())


def test_what_is_no_json_is_not() -> None:
    assert not enforceable(b"{")


KEYS = st.sampled_from(["type", "properties", "$defs", "$ref", "items", "anyOf", "minItems", "enum", "x"])
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.sampled_from(["object", "string", "#/$defs/x", "#"]))
ANYTHING = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4))


@given(ANYTHING)
def test_nothing_that_a_caller_writes_breaks_the_question(schema: Any) -> None:
    assert enforceable(json.dumps(schema).encode()) in {True, False}


def test_nesting_beyond_sense_is_not() -> None:
    assert not enforceable(b'{"items":' * 900 + b"{}" + b"}" * 900)
