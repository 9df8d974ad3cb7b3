"""Anthropic answers to completions: parts, state, finish reasons, token classes and unknown fields."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from aigateway.v1 import chat_pb2, message_pb2, tokens_pb2
from aigateway_providers.anthropic.request import Request
from aigateway_providers.anthropic.response import completion
from aigateway_providers.anthropic.usage import token_usage

ANTHROPIC = message_pb2.DIALECT_ANTHROPIC_MESSAGES
REQUEST = Request(b"{}", "", [chat_pb2.TranslationNote(field="seed", action=chat_pb2.TRANSLATION_ACTION_DROPPED)])
ANSWER: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "Hi."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 2},
}


def read(**changes: Any) -> chat_pb2.ChatCompletion:
    return completion(json.dumps(ANSWER | changes).encode(), REQUEST, created=7)


def parts(*blocks: Any) -> list[message_pb2.Part]:
    return list(read(content=blocks).choices[0].message.parts)


def state(opaque: str) -> message_pb2.ProviderState:
    return message_pb2.ProviderState(provider="anthropic", state=opaque.encode())


def test_a_plain_answer_is_read_whole() -> None:
    assert read() == chat_pb2.ChatCompletion(
        id="msg_1",
        created=7,
        model="claude-sonnet-4-5-20250929",
        choices=[
            chat_pb2.Choice(
                message=message_pb2.Message(
                    role=message_pb2.ROLE_ASSISTANT,
                    parts=[message_pb2.Part(text=message_pb2.TextPart(text="Hi."))],
                ),
                finish_reason=chat_pb2.FINISH_REASON_STOP,
                native_finish_reason="end_turn",
            )
        ],
        usage=tokens_pb2.TokenUsage(
            input_uncached=3, output_text=2, native_json=b'{"input_tokens": 3, "output_tokens": 2}'
        ),
        translation=REQUEST.translation,
        dialect=ANTHROPIC,
    )


def test_blocks_become_parts_in_order() -> None:
    whole = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}}
    assert parts(
        {"type": "thinking", "thinking": "Hm.", "signature": "sig=="},
        {"type": "redacted_thinking", "data": "blob"},
        {"type": "text", "text": "Well."},
        whole,
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"b": 1, "a": 12345678901234567890123}},
    ) == [
        message_pb2.Part(reasoning=message_pb2.ReasoningPart(text="Hm."), provider_state=state("sig==")),
        message_pb2.Part(reasoning=message_pb2.ReasoningPart(redacted=True), provider_state=state("blob")),
        message_pb2.Part(text=message_pb2.TextPart(text="Well.")),
        message_pb2.Part(native=message_pb2.NativePart(dialect=ANTHROPIC, json=json.dumps(whole).encode())),
        message_pb2.Part(
            tool_call=message_pb2.ToolCall(
                id="toolu_1",
                name="f",
                arguments=b'{"b": 1, "a": 12345678901234567890123}',
                type=message_pb2.TOOL_CALL_TYPE_FUNCTION,
            )
        ),
    ]


def test_citations_and_other_unknown_fields_of_a_block_stay_on_its_part() -> None:
    cited, called = parts(
        {"type": "text", "text": "t", "citations": [{"type": "char_location"}]},
        {"type": "tool_use", "id": "i", "name": "f", "input": {}, "caller": {"type": "direct"}},
    )
    assert json.loads(cited.extra_json) == {"citations": [{"type": "char_location"}]}
    assert json.loads(called.extra_json) == {"caller": {"type": "direct"}}
    assert parts({"type": "text", "text": "t", "citations": None})[0].extra_json == b'{"citations":null}'


def test_a_block_of_a_kind_to_come_is_kept_whole() -> None:
    (part,) = parts({"type": "hologram", "x": [1]})
    assert json.loads(part.native.json) == {"type": "hologram", "x": [1]}


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("end_turn", chat_pb2.FINISH_REASON_STOP),
        ("stop_sequence", chat_pb2.FINISH_REASON_STOP),
        ("compaction", chat_pb2.FINISH_REASON_STOP),
        ("max_tokens", chat_pb2.FINISH_REASON_LENGTH),
        ("model_context_window_exceeded", chat_pb2.FINISH_REASON_LENGTH),
        ("refusal", chat_pb2.FINISH_REASON_CONTENT_FILTER),
        ("pause_turn", chat_pb2.FINISH_REASON_PAUSE),
        ("something_new", chat_pb2.FINISH_REASON_STOP),
    ],
)
def test_stop_reasons_have_their_counterparts_and_stay_readable(native: str, reason: int) -> None:
    choice = read(stop_reason=native).choices[0]
    assert (choice.finish_reason, choice.native_finish_reason) == (reason, native)


def test_a_tool_call_stops_with_tool_calls() -> None:
    call = {"type": "tool_use", "id": "i", "name": "f", "input": {}}
    choice = read(stop_reason="tool_use", content=[call]).choices[0]
    assert choice.finish_reason == chat_pb2.FINISH_REASON_TOOL_CALLS


def test_the_matched_stop_text_is_kept() -> None:
    assert read(stop_reason="stop_sequence", stop_sequence="END").choices[0].stop_sequence == "END"


def test_unknown_fields_of_the_answer_come_back() -> None:
    extra = read(container={"id": "c"}, stop_details=None).extra_json
    assert json.loads(extra) == {"container": {"id": "c"}, "stop_details": None}


def test_an_answer_without_content_or_usage_is_an_answer() -> None:
    empty = read(content=[], usage=None)
    assert (len(empty.choices[0].message.parts), empty.HasField("usage")) == (0, False)


@pytest.mark.parametrize("body", [b"[]", b"<html>", b'{"id": 1}', b'{"id": "m", "model": "x", "content": [1]}'])
def test_anything_else_is_no_answer(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        completion(body, REQUEST, created=1)


# Tokens


def tokens(**fields: Any) -> tokens_pb2.TokenUsage:
    usage = token_usage(json.dumps(fields).encode())
    assert usage is not None
    usage.ClearField("native_json")
    return usage


def test_token_classes_are_disjoint() -> None:
    assert tokens(
        input_tokens=10,
        cache_read_input_tokens=20,
        cache_creation_input_tokens=7,
        cache_creation={"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 3},
        output_tokens=9,
        output_tokens_details={"thinking_tokens": 5},
    ) == tokens_pb2.TokenUsage(
        input_uncached=10,
        input_cache_read=20,
        input_cache_write_5m=4,
        input_cache_write_1h=3,
        output_text=4,
        output_reasoning=5,
    )


def test_what_was_not_reported_stays_absent() -> None:
    assert tokens(input_tokens=1) == tokens_pb2.TokenUsage(input_uncached=1)
    assert tokens(cache_creation_input_tokens=7) == tokens_pb2.TokenUsage(input_cache_write_5m=7)


def test_the_providers_own_usage_is_kept_whole() -> None:
    assert token_usage(b'{"input_tokens": 1, "service_tier": "standard"}') == tokens_pb2.TokenUsage(
        input_uncached=1, native_json=b'{"input_tokens": 1, "service_tier": "standard"}'
    )
