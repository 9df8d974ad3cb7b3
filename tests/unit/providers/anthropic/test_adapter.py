"""The Anthropic adapter against a stand-in on loopback: every case of the list, from the documentation."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aigateway.v1 import chat_pb2, embedding_pb2, message_pb2, model_pb2
from aigateway_common.errors import GatewayError
from aigateway_edge.openai.to_proto import chat_call
from aigateway_providers.adapter import CallContext
from aigateway_providers.anthropic.adapter import AnthropicAdapter
from aigateway_providers.registry import create_adapter
from aigateway_providers.settings import ProviderSettings
from support.replay import Answer, Sent, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MODEL = "claude-sonnet-4-5"
USAGE = {
    "input_tokens": 12,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "output_tokens": 6,
    "service_tier": "standard",
}
TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def message(*content: Any, **changes: Any) -> dict[str, Any]:
    """An answer as the API reference shows it."""
    return {
        "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": content,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": USAGE,
        **changes,
    }


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def sse(*records: Any, **more: Any) -> Answer:
    """A stream as the streaming guide shows it: each record under its event name."""
    named = [f"event: {record['type']}\ndata: {json.dumps(record)}\n\n" for record in records]
    return Answer.sse(*named, **more)


START = {"type": "message_start", "message": message(stop_reason=None)}
TEXT = {"type": "content_block_start", "index": 0, "content_block": said("")}
HELLO = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}
STOP = {"type": "content_block_stop", "index": 0}
DELTA = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn", "stop_sequence": None},
    "usage": {"output_tokens": 15},
}
END = {"type": "message_stop"}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def call(*messages: Any, **fields: Any) -> chat_pb2.ChatCall:
    asked = messages or [{"role": "user", "content": "Hello"}]
    return chat_call(json.dumps({"model": MODEL, "max_tokens": 100, "messages": asked, **fields}).encode()).call


@asynccontextmanager
async def adapter(url: str, **settings: Any) -> AsyncIterator[AnthropicAdapter]:
    made = create_adapter(ProviderSettings("anthropic", "anthropic", url, "sk-ant-key", **settings))
    assert isinstance(made, AnthropicAdapter)
    try:
        yield made
    finally:
        await made.aclose()


async def chat(answer: Answer, of: chat_pb2.ChatCall | None = None) -> tuple[chat_pb2.ChatCompletion, Sent]:
    with Upstream(answer) as stand_in:
        async with adapter(stand_in.url) as claude:
            completion = await claude.chat(of or call(), CallContext())
    return completion, stand_in.requests[0]


async def stream(
    answer: Answer, into: list[chat_pb2.ChatEvent] | None = None, **fields: Any
) -> list[chat_pb2.ChatEvent]:
    """The events of a call with `fields`; what came before a failure is left in `into`."""
    events = [] if into is None else into
    with Upstream(answer) as stand_in:
        async with adapter(stand_in.url) as claude:
            async for batch in claude.stream_chat(call(**fields), CallContext()):
                assert batch
                events += batch
    return events


async def refused(answer: Answer, *, streamed: bool = False) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await (stream(answer) if streamed else chat(answer))
    return caught.value


# The case list


async def test_basic() -> None:
    completion, sent = await chat(Answer.of(message(said("Hi there!"))))
    assert completion.choices[0].message.parts[0].text.text == "Hi there!"
    assert completion.choices[0].finish_reason == chat_pb2.FINISH_REASON_STOP
    assert completion.created > 1_700_000_000
    assert (sent.method, sent.path) == ("POST", "/v1/messages")
    assert {key: sent.headers.get(key) for key in ("x-api-key", "anthropic-version", "content-type")} == {
        "x-api-key": "sk-ant-key",
        "anthropic-version": "2023-06-01",
        "content-type": "application/json",
    }
    assert sent.json() == {
        "model": MODEL,
        "max_tokens": 100,
        "stream": False,
        "messages": [{"role": "user", "content": [said("Hello")]}],
    }


async def test_streaming() -> None:
    events = await stream(sse(START, TEXT, {"type": "ping"}, HELLO, HELLO, STOP, DELTA, END))
    assert [event.WhichOneof("event") for event in events] == ["start", "text", "text", "finish", "usage"]
    assert (events[-1].usage.input_uncached, events[-1].usage.output_text) == (12, 15)


async def test_streaming_cut_at_every_byte_says_the_same() -> None:
    whole = sse(START, TEXT, HELLO | {"delta": {"type": "text_delta", "text": "Größe 🙂"}}, STOP, DELTA, END)
    body = b"".join(whole.pieces)
    bytewise = Answer(200, whole.headers, [body[i : i + 1] for i in range(len(body))])
    one, other = await stream(whole), await stream(bytewise)
    one[0].start.created = other[0].start.created = 0
    assert one == other


async def test_tools() -> None:
    use = {"type": "tool_use", "id": "toolu_01A09q90qw90lq917835lq9", "name": "get_weather", "input": {"city": "Paris"}}
    completion, sent = await chat(Answer.of(message(use, stop_reason="tool_use")), call(tools=[TOOL]))
    (part,) = completion.choices[0].message.parts
    assert (part.tool_call.id, part.tool_call.name) == (use["id"], "get_weather")
    assert json.loads(part.tool_call.arguments) == {"city": "Paris"}
    assert completion.choices[0].finish_reason == chat_pb2.FINISH_REASON_TOOL_CALLS
    assert sent.json()["tools"] == [
        {"name": "get_weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    ]


async def test_parallel_tools() -> None:
    def use(index: int, *pieces: str) -> list[Any]:
        block = {"type": "tool_use", "id": f"toolu_{index}", "name": "get_weather", "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        return [
            {"type": "content_block_start", "index": index, "content_block": block},
            *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": index},
        ]

    end = DELTA | {"delta": {"stop_reason": "tool_use", "stop_sequence": None}}
    events = await stream(
        sse(START, *use(0, "", '{"city": ', '"Paris"}'), *use(1, '{"city": "Rome"}'), end, END), tools=[TOOL]
    )
    assert [(event.tool_call.index, event.tool_call.id) for event in events if event.HasField("tool_call")] == [
        (0, "toolu_0"),
        (1, "toolu_1"),
    ]
    arguments = {0: "", 1: ""}
    for event in events:
        if event.HasField("arguments"):
            arguments[event.part] += event.arguments
    assert [json.loads(text)["city"] for text in arguments.values()] == ["Paris", "Rome"]


async def test_structured_output() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    completion, sent = await chat(Answer.of(message(said('{"n": 1}'))), call(response_format=form))
    assert json.loads(completion.choices[0].message.parts[0].text.text) == {"n": 1}
    assert sent.json()["output_config"] == {"format": {"type": "json_schema", "schema": schema}}


async def test_image() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    _, sent = await chat(Answer.of(message(said("A cat."))), call({"role": "user", "content": [picture]}))
    assert sent.json()["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    ]


async def test_reasoning() -> None:
    thought = {"type": "thinking", "thinking": "Let me see.", "signature": "WaUjzkypQ2mUEVM36O2TxuC06KN8xyfbJwyem2=="}
    completion, sent = await chat(
        Answer.of(message(thought, said("27."))), call(reasoning_effort="low", max_tokens=9000)
    )
    first, second = completion.choices[0].message.parts
    assert (first.reasoning.text, first.provider_state.state.decode()) == ("Let me see.", thought["signature"])
    assert second.text.text == "27."
    assert sent.json()["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert [note.field for note in completion.translation] == ["reasoning_effort"]


async def test_usage() -> None:
    usage = USAGE | {"cache_read_input_tokens": 30, "cache_creation_input_tokens": 5}
    completion, _ = await chat(Answer.of(message(said("x"), usage=usage)))
    tokens = completion.usage
    assert (tokens.input_uncached, tokens.input_cache_read, tokens.input_cache_write_5m) == (12, 30, 5)
    assert (tokens.output_text, tokens.HasField("output_reasoning"), tokens.estimated) == (6, False, False)
    assert json.loads(tokens.native_json) == usage


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (400, "invalid_request_error", "INVALID_REQUEST"),
        (404, "not_found_error", "MODEL_NOT_FOUND"),
        (429, "rate_limit_error", "UPSTREAM_RATE_LIMITED"),
        (500, "api_error", "UPSTREAM_ERROR"),
        (529, "overloaded_error", "UPSTREAM_OVERLOADED"),
    ],
    ids=["bad request", "unknown model", "rate limit", "upstream 5xx", "overloaded"],
)
async def test_failures(status: int, kind: str, reason: str, streamed: bool) -> None:
    body = {"type": "error", "error": {"type": kind, "message": "Why."}, "request_id": "req_1"}
    error = await refused(Answer.of(body, status, retry_after="7"), streamed=streamed)
    assert (error.reason.name, error.retry_after) == (reason, 7)
    assert error.message == "anthropic: Why."
    assert error.details["upstream_request_id"] == "req_1"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_proxys_page_is_no_answer(streamed: bool) -> None:
    page = Answer(200, {"content-type": "text/html"}, [b"<html>hi</html>"])
    assert (await refused(page, streamed=streamed)).reason.name == "UPSTREAM_INVALID"


async def test_bytes_that_are_no_utf8_are_no_answer() -> None:
    body = json.dumps(message(said("x"))).encode().replace(b'"x"', b'"\xff"')
    assert (await refused(Answer(pieces=[body]))).reason.name == "UPSTREAM_INVALID"
    broken = Answer(200, {"content-type": "text/event-stream"}, [b'data: {"type":"\xff"}\n\n'])
    assert (await refused(broken, streamed=True)).reason.name == "UPSTREAM_INVALID"
    assert (await refused(Answer(529, {}, [b'{"error":{"type":"\xff"}}']))).reason.name == "UPSTREAM_OVERLOADED"


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_error_object_inside_a_200_is_an_error(streamed: bool) -> None:
    assert (await refused(Answer.of(OVERLOADED), streamed=streamed)).reason.name == "UPSTREAM_OVERLOADED"


@pytest.mark.parametrize("records", [[START], [START, TEXT, HELLO], [START, TEXT, HELLO, STOP, DELTA], []])
async def test_a_stream_without_its_end_was_cut_short(records: list[Any]) -> None:
    assert (await refused(sse(*records), streamed=True)).reason.name == "UPSTREAM_INVALID"


async def test_a_socket_closed_in_mid_stream_is_an_error_after_what_came() -> None:
    events: list[chat_pb2.ChatEvent] = []
    with pytest.raises(GatewayError) as caught:
        await stream(sse(START, TEXT, HELLO, cut=True), into=events)
    assert [event.text for event in events if event.HasField("text")] == ["Hello"]
    assert caught.value.reason.name == "UPSTREAM_INVALID"


async def test_a_socket_closed_after_the_end_is_no_error() -> None:
    events = await stream(sse(START, TEXT, HELLO, STOP, DELTA, END, cut=True))
    assert events[-1].HasField("usage")


async def test_a_record_that_is_no_json_ends_the_stream_with_an_error() -> None:
    broken = Answer.sse(f"data: {json.dumps(START)}\n\n", "data: {nope\n\n")
    assert (await refused(broken, streamed=True)).reason.name == "UPSTREAM_INVALID"


@pytest.mark.parametrize("before", [[], [START], [START, TEXT]])
async def test_an_error_before_any_content_is_the_only_outcome(before: list[Any]) -> None:
    """In one read, so that nothing was passed on before the failure is known and another attempt may be made."""
    body = b"".join(sse(*before, OVERLOADED).pieces)
    with Upstream(Answer(200, {"content-type": "text/event-stream"}, [body])) as stand_in:
        async with adapter(stand_in.url) as claude:
            with pytest.raises(GatewayError) as caught:
                await anext(claude.stream_chat(call(), CallContext()))
    assert caught.value.reason.name == "UPSTREAM_OVERLOADED"


@pytest.mark.parametrize("named_only", [False, True])
async def test_a_later_error_follows_the_content_that_came_with_it(named_only: bool) -> None:
    error = {"error": OVERLOADED["error"]} if named_only else OVERLOADED
    body = b"".join(sse(START, TEXT, HELLO).pieces) + f"event: error\ndata: {json.dumps(error)}\n\n".encode()
    events: list[chat_pb2.ChatEvent] = []
    with pytest.raises(GatewayError) as caught:
        await stream(Answer(200, {"content-type": "text/event-stream"}, [body]), into=events)
    assert [event.text for event in events if event.HasField("text")] == ["Hello"]
    assert caught.value.reason.name == "UPSTREAM_OVERLOADED"


# Cancelling closes the provider's socket


@pytest.mark.parametrize("answer", [Answer(hold_before_headers=True), Answer(pieces=[b"{"], hold=True)])
async def test_cancelling_a_unary_call_closes_the_upstream(answer: Answer) -> None:
    with Upstream(answer) as stand_in:
        async with adapter(stand_in.url) as claude:
            task = asyncio.ensure_future(claude.chat(call(), CallContext()))
            await stand_in.wait_arrived()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await stand_in.wait_hung_up()


@pytest.mark.parametrize("answer", [Answer(hold_before_headers=True), sse(hold=True)])
async def test_cancelling_before_the_first_token_closes_the_upstream(answer: Answer) -> None:
    with Upstream(answer) as stand_in:
        async with adapter(stand_in.url) as claude:
            task = asyncio.ensure_future(anext(claude.stream_chat(call(), CallContext())))
            await stand_in.wait_arrived()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await stand_in.wait_hung_up()


async def test_closing_a_stream_half_way_closes_the_upstream() -> None:
    with Upstream(sse(START, TEXT, HELLO, hold=True)) as stand_in:
        async with adapter(stand_in.url) as claude:
            async with aclosing(claude.stream_chat(call(), CallContext())) as events:
                async for batch in events:
                    if any(event.HasField("text") for event in batch):
                        break
            await stand_in.wait_hung_up()


# Headers, models, embeddings


async def test_configured_headers_are_sent_and_win() -> None:
    headers = {"anthropic-beta": "context-1m-2025-08-07", "Anthropic-Version": "2024-01-01"}
    with Upstream(Answer.of(message(said("x")))) as stand_in:
        async with adapter(stand_in.url, headers=headers) as claude:
            await claude.chat(call(), CallContext())
    sent = stand_in.requests[0].headers
    assert (sent["anthropic-beta"], sent["anthropic-version"]) == ("context-1m-2025-08-07", "2024-01-01")


async def test_models_are_read_page_by_page() -> None:
    opus = {
        "type": "model",
        "id": "claude-opus-4-6",
        "display_name": "Claude Opus 4.6",
        "created_at": "2026-02-04T00:00:00Z",
        "max_input_tokens": 1_000_000,
        "max_tokens": 128_000,
        "capabilities": {
            "image_input": {"supported": True},
            "pdf_input": {"supported": True},
            "structured_outputs": {"supported": True},
            "thinking": {"supported": True},
        },
    }
    old = {"type": "model", "id": "claude-old", "display_name": "Old", "created_at": "1970-01-01T00:00:00Z"}
    pages = [
        Answer.of({"data": [opus], "has_more": True, "first_id": "claude-opus-4-6", "last_id": "claude-opus-4-6"}),
        Answer.of({"data": [old], "has_more": False, "first_id": "claude-old", "last_id": "claude-old"}),
    ]
    with Upstream(*pages) as stand_in:
        async with adapter(stand_in.url) as claude:
            models = await claude.list_models(CallContext())
    assert [(sent.path, sent.query) for sent in stand_in.requests] == [
        ("/v1/models", {"limit": ["1000"]}),
        ("/v1/models", {"limit": ["1000"], "after_id": ["claude-opus-4-6"]}),
    ]
    assert models == [
        model_pb2.Model(
            id="claude-opus-4-6",
            provider="anthropic",
            upstream_model="claude-opus-4-6",
            created=1770163200,
            owned_by="anthropic",
            display_name="Claude Opus 4.6",
            context_window=1_000_000,
            max_output_tokens=128_000,
            input_modalities=["text", "image", "file"],
            output_modalities=["text"],
            reasoning=True,
            structured_output=True,
            native_json=json.dumps(opus).encode(),
        ),
        model_pb2.Model(
            id="claude-old",
            provider="anthropic",
            upstream_model="claude-old",
            owned_by="anthropic",
            display_name="Old",
            output_modalities=["text"],
            native_json=json.dumps(old).encode(),
        ),
    ]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer.of({"type": "error", "error": {"type": "authentication_error", "message": "m"}}, 401), "UPSTREAM_AUTH"),
        (Answer.of(["no page"]), "UPSTREAM_INVALID"),
    ],
)
async def test_a_model_list_may_fail(answer: Answer, reason: str) -> None:
    with Upstream(answer) as stand_in:
        async with adapter(stand_in.url) as claude:
            with pytest.raises(GatewayError) as caught:
                await claude.list_models(CallContext())
    assert caught.value.reason.name == reason


async def test_embeddings_are_not_offered() -> None:
    async with adapter("http://127.0.0.1:1") as claude:
        with pytest.raises(GatewayError) as caught:
            await claude.embed(embedding_pb2.EmbedCall(model=MODEL), CallContext())
        assert caught.value.reason.name == "UNIMPLEMENTED"
        assert claude.capabilities == model_pb2.Capabilities(
            provider="anthropic",
            dialect=message_pb2.DIALECT_ANTHROPIC_MESSAGES,
            chat=True,
            list_models=True,
            tools=True,
            images=True,
            files=True,
            structured_output=True,
            reasoning=True,
            finish_reasons=[
                "end_turn",
                "stop_sequence",
                "compaction",
                "max_tokens",
                "model_context_window_exceeded",
                "tool_use",
                "refusal",
                "pause_turn",
            ],
            count_tokens=True,
        )


async def test_what_the_context_learns() -> None:
    context = CallContext()
    with Upstream(Answer.of(message(said("x")))) as stand_in:
        async with adapter(stand_in.url) as claude:
            await claude.chat(call(), context)
    assert (context.upstream_status, context.upstream_ns > 0) == (200, True)
