"""Whole answers of OpenAI's Responses API, written from https://platform.openai.com/docs/api-reference/responses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2, tokens_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.openai_responses.models import responses_only
from aigateway_providers.openai_responses.response import to_completion
from openai.types.chat.chat_completion import ChoiceLogprobs

DIALECT = message_pb2.DIALECT_OPENAI_RESPONSES


def answer(*output: dict[str, Any], **more: Any) -> chat_pb2.ChatCompletion:
    body = {"id": "resp_1", "object": "response", "created_at": 17, "model": "gpt-5", "status": "completed"}
    return to_completion(json.dumps(body | {"output": output} | more).encode(), [], provider="openai")


def message(*content: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [*content]} | more


def parts(*output: dict[str, Any]) -> list[message_pb2.Part]:
    return list(answer(*output).choices[0].message.parts)


def test_a_plain_answer() -> None:
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 17,
    }
    piece = {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}
    assert answer(message(piece), usage=usage, metadata={"big": 12345678901234567890}) == chat_pb2.ChatCompletion(
        id="resp_1",
        created=17,
        model="gpt-5",
        dialect=DIALECT,
        choices=[
            chat_pb2.Choice(
                message=message_pb2.Message(
                    role=message_pb2.ROLE_ASSISTANT,
                    content_shape=message_pb2.CONTENT_SHAPE_LIST,
                    parts=[
                        message_pb2.Part(
                            text=message_pb2.TextPart(text="Hi"),
                            extra_json=b'{"id":"msg_1","status":"completed","annotations":[],"logprobs":[]}',
                        )
                    ],
                ),
                finish_reason=chat_pb2.FINISH_REASON_STOP,
                native_finish_reason="completed",
            )
        ],
        usage=tokens_pb2.TokenUsage(
            input_uncached=5,
            input_cache_read=4,
            input_cache_write_5m=1,
            output_text=5,
            output_reasoning=2,
            native_json=json.dumps(usage).encode(),
        ),
        extra_json=b'{"status":"completed","metadata":{"big": 12345678901234567890}}',
    )


def test_log_probabilities_have_the_shape_that_chat_callers_know() -> None:
    token = {"token": "Hi", "logprob": -0.25, "bytes": [72, 105], "top_logprobs": [{"token": "Yo", "logprob": -2.5}]}
    pieces = [{"type": "output_text", "text": text, "logprobs": [token]} for text in ("Hi", "Hi")]
    told = json.loads(answer(message(*pieces)).choices[0].logprobs_json)
    whole = token | {"top_logprobs": [{"token": "Yo", "logprob": -2.5, "bytes": None}]}
    assert told == {"content": [whole, whole], "refusal": None}
    ChoiceLogprobs.model_validate(told)


def test_reasoning_is_shown_and_kept_whole() -> None:
    shown = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}],
        "encrypted_content": "e",
    }
    hidden = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "f"}
    bare = {"type": "reasoning", "id": "rs_3", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    found = parts(shown, hidden, bare)
    assert [part.reasoning for part in found] == [
        message_pb2.ReasoningPart(text="one\n\ntwo", summary=True),
        message_pb2.ReasoningPart(redacted=True),
        message_pb2.ReasoningPart(text="hm"),
    ]
    assert [part.provider_state.provider for part in found] == ["openai"] * 3
    assert [json.loads(part.provider_state.state) for part in found] == [shown, hidden, bare]


def test_tool_calls_of_both_kinds_keep_their_other_fields() -> None:
    called = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "", "status": "x"}
    custom = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_2", "name": "g", "input": "free"}
    completion = answer(called, custom)
    assert list(completion.choices[0].message.parts) == [
        message_pb2.Part(
            tool_call=message_pb2.ToolCall(id="call_1", name="f", type=message_pb2.TOOL_CALL_TYPE_FUNCTION),
            extra_json=b'{"id":"fc_1","status":"x"}',
        ),
        message_pb2.Part(
            tool_call=message_pb2.ToolCall(
                id="call_2", name="g", arguments=b"free", type=message_pb2.TOOL_CALL_TYPE_CUSTOM
            ),
            extra_json=b'{"id":"ctc_1"}',
        ),
    ]
    assert completion.choices[0].finish_reason == chat_pb2.FINISH_REASON_TOOL_CALLS


def test_refusals_and_what_only_openai_understands() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}
    empty = message()
    video = {"type": "output_video", "x": 1}
    odd = message(video)
    found = parts(search, message({"type": "refusal", "refusal": "No"}, video, new=1), empty, odd)
    assert [part.WhichOneof("kind") for part in found] == ["native", "refusal", "native", "native", "native"]
    assert [json.loads(part.native.json) for part in (found[0], *found[2:])] == [search, video, empty, odd]
    assert found[1].extra_json == found[2].extra_json
    assert json.loads(found[1].extra_json) == {"id": "msg_1", "status": "completed", "item": {"new": 1}}


@pytest.mark.parametrize(
    ("status", "details", "reason", "native"),
    [
        ("incomplete", {"reason": "max_output_tokens"}, chat_pb2.FINISH_REASON_LENGTH, "max_output_tokens"),
        ("incomplete", {"reason": "content_filter"}, chat_pb2.FINISH_REASON_CONTENT_FILTER, "content_filter"),
        ("incomplete", None, chat_pb2.FINISH_REASON_LENGTH, "incomplete"),
        ("cancelled", None, chat_pb2.FINISH_REASON_ERROR, "cancelled"),
        ("in_progress", None, chat_pb2.FINISH_REASON_PAUSE, "in_progress"),
    ],
)
def test_why_it_stopped(status: str, details: Any, reason: int, native: str) -> None:
    [choice] = answer(status=status, incomplete_details=details).choices
    assert (choice.finish_reason, choice.native_finish_reason) == (reason, native)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("server_error", "UPSTREAM_ERROR"),
        ("rate_limit_exceeded", "UPSTREAM_RATE_LIMITED"),
        ("invalid_prompt", "INVALID_REQUEST"),
        ("invalid_image", "INVALID_REQUEST"),
    ],
)
def test_a_failed_answer_is_an_error_by_its_code(code: str, reason: str) -> None:
    with pytest.raises(GatewayError) as caught:
        answer(status="failed", error={"code": code, "message": "why"})
    assert caught.value.reason.name == reason


def test_absent_tokens_stay_absent() -> None:
    assert not answer(usage=None).HasField("usage")
    assert answer(usage={"input_tokens": 3}).usage == tokens_pb2.TokenUsage(
        input_uncached=3, native_json=b'{"input_tokens": 3}'
    )


@pytest.mark.parametrize(
    "model",
    [
        "o1-pro",
        "o3-pro-2025-06-10",
        "gpt-5-pro",
        "gpt-5.5-pro-2026-04-23",
        "gpt-5-codex",
        "gpt-5.1-codex-max",
        "gpt-5.1-codex-mini",
        "codex-mini-latest",
        "o3-deep-research",
        "o4-mini-deep-research-2025-06-26",
        "computer-use-preview-2025-03-11",
        "gpt-daybreak-blue-latest",
        "gpt-5.6-cyber",
    ],
)
def test_models_that_only_the_responses_api_has(model: str) -> None:
    assert responses_only(model)


@pytest.mark.parametrize("model", ["gpt-5", "gpt-5.1", "gpt-5-mini", "o1", "o3-mini", "gpt-4o", "gpt-5-chat-latest"])
def test_models_that_chat_completions_has_too(model: str) -> None:
    assert not responses_only(model)
