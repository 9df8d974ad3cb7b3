"""The smallest value that fits a schema."""

from __future__ import annotations

from typing import Any

import pytest
from aigateway_common.errors import GatewayError
from aigateway_providers.sandbox.sample import sample

NODE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["next"],
        }
    },
    "$ref": "#/$defs/node",
}
LIST = {"type": "object", "properties": {"rest": {"$ref": "#"}}, "required": ["rest"]}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, "sandbox"),
        (True, "sandbox"),
        ({"type": "string"}, "sandbox"),
        ({"type": "string", "minLength": 9, "maxLength": 10}, "sandboxxx"),
        ({"type": "string", "maxLength": 3}, "san"),
        ({"type": "string", "format": "date"}, "2000-01-01"),
        ({"enum": ["red", "blue"]}, "red"),
        ({"const": 7}, 7),
        ({"type": "integer", "default": 3}, 3),
        ({"type": "integer"}, 0),
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "integer", "exclusiveMinimum": 5}, 6),
        ({"type": "integer", "maximum": -2}, -2),
        ({"type": "integer", "minimum": 5, "multipleOf": 4}, 8),
        ({"type": "number", "minimum": 0.5}, 0.5),
        ({"type": "boolean"}, False),
        ({"type": "null"}, None),
        ({"type": ["string", "null"]}, "sandbox"),
        ({"type": "array", "items": {"type": "integer"}}, []),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [0, 0]),
        ({"type": "array", "prefixItems": [{"type": "null"}], "items": {"const": 1}, "minItems": 2}, [None, 1]),
        ({"type": "object", "properties": {"a": {"type": "null"}, "b": {}}, "required": ["a"]}, {"a": None}),
        ({"properties": {"a": {"type": "null"}}, "required": ["a"]}, {"a": None}),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, 0),
        (
            {
                "allOf": [
                    {"properties": {"a": {"const": 1}}, "required": ["a"]},
                    {"properties": {"b": {"const": 2}}, "required": ["b"]},
                ]
            },
            {"a": 1, "b": 2},
        ),
        ({"$defs": {"x/y": {"const": 1}}, "$ref": "#/$defs/x~1y"}, 1),
    ],
)
def test_a_schema_has_a_value(schema: Any, value: Any) -> None:
    made = sample(schema, "schema")
    assert made == value
    assert type(made) is type(value)


def test_a_recursive_schema_ends_as_soon_as_it_may() -> None:
    assert sample(NODE, "schema") == {"next": None}


def test_a_schema_too_deep_is_refused_and_not_a_crash() -> None:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(500):
        schema = {"type": "array", "items": schema, "minItems": 1}
    with pytest.raises(GatewayError):
        sample(schema, "schema")


@pytest.mark.parametrize("schema", [LIST, False, 7, {"type": "colour"}, {"$ref": "#/$defs/none"}])
def test_a_schema_that_no_value_fits_is_refused_by_name(schema: Any) -> None:
    with pytest.raises(GatewayError) as caught:
        sample(schema, "tools[0].function.parameters")
    assert caught.value.details == {"param": "tools[0].function.parameters"}
