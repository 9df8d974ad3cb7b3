"""A whole answer of an OpenAI-compatible host, and its usage, as the typed one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2, tokens_pb2
from aigateway_providers.openai_compat.response import to_completion, to_finish
from aigateway_providers.openai_compat.usage import to_usage

MODEL = "gpt-4o-2024-08-06"


def answer(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant"} | message, "logprobs": None, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion", "created": 17, "model": MODEL, "choices": [choice]} | more


def said(message: dict[str, Any]) -> message_pb2.Message:
    completion = to_completion(answer(message), [])
    return completion.choices[0].message


def test_a_plain_answer_is_read_whole_and_what_has_no_place_is_kept() -> None:
    body = answer({"content": "Hi", "refusal": None, "annotations": [{"type": "url_citation"}]}, service_tier="default")
    body["choices"][0] |= {"logprobs": {"content": []}, "content_filter_results": {}}
    assert to_completion(body | {"system_fingerprint": None}, [chat_pb2.TranslationNote(field="top_k")]) == (
        chat_pb2.ChatCompletion(
            id="c1",
            created=17,
            model=MODEL,
            choices=[
                chat_pb2.Choice(
                    message=message_pb2.Message(
                        role=message_pb2.ROLE_ASSISTANT,
                        parts=[message_pb2.Part(text=message_pb2.TextPart(text="Hi"))],
                        content_shape=message_pb2.CONTENT_SHAPE_STRING,
                        extra_json=b'{"annotations":[{"type":"url_citation"}]}',
                    ),
                    finish_reason=chat_pb2.FINISH_REASON_STOP,
                    native_finish_reason="stop",
                    logprobs_json=b'{"content":[]}',
                    extra_json=b'{"content_filter_results":{}}',
                )
            ],
            translation=[chat_pb2.TranslationNote(field="top_k")],
            dialect=message_pb2.DIALECT_OPENAI_CHAT,
            extra_json=b'{"service_tier":"default","system_fingerprint":null}',
        )
    )


def test_reasoning_text_refusal_audio_and_tool_calls_come_in_that_order() -> None:
    message = said(
        {
            "reasoning_content": "Hm",
            "content": None,
            "refusal": "No.",
            "audio": {"id": "a1", "data": "UklGRg==", "expires_at": 5, "transcript": "Hi"},
            "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1.0}'}, "extra": 1},
                {"id": "t2", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}},
            ],
        }
    )
    part = message_pb2.Part
    assert message == message_pb2.Message(
        role=message_pb2.ROLE_ASSISTANT,
        parts=[
            part(reasoning=message_pb2.ReasoningPart(text="Hm")),
            part(refusal=message_pb2.RefusalPart(text="No.")),
            part(
                audio=message_pb2.AudioPart(
                    id="a1", media=message_pb2.Media(data=b"RIFF"), expires_at=5, transcript="Hi"
                )
            ),
            part(
                tool_call=message_pb2.ToolCall(
                    id="t1", name="f", arguments=b'{"a": 1.0}', type=message_pb2.TOOL_CALL_TYPE_FUNCTION
                ),
                extra_json=b'{"extra":1}',
            ),
            part(
                tool_call=message_pb2.ToolCall(
                    id="t2", name="sql", arguments=b"SELECT 1", type=message_pb2.TOOL_CALL_TYPE_CUSTOM
                )
            ),
        ],
        content_shape=message_pb2.CONTENT_SHAPE_NULL,
    )


def test_reasoning_shown_twice_is_read_once() -> None:
    parts = said({"content": "Hi", "reasoning": "Hm", "reasoning_content": "Hm"}).parts
    assert [part.WhichOneof("kind") for part in parts] == ["reasoning", "text"]
    assert parts[0].reasoning.text == "Hm"


def test_content_in_parts_keeps_what_only_the_host_understands() -> None:
    message = said({"content": [{"type": "text", "text": "Hi"}, {"type": "thinking", "thinking": []}]})
    native = message_pb2.NativePart(dialect=message_pb2.DIALECT_OPENAI_CHAT, json=b'{"type":"thinking","thinking":[]}')
    assert list(message.parts) == [
        message_pb2.Part(text=message_pb2.TextPart(text="Hi")),
        message_pb2.Part(native=native),
    ]
    assert message.content_shape == message_pb2.CONTENT_SHAPE_LIST


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", chat_pb2.FINISH_REASON_STOP),
        ("length", chat_pb2.FINISH_REASON_LENGTH),
        ("tool_calls", chat_pb2.FINISH_REASON_TOOL_CALLS),
        ("function_call", chat_pb2.FINISH_REASON_TOOL_CALLS),
        ("content_filter", chat_pb2.FINISH_REASON_CONTENT_FILTER),
        ("something_new", chat_pb2.FINISH_REASON_STOP),
    ],
)
def test_each_finish_reason_has_its_meaning(word: str, reason: chat_pb2.FinishReason.ValueType) -> None:
    assert to_finish(word, calls=False) == reason


def test_where_the_host_gives_no_reason_the_answer_tells() -> None:
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    for message, reason in (
        ({"content": "Hi"}, chat_pb2.FINISH_REASON_STOP),
        ({"content": None, "tool_calls": [call]}, chat_pb2.FINISH_REASON_TOOL_CALLS),
    ):
        [choice] = to_completion(answer(message, None), []).choices
        assert (choice.finish_reason, choice.native_finish_reason) == (reason, "")


def test_usage_becomes_disjoint_classes_and_is_kept_whole() -> None:
    native = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 10, "audio_tokens": 7, "image_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 4, "accepted_prediction_tokens": 0},
    }
    usage = to_usage(copy.deepcopy(native))
    assert usage.native_json.startswith(b'{"prompt_tokens":100,')
    usage.ClearField("native_json")
    assert usage == tokens_pb2.TokenUsage(
        input_uncached=26,
        input_cache_read=64,
        input_cache_write_5m=10,
        output_text=20,
        output_reasoning=30,
        input_audio=7,
        input_image=5,
        output_audio=4,
    )


def test_token_classes_nobody_reported_stay_absent() -> None:
    usage = to_usage({"prompt_tokens": 3, "total_tokens": 3, "prompt_tokens_details": None})
    assert usage == tokens_pb2.TokenUsage(
        input_uncached=3, native_json=b'{"prompt_tokens":3,"total_tokens":3,"prompt_tokens_details":null}'
    )


@pytest.mark.parametrize(
    "body", [{}, {"choices": None}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": {"content": 5}}]}]
)
def test_what_is_no_completion_is_not_taken_for_one(body: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        to_completion(body, [])
