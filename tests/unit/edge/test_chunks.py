"""Streams in OpenAI's shape, held against the official SDK's own types."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2, tokens_pb2
from aigateway_common.errors import GatewayError
from aigateway_common.sse import SSEReader
from aigateway_edge.openai.chunks import Chunks, error_record
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk
from support.edge import Event, finish, start

GOOGLE = {"google": {"thought_signature": "sig"}}
OPENAI = message_pb2.DIALECT_OPENAI_CHAT


def records(
    *events: chat_pb2.ChatEvent, include_usage: bool = False, legacy: bool = False, strict: bool = True
) -> list[dict[str, Any]]:
    """The stream's records without `[DONE]`; with `strict` each is a chunk that the SDK's type takes."""
    chunks = Chunks(request_id="r", include_usage=include_usage, legacy_functions=legacy)
    found = SSEReader().feed(chunks.write(events) + chunks.end())
    assert found[-1].data == b"[DONE]"
    for record in found[:-1]:
        if strict:
            ChatCompletionChunk.model_validate_json(record.data)
    return [json.loads(record.data) for record in found[:-1]]


def deltas(*events: chat_pb2.ChatEvent, **options: Any) -> list[dict[str, Any]]:
    """The deltas after the first, which gives the role."""
    found = [record["choices"][0]["delta"] for record in records(start(), *events, **options)]
    assert found[0] == {"role": "assistant", "content": ""}
    return found[1:]


def chunk(delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    head = {"id": "chat-1", "object": "chat.completion.chunk", "created": 7, "model": "m-1"}
    return head | {"choices": [choice]} | more


def test_the_plainest_stream_has_openais_exact_shape() -> None:
    assert records(start(), Event(text="he"), Event(text="y"), finish()) == [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "he"}),
        chunk({"content": "y"}),
        chunk({}, "stop"),
    ]


def test_usage_comes_only_when_asked_for_and_then_is_null_before() -> None:
    tokens = Event(usage=tokens_pb2.TokenUsage(input_uncached=3, output_text=2))
    assert all("usage" not in record for record in records(start(), Event(text="x"), finish(), tokens))
    found = records(start(), Event(text="x"), finish(), tokens, include_usage=True)
    assert [record["usage"] for record in found[:-1]] == [None, None, None]
    assert found[-1] == chunk({}) | {
        "choices": [],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def test_a_provider_that_speaks_openai_keeps_its_own_fields() -> None:
    usage = tokens_pb2.TokenUsage(
        native_json=b'{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"queue_time":0.5}'
    )
    found = records(
        start(dialect=OPENAI, extra_json=b'{"service_tier":null,"system_fingerprint":"fp"}'),
        Event(text="x", extra_json=b'{"obfuscation":"abc"}', logprobs_json=b'{"content":[],"refusal":null}'),
        Event(text="y", extra_json=b'{"service_tier":"flex"}', choice_extra_json=b'{"c":1}', delta_extra_json=b"{ }"),
        Event(extra=chat_pb2.StreamExtra(), delta_extra_json=b'{"annotations":[1]}'),
        Event(extra=chat_pb2.StreamExtra(), extra_json=b'{"x_groq":{"id":"q"}}'),
        finish(native="eos"),
        Event(usage=usage),
        include_usage=True,
        strict=False,  # `eos` is none of the SDK's words
    )
    own: dict[str, Any] = {"usage": None, "service_tier": None, "system_fingerprint": "fp"}
    expected = [
        chunk({"role": "assistant", "content": ""}, **own),
        chunk({"content": "x"}, **own, obfuscation="abc"),
        chunk({"content": "y"}, **(own | {"service_tier": "flex"})),
        chunk({"annotations": [1]}, **own),
        chunk({}, **own, x_groq={"id": "q"}) | {"choices": []},
        chunk({}, "eos", **own),
        chunk({}, **own) | {"choices": [], "usage": json.loads(usage.native_json)},
    ]
    expected[1]["choices"][0]["logprobs"] = {"content": [], "refusal": None}
    expected[2]["choices"][0]["c"] = 1
    assert found == expected


def test_what_the_provider_wrote_when_a_choice_begins_stands_in_place_of_the_empty_text() -> None:
    found = records(
        Event(start=start(dialect=OPENAI).start, delta_extra_json=b'{"content":null,"refusal":null}'),
        Event(choice=1, extra=chat_pb2.StreamExtra(), delta_extra_json=b'{"refusal":null}'),
        Event(choice=1, text="x"),
    )
    assert [record["choices"][0]["delta"] for record in found] == [
        {"role": "assistant", "content": None, "refusal": None},
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "x"},
    ]


def test_extra_fields_of_the_usage_chunk_stay_with_it() -> None:
    events = (
        start(dialect=OPENAI, extra_json=b'{"service_tier":null}'),
        finish(),
        Event(
            usage=tokens_pb2.TokenUsage(native_json=b'{"total_tokens":3}'),
            extra_json=b'{"service_tier":"flex","p":"x"}',
        ),
    )
    last = records(*events, include_usage=True, strict=False)[-1]
    assert (last["usage"], last["service_tier"], last["p"]) == ({"total_tokens": 3}, "flex", "x")
    assert [record["choices"][0]["finish_reason"] for record in records(*events)] == [None, "stop"]


def test_the_extra_fields_of_another_dialect_are_not_shown() -> None:
    found = records(start(), Event(text="x", extra_json=b'{"type":"ping"}', delta_extra_json=b'{"a":1}'), finish())
    assert found[1] == chunk({"content": "x"})


def test_parallel_tool_calls_keep_their_indexes_and_state() -> None:
    call = chat_pb2.ToolCallStart
    state = message_pb2.ProviderState(provider="gemini", state=b"sig")
    assert deltas(
        Event(part=1, tool_call=call(id="c1", name="f", index=0)),
        Event(part=1, arguments='{"a"'),
        Event(part=2, tool_call=call(id="c2", name="q", index=1, type=message_pb2.TOOL_CALL_TYPE_CUSTOM)),
        Event(part=1, arguments=":1}"),
        Event(part=2, arguments="x"),
        Event(part=1, provider_state=state),
        Event(part=2, provider_state=state),
        strict=False,  # the SDK's type of a chunk knows no custom tools
    ) == [
        {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 1, "id": "c2", "type": "custom", "custom": {"name": "q", "input": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
        {"tool_calls": [{"index": 1, "custom": {"input": "x"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ""}, "extra_content": GOOGLE}]},
        {"tool_calls": [{"index": 1, "custom": {"input": ""}, "extra_content": GOOGLE}]},
    ]


def test_a_caller_of_functions_reads_a_function_call() -> None:
    call = Event(tool_call=chat_pb2.ToolCallStart(id="c1", name="f"))
    found = records(start(), call, Event(arguments="{}"), finish("TOOL_CALLS"), legacy=True)
    assert [record["choices"][0]["delta"] for record in found[1:]] == [
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": "{}"}},
        {},
    ]
    assert found[-1]["choices"][0]["finish_reason"] == "function_call"


def test_a_function_call_has_room_for_one_and_a_comment_says_that_there_were_more() -> None:
    def begin(part: int, name: str) -> chat_pb2.ChatEvent:
        return Event(part=part, tool_call=chat_pb2.ToolCallStart(id=name, name=name, index=part))

    chunks = Chunks(request_id="r", include_usage=False, legacy_functions=True)
    chunks.write([start()])
    told = chunks.write([begin(0, "f"), begin(1, "g"), Event(part=1, arguments="[]"), Event(part=0, arguments="{}")])
    first, comment, last = told.decode().strip().split("\n\n")
    assert [json.loads(record[6:])["choices"][0]["delta"]["function_call"] for record in (first, last)] == [
        {"name": "f", "arguments": ""},
        {"arguments": "{}"},
    ]
    assert comment == ": x-gateway-translation: choices[0]=dropped(tool_call)"


def test_reasoning_with_state_is_told_whole_at_the_end() -> None:
    state = message_pb2.ProviderState
    assert deltas(
        Event(part=0, reasoning="let "),
        Event(part=0, reasoning="me"),
        Event(part=0, provider_state=state(provider="anthropic", state=b"sig")),
        Event(part=1, redacted=chat_pb2.RedactedReasoning()),
        Event(part=1, provider_state=state(provider="anthropic", state=b"x")),
        Event(part=2, text="ok"),
        finish(),
    ) == [
        {"reasoning_content": "let "},
        {"reasoning_content": "me"},
        {"content": "ok"},
        {
            "reasoning_details": [
                {"type": "reasoning.text", "text": "let me", "provider": "anthropic", "state": "c2ln"},
                {"type": "reasoning.encrypted", "provider": "anthropic", "state": "eA=="},
            ]
        },
    ]


def test_reasoning_without_state_is_not_told_twice() -> None:
    assert deltas(Event(reasoning="hm"), finish()) == [{"reasoning_content": "hm"}, {}]


def test_text_state_refusal_and_audio_have_their_deltas() -> None:
    state = message_pb2.ProviderState(provider="gemini", state=b"sig")
    assert deltas(
        Event(part=0, provider_state=state),
        Event(part=1, refusal="no"),
        Event(part=2, audio=chat_pb2.AudioDelta(id="a", data=b"hi", transcript="t", expires_at=9)),
    ) == [
        {"extra_content": {"google": {"thought_signature": "sig"}}},
        {"refusal": "no"},
        {"audio": {"id": "a", "data": "aGk=", "transcript": "t", "expires_at": 9}},
    ]


def test_every_answer_begins_with_its_role_and_ends_once() -> None:
    found = records(start(), Event(choice=1, text="b"), Event(text="a"), finish(choice=1), finish("LENGTH"))
    assert [(r["choices"][0]["index"], r["choices"][0]["delta"], r["choices"][0]["finish_reason"]) for r in found] == [
        (0, {"role": "assistant", "content": ""}, None),
        (1, {"role": "assistant", "content": ""}, None),
        (1, {"content": "b"}, None),
        (0, {"content": "a"}, None),
        (1, {}, "stop"),
        (0, {}, "length"),
    ]


def test_a_foreign_stop_reason_is_told_beside_openais() -> None:
    choice = records(start(), finish("PAUSE", native="pause_turn"))[-1]["choices"][0]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == ("length", "pause_turn")


def test_a_paused_turn_leaves_a_comment() -> None:
    written = Chunks(request_id="r", include_usage=False).write([start(), finish("PAUSE", native="pause_turn")])
    assert written.count(b": x-gateway-translation: choices[0].finish_reason=emulated(pause_turn)\n\n") == 1
    written = Chunks(request_id="r", include_usage=False).write([start(), finish("LENGTH", native="max_tokens")])
    assert b"x-gateway-translation" not in written


def test_what_only_the_provider_understands_leaves_a_comment() -> None:
    native = message_pb2.NativePart(
        dialect=message_pb2.DIALECT_ANTHROPIC_MESSAGES, json=b'{"type":"server_tool_use\\n\\ndata: x"}'
    )
    chunks = Chunks(request_id="r", include_usage=False)
    chunks.write([start()])
    assert chunks.write([Event(native=native)]) == (
        b": x-gateway-translation: choices[0]=dropped(server_tool_usedatax)\n\n"
    )


def test_a_failure_is_one_record_in_openais_shape() -> None:
    assert error_record(GatewayError("UPSTREAM_INVALID", "cut short")) == (
        b'data: {"error":{"message":"cut short","type":"api_error","code":"upstream_invalid_response",'
        b'"param":null}}\n\n'
    )


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=20), st.booleans())
def test_any_text_arrives_whole(pieces: list[str], usage: bool) -> None:
    found = deltas(*(Event(text=piece) for piece in pieces), finish(), include_usage=usage)
    assert [delta["content"] for delta in found[:-1]] == pieces


@pytest.mark.parametrize("reason", ["STOP", "LENGTH", "TOOL_CALLS", "CONTENT_FILTER"])
def test_each_common_reason_is_a_word_of_the_sdk(reason: str) -> None:
    assert records(start(), finish(reason))[-1]["choices"][0]["finish_reason"] == reason.lower()
