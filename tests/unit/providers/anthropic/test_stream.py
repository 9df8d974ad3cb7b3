"""Anthropic's event stream to chat events, record by record."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from aigateway.v1 import chat_pb2, message_pb2, tokens_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.anthropic.request import Request
from aigateway_providers.anthropic.response import completion
from aigateway_providers.anthropic.stream import StreamReader
from hypothesis import given
from hypothesis import strategies as st

ANTHROPIC = message_pb2.DIALECT_ANTHROPIC_MESSAGES
NOTES = [chat_pb2.TranslationNote(field="seed", action=chat_pb2.TRANSLATION_ACTION_DROPPED)]
START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 1},
    },
}
END = [
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 9},
    },
    {"type": "message_stop"},
]


def block(index: int, start: Any, *deltas: Any, stop: bool = True) -> list[Any]:
    records = [{"type": "content_block_start", "index": index, "content_block": start}]
    records += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [*records, {"type": "content_block_stop", "index": index}] if stop else records


def text(value: str) -> dict[str, str]:
    return {"type": "text_delta", "text": value}


def arguments(value: str) -> dict[str, str]:
    return {"type": "input_json_delta", "partial_json": value}


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{name}", "name": name, "input": {}, **more}


def read(*records: Any) -> list[chat_pb2.ChatEvent]:
    reader = StreamReader("anthropic", Request(b"", "", NOTES), created=7)
    events: list[chat_pb2.ChatEvent] = []
    for record in records:
        reader.feed(json.dumps(record).encode(), events)
    assert reader.finished == ({"type": "message_stop"} in records)
    return events


def inner(*records: Any) -> list[chat_pb2.ChatEvent]:
    """The events between the start and the end of the answer."""
    return read(START, *records, *END)[1:-2]


def started(call: str, index: int, part: int) -> chat_pb2.ChatEvent:
    start = chat_pb2.ToolCallStart(id=f"toolu_{call}", name=call, index=index, type=message_pb2.TOOL_CALL_TYPE_FUNCTION)
    return chat_pb2.ChatEvent(part=part, tool_call=start)


def state(part: int, opaque: str) -> chat_pb2.ChatEvent:
    return chat_pb2.ChatEvent(
        part=part, provider_state=message_pb2.ProviderState(provider="anthropic", state=opaque.encode())
    )


def test_a_stream_begins_with_start_ends_with_finish_and_usage() -> None:
    first = {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 1}
    last = first | {"output_tokens": 9}
    assert read(START, *block(0, {"type": "text", "text": ""}, text("Hel"), text("lo")), *END) == [
        chat_pb2.ChatEvent(
            start=chat_pb2.StreamStart(
                id="msg_1",
                created=7,
                model="claude-x",
                translation=NOTES,
                dialect=ANTHROPIC,
                usage=tokens_pb2.TokenUsage(
                    input_uncached=3,
                    input_cache_read=4,
                    output_text=1,
                    native_json=json.dumps(first).encode(),
                ),
            )
        ),
        chat_pb2.ChatEvent(text="Hel"),
        chat_pb2.ChatEvent(text="lo"),
        chat_pb2.ChatEvent(finish=chat_pb2.StreamFinish(reason=chat_pb2.FINISH_REASON_STOP, native_reason="end_turn")),
        chat_pb2.ChatEvent(
            usage=tokens_pb2.TokenUsage(
                input_uncached=3,
                input_cache_read=4,
                output_text=9,
                native_json=json.dumps(last, separators=(",", ":")).encode(),
            )
        ),
    ]


def test_tool_calls_are_numbered_among_themselves_not_by_block() -> None:
    records = [
        *block(0, {"type": "text", "text": ""}, text("t")),
        *block(1, tool("f"), arguments(""), arguments('{"a"'), arguments(":1}")),
        *block(2, tool("g"), arguments('{"b":2}')),
    ]
    assert inner(*records) == [
        chat_pb2.ChatEvent(text="t"),
        started("f", 0, 1),
        chat_pb2.ChatEvent(part=1, arguments='{"a"'),
        chat_pb2.ChatEvent(part=1, arguments=":1}"),
        started("g", 1, 2),
        chat_pb2.ChatEvent(part=2, arguments='{"b":2}'),
    ]


@pytest.mark.parametrize("deltas", [[], [arguments("")]])
def test_a_tool_call_without_deltas_yields_an_empty_object(deltas: list[Any]) -> None:
    assert inner(*block(0, tool("f"), *deltas)) == [started("f", 0, 0), chat_pb2.ChatEvent(arguments="{}")]


def test_input_that_comes_with_the_start_of_a_call_is_kept() -> None:
    events = inner(*block(0, tool("f", input={"a": 1})))
    assert [event.arguments for event in events] == ["", '{"a": 1}']


def test_fields_of_a_call_without_a_neutral_form_travel_beside_it() -> None:
    (start, _) = inner(*block(0, tool("f", caller={"type": "direct"})))
    assert json.loads(start.delta_extra_json) == {"caller": {"type": "direct"}}


def test_thinking_streams_and_its_signature_follows_whole() -> None:
    records = block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Hm"},
        {"type": "thinking_delta", "thinking": "."},
        {"type": "signature_delta", "signature": "si"},
        {"type": "signature_delta", "signature": "g="},
    )
    assert inner(*records) == [
        chat_pb2.ChatEvent(reasoning="Hm"),
        chat_pb2.ChatEvent(reasoning="."),
        state(0, "sig="),
    ]


def test_thinking_whose_text_is_withheld_still_opens_its_part() -> None:
    records = block(
        0, {"type": "thinking", "thinking": "", "signature": ""}, {"type": "signature_delta", "signature": "s"}
    )
    assert inner(*records) == [chat_pb2.ChatEvent(reasoning=""), state(0, "s")]


def test_withheld_thinking_keeps_its_data() -> None:
    assert inner(*block(0, {"type": "redacted_thinking", "data": "blob"})) == [
        chat_pb2.ChatEvent(redacted=chat_pb2.RedactedReasoning()),
        state(0, "blob"),
    ]


def test_server_tool_blocks_are_put_together_and_passed_whole() -> None:
    use = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    result = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"url": "u"}]}
    records = [*block(0, use, arguments('{"query"'), arguments(':"q"}')), *block(1, result)]
    events = inner(*records)
    assert [event.part for event in events] == [0, 1]
    assert [event.native.dialect for event in events] == [ANTHROPIC, ANTHROPIC]
    assert [json.loads(event.native.json) for event in events] == [use | {"input": {"query": "q"}}, result]


def test_a_block_of_a_kind_to_come_grows_by_its_deltas() -> None:
    records = block(
        0,
        {"type": "compaction", "content": ""},
        {"type": "compaction_delta", "content": "One. "},
        {"type": "compaction_delta", "content": "Two.", "size": 2},
    )
    (event,) = inner(*records)
    assert json.loads(event.native.json) == {"type": "compaction", "content": "One. Two.", "size": 2}


def test_a_block_that_never_stops_is_not_lost() -> None:
    use = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    assert [event.WhichOneof("event") for event in inner(*block(0, use, stop=False))] == ["native"]
    assert [event.arguments for event in inner(*block(0, tool("f"), stop=False))] == ["", "{}"]


def test_citations_travel_beside_the_text() -> None:
    citation = {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "c"}}
    events = inner(*block(0, {"type": "text", "text": ""}, text("t"), citation))
    assert events[0] == chat_pb2.ChatEvent(text="t")
    assert events[1].HasField("extra")
    assert json.loads(events[1].delta_extra_json) == {"citations": [citation["citation"]]}


def test_usage_is_cumulative_and_never_summed() -> None:
    first = {
        "input_tokens": 3,
        "cache_creation_input_tokens": 10,
        "cache_creation": {"ephemeral_5m_input_tokens": 6, "ephemeral_1h_input_tokens": 4},
        "output_tokens": 1,
    }
    start = START | {"message": START["message"] | {"usage": first}}  # type: ignore[operator] # both are objects
    later = {
        "input_tokens": 30,
        "cache_creation_input_tokens": 12,
        "cache_read_input_tokens": None,
        "output_tokens": 20,
    }
    more = {"output_tokens": 25, "output_tokens_details": {"thinking_tokens": 5}}
    deltas = [{"type": "message_delta", "delta": {}, "usage": usage} for usage in (later, more)]
    usage = read(start, *deltas, {"type": "message_stop"})[-1].usage
    assert (usage.input_uncached, usage.input_cache_write_5m, usage.input_cache_write_1h) == (30, 8, 4)
    assert (usage.output_text, usage.output_reasoning, usage.HasField("input_cache_read")) == (20, 5, False)


def test_the_end_tells_why_and_what_else_it_knows() -> None:
    delta = {"stop_reason": "stop_sequence", "stop_sequence": "END", "container": {"id": "c"}}
    finish = read(START, {"type": "message_delta", "delta": delta, "usage": {}}, {"type": "message_stop"})[-2]
    assert finish.finish == chat_pb2.StreamFinish(
        reason=chat_pb2.FINISH_REASON_STOP, native_reason="stop_sequence", stop_sequence="END"
    )
    assert json.loads(finish.extra_json) == {"container": {"id": "c"}}


def test_a_call_stops_with_tool_calls_and_a_refusal_with_its_own_reason() -> None:
    for native, reason in (
        ("tool_use", chat_pb2.FINISH_REASON_TOOL_CALLS),
        ("refusal", chat_pb2.FINISH_REASON_CONTENT_FILTER),
    ):
        end = {"type": "message_delta", "delta": {"stop_reason": native}}
        events = read(START, *block(0, tool("f")), end, {"type": "message_stop"})
        assert [event.finish.reason for event in events if event.HasField("finish")] == [reason]


def test_pings_unknown_events_and_whatever_follows_the_end_mean_nothing() -> None:
    odd = [{"type": "ping"}, {"type": "brand_new", "index": 0}, {"type": "content_block_stop", "index": 9}]
    assert inner(*odd) == []
    late = {"type": "error", "error": {"type": "api_error", "message": "late"}}
    assert read(START, *END, late) == read(START, *END)


def test_a_second_start_changes_nothing() -> None:
    assert read(START, START, *END) == read(START, *END)


def test_content_that_the_start_brings_is_not_lost() -> None:
    begun = START | {"message": START["message"] | {"content": [tool("f"), {"type": "text", "text": "t"}]}}  # type: ignore[operator] # both are objects
    events = read(begun, *block(0, {"type": "text", "text": ""}, text("u")), *END)[1:-2]
    assert events == [
        started("f", 0, 0),
        chat_pb2.ChatEvent(part=0, arguments="{}"),
        chat_pb2.ChatEvent(part=1, text="t"),
        chat_pb2.ChatEvent(part=2, text="u"),
    ]


def test_an_error_event_is_raised_by_its_type() -> None:
    with pytest.raises(GatewayError) as caught:
        read(START, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    assert caught.value.reason.name == "UPSTREAM_OVERLOADED"


@pytest.mark.parametrize("record", [[], {"no": "type"}, {"type": "content_block_delta", "index": "x"}])
def test_a_record_of_another_shape_is_no_stream_of_this_api(record: Any) -> None:
    with pytest.raises(msgspec.DecodeError):
        read(record)


# Streamed or whole, an answer says the same

TEXTS = st.text(min_size=1, max_size=20)
BLOCKS = st.one_of(
    st.builds(lambda value: {"type": "text", "text": value}, TEXTS),
    st.builds(
        lambda value, sign: {"type": "thinking", "thinking": value, "signature": sign}, st.text(max_size=9), TEXTS
    ),
    st.builds(lambda data: {"type": "redacted_thinking", "data": data}, TEXTS),
    st.builds(lambda name, key: tool(name) | {"input": {key: 1}}, TEXTS, TEXTS),
    st.builds(lambda key: {"type": "server_tool_use", "id": "s", "name": "n", "input": {key: 1}}, TEXTS),
    st.builds(lambda value: {"type": "web_search_tool_result", "tool_use_id": "s", "content": [value]}, TEXTS),
)


def streamed(index: int, whole: dict[str, Any], cut: int) -> list[Any]:
    """The records of a block, its growing field in two pieces."""
    growing = {"text": ("text", "text_delta"), "thinking": ("thinking", "thinking_delta")}
    match whole["type"]:
        case "text" | "thinking":
            key, kind = growing[whole["type"]]
            value = whole[key]
            deltas = [{"type": kind, key: value[:cut]}, {"type": kind, key: value[cut:]}]
            if signature := whole.get("signature", ""):
                deltas.append({"type": "signature_delta", "signature": signature})
            return block(index, dict.fromkeys(whole, "") | {"type": whole["type"]}, *deltas)
        case "tool_use" | "server_tool_use":
            value = json.dumps(whole["input"])
            return block(index, whole | {"input": {}}, arguments(value[:cut]), arguments(value[cut:]))
        case _:
            return block(index, whole)


def folded(events: list[chat_pb2.ChatEvent]) -> list[message_pb2.Part]:
    parts: dict[int, message_pb2.Part] = {}
    for event in events:
        part = parts.setdefault(event.part, message_pb2.Part())
        match event.WhichOneof("event"):
            case "text":
                part.text.text += event.text
            case "reasoning":
                part.reasoning.text += event.reasoning
            case "redacted":
                part.reasoning.redacted = True
            case "provider_state":
                part.provider_state.CopyFrom(event.provider_state)
            case "tool_call":
                call = event.tool_call
                part.tool_call.MergeFrom(message_pb2.ToolCall(id=call.id, name=call.name, type=call.type))
            case "arguments":
                part.tool_call.arguments += event.arguments.encode()
            case "native":
                part.native.CopyFrom(event.native)
            case _:
                pytest.fail("an event of no part")
    return list(parts.values())


def loose(part: message_pb2.Part) -> message_pb2.Part:
    """The part with its native JSON in one spelling."""
    if part.HasField("native"):
        part.native.json = json.dumps(json.loads(part.native.json)).encode()
    return part


@given(st.lists(BLOCKS, max_size=5), st.integers(min_value=0, max_value=30))
def test_a_streamed_answer_says_the_same_as_a_whole_one(blocks: list[Any], cut: int) -> None:
    whole = {"id": "m", "model": "x", "content": blocks, "stop_reason": "end_turn", "usage": {}}
    parts = completion(json.dumps(whole).encode(), Request(b"", "", []), created=1).choices[0].message.parts
    records = [record for index, each in enumerate(blocks) for record in streamed(index, each, cut)]
    assert [loose(part) for part in folded(inner(*records))] == [loose(part) for part in parts]
