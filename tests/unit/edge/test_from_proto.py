"""Whole answers in OpenAI's shape, held against the official SDK's own types."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, embedding_pb2, message_pb2, model_pb2, tokens_pb2
from aigateway_edge.openai import from_proto
from aigateway_edge.openai.to_proto import chat_call
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse
from openai.types import Model as SdkModel
from openai.types.chat import ChatCompletion

OPENAI = message_pb2.DIALECT_OPENAI_CHAT
ANTHROPIC = message_pb2.DIALECT_ANTHROPIC_MESSAGES
Part = message_pb2.Part
NATIVE_USAGE = b'{"prompt_tokens":1,"completion_tokens":0,"total_tokens":1,"queue_time":0.10}'
CUSTOM, FUNCTION = message_pb2.TOOL_CALL_TYPE_CUSTOM, message_pb2.TOOL_CALL_TYPE_FUNCTION
STOP = chat_pb2.FINISH_REASON_STOP


def text(words: str, **more: Any) -> Part:
    return Part(text=message_pb2.TextPart(text=words), **more)


def answer(*parts: Part, **fields: Any) -> chat_pb2.ChatCompletion:
    reason = fields.pop("reason", STOP)
    choice = chat_pb2.Choice(
        message=message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=parts),
        finish_reason=reason,
        native_finish_reason=fields.pop("native", ""),
    )
    given_fields: dict[str, Any] = {
        "id": "chat-1",
        "created": 7,
        "model": "m-1",
        "choices": [choice],
        "dialect": ANTHROPIC,
    }
    return chat_pb2.ChatCompletion(**(given_fields | fields))


def shown(completion: chat_pb2.ChatCompletion, **options: Any) -> dict[str, Any]:
    body, notes = from_proto.chat_completion(completion, request_id="r", **options)
    assert not notes
    ChatCompletion.model_validate_json(body)
    result: dict[str, Any] = json.loads(body)
    return result


def test_the_plainest_answer_has_openais_exact_shape() -> None:
    usage = tokens_pb2.TokenUsage(input_uncached=3, output_text=2)
    assert shown(answer(text("hel"), text("lo"), usage=usage)) == {
        "id": "chat-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def test_usage_adds_the_classes_up_as_openai_does() -> None:
    usage = tokens_pb2.TokenUsage(
        input_uncached=1,
        input_cache_read=2,
        input_cache_write_5m=4,
        input_cache_write_1h=8,
        tool_use_prompt=16,
        output_text=32,
        output_reasoning=64,
        input_audio=1,
        native_json=b'{"input_tokens":1}',
    )
    assert shown(answer(text("x"), usage=usage))["usage"] == {
        "prompt_tokens": 31,
        "completion_tokens": 96,
        "total_tokens": 127,
        "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 1, "cache_write_tokens": 12},
        "completion_tokens_details": {"reasoning_tokens": 64},
    }


def test_unknown_usage_is_null_and_not_zero() -> None:
    assert shown(answer(text("x")))["usage"] is None


def test_a_provider_that_speaks_openai_is_shown_unchanged() -> None:
    completion = answer(
        text("x"),
        dialect=OPENAI,
        native="eos",
        usage=tokens_pb2.TokenUsage(input_uncached=1, native_json=NATIVE_USAGE),
        extra_json=b'{"service_tier":"default","big":123456789012345678901234567890,"model":"never"}',
    )
    completion.choices[0].logprobs_json = b'{"content":null,"refusal":null}'
    completion.choices[0].extra_json = b'{"content_filter_results":{"b":1}}'
    completion.choices[0].message.extra_json = b'{"annotations":[]}'
    body, _ = from_proto.chat_completion(completion, request_id="r")
    assert b'"big":123456789012345678901234567890' in body
    assert b'"queue_time":0.10}' in body
    view = json.loads(body)
    assert view["model"] == "m-1"
    assert view["service_tier"] == "default"
    assert view["choices"][0] == {
        "index": 0,
        "message": {"annotations": [], "role": "assistant", "content": "x", "refusal": None},
        "logprobs": {"content": None, "refusal": None},
        "finish_reason": "eos",
        "content_filter_results": {"b": 1},
    }


def test_the_extra_fields_of_another_dialect_are_not_shown() -> None:
    completion = answer(text("x"), extra_json=b'{"type":"message"}', native="end_turn")
    view = shown(completion)
    assert "type" not in view
    assert view["choices"][0]["native_finish_reason"] == "end_turn"


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("STOP", "stop"),
        ("LENGTH", "length"),
        ("TOOL_CALLS", "tool_calls"),
        ("CONTENT_FILTER", "content_filter"),
        ("UNSPECIFIED", "stop"),
    ],
)
def test_every_finish_reason_has_openais_word(reason: str, word: str) -> None:
    value = chat_pb2.FinishReason.Value(f"FINISH_REASON_{reason}")
    assert shown(answer(text("x"), reason=value))["choices"][0]["finish_reason"] == word


def test_a_paused_turn_is_not_over_and_the_report_says_so() -> None:
    completion = answer(text("x"), reason=chat_pb2.FINISH_REASON_PAUSE, native="pause_turn", dialect=ANTHROPIC)
    body, notes = from_proto.chat_completion(completion, request_id="r")
    choice = json.loads(body)["choices"][0]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == ("length", "pause_turn")
    assert notes == [
        chat_pb2.TranslationNote(
            field="choices[0].finish_reason", action=chat_pb2.TRANSLATION_ACTION_EMULATED, detail="pause_turn"
        )
    ]


def test_tool_calls_and_their_state_are_shown() -> None:
    state = message_pb2.ProviderState
    completion = answer(
        text("see"),
        Part(
            tool_call=message_pb2.ToolCall(id="c1", name="f", arguments=b'{"a":1}'),
            provider_state=state(provider="gemini", state=b"sig=="),
        ),
        Part(
            tool_call=message_pb2.ToolCall(id="c2", name="q", arguments=b"x", type=message_pb2.TOOL_CALL_TYPE_CUSTOM),
            provider_state=state(provider="acme", state=b"\xff"),
        ),
        reason=chat_pb2.FINISH_REASON_TOOL_CALLS,
    )
    assert shown(completion)["choices"][0]["message"] == {
        "role": "assistant",
        "content": "see",
        "refusal": None,
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "f", "arguments": '{"a":1}'},
                "extra_content": {"google": {"thought_signature": "sig=="}},
            },
            {
                "id": "c2",
                "type": "custom",
                "custom": {"name": "q", "input": "x"},
                "extra_content": {"acme": {"state": "/w=="}},
            },
        ],
    }


def test_a_caller_of_functions_reads_a_function_call() -> None:
    call = Part(tool_call=message_pb2.ToolCall(id="c1", name="f", arguments=b"{}"))
    choice = shown(answer(call, reason=chat_pb2.FINISH_REASON_TOOL_CALLS), legacy_functions=True)["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert "tool_calls" not in choice["message"]


def test_a_function_call_has_room_for_one_and_the_report_says_what_else_there_was() -> None:
    calls = [Part(tool_call=message_pb2.ToolCall(id=name, name=name, arguments=b"{}")) for name in ("f", "g")]
    completion = answer(*calls, reason=chat_pb2.FINISH_REASON_TOOL_CALLS)
    body, notes = from_proto.chat_completion(completion, request_id="r", legacy_functions=True)
    assert json.loads(body)["choices"][0]["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert [(note.field, note.detail) for note in notes] == [
        ("choices[0].message.tool_calls[1]", "`function_call` has room for one")
    ]


def test_what_only_the_provider_understands_is_noted() -> None:
    native = message_pb2.NativePart(dialect=ANTHROPIC, json=b'{"type":"server_tool_use","id":"x"}')
    _, notes = from_proto.chat_completion(answer(text("x"), Part(native=native)), request_id="r")
    assert notes == [
        chat_pb2.TranslationNote(
            field="choices[0].message.parts[1]",
            action=chat_pb2.TRANSLATION_ACTION_DROPPED,
            detail="server_tool_use",
        )
    ]


def test_a_picture_of_the_model_is_shown_as_a_data_url() -> None:
    image = message_pb2.ImagePart(media=message_pb2.Media(data=b"hi", media_type="image/png"))
    message = shown(answer(Part(image=image)))["choices"][0]["message"]
    assert message["content"] is None
    assert message["images"] == [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]


states = (
    st.none()
    | st.builds(
        lambda provider, state: message_pb2.ProviderState(provider=provider, state=state),
        st.sampled_from(["anthropic", "openai"]),
        st.binary(min_size=1),
    )
    | st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(
        lambda signature: message_pb2.ProviderState(provider="gemini", state=signature.encode())
    )
)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
reasonings = st.builds(
    lambda said, state, redacted, summary: Part(
        reasoning=message_pb2.ReasoningPart(
            text="" if redacted else said, redacted=redacted, summary=summary and not redacted
        ),
        provider_state=state,
    ),
    words,
    states,
    st.booleans(),
    st.booleans(),
)
calls = st.builds(
    lambda name, arguments, state, custom: Part(
        tool_call=message_pb2.ToolCall(
            id="c", name=name, arguments=arguments.encode(), type=CUSTOM if custom else FUNCTION
        ),
        provider_state=state,
    ),
    words,
    words,
    states,
    st.sampled_from([CUSTOM, FUNCTION]),
)


@given(st.lists(reasonings, max_size=3), words, states, st.lists(calls, max_size=3))
def test_an_answer_sent_back_is_the_same_parts_again(
    reasoning: list[Part], said: str, state: message_pb2.ProviderState | None, tools: list[Part]
) -> None:
    parts = [*reasoning, text(said, provider_state=state), *tools]
    body, _ = from_proto.chat_completion(answer(*parts), request_id="r")
    echoed = json.loads(body)["choices"][0]["message"]
    request = {"model": "m", "messages": [{"role": "user", "content": "x"}, echoed]}
    assert list(chat_call(json.dumps(request).encode()).call.messages[1].parts) == parts


def embedded(**fields: Any) -> embedding_pb2.Embeddings:
    vectors = [embedding_pb2.Embedding(index=0, values=[0.1, -2]), embedding_pb2.Embedding(index=1, values=[3, 4.5])]
    return embedding_pb2.Embeddings(model="e", embeddings=vectors, dialect=ANTHROPIC, **fields)


def test_embeddings_keep_each_decimal() -> None:
    body = from_proto.embeddings(embedded(usage=tokens_pb2.TokenUsage(input_uncached=4)), base64_vectors=False)
    CreateEmbeddingResponse.model_validate_json(body)
    assert json.loads(body) == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.1, -2.0]},
            {"object": "embedding", "index": 1, "embedding": [3.0, 4.5]},
        ],
        "model": "e",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }


def test_base64_embeddings_are_little_endian_floats() -> None:
    view = json.loads(from_proto.embeddings(embedded(), base64_vectors=True))
    assert struct.unpack("<2f", base64.b64decode(view["data"][1]["embedding"])) == (3.0, 4.5)
    assert view["usage"] is None


def test_models_say_what_is_known_of_them() -> None:
    plain = model_pb2.Model(id="acme/m", provider="acme", upstream_model="m")
    rich = model_pb2.Model(
        id="acme/r",
        provider="acme",
        upstream_model="r",
        created=5,
        owned_by="Acme",
        display_name="R",
        context_window=9,
        max_output_tokens=8,
        input_modalities=["text"],
        output_modalities=["text"],
        tools=True,
        reasoning=False,
        structured_output=True,
        input_usd_per_mtok=0.5,
        output_usd_per_mtok=1,
    )
    view = json.loads(from_proto.models([plain, rich], {"beta": "timeout"}))
    assert view["unavailable"] == {"beta": "timeout"}
    assert view["data"][0] == {
        "id": "acme/m",
        "object": "model",
        "created": 0,
        "owned_by": "acme",
        "provider": "acme",
        "upstream_model": "m",
    }
    SdkModel.model_validate(view["data"][1])
    assert view["data"][1] == json.loads(from_proto.model(rich))
    assert view["data"][1] | {"owned_by": "Acme", "context_window": 9, "reasoning": False} == view["data"][1]


def test_models_say_whether_they_are_in_memory_where_their_provider_does() -> None:
    residency = model_pb2.Residency(loaded=True, expires=7, memory_bytes=3, vram_bytes=0, context_window=4096)
    found = [
        model_pb2.Model(id="ollama/a", residency=residency),
        model_pb2.Model(id="ollama/b", residency=model_pb2.Residency()),
        model_pb2.Model(id="acme/c"),
    ]
    first, second, third = json.loads(from_proto.models(found, {}))["data"]
    SdkModel.model_validate(first)
    assert first["loaded"] is True
    assert first["residency"] == {"expires_at": 7, "memory_bytes": 3, "vram_bytes": 0, "context_window": 4096}
    assert second["loaded"] is False
    assert "residency" not in second
    assert "loaded" not in third
