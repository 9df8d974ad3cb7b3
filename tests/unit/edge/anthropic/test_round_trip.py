"""Anthropic's dialect in and out: what a client is shown comes back as it was, whichever provider answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2, tokens_pb2
from aigateway_common.errors import GatewayError
from aigateway_common.sse import SSEReader
from aigateway_edge.anthropic.events import Events
from aigateway_edge.anthropic.failures import body as failure
from aigateway_edge.anthropic.failures import status
from aigateway_edge.anthropic.from_proto import message
from aigateway_edge.anthropic.to_proto import messages_call
from anthropic.types import Message
from hypothesis import given
from hypothesis import strategies as st

HI = {"role": "user", "content": "Hi"}
Part = message_pb2.Part
SIGNED = message_pb2.ProviderState(provider="gemini", state=b"sig\x00\xff")
TOOL = message_pb2.ToolCall(id="c1", name="f", arguments=b'{"a": 1}', type=message_pb2.TOOL_CALL_TYPE_FUNCTION)


def text(value: str, **more: Any) -> message_pb2.Part:
    return Part(text=message_pb2.TextPart(text=value), **more)


def thought(value: str, **more: Any) -> message_pb2.Part:
    return Part(reasoning=message_pb2.ReasoningPart(text=value), **more)


def answer(*parts: message_pb2.Part, **more: Any) -> chat_pb2.ChatCompletion:
    said = message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=parts)
    fields: dict[str, Any] = {"id": "x-1", "model": "m-1", "dialect": message_pb2.DIALECT_GEMINI} | more
    choice = chat_pb2.Choice(message=said, finish_reason=chat_pb2.FINISH_REASON_STOP)
    return chat_pb2.ChatCompletion(choices=[choice], **fields)


def shown(completion: chat_pb2.ChatCompletion) -> dict[str, Any]:
    found, notes = message(completion, request_id="r")
    assert notes == []
    Message.model_validate_json(found)
    view: dict[str, Any] = json.loads(found)
    return view


def echoed(content: Any) -> list[message_pb2.Part]:
    """What a client that sends `content` back says, as parts."""
    sent = {"model": "m", "max_tokens": 1, "messages": [HI, {"role": "assistant", "content": content}, HI]}
    return list(messages_call(json.dumps(sent).encode()).call.messages[1].parts)


def events(parts: list[message_pb2.Part]) -> list[chat_pb2.ChatEvent]:
    """The parts as a provider streams them."""
    found = [chat_pb2.ChatEvent(start=chat_pb2.StreamStart(id="x-1", model="m-1", dialect=message_pb2.DIALECT_GEMINI))]
    for index, part in enumerate(parts):
        match part.WhichOneof("kind"):
            case "text":
                found.append(chat_pb2.ChatEvent(part=index, text=part.text.text))
            case "reasoning" if part.reasoning.redacted:
                found.append(chat_pb2.ChatEvent(part=index, redacted=chat_pb2.RedactedReasoning()))
            case "reasoning":
                found.append(chat_pb2.ChatEvent(part=index, reasoning=part.reasoning.text))
            case _:
                call = part.tool_call
                started = chat_pb2.ToolCallStart(id=call.id, name=call.name, type=call.type)
                found.append(chat_pb2.ChatEvent(part=index, tool_call=started))
                found.append(chat_pb2.ChatEvent(part=index, arguments=call.arguments.decode()))
        if part.HasField("provider_state"):
            found.append(chat_pb2.ChatEvent(part=index, provider_state=part.provider_state))
    found.append(chat_pb2.ChatEvent(finish=chat_pb2.StreamFinish(reason=chat_pb2.FINISH_REASON_STOP)))
    found.append(chat_pb2.ChatEvent(usage=tokens_pb2.TokenUsage(input_uncached=3, output_text=2)))
    return found


def streamed(*found: chat_pb2.ChatEvent) -> list[dict[str, Any]]:
    writer = Events(request_id="r")
    records = SSEReader().feed(writer.write(found) + writer.end())
    bodies = [json.loads(record.data) for record in records]
    assert [record.event for record in records] == [one["type"] for one in bodies]
    return bodies


def gathered(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The content that a stream adds up to; that blocks follow each other is asserted on the way."""
    content: list[dict[str, Any]] = []
    is_open = False
    for record in records:
        match record["type"]:
            case "content_block_start":
                assert (is_open, record["index"]) == (False, len(content))
                content.append(record["content_block"])
                is_open = True
            case "content_block_delta":
                assert (is_open, record["index"]) == (True, len(content) - 1)
                delta, block = dict(record["delta"]), content[-1]
                kind = delta.pop("type")
                if kind == "input_json_delta":
                    block["input"] = json.loads(delta["partial_json"])
                else:
                    ((key, value),) = delta.items()
                    block[key] += value
            case "content_block_stop":
                is_open = False
            case _:
                pass
    assert not is_open
    return content


STATES = st.one_of(
    st.none(),
    st.builds(
        message_pb2.ProviderState,
        provider=st.sampled_from(["gemini", "openai"]),
        state=st.binary(min_size=1, max_size=9),
    ),
)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)
PARTS = st.lists(
    st.one_of(
        st.builds(text, WORDS, provider_state=STATES),
        st.builds(thought, WORDS, provider_state=STATES),
        st.builds(Part, tool_call=st.just(TOOL), provider_state=STATES),
        st.builds(
            Part,
            reasoning=st.just(message_pb2.ReasoningPart(redacted=True)),
            provider_state=STATES.filter(lambda state: state is not None),
        ),
    ),
    min_size=1,
    max_size=6,
)


@given(PARTS)
def test_any_answer_that_a_client_echoes_comes_back_with_its_state(parts: list[message_pb2.Part]) -> None:
    assert echoed(shown(answer(*parts))["content"]) == parts


@given(PARTS)
def test_any_stream_that_a_client_echoes_comes_back_with_its_state(parts: list[message_pb2.Part]) -> None:
    assert echoed(gathered(streamed(*events(parts)))) == parts


def test_a_signed_tool_call_is_preceded_by_thinking_that_carries_the_signature() -> None:
    parts = [thought("Let me see."), Part(tool_call=TOOL, provider_state=SIGNED)]
    content = shown(answer(*parts))["content"]
    assert [block["type"] for block in content] == ["thinking", "tool_use"]
    assert content == gathered(streamed(*events(parts)))
    assert echoed(content) == parts


def test_an_empty_text_that_only_carries_state_comes_back_as_such() -> None:
    parts = [text("It rains."), text("", provider_state=SIGNED)]
    content = shown(answer(*parts))["content"]
    assert content == gathered(streamed(*events(parts)))
    assert echoed(content) == parts


def test_anthropics_own_signature_is_shown_as_it_is() -> None:
    state = message_pb2.ProviderState(provider="anthropic", state=b"Ep0C+/==")
    (block,) = shown(answer(thought("t", provider_state=state)))["content"]
    assert block == {"type": "thinking", "thinking": "t", "signature": "Ep0C+/=="}
    assert echoed([block]) == [thought("t", provider_state=state)]


def test_a_stream_of_another_provider_has_anthropics_events() -> None:
    assert streamed(*events([text("Hi")])) == [
        {
            "type": "message_start",
            "message": {
                "id": "x-1",
                "type": "message",
                "role": "assistant",
                "model": "m-1",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": 0, "output_tokens": 0},
            },
        },
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"input_tokens": 3, "output_tokens": 2},
        },
        {"type": "message_stop"},
    ]


@pytest.mark.parametrize(
    ("reason", "stop", "word"),
    [
        (chat_pb2.FINISH_REASON_STOP, "", "end_turn"),
        (chat_pb2.FINISH_REASON_STOP, "END", "stop_sequence"),
        (chat_pb2.FINISH_REASON_LENGTH, "", "max_tokens"),
        (chat_pb2.FINISH_REASON_TOOL_CALLS, "", "tool_use"),
        (chat_pb2.FINISH_REASON_CONTENT_FILTER, "", "refusal"),
        (chat_pb2.FINISH_REASON_ERROR, "", "error"),
        (chat_pb2.FINISH_REASON_PAUSE, "", "pause_turn"),
    ],
)
def test_stop_reasons_are_anthropics_words(reason: Any, stop: str, word: str) -> None:
    completion = answer(text("x"))
    completion.choices[0].finish_reason = reason
    completion.choices[0].stop_sequence = stop
    completion.choices[0].native_finish_reason = "OWN_WORD"
    view = json.loads(message(completion, request_id="r")[0])
    assert (view["stop_reason"], view["stop_sequence"]) == (word, stop or None)
    assert view["native_stop_reason"] == "OWN_WORD"


def test_tokens_leave_out_what_a_cache_served() -> None:
    tokens = tokens_pb2.TokenUsage(
        input_uncached=5, input_cache_read=7, input_cache_write_1h=2, output_text=3, output_reasoning=4
    )
    assert shown(answer(text("x"), usage=tokens))["usage"] == {
        "input_tokens": 5,
        "cache_creation_input_tokens": 2,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 2},
        "cache_read_input_tokens": 7,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 4},
    }


def test_arguments_that_are_no_object_are_handed_on_as_text() -> None:
    call = message_pb2.ToolCall(id="c", name="f", arguments=b'{"a":')
    (block,) = shown(answer(Part(tool_call=call)))["content"]
    assert block["input"] == {"INVALID_JSON": '{"a":'}


@pytest.mark.parametrize(
    ("reason", "code", "kind"),
    [
        ("INVALID_REQUEST", 400, "invalid_request_error"),
        ("UNIMPLEMENTED", 400, "invalid_request_error"),
        ("UNAUTHENTICATED", 401, "authentication_error"),
        ("PERMISSION_DENIED", 403, "permission_error"),
        ("MODEL_NOT_FOUND", 404, "not_found_error"),
        ("REQUEST_TOO_LARGE", 413, "request_too_large"),
        ("RATE_LIMITED", 429, "rate_limit_error"),
        ("INTERNAL", 500, "api_error"),
        ("UPSTREAM_ERROR", 502, "api_error"),
        ("UPSTREAM_TIMEOUT", 504, "timeout_error"),
        ("UPSTREAM_OVERLOADED", 529, "overloaded_error"),
    ],
)
def test_failures_have_anthropics_types(reason: str, code: int, kind: str) -> None:
    error = GatewayError(reason, "why")
    assert status(error) == code
    assert json.loads(failure(error, "r")) == {
        "type": "error",
        "error": {"type": kind, "message": "why"},
        "request_id": "r",
    }
