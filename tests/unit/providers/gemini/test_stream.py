"""Streams of Gemini as events, written from https://ai.google.dev/api/generate-content#method:-models.streamgeneratecontent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2, tokens_pb2
from aigateway_providers.gemini.records import EventRecords
from aigateway_providers.gemini.stream import ChatStream

Event = chat_pb2.ChatEvent


def record(*parts: dict[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """A record of one candidate; `usage` and `candidate` are its other fields."""
    candidate = {"content": {"parts": list(parts), "role": "model"}, "index": 0, **fields.pop("candidate", {})}
    if finish:
        candidate["finishReason"] = finish
    made = {"candidates": [candidate], "responseId": "r1", "modelVersion": "gemini-x"}
    if usage := fields.pop("usage", None):
        made["usageMetadata"] = usage
    return made | fields


def stream() -> ChatStream:
    return ChatStream(EventRecords(), provider="gemini", model="asked", created=7, notes=[])


def run(*records: object, failure: str | None = None) -> list[Event]:
    """The events after `start`, whose place is checked."""
    made = stream()
    events = [event for one in records for event in made.feed(b"data: " + json.dumps(one).encode() + b"\n\n")]
    if made.failure is None:
        events += made.close()
    assert (made.failure and made.failure.reason.name) == failure
    assert [event.WhichOneof("event") == "start" for event in events] == [True] + [False] * (len(events) - 1)
    return events[1:]


def state(signature: str) -> message_pb2.ProviderState:
    return message_pb2.ProviderState(provider="gemini", state=signature.encode())


def finish(reason: chat_pb2.FinishReason.ValueType, native: str) -> chat_pb2.StreamFinish:
    return chat_pb2.StreamFinish(reason=reason, native_reason=native)


STOP = finish(chat_pb2.FINISH_REASON_STOP, "STOP")
CALLS = finish(chat_pb2.FINISH_REASON_TOOL_CALLS, "STOP")


def test_a_text_stream_starts_speaks_finishes_and_counts() -> None:
    made = stream()
    first = made.feed(
        b"data: " + json.dumps(record({"text": "Hel"}, usage={"promptTokenCount": 3})).encode() + b"\r\n\r\n"
    )
    assert first == [
        Event(
            start=chat_pb2.StreamStart(
                id="r1",
                created=7,
                model="gemini-x",
                dialect=message_pb2.DIALECT_GEMINI,
                usage=tokens_pb2.TokenUsage(input_uncached=3, native_json=b'{"promptTokenCount":3}'),
            )
        ),
        Event(text="Hel"),
    ]
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 2}
    second = made.feed(
        b"data: " + json.dumps(record({"text": "lo"}, finish="STOP", usage=usage)).encode() + b"\r\n\r\n"
    )
    assert second == [Event(text="lo")]
    assert made.close() == [
        Event(finish=STOP),
        Event(
            usage=tokens_pb2.TokenUsage(
                input_uncached=3, output_text=2, native_json=b'{"promptTokenCount":3,"candidatesTokenCount":2}'
            )
        ),
    ]
    assert made.failure is None


def test_thoughts_text_and_calls_are_parts_of_their_own() -> None:
    events = run(
        record({"text": "Hm", "thought": True}),
        record({"text": "m.", "thought": True}),
        record({"text": "Let me "}),
        record(
            {"text": "see."}, {"functionCall": {"name": "f", "args": {"a": 1}, "id": "c1"}, "thoughtSignature": "s1"}
        ),
        record({"functionCall": {"name": "g", "id": "c2"}}, finish="STOP"),
    )
    function = message_pb2.TOOL_CALL_TYPE_FUNCTION
    assert events == [
        Event(part=0, reasoning="Hm"),
        Event(part=0, reasoning="m."),
        Event(part=1, text="Let me "),
        Event(part=1, text="see."),
        Event(part=2, tool_call=chat_pb2.ToolCallStart(id="c1", name="f", index=0, type=function)),
        Event(part=2, arguments='{"a": 1}'),
        Event(part=2, provider_state=state("s1")),
        Event(part=3, tool_call=chat_pb2.ToolCallStart(id="c2", name="g", index=1, type=function)),
        Event(part=3, arguments="{}"),
        Event(part=3, finish=CALLS),
    ]


def test_calls_without_ids_get_distinct_ones_in_each_chunk() -> None:
    call = {"functionCall": {"name": "f", "args": {}}}
    starts = [e.tool_call for e in run(record(call), record(call, call, finish="STOP")) if e.HasField("tool_call")]
    assert [start.index for start in starts] == [0, 1, 2]
    assert len({start.id for start in starts}) == 3


def test_the_signature_in_an_empty_text_at_the_end_is_a_part_of_its_own() -> None:
    events = run(record({"text": "Yes"}), record({"text": "", "thoughtSignature": "s"}, finish="STOP"))
    assert events == [
        Event(part=0, text="Yes"),
        Event(part=1, text=""),
        Event(part=1, provider_state=state("s")),
        Event(part=1, finish=STOP),
    ]


def test_what_follows_a_signature_is_not_joined_to_it() -> None:
    events = run(record({"text": "a", "thoughtSignature": "s"}), record({"text": "b"}, finish="STOP"))
    assert [(event.part, event.WhichOneof("event")) for event in events] == [
        (0, "text"),
        (0, "provider_state"),
        (1, "text"),
        (1, "finish"),
    ]


def test_empty_texts_say_nothing() -> None:
    assert run(record({"text": ""}), record({"text": "a"}), record({"text": ""}, finish="STOP")) == [
        Event(text="a"),
        Event(finish=STOP),
    ]


def test_native_parts_pass_whole() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "1"}, "thoughtSignature": "s"}
    image = {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}}
    events = run(record(code, {"text": "1"}), record(image, finish="STOP"))
    assert [(event.part, event.WhichOneof("event")) for event in events] == [
        (0, "native"),
        (1, "text"),
        (2, "native"),
        (2, "finish"),
    ]
    assert [json.loads(event.native.json) for event in events if event.HasField("native")] == [code, image]


def test_sound_comes_decoded() -> None:
    sound = {"inlineData": {"mimeType": "audio/L16;rate=24000", "data": "UklGRg=="}}
    assert run(record(sound), record(sound, finish="STOP")) == [
        Event(audio=chat_pb2.AudioDelta(data=b"RIFF")),
        Event(audio=chat_pb2.AudioDelta(data=b"RIFF")),
        Event(finish=STOP),
    ]


def test_a_reason_in_every_record_finishes_the_choice_once() -> None:
    events = run(record({"text": "a"}, finish="STOP"), record({"text": "b"}, finish="MAX_TOKENS"))
    assert [event.finish for event in events if event.HasField("finish")] == [
        finish(chat_pb2.FINISH_REASON_LENGTH, "MAX_TOKENS")
    ]


def test_several_candidates_finish_each() -> None:
    events = run(record({"text": "a"}, finish="STOP"), record({"text": "b"}, finish="SAFETY", candidate={"index": 1}))
    assert events == [
        Event(choice=0, text="a"),
        Event(choice=1, text="b"),
        Event(choice=0, finish=STOP),
        Event(choice=1, finish=finish(chat_pb2.FINISH_REASON_CONTENT_FILTER, "SAFETY")),
    ]


def test_a_refused_prompt_is_a_content_filter() -> None:
    assert run({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}) == [
        Event(finish=finish(chat_pb2.FINISH_REASON_CONTENT_FILTER, "SAFETY")),
        Event(usage=tokens_pb2.TokenUsage(input_uncached=4, native_json=b'{"promptTokenCount":4}')),
    ]


def test_usage_is_raised_never_summed_and_an_omitted_count_stays() -> None:
    events = run(
        record({"text": "a"}, usage={"promptTokenCount": 10, "cachedContentTokenCount": 4, "candidatesTokenCount": 1}),
        record({"text": "b"}, usage={"promptTokenCount": 10, "candidatesTokenCount": 5, "thoughtsTokenCount": 3}),
        record(finish="STOP", usage={"promptTokenCount": 10, "totalTokenCount": 18}),
    )
    usage = events[-1].usage
    assert json.loads(usage.native_json) == {
        "promptTokenCount": 10,
        "cachedContentTokenCount": 4,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 3,
        "totalTokenCount": 18,
    }
    usage.ClearField("native_json")
    assert usage == tokens_pb2.TokenUsage(input_uncached=6, input_cache_read=4, output_text=5, output_reasoning=3)


def test_a_stream_without_usage_tells_none() -> None:
    assert run(record({"text": "a"}, finish="STOP")) == [Event(text="a"), Event(finish=STOP)]


def test_extra_fields_come_with_the_chunk_that_has_them() -> None:
    grounding = {"webSearchQueries": ["x"]}
    logprobs = {"chosenCandidates": [{"token": "a", "logProbability": -1}]}
    events = run(
        record({"text": "a", "x": 1}, candidate={"logprobsResult": logprobs}, modelStatus={"a": 1}),
        record({"text": "b"}, modelStatus={"a": 1}),
        record(finish="STOP", candidate={"groundingMetadata": grounding}, modelStatus={"a": 2}),
    )
    told = b'{"content":[{"token":"a","logprob":-1.0,"bytes":[97],"top_logprobs":[]}],"refusal":null}'
    assert events == [
        Event(text="a", delta_extra_json=b'{"x":1}', logprobs_json=told),
        Event(text="b"),
        Event(extra=chat_pb2.StreamExtra(), extra_json=b'{"modelStatus":{"a": 2}}'),
        Event(extra=chat_pb2.StreamExtra(), choice_extra_json=b'{"groundingMetadata":{"webSearchQueries": ["x"]}}'),
        Event(finish=STOP),
    ]


def test_the_end_without_a_reason_is_cut_short_and_tells_what_was_used() -> None:
    events = run(record({"text": "a"}, usage={"promptTokenCount": 3}), failure="UPSTREAM_INVALID")
    assert events == [
        Event(text="a"),
        Event(usage=tokens_pb2.TokenUsage(input_uncached=3, estimated=True, native_json=b'{"promptTokenCount":3}')),
    ]


def test_one_choice_that_never_finished_is_cut_short() -> None:
    run(record({"text": "a"}, finish="STOP"), record({"text": "b"}, candidate={"index": 1}), failure="UPSTREAM_INVALID")


def test_nothing_at_all_is_cut_short() -> None:
    made = stream()
    assert made.close() == []
    assert made.failure is not None


def test_an_error_in_mid_stream_has_its_reason_and_the_events_before_it() -> None:
    error = {"error": {"code": 503, "status": "UNAVAILABLE", "message": "overloaded"}}
    assert run(record({"text": "a"}), error, failure="UPSTREAM_OVERLOADED") == [Event(text="a")]


def test_an_error_first_has_no_events() -> None:
    made = stream()
    assert made.feed(b'data: {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}\n\n') == []
    assert made.failure is not None
    assert made.failure.reason.name == "UPSTREAM_RATE_LIMITED"


@pytest.mark.parametrize("data", [b"<html>", b"[1]", b'{"candidates": "x"}', b'{"usageMetadata": 1}', b'"\xff"'])
def test_a_record_that_is_no_answer_is_an_error(data: bytes) -> None:
    made = stream()
    assert [event.WhichOneof("event") for event in made.feed(b"data: " + data + b"\n\n")] in ([], ["start"])
    assert made.failure is not None
    assert made.failure.reason.name == "UPSTREAM_INVALID"


def test_the_end_mark_of_a_proxy_is_no_error() -> None:
    made = stream()
    made.feed(b"data: " + json.dumps(record({"text": "a"}, finish="STOP")).encode() + b"\n\ndata: [DONE]\n\n")
    assert made.close() == [Event(finish=STOP)]
    assert made.failure is None
