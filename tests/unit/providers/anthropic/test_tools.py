"""Tools, calls, results and choices on their way to Anthropic."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_edge.openai.to_proto import chat_call
from aigateway_providers.anthropic.blocks import tool_id
from aigateway_providers.anthropic.request import build
from aigateway_providers.settings import ProviderSettings
from hypothesis import given
from hypothesis import strategies as st

SETTINGS = ProviderSettings("anthropic", "anthropic", "http://127.0.0.1:1", "key")
SONNET = "claude-sonnet-4-5"
HELLO = {"role": "user", "content": "Hello"}
ANTHROPIC = message_pb2.DIALECT_ANTHROPIC_MESSAGES


def function(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


def asks(call_id: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def call(*messages: Any, model: str = SONNET, **fields: Any) -> chat_pb2.ChatCall:
    return chat_call(json.dumps({"model": model, "messages": messages or [HELLO], **fields}).encode()).call


def body(of: chat_pb2.ChatCall) -> Any:
    return json.loads(build(of, SETTINGS, stream=False).body)


def notes(of: chat_pb2.ChatCall) -> dict[str, str]:
    names = {1: "dropped", 2: "clamped", 3: "emulated"}
    return {note.field: names[note.action] for note in build(of, SETTINGS, stream=False).translation}


# Calls and results


def test_text_and_calls_of_one_message_are_both_kept_and_results_make_one_user_turn_results_first() -> None:
    calls = [asks("c1", arguments='{"a": 1}'), asks("c2")]
    sent = body(
        call(
            HELLO,
            {"role": "assistant", "content": "Let me see.", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "c1", "content": "one"},
            {"role": "user", "content": "And?"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "two"}]},
        )
    )
    assert sent["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "c2", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "one"}]},
                {"type": "tool_result", "tool_use_id": "c2", "content": [{"type": "text", "text": "two"}]},
                {"type": "text", "text": "And?"},
            ],
        },
    ]


def test_arguments_keep_their_bytes() -> None:
    raw = '{"n": 12345678901234567890123, "b": 1, "a": 2}'
    asked = call(HELLO, {"role": "assistant", "content": None, "tool_calls": [asks("c", arguments=raw)]}, HELLO)
    assert b'"input":' + raw.encode() in build(asked, SETTINGS, stream=False).body


@pytest.mark.parametrize("arguments", ["", "  "])
def test_empty_arguments_are_an_empty_object(arguments: str) -> None:
    asked = call(HELLO, {"role": "assistant", "content": None, "tool_calls": [asks("c", arguments=arguments)]}, HELLO)
    assert body(asked)["messages"][1]["content"][0]["input"] == {}


@pytest.mark.parametrize("arguments", ["{", "[1]", '"x"', "nope"])
def test_arguments_that_are_no_object_are_refused_by_name(arguments: str) -> None:
    calls = [asks("c0"), asks("c1", arguments=arguments)]
    with pytest.raises(GatewayError) as caught:
        body(call(HELLO, {"role": "assistant", "content": "t", "tool_calls": calls}, HELLO))
    assert (caught.value.http_status, caught.value.details) == (
        400,
        {"param": "messages[1].tool_calls[1].function.arguments"},
    )


def test_a_foreign_id_is_mapped_the_same_in_the_call_and_its_result() -> None:
    foreign = "call/öne two|" + "x" * 80
    sent = body(
        call(
            HELLO,
            {"role": "assistant", "content": None, "tool_calls": [asks(foreign)]},
            {"role": "tool", "tool_call_id": foreign, "content": "r"},
        )
    )
    used = sent["messages"][1]["content"][0]["id"]
    assert sent["messages"][2]["content"][0]["tool_use_id"] == used
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", used)


@given(st.text(max_size=100), st.text(max_size=100))
def test_every_id_becomes_a_valid_one_and_different_ids_stay_different(one: str, other: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool_id(one))
    assert tool_id(one) == tool_id(one)
    assert (tool_id(one) == tool_id(other)) == (one == other)


def test_an_id_that_anthropic_takes_stays_as_it_is() -> None:
    assert tool_id("toolu_01A-b") == "toolu_01A-b"


def test_a_result_may_hold_images_and_say_that_it_failed() -> None:
    asked = call(
        HELLO,
        {"role": "assistant", "content": None, "tool_calls": [asks("c")]},
        {
            "role": "tool",
            "tool_call_id": "c",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            ],
        },
    )
    asked.messages[2].parts[0].tool_result.is_error = True
    assert body(asked)["messages"][2]["content"] == [
        {
            "type": "tool_result",
            "tool_use_id": "c",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
            ],
            "is_error": True,
        }
    ]


def test_whether_a_tool_failed_is_not_guessed_from_its_words() -> None:
    sent = body(
        call(
            HELLO,
            {"role": "assistant", "content": None, "tool_calls": [asks("c")]},
            {"role": "tool", "tool_call_id": "c", "content": '{"error": "no"}'},
        )
    )
    assert "is_error" not in sent["messages"][2]["content"][0]


def test_an_empty_result_is_a_result() -> None:
    sent = body(
        call(
            HELLO,
            {"role": "assistant", "content": None, "tool_calls": [asks("c")]},
            {"role": "tool", "tool_call_id": "c", "content": ""},
        )
    )
    assert sent["messages"][2]["content"] == [{"type": "tool_result", "tool_use_id": "c"}]


def test_a_call_of_a_custom_tool_is_told_as_an_object_and_reported() -> None:
    custom = {"id": "c", "type": "custom", "custom": {"name": "grep", "input": "a b"}}
    asked = call(HELLO, {"role": "assistant", "content": None, "tool_calls": [custom]}, HELLO)
    assert body(asked)["messages"][1]["content"] == [
        {"type": "tool_use", "id": "c", "name": "grep", "input": {"input": "a b"}}
    ]
    assert notes(asked) == {"messages[1].tool_calls[0]": "emulated"}


# Tools


def test_the_whole_schema_is_sent_byte_for_byte() -> None:
    schema = b'{"type":"object","$defs":{"x":{"minimum":12345678901234567890123}},"anyOf":[],"title":"T"}'
    asked = call(tools=[function("f", description="D", parameters={})])
    asked.tools[0].function.parameters_json = schema
    sent = build(asked, SETTINGS, stream=False).body
    assert b'"tools":[{"name":"f","description":"D","input_schema":' + schema + b"}]" in sent


@pytest.mark.parametrize("parameters", [{}, None])
def test_a_tool_without_parameters_has_an_empty_object_schema(parameters: Any) -> None:
    assert body(call(tools=[function("f", parameters=parameters)]))["tools"] == [
        {"name": "f", "input_schema": {"type": "object", "properties": {}}}
    ]


def test_a_schema_without_a_type_is_given_one() -> None:
    asked = call(tools=[function("f", parameters={"properties": {"a": {}}})])
    assert body(asked)["tools"][0]["input_schema"] == {"type": "object", "properties": {"a": {}}}


def test_a_schema_that_is_no_object_is_refused_by_name() -> None:
    asked = call(tools=[function("f")])
    asked.tools[0].function.parameters_json = b"[1]"
    with pytest.raises(GatewayError) as caught:
        body(asked)
    assert caught.value.details == {"param": "tools[0].function.parameters"}


def test_strict_goes_to_models_that_have_it_and_is_reported_for_others() -> None:
    tools = [function("f", strict=True)]
    assert body(call(tools=tools))["tools"][0]["strict"] is True
    assert body(call(tools=tools))["tools"][0]["input_schema"]["additionalProperties"] is False
    old = call(model="claude-sonnet-4-20250514", tools=tools)
    assert "strict" not in body(old)["tools"][0]
    assert notes(old) == {"tools[0].function.strict": "dropped"}


def test_strict_with_a_schema_that_cannot_be_enforced_is_reported() -> None:
    asked = call(tools=[function("f", strict=True, parameters={"type": "object", "properties": {"a": {}}})])
    assert "strict" not in body(asked)["tools"][0]
    assert notes(asked) == {"tools[0].function.strict": "dropped"}


def test_a_tool_may_be_marked_for_the_cache() -> None:
    asked = call(tools=[function("f") | {"cache_control": {"type": "ephemeral"}}])
    assert body(asked)["tools"][0]["cache_control"] == {"type": "ephemeral"}


def test_native_tools_of_our_own_pass_whole_and_others_are_reported() -> None:
    asked = call(tools=[function("f"), {"type": "web_search_preview"}])
    native = message_pb2.NativePart(dialect=ANTHROPIC, json=b'{"type":"web_search_20250305","name":"web_search"}')
    asked.tools.append(message_pb2.Tool(native=native))
    assert [tool["name"] for tool in body(asked)["tools"]] == ["f", "web_search"]
    assert body(asked)["tools"][1]["type"] == "web_search_20250305"
    assert notes(asked) == {"tools[1]": "dropped"}


# Choices

TWO = [function("f"), function("g")]


def allowed(mode: str, *names: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [function(name) for name in names]}}


@pytest.mark.parametrize(
    ("choice", "sent", "names"),
    [
        ("auto", {"type": "auto"}, ["f", "g"]),
        ("none", {"type": "none"}, ["f", "g"]),
        ("required", {"type": "any"}, ["f", "g"]),
        ({"type": "function", "function": {"name": "g"}}, {"type": "tool", "name": "g"}, ["f", "g"]),
        (allowed("auto", "g"), {"type": "auto"}, ["g"]),
        (allowed("required", "g", "f"), {"type": "any"}, ["f", "g"]),
        (allowed("required", "g"), {"type": "tool", "name": "g"}, ["g"]),
    ],
)
def test_each_form_of_choice_has_its_counterpart(choice: Any, sent: Any, names: list[str]) -> None:
    asked = call(tools=TWO, tool_choice=choice)
    assert body(asked)["tool_choice"] == sent
    assert [tool["name"] for tool in body(asked)["tools"]] == names
    assert notes(asked) == {}


def test_no_choice_is_sent_when_none_was_made() -> None:
    assert "tool_choice" not in body(call(tools=TWO, parallel_tool_calls=True))


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", {"type": "any", "disable_parallel_tool_use": True}),
        ("none", {"type": "none"}),
    ],
)
def test_one_call_at_a_time_is_said_on_the_choice_but_never_with_none(choice: Any, sent: Any) -> None:
    fields = {"tool_choice": choice} if choice else {}
    assert body(call(tools=TWO, parallel_tool_calls=False, **fields))["tool_choice"] == sent


def test_a_choice_without_tools_is_left_out() -> None:
    assert {"tools", "tool_choice"}.isdisjoint(body(call(tool_choice="auto", parallel_tool_calls=False)))


def test_a_model_that_cannot_be_forced_decides_by_itself_and_that_is_reported() -> None:
    asked = call(model="claude-opus-5-5", tools=TWO, tool_choice="required")
    assert body(asked)["tool_choice"] == {"type": "auto"}
    assert notes(asked) == {"tool_choice": "clamped"}


def test_a_native_choice_of_our_own_passes_and_another_is_reported() -> None:
    asked = call(tools=TWO)
    asked.tool_choice.native.CopyFrom(message_pb2.NativePart(dialect=ANTHROPIC, json=b'{"type":"any","x":1}'))
    assert body(asked)["tool_choice"] == {"type": "any", "x": 1}
    foreign = call(tools=TWO, tool_choice={"type": "web_search_preview"})
    assert "tool_choice" not in body(foreign)
    assert notes(foreign) == {"tool_choice": "dropped"}
