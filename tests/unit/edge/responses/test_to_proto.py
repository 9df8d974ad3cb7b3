"""Responses requests to calls: every kind of item and field, and what is refused by name."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import orjson
import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_edge.responses.state import pack
from aigateway_edge.responses.to_proto import response_call
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

_WORDS = (
    *("type", "role", "content", "text", "id", "call_id", "name", "arguments", "input", "output", "summary", "status"),
    *("encrypted_content", "annotations", "image_url", "file_data", "input_audio", "format", "schema", "mode", "tools"),
)
_FIELDS = (
    *("input", "tools", "tool_choice", "text", "reasoning", "include", "metadata", "store", "stream", "stream_options"),
    *("provider_options", "temperature", "top_logprobs", "instructions", "background", "truncation", "user"),
)
RESPONSES = message_pb2.DIALECT_OPENAI_RESPONSES
PNG = base64.b64encode(b"\x89PNG").decode()


def call(**fields: Any) -> chat_pb2.ChatCall:
    return response_call(json.dumps({"model": "m", "input": "Hi"} | fields).encode()).call


def messages(*items: Any, **fields: Any) -> list[message_pb2.Message]:
    return list(call(input=list(items), **fields).messages)


def text(said: str, **more: Any) -> message_pb2.Part:
    return message_pb2.Part(text=message_pb2.TextPart(text=said), **more)


def refused(**fields: Any) -> tuple[str, str]:
    with pytest.raises(GatewayError) as caught:
        call(**fields)
    return caught.value.reason.name, caught.value.details["param"]


def test_a_plain_call() -> None:
    assert call() == text_format.Parse(
        """
        model: "m"
        messages { role: ROLE_USER parts { text { text: "Hi" } } content_shape: CONTENT_SHAPE_STRING }
        options {}
        dialect: DIALECT_OPENAI_RESPONSES
        """,
        chat_pb2.ChatCall(),
    )


def test_instructions_are_the_first_message() -> None:
    first, second = call(instructions="Be kind.").messages
    assert first == message_pb2.Message(role=message_pb2.ROLE_SYSTEM, parts=[text("Be kind.")])
    assert second.role == message_pb2.ROLE_USER


def test_every_kind_of_content() -> None:
    (message,) = messages(
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look"},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "low"},
                {"type": "input_image", "file_id": "file-1"},
                {"type": "input_file", "filename": "a.pdf", "file_data": base64.b64encode(b"%PDF-1").decode()},
                {"type": "input_file", "file_url": "https://example.com/a.pdf"},
                {"type": "input_audio", "input_audio": {"data": PNG, "format": "mp3"}},
                {"type": "a_new_part", "n": 1},
            ],
        }
    )
    media = message_pb2.Media
    assert list(message.parts) == [
        text("Look"),
        message_pb2.Part(
            image=message_pb2.ImagePart(media=media(data=b"\x89PNG", media_type="image/png"), detail="low")
        ),
        message_pb2.Part(image=message_pb2.ImagePart(media=media(file_id="file-1"))),
        message_pb2.Part(
            file=message_pb2.FilePart(media=media(data=b"%PDF-1", media_type="application/pdf"), filename="a.pdf")
        ),
        message_pb2.Part(file=message_pb2.FilePart(media=media(url="https://example.com/a.pdf"))),
        message_pb2.Part(
            audio=message_pb2.AudioPart(media=media(data=b"\x89PNG", media_type="audio/mpeg"), format="mp3")
        ),
        message_pb2.Part(native=message_pb2.NativePart(dialect=RESPONSES, json=b'{"type": "a_new_part", "n": 1}')),
    ]
    assert message.content_shape == message_pb2.CONTENT_SHAPE_LIST


def test_the_models_items_in_a_row_are_one_turn() -> None:
    found = messages(
        {"role": "user", "content": "Weather?"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me look."}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "x"},
        {"type": "function_call_output", "call_id": "c1", "output": "Sunny"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "y"}]},
        {"role": "developer", "content": "Be brief."},
    )
    assert [message.role for message in found] == [
        message_pb2.ROLE_USER,
        message_pb2.ROLE_ASSISTANT,
        message_pb2.ROLE_TOOL,
        message_pb2.ROLE_TOOL,
        message_pb2.ROLE_DEVELOPER,
    ]
    function, custom = message_pb2.TOOL_CALL_TYPE_FUNCTION, message_pb2.TOOL_CALL_TYPE_CUSTOM
    assert list(found[1].parts) == [
        text("Let me look."),
        message_pb2.Part(tool_call=message_pb2.ToolCall(id="c1", name="f", arguments=b"{}", type=function)),
        message_pb2.Part(tool_call=message_pb2.ToolCall(id="c2", name="g", arguments=b"x", type=custom)),
    ]
    result = found[3].parts[0].tool_result
    assert (result.call_id, list(result.content), result.content_shape) == (
        "c2",
        [text("y")],
        message_pb2.CONTENT_SHAPE_LIST,
    )


def test_ids_and_empty_lists_made_here_reach_no_provider() -> None:
    (turn,) = messages(
        {
            "id": "msg_gw_1_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}],
        },
        {
            "id": "fc_gw_1_2",
            "type": "function_call",
            "call_id": "c",
            "name": "f",
            "arguments": "",
            "status": "completed",
        },
    )
    assert [part.extra_json for part in turn.parts] == [b"", b""]


def test_what_openai_made_goes_back_to_it_whole() -> None:
    reasoning = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAA"}
    native = {"id": "ws_1", "type": "web_search_call", "status": "completed"}
    (turn,) = messages(
        reasoning,
        native,
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "phase": "final_answer",
            "new": 1,
            "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
        },
        {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"},
    )
    thought, search, said, wish = turn.parts
    assert thought.reasoning.redacted
    assert thought.provider_state.provider == "openai"
    assert json.loads(thought.provider_state.state) == reasoning
    assert (search.native.dialect, json.loads(search.native.json)) == (RESPONSES, native)
    assert json.loads(said.extra_json) == {
        "id": "msg_1",
        "status": "completed",
        "phase": "final_answer",
        "item": {"new": 1},
        "annotations": [],
    }
    assert json.loads(wish.extra_json) == {"id": "fc_1", "status": "completed"}


def test_state_of_any_provider_comes_back_to_what_it_belongs_to() -> None:
    claude = message_pb2.ProviderState(provider="anthropic", state=b"signature")
    gemini = message_pb2.ProviderState(provider="gemini", state=b"thought \xff")
    (turn,) = messages(
        {"type": "reasoning", "content": [{"text": "Hm"}], "encrypted_content": pack(claude)},
        {"type": "reasoning", "summary": [], "encrypted_content": pack(claude, redacted=True)},
        {"type": "message", "role": "assistant", "content": "Yes."},
        {"type": "reasoning", "summary": [], "encrypted_content": pack(gemini, before=True)},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
        {"type": "reasoning", "summary": [], "encrypted_content": pack(gemini, call="c1")},
    )
    shown, withheld, said, first, second = turn.parts
    assert shown == message_pb2.Part(reasoning=message_pb2.ReasoningPart(text="Hm"), provider_state=claude)
    assert withheld.reasoning.redacted
    assert withheld.provider_state == claude
    assert said == text("Yes.", provider_state=gemini)
    assert first.provider_state == gemini
    assert not second.HasField("provider_state")


def test_broken_state_is_refused_by_name() -> None:
    item = {"type": "reasoning", "summary": [], "encrypted_content": "aigw1_!!"}
    assert refused(input=[item]) == ("INVALID_REQUEST", "input[0].encrypted_content")


def test_tools_and_choices() -> None:
    function = {
        "type": "function",
        "name": "f",
        "parameters": {"type": "object"},
        "strict": True,
        "later": True,
    }
    custom = {"type": "custom", "name": "g", "format": {"type": "text"}}
    asked = call(tools=[function, custom], tool_choice={"type": "function", "name": "f"}, parallel_tool_calls=False)
    first, second = asked.tools
    assert first == message_pb2.Tool(
        function=message_pb2.FunctionTool(name="f", parameters_json=b'{"type": "object"}', strict=True),
        extra_json=b'{"later":true}',
    )
    assert json.loads(second.native.json) == custom
    assert asked.tool_choice == message_pb2.ToolChoice(
        mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED, allowed_tools=["f"], named=True
    )
    assert asked.parallel_tool_calls is False
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}
    assert call(tools=[function], tool_choice=allowed).tool_choice == message_pb2.ToolChoice(
        mode=message_pb2.TOOL_CHOICE_MODE_AUTO, allowed_tools=["f"]
    )
    named = {"type": "custom", "name": "g"}
    assert json.loads(call(tools=[custom], tool_choice=named).tool_choice.native.json) == named
    assert call(tool_choice="none").tool_choice.mode == message_pb2.TOOL_CHOICE_MODE_NONE


def test_form_reasoning_and_limits() -> None:
    form = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    asked = call(
        text={"format": form, "verbosity": "low"},
        reasoning={"effort": "low", "summary": "auto"},
        max_output_tokens=5,
        temperature=0.5,
        top_p=0.9,
        include=["message.output_text.logprobs"],
        top_logprobs=3,
        user="u",
    )
    assert asked.response_format == chat_pb2.ResponseFormat(
        type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA, name="n", schema_json=b'{"type": "object"}', strict=True
    )
    assert asked.reasoning == chat_pb2.ReasoningOptions(effort="low", summary="auto")
    assert asked.options == chat_pb2.GenerationOptions(
        max_output_tokens=5, temperature=0.5, top_p=0.9, logprobs=True, top_logprobs=3
    )
    assert asked.user == "u"
    assert json.loads(asked.extra_json) == {"text": {"verbosity": "low"}}


def test_what_nobody_else_lacks_goes_to_openai_alone() -> None:
    asked = call(
        store=False,
        metadata={"a": "b"},
        include=["reasoning.encrypted_content"],
        truncation="disabled",
        provider_options={"openai": {"store": True, "x": 12345678901234567890}},
        prompt_cache_key="k",
        big=12345678901234567890,
    )
    assert json.loads(asked.provider_options["openai"]) == {
        "store": True,
        "metadata": {"a": "b"},
        "include": ["reasoning.encrypted_content"],
        "truncation": "disabled",
        "x": 12345678901234567890,
    }
    assert asked.extra_json == b'{"prompt_cache_key":"k","big":12345678901234567890}'.replace(b'":', b'":')
    assert json.loads(call(store=True, truncation="auto").extra_json) == {"store": True, "truncation": "auto"}


@pytest.mark.parametrize(
    ("fields", "reason", "param"),
    [
        ({"previous_response_id": "resp_1"}, "UNSUPPORTED", "previous_response_id"),
        ({"conversation": {"id": "c"}}, "UNSUPPORTED", "conversation"),
        ({"prompt": {"id": "p"}}, "UNSUPPORTED", "prompt"),
        ({"background": True}, "UNSUPPORTED", "background"),
        ({"input": [{"id": "msg_1"}]}, "UNSUPPORTED", "input[0]"),
        ({"tools": [{"type": "mcp"}]}, "UNSUPPORTED", "tools[0].type"),
        ({"tool_choice": {"type": "file_search"}}, "UNSUPPORTED", "tool_choice.type"),
        ({"tool_choice": {"type": "function", "name": "f"}}, "INVALID_REQUEST", "tool_choice.name"),
        ({"tool_choice": "maybe"}, "INVALID_REQUEST", "tool_choice"),
        ({"input": []}, "INVALID_REQUEST", "input"),
        ({"input": [7]}, "INVALID_REQUEST", "input[0]"),
        ({"input": [{"role": "robot", "content": "x"}]}, "INVALID_REQUEST", "input[0].role"),
        ({"input": [{"role": "user"}]}, "INVALID_REQUEST", "input[0].content"),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
            "INVALID_REQUEST",
            "input[0].call_id",
        ),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "INVALID_REQUEST", "text.format.schema"),
        ({"text": {"format": {"type": "xml"}}}, "INVALID_REQUEST", "text.format.type"),
        ({"stream_options": {"include_obfuscation": False}}, "INVALID_REQUEST", "stream_options"),
        ({"metadata": {"a": 1}}, "INVALID_REQUEST", "metadata[...]"),
        ({"temperature": 3}, "INVALID_REQUEST", "temperature"),
        ({"max_output_tokens": 0}, "INVALID_REQUEST", "max_output_tokens"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields: dict[str, Any], reason: str, param: str) -> None:
    assert refused(**fields) == (reason, param)


def test_null_asks_for_nothing() -> None:
    fields = (
        "previous_response_id",
        "conversation",
        "background",
        "tools",
        "tool_choice",
        "text",
        "reasoning",
        "store",
    )
    asked = call(**dict.fromkeys(fields))
    assert asked.messages == call().messages
    assert asked.options == call().options
    assert asked.extra_json == b""


def test_reports_name_the_callers_items() -> None:
    body = {
        "model": "m",
        "instructions": "i",
        "input": [
            {"role": "user", "content": "x"},
            {"type": "reasoning", "summary": [{"text": "s"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "y"},
        ],
    }
    parsed = response_call(json.dumps(body).encode())
    report = "messages[0]=a; messages[1].content[0]=b; messages[2].parts[1]=c; messages[3]=d; messages[9]=e"
    assert (
        parsed.renamed(report)
        == "instructions=a; input[0].content[0]=b; input[1].parts[1]=c; input[3]=d; messages[9]=e"
    )


def test_the_answer_repeats_the_request() -> None:
    tools = [{"type": "function", "name": "f", "parameters": {"n": 12345678901234567890}}]
    body = {"model": "m", "input": "x", "tools": tools, "temperature": 0.2, "instructions": "i"}
    echo = response_call(json.dumps(body).encode()).echo
    assert orjson.dumps(echo["tools"]) == json.dumps(tools).encode()
    assert set(echo) >= {"tool_choice", "parallel_tool_calls", "text", "truncation", "metadata"}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**64) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=4),
    max_leaves=12,
)
_KINDS = st.sampled_from(
    ["message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "x_output"]
)


@given(
    st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=5),
    st.lists(st.dictionaries(st.sampled_from(_WORDS), _JSON, max_size=5) | _JSON, max_size=4),
    _KINDS,
)
def test_no_json_is_more_than_a_callers_mistake(fields: dict[str, Any], items: list[Any], kind: str) -> None:
    known = [{"type": kind} | item if isinstance(item, dict) else item for item in items]
    body = json.dumps({"model": "m", "input": known} | fields).encode()
    with suppress(GatewayError):
        orjson.dumps(response_call(body).echo)
