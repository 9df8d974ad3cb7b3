"""Answers in the Responses dialect, whole and as events: the same items either way, in the official SDK's types."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2, tokens_pb2
from aigateway_common.errors import GatewayError
from aigateway_common.sse import SSEReader
from aigateway_edge.responses.events import Events
from aigateway_edge.responses.from_proto import response
from aigateway_edge.responses.state import Ids, pack
from aigateway_edge.responses.to_proto import response_call
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from support.edge import Event, finish, start

ECHO: dict[str, Any] = {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "metadata": {}}
EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
CLAUDE = message_pb2.ProviderState(provider="anthropic", state=b"sig")
GEMINI = message_pb2.ProviderState(provider="gemini", state=b"sig")
FUNCTION, CUSTOM = message_pb2.TOOL_CALL_TYPE_FUNCTION, message_pb2.TOOL_CALL_TYPE_CUSTOM


def records(*events: chat_pb2.ChatEvent, failure: GatewayError | None = None) -> list[dict[str, Any]]:
    """A stream's records, each an event that the SDK's type takes, numbered without a gap."""
    writer = Events(ECHO, Ids("t"))
    data = writer.write(events)
    data += writer.fail(failure) if failure is not None else writer.end()
    found = []
    for record in SSEReader().feed(data):
        body = json.loads(record.data)
        EVENT.validate_python(body)
        assert record.event == body["type"].encode() or record.event == body["type"]
        found.append(body)
    assert [body["sequence_number"] for body in found] == list(range(len(found)))
    return found


def streamed(*events: chat_pb2.ChatEvent) -> dict[str, Any]:
    """The answer at the end of a stream; what its events told is the same."""
    found = records(start(), *events)
    last: dict[str, Any] = found[-1]["response"]
    done = [body["item"] for body in found if body["type"] == "response.output_item.done"]
    places = [body["output_index"] for body in found if body["type"] == "response.output_item.added"]
    assert places == list(range(len(last["output"])))
    assert sorted(item["id"] for item in done) == sorted(item["id"] for item in last["output"])
    assert all(item in last["output"] for item in done)
    return last


def whole(*parts: message_pb2.Part, reason: str = "STOP", **more: Any) -> dict[str, Any]:
    """A whole answer, which the SDK's type takes."""
    choice = chat_pb2.Choice(
        message=message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=parts),
        finish_reason=chat_pb2.FinishReason.Value(f"FINISH_REASON_{reason}"),
        native_finish_reason="native",
    )
    answer = chat_pb2.ChatCompletion(id="x", created=7, model="m-1", choices=[choice], **more)
    body, _ = response(answer, ECHO, Ids("t"))
    Response.model_validate_json(body)
    found: dict[str, Any] = json.loads(body)
    return found


def text(said: str, **more: Any) -> message_pb2.Part:
    return message_pb2.Part(text=message_pb2.TextPart(text=said), **more)


def call(call_id: str, arguments: bytes = b"{}", kind: Any = FUNCTION, **more: Any) -> message_pb2.Part:
    wish = message_pb2.ToolCall(id=call_id, name="f", arguments=arguments, type=kind)
    return message_pb2.Part(tool_call=wish, **more)


def begin(part: int, call_id: str, kind: Any = FUNCTION) -> chat_pb2.ChatEvent:
    return Event(part=part, tool_call=chat_pb2.ToolCallStart(id=call_id, name="f", index=part, type=kind))


def message_item(number: int, said: str, status: str = "completed") -> dict[str, Any]:
    content = [{"type": "output_text", "text": said, "annotations": [], "logprobs": []}]
    return {
        "id": f"msg_gw_t_{number}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def call_item(number: int, call_id: str, arguments: str) -> dict[str, Any]:
    return {
        "type": "function_call",
        "arguments": arguments,
        "id": f"fc_gw_t_{number}",
        "call_id": call_id,
        "name": "f",
        "status": "completed",
    }


def test_a_plain_answer_is_the_same_whole_and_streamed() -> None:
    usage = tokens_pb2.TokenUsage(input_uncached=3, input_cache_read=2, output_text=4, output_reasoning=1)
    made = whole(text("Hello"), usage=usage)
    told = streamed(Event(text="Hel"), Event(text="lo"), finish(), Event(usage=usage))
    assert made["output"] == told["output"] == [message_item(1, "Hello")]
    assert (made["id"], made["status"], made["created_at"]) == ("resp_t", "completed", 7)
    assert (
        made["usage"]
        == told["usage"]
        == {
            "input_tokens": 5,
            "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 1},
            "total_tokens": 10,
        }
    )


def test_every_event_of_a_text_in_order() -> None:
    place = {"item_id": "msg_gw_t_1", "output_index": 0, "content_index": 0}
    empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    found = records(start(), Event(text="Hi"), finish())
    assert [{k: v for k, v in body.items() if k != "sequence_number"} for body in found[2:-1]] == [
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": message_item(1, "", "in_progress") | {"content": []},
        },
        {"type": "response.content_part.added", "part": empty} | place,
        {"type": "response.output_text.delta", "delta": "Hi", "logprobs": []} | place,
        {"type": "response.output_text.done", "text": "Hi", "logprobs": []} | place,
        {"type": "response.content_part.done", "part": empty | {"text": "Hi"}} | place,
        {"type": "response.output_item.done", "output_index": 0, "item": message_item(1, "Hi")},
    ]
    assert [body["type"] for body in (*found[:2], found[-1])] == [
        "response.created",
        "response.in_progress",
        "response.completed",
    ]


def test_parallel_calls_may_interleave() -> None:
    events = (
        Event(text="Let me look."),
        begin(1, "c1"),
        Event(part=1, arguments='{"a":'),
        begin(2, "c2"),
        Event(part=2, arguments="{}"),
        Event(part=1, arguments="1}"),
        begin(3, "c3"),
        finish("TOOL_CALLS"),
    )
    expected = [
        message_item(1, "Let me look."),
        call_item(2, "c1", '{"a":1}'),
        call_item(3, "c2", "{}"),
        call_item(4, "c3", "{}"),
    ]
    assert streamed(*events)["output"] == expected
    parts = (text("Let me look."), call("c1", b'{"a":1}'), call("c2"), call("c3", b""))
    assert whole(*parts, reason="TOOL_CALLS")["output"] == expected


def test_a_custom_tools_call() -> None:
    events = (begin(0, "c", CUSTOM), Event(part=0, arguments="free text"), finish("TOOL_CALLS"))
    item = {
        "type": "custom_tool_call",
        "input": "free text",
        "id": "ctc_gw_t_1",
        "call_id": "c",
        "name": "f",
        "status": "completed",
    }
    assert streamed(*events)["output"] == whole(call("c", b"free text", CUSTOM))["output"] == [item]
    kinds = [body["type"] for body in records(start(), *events)]
    assert "response.custom_tool_call_input.delta" in kinds
    assert "response.custom_tool_call_input.done" in kinds


def test_reasoning_keeps_its_state() -> None:
    events = (
        Event(part=0, reasoning="H"),
        Event(part=0, reasoning="m"),
        Event(part=0, provider_state=CLAUDE),
        Event(part=1, redacted=chat_pb2.RedactedReasoning()),
        Event(part=1, provider_state=CLAUDE),
        Event(part=2, text="Yes"),
        finish(),
    )
    parts = (
        message_pb2.Part(reasoning=message_pb2.ReasoningPart(text="Hm"), provider_state=CLAUDE),
        message_pb2.Part(reasoning=message_pb2.ReasoningPart(redacted=True), provider_state=CLAUDE),
        text("Yes"),
    )
    expected = [
        {
            "id": "rs_gw_t_1",
            "type": "reasoning",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Hm"}],
            "encrypted_content": pack(CLAUDE),
        },
        {"id": "rs_gw_t_2", "type": "reasoning", "summary": [], "encrypted_content": pack(CLAUDE, redacted=True)},
        message_item(3, "Yes"),
    ]
    assert streamed(*events)["output"] == whole(*parts)["output"] == expected


def test_a_summary_is_told_as_one() -> None:
    gemini = start(dialect=message_pb2.DIALECT_GEMINI)
    kinds = [body["type"] for body in records(gemini, Event(reasoning="S"), Event(part=1, text="x"), finish())]
    assert kinds[3:7] == [
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
    ]
    part = message_pb2.Part(reasoning=message_pb2.ReasoningPart(text="S", summary=True))
    assert whole(part)["output"][0]["summary"] == [{"type": "summary_text", "text": "S"}]


def test_state_of_a_call_or_text_follows_it_in_an_item_of_its_own() -> None:
    events = (
        Event(text="a"),
        Event(provider_state=GEMINI),
        begin(1, "c1"),
        Event(part=1, arguments="{}"),
        Event(part=1, provider_state=GEMINI),
        finish("TOOL_CALLS"),
    )
    told = streamed(*events)["output"]
    made = whole(text("a", provider_state=GEMINI), call("c1", provider_state=GEMINI))["output"]
    assert told == made
    assert [item.get("encrypted_content") for item in made] == [
        None,
        pack(GEMINI, before=True),
        None,
        pack(GEMINI, call="c1"),
    ]


def test_refusals_and_texts_are_parts_of_one_message() -> None:
    refusal = message_pb2.Part(refusal=message_pb2.RefusalPart(text="No."))
    told = streamed(Event(text="a"), Event(part=1, refusal="No."), finish())
    assert told["output"] == whole(text("a"), refusal)["output"]
    assert told["output"][0]["content"][1] == {"type": "refusal", "refusal": "No."}


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        ("STOP", "completed", None),
        ("TOOL_CALLS", "completed", None),
        ("LENGTH", "incomplete", {"reason": "max_output_tokens"}),
        ("CONTENT_FILTER", "incomplete", {"reason": "content_filter"}),
        ("ERROR", "failed", None),
    ],
)
def test_why_the_model_stopped(reason: str, status: str, details: dict[str, str] | None) -> None:
    told = streamed(Event(text="x"), finish(reason, native="native"))
    for answer in (told, whole(text("x"), reason=reason)):
        assert (answer["status"], answer["incomplete_details"]) == (status, details)
        assert (answer["error"] is not None) == (status == "failed")
        assert answer["output"][0]["status"] == ("completed" if status == "completed" else "incomplete")


def test_a_paused_turn_is_incomplete_for_a_reason_of_its_own() -> None:
    """OpenAI's document knows no such reason; its SDK takes it all the same."""
    choice = chat_pb2.Choice(
        message=message_pb2.Message(parts=[text("x")]),
        finish_reason=chat_pb2.FINISH_REASON_PAUSE,
        native_finish_reason="pause_turn",
    )
    body, notes = response(chat_pb2.ChatCompletion(choices=[choice]), ECHO, Ids("t"))
    writer = Events(ECHO, Ids("t"))
    written = writer.write([start(), Event(text="x"), finish("PAUSE", native="pause_turn")]) + writer.end()
    last = json.loads(SSEReader().feed(written)[-1].data)
    assert last["type"] == "response.incomplete"
    for answer in (json.loads(body), last["response"]):
        assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "pause_turn"})
        assert answer["output"][0]["status"] == "incomplete"
    assert notes == []


def test_log_probabilities_come_with_their_text() -> None:
    token = {"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}
    json_ = json.dumps({"content": [token], "refusal": None}).encode()
    found = records(start(), Event(text="x", logprobs_json=json_), finish())
    assert [body["logprobs"] for body in found if "logprobs" in body] == [[token], [token]]
    choice = chat_pb2.Choice(message=message_pb2.Message(parts=[text("x")]), logprobs_json=json_)
    body, _ = response(chat_pb2.ChatCompletion(choices=[choice]), ECHO, Ids("t"))
    assert json.loads(body)["output"][0]["content"][0]["logprobs"] == [token]


def test_a_failure_ends_the_answer_and_is_an_error() -> None:
    failure = GatewayError("UPSTREAM_INVALID", "cut short")
    found = records(start(), Event(text="x"), failure=failure)
    failed, error = found[-2:]
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert failed["response"]["error"] == {"code": "server_error", "message": "cut short"}
    assert (error["type"], error["message"], error["error"]) == ("error", "cut short", failure.to_openai()["error"])
    assert next(iter(records(failure=failure)))["type"] == "response.created"


def test_a_foreign_native_part_is_told_as_left_out() -> None:
    native = message_pb2.NativePart(dialect=message_pb2.DIALECT_ANTHROPIC_MESSAGES, json=b'{"type":"server_tool_use"}')
    writer = Events(ECHO, Ids("t"))
    assert b": x-gateway-translation: output[0]=dropped(server_tool_use)\n\n" in writer.write(
        [start(), Event(native=native)]
    )
    choice = chat_pb2.Choice(message=message_pb2.Message(parts=[message_pb2.Part(native=native)]))
    _, notes = response(chat_pb2.ChatCompletion(choices=[choice]), ECHO, Ids("t"))
    assert [(note.field, note.detail) for note in notes] == [("output[0].parts[0]", "server_tool_use")]


_PARTS = st.sampled_from(
    [
        text("a"),
        text("b", provider_state=GEMINI),
        message_pb2.Part(refusal=message_pb2.RefusalPart(text="no")),
        message_pb2.Part(reasoning=message_pb2.ReasoningPart(text="c"), provider_state=CLAUDE),
        message_pb2.Part(reasoning=message_pb2.ReasoningPart(text="d", summary=True)),
        message_pb2.Part(reasoning=message_pb2.ReasoningPart(summary=True, redacted=True), provider_state=CLAUDE),
    ]
)


@given(st.lists(_PARTS, min_size=1, max_size=8), st.lists(st.booleans(), max_size=3))
def test_an_answer_that_a_client_echoes_comes_back_part_by_part(
    parts: list[message_pb2.Part], states: list[bool]
) -> None:
    calls = [
        call(f"c{number}", provider_state=GEMINI if state else None, kind=CUSTOM if number == 2 else FUNCTION)
        for number, state in enumerate(states)
    ]
    output = whole(*parts, *calls)["output"]
    (turn,) = response_call(json.dumps({"model": "m", "input": output}).encode()).call.messages
    assert list(turn.parts) == [*parts, *calls]


_STEPS = st.sampled_from(
    [
        Event(part=0, text="a"),
        Event(part=1, text="b"),
        Event(part=2, reasoning="c"),
        Event(part=2, provider_state=CLAUDE),
        Event(part=3, redacted=chat_pb2.RedactedReasoning()),
        begin(4, "c4"),
        begin(5, "c5", CUSTOM),
        Event(part=4, arguments="{}"),
        Event(part=5, arguments="x"),
        Event(part=4, provider_state=GEMINI),
        Event(part=0, provider_state=GEMINI),
        Event(part=6, refusal="no"),
        Event(part=6, logprobs_json=b'{"content":null}', text="y"),
    ]
)


@given(st.lists(_STEPS, max_size=25))
def test_any_order_of_events_is_a_stream_of_whole_items(steps: list[chat_pb2.ChatEvent]) -> None:
    called: set[int] = set()
    kept = [
        step
        for step in steps
        if not step.HasField("tool_call") or (step.part not in called and not called.add(step.part))  # type: ignore[func-returns-value] # noted in passing
    ]
    streamed(*kept, finish())


def test_a_provider_of_this_dialect_that_gives_no_more_fields_still_gets_a_whole_response() -> None:
    made = whole(text("x"), dialect=message_pb2.DIALECT_OPENAI_RESPONSES)
    assert (made["id"], made["status"]) == ("x", "completed")
