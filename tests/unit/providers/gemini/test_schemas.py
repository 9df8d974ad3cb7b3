"""Keywords of JSON Schema that Gemini ignores, told to the caller by path."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.gemini import schemas
from aigateway_providers.gemini.request import chat_body
from aigateway_providers.report import Report


def call(answer: Any = None, *parameters: Any) -> chat_pb2.ChatCall:
    """A call with the schema of the answer, and a tool for each of the other schemas."""
    user = message_pb2.Message(
        role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=message_pb2.TextPart(text="Hi"))]
    )
    made = chat_pb2.ChatCall(model="gemini-2.5-flash", messages=[user])
    if answer is not None:
        made.response_format.type = chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA
        made.response_format.schema_json = json.dumps(answer).encode()
    for number, schema in enumerate(parameters):
        function = message_pb2.FunctionTool(name=f"f{number}", parameters_json=json.dumps(schema).encode())
        made.tools.append(message_pb2.Tool(function=function))
    return made


def told(schema: Any) -> list[str]:
    """What is reported of the schema of a tool, by path within it."""
    report = Report()
    unread = schemas.Unread(report)
    unread.note(schema if isinstance(schema, bytes) else json.dumps(schema).encode(), "schema")
    unread.settle()
    return [note.field for note in report.notes()]


def test_keywords_that_gemini_ignores_are_reported_by_path_and_the_schema_is_sent_whole() -> None:
    answer = {
        "type": "object",
        "properties": {"name": {"type": "string", "minLength": 1}, "tags": {"type": "array", "uniqueItems": True}},
    }
    tool = {"type": "object", "properties": {"n": {"anyOf": [{"type": "integer", "multipleOf": 2}]}}}
    report = Report()
    body = json.loads(chat_body(call(answer, {"type": "object"}, tool), report))
    assert body["generationConfig"]["responseJsonSchema"] == answer
    assert body["tools"][0]["functionDeclarations"][1]["parametersJsonSchema"] == tool
    assert report.notes() == [
        chat_pb2.TranslationNote(
            field=field, action=chat_pb2.TRANSLATION_ACTION_DROPPED, detail="Gemini ignores this keyword"
        )
        for field in (
            "tools[1].function.parameters.properties.n.anyOf[0].multipleOf",
            "response_format.json_schema.schema.properties.name.minLength",
            "response_format.json_schema.schema.properties.tags.uniqueItems",
        )
    ]


@pytest.mark.parametrize("place", ["answer", "tool"])
def test_a_strict_call_is_refused_by_the_path_of_the_keyword(place: str) -> None:
    schema = {"type": "object", "patternProperties": {"^x": {}}}
    report = Report(chat_pb2.TRANSLATION_POLICY_STRICT)
    chat_body(call(schema) if place == "answer" else call(None, schema), report)
    with pytest.raises(GatewayError) as caught:
        report.settle()
    field = "response_format.json_schema.schema" if place == "answer" else "tools[0].function.parameters"
    assert caught.value.reason.name == "TRANSLATION_REFUSED"
    assert caught.value.details == {"param": f"{field}.patternProperties"}


def test_every_keyword_that_gemini_lists_is_read() -> None:
    assert (
        told(
            {
                "$id": "x",
                "$anchor": "a",
                "$defs": {"d": {"type": ["string", "null"], "format": "date", "title": "T", "description": "D"}},
                "type": "object",
                "properties": {
                    "a": {"$ref": "#/$defs/d"},
                    "b": {"enum": ["x", 1, 2.5]},
                    "c": {"type": "array", "items": {"minimum": 1, "maximum": 2}, "minItems": 1, "maxItems": 2},
                    "d": {"prefixItems": [{"anyOf": [{"oneOf": [{}]}]}]},
                },
                "required": ["a"],
                "additionalProperties": {"type": "string"},
                "propertyOrdering": ["a", "b"],
            }
        )
        == []
    )


def test_properties_named_like_keywords_are_no_keywords() -> None:
    assert told({"properties": {"pattern": {"type": "string"}, "const": {"not": {}}}}) == [
        "schema.properties.const.not"
    ]


def test_the_edition_and_comments_of_a_schema_ask_for_nothing() -> None:
    assert told({"$schema": "https://json-schema.org/draft/2020-12/schema", "$comment": "mine"}) == []


def test_what_stands_beside_a_reference_is_not_read() -> None:
    assert told({"properties": {"a": {"$ref": "#/$defs/d", "$comment": "c", "description": "x"}}}) == [
        "schema.properties.a.description"
    ]


@pytest.mark.parametrize("values", [["a", None], [True], [{}], "a"])
def test_an_enum_of_anything_but_texts_and_numbers_is_not_read(values: object) -> None:
    assert told({"enum": values}) == ["schema.enum"]


def test_values_are_not_taken_for_schemas() -> None:
    assert told({"default": {"pattern": "x"}, "examples": [{"pattern": "x"}]}) == [
        "schema.default",
        "schema.examples",
    ]


def test_a_bounded_number_of_keywords_is_reported_by_name_and_the_rest_is_counted() -> None:
    many = {"properties": {f"p{n}": {"pattern": "x"} for n in range(15)}}
    report = Report()
    chat_body(call(None, many, many, many), report)
    fields = [note.field for note in report.notes()]
    assert fields[:15] == [f"tools[0].function.parameters.properties.p{n}.pattern" for n in range(15)]
    assert fields[15:20] == [f"tools[1].function.parameters.properties.p{n}.pattern" for n in range(5)]
    assert fields[20:] == ["tools[1].function.parameters"]
    assert report.notes()[-1].detail == "25 more keywords that Gemini ignores, here or in later schemas"


def test_long_names_are_cut() -> None:
    (field,) = told({"properties": {"x" * 10_000: {"pattern": "x"}}})
    assert len(field) == len("schema") + 200


def test_a_schema_nested_beyond_reading_is_reported_as_unread() -> None:
    assert told(b'{"items":' * 2000 + b"{}" + b"}" * 2000) == ["schema"]


def test_a_large_schema_is_read_like_a_small_one() -> None:
    assert told({"description": "x" * 20_000, "pattern": "x"}) == ["schema.pattern"]
