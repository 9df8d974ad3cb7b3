"""Streams of OpenAI's Responses API, written from https://platform.openai.com/docs/api-reference/responses-streaming."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2, tokens_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.openai_responses.stream import StreamTranslator
from hypothesis import given
from hypothesis import strategies as st
from support.recorded import assembled, openai_responses

DIALECT = message_pb2.DIALECT_OPENAI_RESPONSES
Event = chat_pb2.ChatEvent
Record = dict[str, Any]


def response(status: str = "in_progress", **more: Any) -> Record:
    fixed = {"id": "resp_1", "object": "response", "created_at": 17, "model": "gpt-5", "status": status}
    return fixed | {"output": [], "usage": None} | more


CREATED = {"type": "response.created", "response": response()}
RUNNING = {"type": "response.in_progress", "response": response()}
USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


def completed(*output: Record, status: str = "completed", **more: Any) -> Record:
    return {"type": f"response.{status}", "response": response(status, output=output, usage=USAGE, **more)}


def added(index: int, item: Record) -> Record:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def done(index: int, item: Record) -> Record:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def delta(kind: str, text: str, index: int = 0, **more: Any) -> Record:
    return {"type": f"response.{kind}.delta", "item_id": "x", "output_index": index, "delta": text} | more


def piece(text: str) -> Record:
    return {"type": "output_text", "text": text, "annotations": []}


def message(*content: Record) -> Record:
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [*content]}


def events(*records: Record, own: bool = False) -> list[chat_pb2.ChatEvent]:
    translator, found = StreamTranslator("openai", [], own=own), list[chat_pb2.ChatEvent]()
    for number, record in enumerate(records):
        translator.feed(json.dumps(record | {"sequence_number": number}).encode(), found)
    assert translator.done
    assert translator.close() == []
    return found


def neutral(*records: Record) -> list[chat_pb2.ChatEvent]:
    """The events between the start and the end."""
    start, *found, finish, usage = events(CREATED, RUNNING, *records, completed())
    assert [one.WhichOneof("event") for one in (start, finish, usage)] == ["start", "finish", "usage"]
    return found


EVERYTHING: tuple[Record, ...] = (
    CREATED,
    RUNNING,
    added(0, {"type": "reasoning", "id": "rs_1", "summary": []}),
    {"type": "response.reasoning_summary_part.added", "output_index": 0, "summary_index": 0, "part": {}},
    delta("reasoning_summary_text", "one", summary_index=0, obfuscation="zz"),
    {"type": "response.reasoning_summary_text.done", "output_index": 0, "summary_index": 0, "text": "one"},
    delta("reasoning_summary_text", "two", summary_index=1),
    done(0, {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"}),
    added(1, {"type": "web_search_call", "id": "ws_1", "status": "in_progress"}),
    {"type": "response.web_search_call.searching", "output_index": 1, "item_id": "ws_1"},
    done(1, {"type": "web_search_call", "id": "ws_1", "status": "completed"}),
    added(2, message()),
    {"type": "response.content_part.added", "output_index": 2, "content_index": 0, "part": piece("")},
    delta("output_text", "Hel", 2, content_index=0, logprobs=[{"token": "Hel", "logprob": -0.25}]),
    delta("output_text", "lo", 2, content_index=0, logprobs=[]),
    {"type": "response.output_text.annotation.added", "output_index": 2, "annotation": {"type": "url_citation"}},
    {"type": "response.output_text.done", "output_index": 2, "content_index": 0, "text": "Hello"},
    delta("refusal", "No", 2, content_index=1),
    done(2, message(piece("Hello"), {"type": "refusal", "refusal": "No"})),
    added(3, {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": ""}),
    delta("function_call_arguments", '{"a"', 3),
    delta("function_call_arguments", ":1}", 3),
    done(3, {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'}),
    added(4, {"type": "custom_tool_call", "id": "c_1", "call_id": "call_2", "name": "g", "input": ""}),
    delta("custom_tool_call_input", "free", 4),
    done(4, {"type": "custom_tool_call", "id": "c_1", "call_id": "call_2", "name": "g", "input": "free"}),
    {"type": "response.something.new", "x": [1]},
    completed(),
)


HEL = b'{"content":[{"bytes":null,"token":"Hel","logprob":-0.25,"top_logprobs":[]}],"refusal":null}'


def test_a_caller_of_this_dialect_gets_every_event_once_and_in_order() -> None:
    found = events(*EVERYTHING, own=True)
    assert openai_responses.shown(found) == [
        record | {"sequence_number": number} for number, record in enumerate(json.loads(json.dumps(EVERYTHING)))
    ]
    assembled(found)


def test_callers_of_other_dialects_get_what_the_events_mean() -> None:
    state = message_pb2.ProviderState(
        provider="openai",
        state=json.dumps({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"}).encode(),
    )
    search = b'{"type": "web_search_call", "id": "ws_1", "status": "completed"}'
    function, custom = message_pb2.TOOL_CALL_TYPE_FUNCTION, message_pb2.TOOL_CALL_TYPE_CUSTOM
    assert events(*EVERYTHING) == [
        Event(
            start=chat_pb2.StreamStart(
                id="resp_1", created=17, model="gpt-5", dialect=DIALECT, extra_json=b'{"status":"in_progress"}'
            )
        ),
        Event(part=0, reasoning="one"),
        Event(part=0, reasoning="\n\n"),
        Event(part=0, reasoning="two"),
        Event(part=0, provider_state=state),
        Event(part=1, native=message_pb2.NativePart(dialect=DIALECT, json=search)),
        Event(part=2, text="Hel", logprobs_json=HEL),
        Event(part=2, text="lo"),
        Event(part=2, extra=chat_pb2.StreamExtra(), delta_extra_json=b'{"annotations":[{"type": "url_citation"}]}'),
        Event(part=3, refusal="No"),
        Event(part=4, tool_call=chat_pb2.ToolCallStart(id="call_1", name="f", index=0, type=function)),
        Event(part=4, arguments='{"a"'),
        Event(part=4, arguments=":1}"),
        Event(part=5, tool_call=chat_pb2.ToolCallStart(id="call_2", name="g", index=1, type=custom)),
        Event(part=5, arguments="free"),
        Event(finish=chat_pb2.StreamFinish(reason=chat_pb2.FINISH_REASON_TOOL_CALLS, native_reason="completed")),
        Event(usage=tokens_pb2.TokenUsage(input_uncached=3, output_text=2, native_json=json.dumps(USAGE).encode())),
    ]


def test_items_without_deltas_are_told_from_their_end() -> None:
    hidden = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"}
    call = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    found = neutral(done(0, hidden), done(1, message(piece("Hi"), {"type": "refusal", "refusal": "No"})), done(2, call))
    assert [(one.part, one.WhichOneof("event")) for one in found] == [
        (0, "redacted"),
        (0, "provider_state"),
        (1, "text"),
        (2, "refusal"),
        (3, "tool_call"),
        (3, "arguments"),
    ]
    assert (found[2].text, found[3].refusal, found[5].arguments) == ("Hi", "No", "{}")


def test_a_citation_is_told_once_whether_by_its_event_or_by_the_end_of_its_text() -> None:
    one, two = {"type": "url_citation", "url": "1"}, {"type": "url_citation", "url": "2"}
    told = {"type": "response.output_text.annotation.added", "output_index": 0, "content_index": 0, "annotation": one}
    cited = message(piece("Hi") | {"annotations": [one, two]})
    found = neutral(delta("output_text", "Hi", content_index=0), told, done(0, cited))
    assert [json.loads(event.delta_extra_json) for event in found[1:]] == [
        {"annotations": [one]},
        {"annotations": [two]},
    ]
    assert {event.part for event in found} == {0}
    (_, both) = neutral(done(0, cited))
    assert json.loads(both.delta_extra_json) == {"annotations": [one, two]}


def test_log_probabilities_of_a_text_without_deltas_come_with_it() -> None:
    (found,) = neutral(done(0, message(piece("Hel") | {"logprobs": [{"token": "Hel", "logprob": -0.25}]})))
    assert (found.text, found.logprobs_json) == ("Hel", HEL)


def test_items_that_only_the_last_event_has_are_told_from_it() -> None:
    _, text, finish, _ = events(CREATED, completed(message(piece("Hi"))))
    assert (text.text, finish.finish.reason) == ("Hi", chat_pb2.FINISH_REASON_STOP)


def test_a_stream_may_begin_with_its_end() -> None:
    assert [one.WhichOneof("event") for one in events(completed(message(piece("Hi"))), own=True)] == [
        "start",
        "native_event",
        "text",
        "finish",
        "usage",
    ]


def test_an_answer_cut_by_a_limit_says_so() -> None:
    cut = completed(status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    finish = events(CREATED, delta("output_text", "Hi", content_index=0), cut)[-2].finish
    assert finish == chat_pb2.StreamFinish(reason=chat_pb2.FINISH_REASON_LENGTH, native_reason="max_output_tokens")


@pytest.mark.parametrize("own", [True, False])
def test_nothing_is_told_before_the_answer_has_begun(own: bool) -> None:  # a parameter
    translator, found = StreamTranslator("openai", [], own=own), list[chat_pb2.ChatEvent]()
    for record in (CREATED, RUNNING):
        translator.feed(json.dumps(record).encode(), found)
    assert found == []


@pytest.mark.parametrize(
    "last",
    [
        {"type": "error", "code": "rate_limit_exceeded", "message": "slow down", "param": None},
        {"type": "error", "error": {"type": "tokens", "code": "rate_limit_exceeded", "message": "slow down"}},
        {
            "type": "response.failed",
            "response": response("failed", error={"code": "rate_limit_exceeded", "message": "slow down"}),
        },
    ],
)
@pytest.mark.parametrize("before", [(), (CREATED,)])
def test_a_failure_is_raised_as_what_it_is(last: Record, before: tuple[Record, ...]) -> None:
    with pytest.raises(GatewayError) as caught:
        events(*before, last)
    assert (caught.value.reason.name, caught.value.message) == ("UPSTREAM_RATE_LIMITED", "openai: slow down")


def test_a_stream_without_its_beginning_is_none() -> None:
    translator, found = StreamTranslator("openai", [], own=True), list[chat_pb2.ChatEvent]()
    translator.feed(b'{"type":"keepalive"}', found)
    assert found == []
    with pytest.raises(ValueError, match="beginning"):
        translator.feed(json.dumps(delta("output_text", "Hi")).encode(), found)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("begun", [True, False])
def test_arguments_before_their_call_come_once_it_is_told_of(own: bool, begun: bool) -> None:  # parameters
    """By its beginning, or only by its end, which has them whole."""
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":1}'}
    start = [added(0, call | {"arguments": ""}), delta("function_call_arguments", ":1}", 0)] if begun else []
    found = events(
        CREATED, delta("function_call_arguments", '{"a"', 0), *start, done(0, call), completed(call), own=own
    )
    told = [one for one in found if one.WhichOneof("event") in {"tool_call", "arguments"}]
    assert [one.tool_call.name for one in told[:1]] == ["f"]
    assert "".join(one.arguments for one in told[1:]) == '{"a":1}'


@given(st.lists(st.sampled_from([*EVERYTHING, {"type": "error", "message": "m"}, {"x": 1}, {"type": "response.new"}])))
def test_events_in_any_order_are_told_or_refused_and_never_break_the_contract(records: list[Record]) -> None:
    translator, found = StreamTranslator("openai", [], own=True), list[chat_pb2.ChatEvent]()
    try:
        for record in records:
            translator.feed(json.dumps(record).encode(), found)
    except (GatewayError, ValueError):
        pass
    kinds = [one.WhichOneof("event") for one in found]
    assert kinds.count("start") == (1 if kinds else 0)
    assert not kinds or kinds[0] == "start"
    if translator.done:
        assembled(found)
