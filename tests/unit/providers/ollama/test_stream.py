"""Streams of Ollama's NDJSON: events in order, cut anywhere, broken off, and closed by the caller.

https://docs.ollama.com/api/streaming, /api/errors and /capabilities/tool-calling.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2, tokens_pb2
from aigateway_common import metrics
from aigateway_common.errors import GatewayError
from aigateway_providers.adapter import CallContext
from aigateway_providers.registry import create_adapter
from aigateway_providers.settings import ProviderSettings
from support.replay import Answer, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aigateway_providers.adapter import Adapter

MEASURED = {
    "total_duration": 174560334,
    "load_duration": 101397084,
    "prompt_eval_count": 11,
    "prompt_eval_duration": 13074791,
    "eval_count": 18,
    "eval_duration": 52479709,
}
NDJSON = {"content-type": "application/x-ndjson"}
Event = chat_pb2.ChatEvent


def line(**message: Any) -> dict[str, Any]:
    return {
        "model": "gemma3",
        "created_at": "2025-10-17T23:14:07.414671Z",
        "message": {"role": "assistant", "content": "", **message},
        "done": False,
    }


def last(**more: Any) -> dict[str, Any]:
    return line() | {"done": True, "done_reason": "stop"} | MEASURED | more


def ndjson(*lines: dict[str, Any], **more: Any) -> Answer:
    return Answer(200, NDJSON, [json.dumps(one).encode() + b"\n" for one in lines], **more)


def call(**more: Any) -> chat_pb2.ChatCall:
    user = message_pb2.Message(
        role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=message_pb2.TextPart(text="Hi"))]
    )
    return chat_pb2.ChatCall(model="gemma3", messages=[user], dialect=message_pb2.DIALECT_OPENAI_CHAT, **more)


@asynccontextmanager
async def ollama(server: Upstream) -> AsyncIterator[Adapter]:
    adapter = create_adapter(ProviderSettings("ollama", "ollama", server.url))
    try:
        yield adapter
    finally:
        await adapter.aclose()


async def events(answer: Answer, asked: chat_pb2.ChatCall | None = None) -> list[Event]:
    """All events of a stream; every list of them holds something."""
    seen: list[Event] = []
    with Upstream(answer) as server:
        async with ollama(server) as adapter, aclosing(adapter.stream_chat(asked or call(), CallContext())) as stream:
            async for some in stream:
                assert some
                seen += some
    assert server.requests[0].json()["stream"] is True
    return seen


async def failed(answer: Answer) -> tuple[list[Event], GatewayError]:
    seen: list[Event] = []
    with Upstream(answer) as server:
        async with ollama(server) as adapter, aclosing(adapter.stream_chat(call(), CallContext())) as stream:
            try:
                async for some in stream:
                    seen += some
            except GatewayError as error:
                return seen, error
    pytest.fail("the stream ended as if all were well")


def end(reason: chat_pb2.FinishReason.ValueType = chat_pb2.FINISH_REASON_STOP, native: str = "stop") -> Event:
    return Event(finish=chat_pb2.StreamFinish(reason=reason, native_reason=native))


def without_ids(seen: list[Event]) -> list[Event]:
    """The events less the start, which is checked here, with made-up ids and the usage's own JSON blanked."""
    start = seen[0].start
    assert start.id.startswith("chatcmpl-")
    assert (start.created, start.model, start.dialect) == (1760742847, "gemma3", message_pb2.DIALECT_OLLAMA)
    for event in seen:
        if event.HasField("tool_call"):
            assert event.tool_call.id
            event.tool_call.id = ""
        if event.HasField("usage"):
            assert json.loads(event.usage.native_json).items() >= MEASURED.items()
            event.usage.native_json = b""
    return seen[1:]


USED = Event(usage=tokens_pb2.TokenUsage(input_uncached=11, output_text=18))
PLAIN = (line(content="Why"), line(content=" did ü"), line(content=""), last())
PLAIN_EVENTS = [Event(text="Why"), Event(text=" did ü"), end(), USED]


async def test_a_plain_stream() -> None:
    assert without_ids(await events(ndjson(*PLAIN))) == PLAIN_EVENTS


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
async def test_a_stream_cut_anywhere_is_the_same(size: int) -> None:
    whole = b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\r\n\n" for one in PLAIN)
    pieces = [whole[i : i + size] for i in range(0, len(whole), size)]
    assert without_ids(await events(Answer(200, NDJSON, pieces))) == PLAIN_EVENTS


async def test_a_last_line_without_its_newline_counts() -> None:
    whole = b"\n".join(json.dumps(one).encode() for one in PLAIN)
    assert without_ids(await events(Answer(200, NDJSON, [whole]))) == PLAIN_EVENTS


async def test_what_one_read_brings_comes_in_one_list() -> None:
    whole = b"".join(json.dumps(one).encode() + b"\n" for one in PLAIN)
    with Upstream(Answer(200, NDJSON, [whole])) as server:
        async with ollama(server) as adapter, aclosing(adapter.stream_chat(call(), CallContext())) as stream:
            assert [len(some) async for some in stream] == [5]


async def test_thinking_is_a_part_of_its_own() -> None:
    answer = ndjson(line(thinking="Let me"), line(thinking=" see."), line(content="4"), last())
    assert without_ids(await events(answer)) == [
        Event(part=0, reasoning="Let me"),
        Event(part=0, reasoning=" see."),
        Event(part=1, text="4"),
        end(),
        USED,
    ]


async def test_thinking_that_the_caller_excludes_is_left_out() -> None:
    asked = call(reasoning=chat_pb2.ReasoningOptions(include=False))
    seen = await events(ndjson(line(thinking="Let me see."), line(content="4"), last()), asked)
    assert [note.field for note in seen[0].start.translation] == ["reasoning.exclude"]
    assert without_ids(seen) == [Event(text="4"), end(), USED]


async def test_parallel_tool_calls_in_lines_of_their_own_have_their_own_places_and_ids() -> None:
    oslo = {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    rome = {"function": {"name": "weather", "arguments": {"city": "Rome"}}}
    now = {"id": "call_own", "function": {"name": "now"}}
    seen = await events(ndjson(line(content="A"), line(tool_calls=[oslo]), line(tool_calls=[rome, now]), last()))
    ids = [event.tool_call.id for event in seen if event.HasField("tool_call")]
    assert len(set(ids)) == 3
    assert ids[2] == "call_own"
    kind = message_pb2.TOOL_CALL_TYPE_FUNCTION
    assert without_ids(seen) == [
        Event(part=0, text="A"),
        Event(part=1, tool_call=chat_pb2.ToolCallStart(name="weather", index=0, type=kind)),
        Event(part=1, arguments='{"city": "Oslo"}'),
        Event(part=2, tool_call=chat_pb2.ToolCallStart(name="weather", index=1, type=kind)),
        Event(part=2, arguments='{"city": "Rome"}'),
        Event(part=3, tool_call=chat_pb2.ToolCallStart(name="now", index=2, type=kind)),
        Event(part=3, arguments="{}"),
        end(chat_pb2.FINISH_REASON_TOOL_CALLS),
        USED,
    ]


async def test_text_in_the_last_line_is_not_lost() -> None:
    final = last() | {"message": {"role": "assistant", "content": "end"}, "done_reason": "length"}
    assert without_ids(await events(ndjson(final))) == [
        Event(text="end"),
        end(chat_pb2.FINISH_REASON_LENGTH, "length"),
        USED,
    ]


async def test_structured_output_streams_as_text() -> None:
    asked = call(response_format=chat_pb2.ResponseFormat(type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT))
    seen = await events(ndjson(line(content='{"a"'), line(content=": 1}"), last()), asked)
    assert "".join(event.text for event in seen) == '{"a": 1}'


async def test_a_prompt_count_that_is_left_out_stays_absent() -> None:
    final = {key: value for key, value in last().items() if key != "prompt_eval_count"}
    usage = (await events(ndjson(final)))[-1].usage
    assert not usage.HasField("input_uncached")
    assert usage.output_text == 18


async def test_no_counts_is_no_usage_event() -> None:
    final = line() | {"done": True, "total_duration": 5}
    seen = await events(ndjson(final))
    stopped = chat_pb2.StreamFinish(reason=chat_pb2.FINISH_REASON_STOP)
    assert seen[1:] == [Event(finish=stopped, extra_json=b'{"total_duration":5}')]


async def test_fields_without_a_neutral_form_come_back_once() -> None:
    remote = {"remote_model": "gpt-oss:120b"}
    seen = await events(ndjson(line(content="A") | remote, last() | remote | {"news": [1, 2]}))
    assert json.loads(seen[0].start.extra_json) == remote
    finish = next(event for event in seen if event.HasField("finish"))
    assert json.loads(finish.extra_json) == {"news": [1, 2]}


async def test_log_probabilities_come_with_their_text() -> None:
    one = {"token": "A", "logprob": -0.5}
    expected: dict[str, Any] = {
        "content": [{"token": "A", "logprob": -0.5, "bytes": None, "top_logprobs": []}],
        "refusal": None,
    }
    seen = await events(ndjson(line(content="A") | {"logprobs": [one]}, last(logprobs=[one])))
    assert [(event.WhichOneof("event"), json.loads(event.logprobs_json)) for event in seen if event.logprobs_json] == [
        ("text", expected),
        ("extra", expected),
    ]


async def test_an_error_in_mid_stream_ends_it_without_a_finish() -> None:
    seen, error = await failed(ndjson(line(content="A"), {"error": "an error was encountered while running the model"}))
    assert [event.WhichOneof("event") for event in seen] == ["start", "text"]
    assert error.reason.name == "UPSTREAM_ERROR"
    assert error.message == "ollama: an error was encountered while running the model"


async def test_an_error_as_the_first_line_has_the_status_it_names() -> None:
    seen, error = await failed(ndjson({"error": "busy", "status": 503}))
    assert (seen, error.reason.name) == ([], "UPSTREAM_OVERLOADED")


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b'{"model": "gemma3", "message": {"content": "A"}, "done": false}\n'],
        [b'{"model": "gemma3", "message": {"content": "A"}, "done": false}\n', b'{"model": "gem'],
    ],
)
async def test_a_stream_that_ends_before_done_is_an_error(pieces: list[bytes]) -> None:
    _, error = await failed(Answer(200, NDJSON, pieces))
    assert error.reason.name == "UPSTREAM_INVALID"
    assert "before the answer was complete" in error.message


async def test_a_socket_closed_in_mid_stream_is_an_error() -> None:
    seen, error = await failed(ndjson(line(content="A"), cut=True))
    assert [event.WhichOneof("event") for event in seen] == ["start", "text"]
    assert error.reason.name == "UPSTREAM_INVALID"


async def test_a_page_instead_of_a_stream_is_an_error() -> None:
    _, error = await failed(Answer(200, {"content-type": "text/html"}, [b"<html>\n"]))
    assert (error.reason.name, error.details["upstream_status"]) == ("UPSTREAM_INVALID", "200")


async def test_bytes_that_are_no_text_are_an_error() -> None:
    calls = (
        b'{"model": "gemma3", "message": {"tool_calls": [{"function": {"name": "f", "arguments": {"a": "\xff"}}}]}}\n'
    )
    seen, error = await failed(Answer(200, NDJSON, [calls]))
    assert (seen, error.reason.name) == ([], "UPSTREAM_INVALID")


async def test_a_missing_model_is_said_before_any_event() -> None:
    seen, error = await failed(Answer.of({"error": "model 'gemma3' not found"}, 404))
    assert (seen, error.reason.name) == ([], "MODEL_NOT_FOUND")
    assert error.message == "ollama: model 'gemma3' not found; fetch it with `ollama pull gemma3`"


@pytest.mark.parametrize("answer", [Answer(hold_before_headers=True), Answer(200, NDJSON, [], hold=True)])
async def test_cancel_before_the_first_event_closes_the_connection(answer: Answer) -> None:
    with Upstream(answer) as server:
        async with ollama(server) as adapter:
            stream = adapter.stream_chat(call(), CallContext())
            task = asyncio.ensure_future(anext(stream))
            await server.wait_arrived()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await server.wait_hung_up()


async def test_closing_in_mid_stream_closes_the_connection() -> None:
    with Upstream(ndjson(line(content="A"), hold=True)) as server:
        async with ollama(server) as adapter:
            stream = adapter.stream_chat(call(), CallContext())
            assert [event.WhichOneof("event") for event in await anext(stream)] == ["start", "text"]
            await stream.aclose()
            await server.wait_hung_up()


async def test_a_prompt_that_was_likely_cut_is_reported_with_the_end() -> None:
    asked = call(user="u", provider_options={"ollama": b'{"options": {"num_ctx": 18}}'})
    seen = await events(ndjson(line(content="A"), last()), asked)
    assert [note.field for note in seen[0].start.translation] == ["user"]
    (finish,) = [event.finish for event in seen if event.HasField("finish")]
    (note,) = finish.translation
    assert (note.field, note.action) == ("messages", chat_pb2.TRANSLATION_ACTION_CLAMPED)
    assert note.detail.startswith("likely cut, 11 tokens are what a context window of 18 leaves")


async def test_durations_in_nanoseconds_become_metrics_in_seconds_and_stay_as_they_are_in_the_usage() -> None:
    def measured() -> dict[str, float]:
        name = "aigateway_upstream_phase_seconds_sum"
        phases = ("load", "prompt", "output")
        return {
            phase: metrics.REGISTRY.get_sample_value(name, {"provider": "ollama", "phase": phase}) or 0.0
            for phase in phases
        }

    before = measured()
    durations = {
        "load_duration": 2_500_000_000,
        "prompt_eval_duration": 1_250_000_000,
        "eval_duration": 500_000_000,
    }
    seen = await events(ndjson(last(**durations)))
    assert {phase: seconds - before[phase] for phase, seconds in measured().items()} == pytest.approx(
        {"load": 2.5, "prompt": 1.25, "output": 0.5}
    )
    assert json.loads(seen[-1].usage.native_json).items() >= durations.items()


@pytest.mark.parametrize("reason", ["load", "unload"])
async def test_a_stream_that_only_loaded_or_unloaded_the_model_answered_nothing(reason: str) -> None:
    seen = await events(ndjson(line() | {"done": True, "done_reason": reason}))
    assert without_ids(seen) == [end(chat_pb2.FINISH_REASON_ERROR, reason)]


async def test_waiting_for_the_first_line_is_the_providers_time() -> None:
    pieces = [json.dumps(last()).encode()]
    with Upstream(Answer(200, NDJSON, [b"", *pieces], gap=0.05)) as server:
        async with ollama(server) as adapter:
            context = CallContext()
            async with aclosing(adapter.stream_chat(call(), context)) as stream:
                async for _ in stream:
                    pass
    assert context.upstream_ns >= 40_000_000
    assert context.upstream_status == 200
