"""Chunks of an OpenAI-compatible host as events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2, tokens_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.openai_compat.plain import around_text
from aigateway_providers.openai_compat.stream import _SOUGHT, StreamTranslator
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

HEAD = {"id": "c1", "object": "chat.completion.chunk", "created": 17, "model": "gpt-4o"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
Event = chat_pb2.ChatEvent


def chunk(
    delta: dict[str, Any] | None = None, finish: str | None = None, *, index: int = 0, **more: Any
) -> dict[str, Any]:
    return HEAD | {"choices": [{"index": index, "delta": delta or {}, "finish_reason": finish}]} | more


def events(*records: dict[str, Any] | str) -> list[chat_pb2.ChatEvent]:
    translator, found = StreamTranslator("openai", []), list[chat_pb2.ChatEvent]()
    for record in records:
        translator.feed(record.encode() if isinstance(record, str) else json.dumps(record).encode(), found)
    return found


def told(*records: dict[str, Any] | str) -> list[Any]:
    """Events as short tuples: choice, part, kind, value."""
    return [
        (event.choice, event.part, kind, value.SerializeToString() if isinstance(value, Message) else value)
        for event in events(*records)
        for kind in [event.WhichOneof("event")]
        for value in [getattr(event, str(kind))]
        if kind not in {"start", "finish"}
    ]


def test_a_plain_stream_is_start_text_finish_and_usage() -> None:
    assert events(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk(finish="stop"),
        HEAD | {"choices": [], "usage": USAGE},
        "[DONE]",
    ) == [
        Event(start=chat_pb2.StreamStart(id="c1", created=17, model="gpt-4o", dialect=message_pb2.DIALECT_OPENAI_CHAT)),
        Event(text="Hel"),
        Event(text="lo"),
        Event(finish=chat_pb2.StreamFinish(reason=chat_pb2.FINISH_REASON_STOP, native_reason="stop")),
        Event(
            usage=tokens_pb2.TokenUsage(
                input_uncached=5,
                output_text=2,
                native_json=b'{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}',
            )
        ),
    ]


def test_reasoning_text_and_refusal_are_parts_in_order_of_appearance() -> None:
    assert told(
        chunk({"role": "assistant", "content": None, "reasoning": "Hm"}),
        chunk({"reasoning_content": ", yes"}),
        chunk({"content": "Hi"}),
        chunk({"refusal": "No."}),
    ) == [(0, 0, "reasoning", "Hm"), (0, 0, "reasoning", ", yes"), (0, 1, "text", "Hi"), (0, 2, "refusal", "No.")]


def call(index: int | None, **fields: Any) -> dict[str, Any]:
    return {"tool_calls": [({} if index is None else {"index": index}) | fields]}


def test_parallel_tool_calls_are_told_by_ordinal_with_their_arguments_in_pieces() -> None:
    found = events(
        chunk({"role": "assistant", "content": None}),
        chunk(call(0, id="t1", type="function", function={"name": "f", "arguments": ""})),
        chunk(call(0, function={"arguments": '{"a"'})),
        chunk(call(0, function={"arguments": ":1}"})),
        chunk(call(2, id="t2", type="custom", custom={"name": "sql", "input": ""})),
        chunk(call(2, custom={"input": "SELECT 1"})),
        chunk(finish="tool_calls"),
    )
    function, custom = message_pb2.TOOL_CALL_TYPE_FUNCTION, message_pb2.TOOL_CALL_TYPE_CUSTOM
    assert found[1:] == [
        Event(tool_call=chat_pb2.ToolCallStart(id="t1", name="f", index=0, type=function)),
        Event(arguments='{"a"'),
        Event(arguments=":1}"),
        Event(part=1, tool_call=chat_pb2.ToolCallStart(id="t2", name="sql", index=1, type=custom)),
        Event(part=1, arguments="SELECT 1"),
        Event(finish=chat_pb2.StreamFinish(reason=chat_pb2.FINISH_REASON_TOOL_CALLS, native_reason="tool_calls")),
    ]


def starts(*deltas: dict[str, Any]) -> list[tuple[int, str, str]]:
    return [
        (event.tool_call.index, event.tool_call.name, event.tool_call.id)
        for event in events(*(chunk(delta) for delta in deltas), chunk(finish="tool_calls"))
        if event.HasField("tool_call")
    ]


def test_whole_calls_without_an_index_or_all_at_index_0_are_told_apart() -> None:
    whole = [{"id": f"t{n}", "function": {"name": "f", "arguments": "{}"}} for n in (1, 2)]
    assert starts(*(call(None, **one) for one in whole)) == [(0, "f", "t1"), (1, "f", "t2")]
    assert starts(*(call(0, **one) for one in whole)) == [(0, "f", "t1"), (1, "f", "t2")]


def test_an_id_and_name_said_again_are_the_same_call() -> None:
    again = call(0, id="t1", function={"name": "f", "arguments": "{}"})
    assert starts(again, again) == [(0, "f", "t1")]


def test_a_call_is_told_once_its_name_is_known_and_an_id_is_made_where_none_comes() -> None:
    found = events(
        chunk(call(0, function={"arguments": "{"})),
        chunk(call(0, function={"name": "f", "arguments": "}"})),
        chunk(finish="tool_calls"),
    )
    assert [event.WhichOneof("event") for event in found] == ["start", "tool_call", "arguments", "finish"]
    assert found[1].tool_call.id.startswith("call_")
    assert found[2].arguments == "{}"


def test_extra_fields_of_a_tool_call_follow_it() -> None:
    extra = {"extra_content": {"google": {"thought_signature": "s"}}}
    found = events(chunk(call(0, id="t1", function={"name": "f", "arguments": "{}"}, **extra)))
    assert [event.WhichOneof("event") for event in found] == ["start", "tool_call", "arguments", "extra"]
    assert json.loads(found[3].delta_extra_json) == {"tool_calls": [{"index": 0} | extra]}


def test_several_answers_are_told_apart() -> None:
    assert told(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "a"}),
        chunk({"role": "assistant", "content": ""}, index=1),
        chunk({"content": "b"}, index=1),
    ) == [(0, 0, "text", "a"), (1, 0, "text", "b")]


def test_extra_fields_are_told_once_where_they_stay_the_same_and_again_where_they_change() -> None:
    tier: dict[str, Any] = {"service_tier": "default"}
    found = events(
        chunk({"content": ""}, **tier, system_fingerprint=None, obfuscation="aa", x_groq={"id": "r"}),
        chunk({"content": "b"}, **tier, system_fingerprint="fp", obfuscation="bb"),
        chunk({"content": "c", "annotations": []}, **tier, system_fingerprint=None),
        chunk({"content": ""}, **tier, system_fingerprint=None, obfuscation="dd"),
    )
    assert found == [
        Event(start=found[0].start, extra_json=b'{"obfuscation":"aa","x_groq":{"id":"r"}}'),
        Event(text="b", extra_json=b'{"system_fingerprint":"fp","obfuscation":"bb"}'),
        Event(text="c", delta_extra_json=b'{"annotations":[]}'),
    ]
    assert found[0].start.extra_json == b'{"service_tier":"default","system_fingerprint":null}'


def test_logprobs_and_extra_fields_of_a_choice_ride_on_its_first_event() -> None:
    record = chunk({"content": "a"})
    record["choices"][0] |= {"logprobs": {"content": [{"logprob": -0.5}]}, "content_filter_results": {"hate": 1}}
    bare = chunk()
    bare["choices"][0] |= {"content_offsets": {"end": 4}}
    assert events(record, bare)[1:] == [
        Event(
            text="a",
            logprobs_json=b'{"content":[{"logprob":-0.5}]}',
            choice_extra_json=b'{"content_filter_results":{"hate":1}}',
        ),
        Event(extra=chat_pb2.StreamExtra(), choice_extra_json=b'{"content_offsets":{"end":4}}'),
    ]


def test_what_the_first_chunk_says_of_its_choice_rides_on_the_start() -> None:
    record = chunk({"role": "assistant", "content": ""})
    record["choices"][0]["logprobs"] = {"content": []}
    [start] = events(record)
    assert (start.WhichOneof("event"), start.logprobs_json) == ("start", b'{"content":[]}')


def test_a_first_chunk_that_is_no_ones_waits_for_the_first_that_is() -> None:
    azure = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": [1]}
    found = events(azure, chunk({"content": "a"}), chunk(finish="stop"), "[DONE]")
    assert found[0] == Event(
        start=chat_pb2.StreamStart(id="c1", created=17, model="gpt-4o", dialect=message_pb2.DIALECT_OPENAI_CHAT),
        extra_json=b'{"prompt_filter_results":[1]}',
    )


def test_usage_comes_once_and_last_wherever_the_host_put_it() -> None:
    early = chunk({"content": "a"}, usage={"prompt_tokens": 5, "completion_tokens": 1})
    groq = chunk(finish="stop", x_groq={"id": "r", "usage": USAGE})
    kinds = [event.WhichOneof("event") for event in events(early, groq, "[DONE]")]
    assert kinds == ["start", "text", "finish", "usage"]
    assert events(early, groq, "[DONE]")[-1].usage.output_text == 2


def test_audio_is_decoded() -> None:
    found = events(chunk({"audio": {"id": "a1", "transcript": "Hi"}}), chunk({"audio": {"data": "UklGRg=="}}))
    assert [event.audio for event in found[1:]] == [
        chat_pb2.AudioDelta(id="a1", transcript="Hi"),
        chat_pb2.AudioDelta(data=b"RIFF"),
    ]


@pytest.mark.parametrize(
    ("delta", "reason"),
    [
        ({"content": "a"}, chat_pb2.FINISH_REASON_STOP),
        (call(0, id="t", function={"name": "f", "arguments": "{}"}), chat_pb2.FINISH_REASON_TOOL_CALLS),
    ],
)
def test_a_host_that_is_done_without_a_reason_has_finished_plainly(
    delta: dict[str, Any], reason: chat_pb2.FinishReason.ValueType
) -> None:
    assert events(chunk(delta), "[DONE]")[-1] == Event(finish=chat_pb2.StreamFinish(reason=reason))


def test_a_choice_finishes_once() -> None:
    found = events(chunk({"content": "a"}), chunk(finish="stop"), chunk(finish="stop"), "[DONE]")
    assert [event.WhichOneof("event") for event in found] == ["start", "text", "finish"]


def test_a_stream_that_is_done_before_it_began_is_cut_short() -> None:
    with pytest.raises(GatewayError) as caught:
        events("[DONE]")
    assert caught.value.reason.name == "UPSTREAM_INVALID"


@pytest.mark.parametrize("record", ["5", "[]", "{", '{"choices": 1, "id": "c"}', '{"id": "c", "choices": [1]}'])
def test_what_is_no_chunk_is_not_taken_for_one(record: str) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        events(record)


TEXTS = st.text() | st.sampled_from(['"', "\\", '","content":"', "é\u2028", "\n\t", " a", "[DONE]", "data: x"])
STRANGE = st.sampled_from(
    [
        chunk({"content": "x", "refusal": None}),
        chunk({"content": 5}),
        chunk({"content": None}),
        chunk({"content": "c"}, index=1),
        chunk({"content": "m"}, model="other"),
        chunk({"content": "o"}, obfuscation="abc"),
        chunk({"reasoning": "r"}),
        HEAD
        | {"choices": [{"index": 0, "delta": {"content": "l"}, "finish_reason": None, "logprobs": {"content": []}}]},
        HEAD | {"choices": []},
        HEAD | {"choices": [], "usage": USAGE},
        chunk({}, finish="stop"),
    ]
)


@settings(deadline=None)
@given(records=st.lists(TEXTS.map(lambda text: chunk({"content": text})) | STRANGE, max_size=12), spaced=st.booleans())
def test_what_is_known_by_its_bytes_is_what_taking_it_apart_tells(records: list[dict[str, Any]], spaced: bool) -> None:
    """A stream of three plain chunks and then anything, by the shortcut and without it."""
    separators = (", ", ": ") if spaced else (",", ":")
    begun = [chunk({"role": "assistant", "content": ""}), *[chunk({"content": f'w"{number}'}) for number in range(3)]]
    written = [json.dumps(record, separators=separators, ensure_ascii=spaced).encode() for record in [*begun, *records]]
    quick, slow = StreamTranslator("openai", []), StreamTranslator("openai", [])
    slow._sought = _SOUGHT
    for data in written:
        found, expected = list[chat_pb2.ChatEvent](), list[chat_pb2.ChatEvent]()
        raised = []
        whole = quick.plain(b"data: %b\n\n" % data)
        for translator, told in ((quick, found), (slow, expected)):
            try:
                translator.feed(data, told)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raised.append(type(error))
        assert found == expected
        assert len(raised) in {0, 2}
        assert whole is None or [whole] == expected
    assert quick._plain is not None
    assert quick.plain(b"data: %b\n\n" % written[1]) == Event(text='w"0')
    assert slow._plain is None
    quick.feed(b"[DONE]", [])
    assert quick.plain(b"data: %b\n\n" % written[1]) is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"choices":[{"delta":{"content":"a \\"b\\" \\u00e9"}}]}', 'a "b" é'),
        (
            b'{"content":"not this","choices":[{"delta":{"content" : "but this"}}],"x":{"content":"nor this"}}',
            "but this",
        ),
        (b'{"choices":[{"delta":{"content":"first","content":"last"}}]}', "last"),
    ],
)
def test_what_stands_around_a_text_is_found_for_certain(data: bytes, text: str) -> None:
    plain = around_text(data)
    assert plain is not None
    assert plain.text(data) == text
    assert plain.text(data[:-1]) is None


@pytest.mark.parametrize("inside", [b"5", b"null", b'"a","b":"c"', b'"a', b"", b'"a"}', b"[]"])
def test_only_one_string_can_stand_where_the_text_does(inside: bytes) -> None:
    before, behind = b'{"choices":[{"delta":{"content":', b"}}]}"
    plain = around_text(before + b'"x"' + behind)
    assert plain is not None
    assert plain.text(before + inside + behind) is None


def test_a_text_that_is_written_otherwise_is_not_sought_for_ever() -> None:
    translator = StreamTranslator("openai", [])
    for number in range(9):
        record = json.dumps(chunk({"content": f"{number}"})).replace('"content"', '"c\\u006fntent"')
        translator.feed(record.encode(), [])
    assert (translator._plain, translator._sought) == (None, _SOUGHT)
