"""Answers that must be JSON: natively, by a forced tool, by an instruction; there and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2
from aigateway_common.errors import GatewayError
from aigateway_edge.openai.to_proto import chat_call
from aigateway_providers.anthropic.request import build
from aigateway_providers.anthropic.response import completion
from aigateway_providers.anthropic.stream import StreamReader
from aigateway_providers.settings import ProviderSettings

SETTINGS = ProviderSettings("anthropic", "anthropic", "http://127.0.0.1:1", "key")
NATIVE, OLD = "claude-sonnet-4-5", "claude-sonnet-4-20250514"
CLOSED = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
OPEN = {"type": "object", "properties": {"a": {"type": "object", "properties": {}}}, "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "f"}}


def call(schema: Any = None, *, model: str = NATIVE, **fields: Any) -> chat_pb2.ChatCall:
    form: Any = {"type": "json_object"}
    if schema is not None:
        form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    request = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "response_format": form, **fields}
    return chat_call(json.dumps(request).encode()).call


def body(of: chat_pb2.ChatCall) -> Any:
    return json.loads(build(of, SETTINGS, stream=False).body)


def notes(of: chat_pb2.ChatCall) -> dict[str, str]:
    names = {1: "dropped", 2: "clamped", 3: "emulated"}
    return {note.field: names[note.action] for note in build(of, SETTINGS, stream=False).translation}


def test_a_schema_goes_natively_to_models_that_have_it() -> None:
    asked = call(CLOSED)
    assert body(asked)["output_config"] == {"format": {"type": "json_schema", "schema": CLOSED}}
    assert "tools" not in body(asked)
    assert notes(asked) == {}


def test_a_schema_and_an_effort_share_the_output_config() -> None:
    asked = call(CLOSED, model="claude-opus-4-7", reasoning_effort="low")
    assert body(asked)["output_config"] == {"format": {"type": "json_schema", "schema": CLOSED}, "effort": "low"}


@pytest.mark.parametrize(("model", "schema"), [(OLD, CLOSED), (NATIVE, OPEN)])
def test_older_models_and_open_schemas_are_served_by_a_forced_tool_and_reported(model: str, schema: Any) -> None:
    asked = call(schema, model=model)
    assert body(asked)["tools"] == [
        {
            "name": "structured_answer",
            "description": "Answer by calling this tool; its input is the answer.",
            "input_schema": schema,
        }
    ]
    assert body(asked)["tool_choice"] == {
        "type": "tool",
        "name": "structured_answer",
        "disable_parallel_tool_use": True,
    }
    assert notes(asked) == {"response_format": "emulated"}


def test_a_model_that_cannot_be_forced_gets_even_an_open_schema_natively() -> None:
    assert "output_config" in body(call(OPEN, model="claude-opus-5-5"))


def test_with_tools_of_the_caller_the_model_calls_one_of_them_or_answers() -> None:
    asked = call(CLOSED, model=OLD, tools=[TOOL])
    assert [tool["name"] for tool in body(asked)["tools"]] == ["f", "structured_answer"]
    assert body(asked)["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}


def test_with_the_choice_none_only_the_answer_is_left() -> None:
    asked = call(CLOSED, model=OLD, tools=[TOOL], tool_choice="none")
    assert [tool["name"] for tool in body(asked)["tools"]] == ["structured_answer"]


def test_a_tool_that_the_caller_forces_wins_and_the_form_is_reported() -> None:
    asked = call(CLOSED, model=OLD, tools=[TOOL], tool_choice="required")
    assert (body(asked)["tool_choice"], len(body(asked)["tools"])) == ({"type": "any"}, 1)
    assert notes(asked) == {"response_format": "dropped"}


def test_the_name_of_the_answer_tool_gives_way_to_the_callers() -> None:
    taken = {"type": "function", "function": {"name": "structured_answer"}}
    assert build(call(CLOSED, model=OLD, tools=[taken]), SETTINGS, stream=False).answer_tool == "structured_answer_"


def test_any_json_object_is_asked_for_in_words_and_reported() -> None:
    asked = call()
    assert len(body(asked)["system"]) == 1
    assert "JSON object" in body(asked)["system"][0]["text"]
    assert notes(asked) == {"response_format": "emulated"}


def test_a_schema_that_is_no_object_is_refused_by_name() -> None:
    broken = call(CLOSED)
    broken.response_format.schema_json = b"[]"
    with pytest.raises(GatewayError) as caught:
        body(broken)
    assert caught.value.details == {"param": "response_format.json_schema.schema"}


def test_a_forced_answer_is_unwrapped_and_stops_with_stop() -> None:
    request = build(call(CLOSED, model=OLD), SETTINGS, stream=False)
    answer = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": OLD,
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "structured_answer", "input": {"a": 1}}],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    choice = completion(json.dumps(answer).encode(), request, created=1).choices[0]
    assert [part.text.text for part in choice.message.parts] == ['{"a": 1}']
    assert (choice.finish_reason, choice.native_finish_reason) == (chat_pb2.FINISH_REASON_STOP, "tool_use")


@pytest.mark.parametrize(
    ("pieces", "texts"), [(['{"a"', ": 1}"], ['{"a"', ": 1}"]), (["", ""], ["{}"])], ids=["pieces", "nothing"]
)
def test_a_forced_answer_is_unwrapped_in_a_stream_too(pieces: list[str], texts: list[str]) -> None:
    reader = StreamReader("anthropic", build(call(CLOSED, model=OLD), SETTINGS, stream=True), created=1)
    block = {"type": "tool_use", "id": "toolu_1", "name": "structured_answer", "input": {}}
    records: list[Any] = [
        {"type": "message_start", "message": {"id": "m", "model": OLD, "content": [], "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": piece}}
            for piece in pieces
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    events: list[chat_pb2.ChatEvent] = []
    for record in records:
        reader.feed(json.dumps(record).encode(), events)
    assert [event.text for event in events if event.HasField("text")] == texts
    assert not any(event.HasField("tool_call") or event.HasField("arguments") for event in events)
    assert [event.finish.reason for event in events if event.HasField("finish")] == [chat_pb2.FINISH_REASON_STOP]
