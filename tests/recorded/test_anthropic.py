"""Every recorded Anthropic `messages` exchange, both ways: what is sent upstream and what comes back, typed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_edge.anthropic.to_proto import messages_call
from aigateway_edge.openai.from_proto import chat_completion
from aigateway_edge.openai.to_proto import chat_call
from aigateway_providers.adapter import CallContext
from aigateway_providers.anthropic.adapter import create
from aigateway_providers.settings import ProviderSettings
from support.exchanges import Exchange, Expected, ToolCallSeen, load, params
from support.recorded.anthropic import ANTHROPIC, differences, expected, to_call, to_openai
from support.replay import Answer, Upstream

if TYPE_CHECKING:
    from collections.abc import Sequence

MESSAGES = load("anthropic", "messages")
FINISH = {
    chat_pb2.FINISH_REASON_STOP: "stop",
    chat_pb2.FINISH_REASON_LENGTH: "length",
    chat_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
    chat_pb2.FINISH_REASON_CONTENT_FILTER: "content_filter",
}


async def play(exchange: Exchange, call: chat_pb2.ChatCall, piece_size: int = 0) -> tuple[Upstream, Expected]:
    """Send `call` through the adapter to a stand-in that answers as recorded."""
    with Upstream(Answer.recorded(exchange, piece_size)) as stand_in:
        adapter = create(ProviderSettings("anthropic", "anthropic", stand_in.url, "key"))
        try:
            if exchange.request.get("stream"):
                seen = folded([event async for batch in adapter.stream_chat(call, CallContext()) for event in batch])
            else:
                seen = of_completion(await adapter.chat(call, CallContext()))
        except GatewayError as error:
            seen = Expected(status=error.http_status, error_reason=error.reason.name)
        await adapter.aclose()
    return stand_in, seen


def of_completion(completion: chat_pb2.ChatCompletion) -> Expected:
    (choice,) = completion.choices
    assert completion.dialect == ANTHROPIC
    return seen_of(
        choice.message.parts,
        completion.usage,
        choice.finish_reason,
        model=completion.model,
        id=completion.id,
        stop_sequence=choice.stop_sequence,
        extra_json=completion.extra_json,
    )


def folded(events: Sequence[chat_pb2.ChatEvent]) -> Expected:
    """The events put together again into parts, by the rules of the contract."""
    assert events[0].HasField("start")
    parts: dict[int, message_pb2.Part] = {}
    finish = chat_pb2.ChatEvent()
    for event in events[1:]:
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
                part.tool_call.id, part.tool_call.name = event.tool_call.id, event.tool_call.name
            case "arguments":
                part.tool_call.arguments += event.arguments.encode()
            case "native":
                part.native.CopyFrom(event.native)
            case "finish":
                assert not finish.HasField("finish")
                finish = event
            case "usage":
                assert event == events[-1]
            case "native_event":
                pass  # for callers who show Anthropic's own events
            case other:
                pytest.fail(f"unexpected event {other}")
    return seen_of(
        [parts[index] for index in sorted(parts) if parts[index].WhichOneof("kind")],
        events[-1].usage,
        finish.finish.reason,
        model=events[0].start.model,
        id=events[0].start.id,
        stop_sequence=finish.finish.stop_sequence,
        extra_json=finish.extra_json,
    )


def seen_of(
    parts: Sequence[message_pb2.Part],
    usage: Any,
    finish: chat_pb2.FinishReason.ValueType,
    *,
    model: str,
    id: str,  # noqa: A002 - the field's own name
    stop_sequence: str,
    extra_json: bytes,
) -> Expected:
    extra = json.loads(extra_json) if extra_json else {}
    written = usage.input_cache_write_5m + usage.input_cache_write_1h
    return Expected(
        text="".join(part.text.text for part in parts),
        reasoning="".join(part.reasoning.text for part in parts),
        tool_calls=tuple(
            ToolCallSeen(part.tool_call.name, json.loads(part.tool_call.arguments), part.tool_call.id)
            for part in parts
            if part.HasField("tool_call")
        ),
        finish_reason=FINISH[finish],
        prompt_tokens=usage.input_uncached + usage.input_cache_read + written,
        completion_tokens=usage.output_text + usage.output_reasoning,
        cached_tokens=usage.input_cache_read,
        reasoning_tokens=usage.output_reasoning if usage.HasField("output_reasoning") else None,
        model=model,
        extra={
            "id": id,
            "kinds": [kind(part) for part in parts],
            "states": [part.provider_state.state.decode() for part in parts if part.HasField("provider_state")],
            "native": [json.loads(part.native.json) for part in parts if part.HasField("native")],
            "stop_sequence": stop_sequence or None,
            "container": extra.get("container"),
            "cache_write": written,
        },
    )


def kind(part: message_pb2.Part) -> str:
    match part.WhichOneof("kind"):
        case "reasoning":
            return "redacted_thinking" if part.reasoning.redacted else "thinking"
        case "tool_call":
            return "tool_use"
        case "native":
            return str(json.loads(part.native.json)["type"])
        case other:
            return str(other)


def malformed(exchange: Exchange) -> bool:
    """Whether a message of the recorded request is no object, which our own edge refuses."""
    return not all(isinstance(message, dict) for message in exchange.request["messages"])


@pytest.mark.parametrize("exchange", params(*MESSAGES))
async def test_an_openai_caller_gets_the_recorded_answer(exchange: Exchange) -> None:
    body = json.dumps(to_openai(exchange)).encode()
    if malformed(exchange):
        with pytest.raises(GatewayError) as caught:
            chat_call(body)
        assert (caught.value.http_status, caught.value.reason.name) == (400, expected(exchange).error_reason)
        return
    stand_in, seen = await play(exchange, chat_call(body).call)
    assert seen == expected(exchange)
    (sent,) = stand_in.requests
    assert differences(sent.json(), exchange.request) == []
    assert (sent.method, sent.path) == ("POST", "/v1/messages")
    assert (sent.headers["x-api-key"], sent.headers["anthropic-version"]) == ("key", "2023-06-01")


@pytest.mark.parametrize("exchange", params(*(each for each in MESSAGES if not malformed(each))))
async def test_a_typed_caller_gets_the_recorded_answer_native_parts_included(exchange: Exchange) -> None:
    stand_in, seen = await play(exchange, to_call(exchange))
    assert seen == expected(exchange)
    assert differences(stand_in.requests[0].json(), exchange.request) == []


@pytest.mark.parametrize("exchange", params(*(each for each in MESSAGES if each.streamed and each.status == 200)))
async def test_a_stream_cut_into_seven_byte_pieces_says_the_same(exchange: Exchange) -> None:
    _, seen = await play(exchange, to_call(exchange), piece_size=7)
    assert seen == expected(exchange)


@pytest.mark.parametrize("exchange", params(*(each for each in MESSAGES if each.status == 200 and not each.streamed)))
async def test_an_answer_sent_back_as_history_arrives_unchanged(exchange: Exchange) -> None:
    """Thinking with its signature, server tools and text return in order, byte for byte where they are opaque."""
    with Upstream(Answer.recorded(exchange)) as stand_in:
        adapter = create(ProviderSettings("anthropic", "anthropic", stand_in.url, "key"))
        call = to_call(exchange)
        answer = await adapter.chat(call, CallContext())
        call.messages.append(answer.choices[0].message)
        call.messages.append(message_pb2.Message(role=message_pb2.ROLE_USER, parts=[text_part("go on")]))
        await adapter.chat(call, CallContext())
        await adapter.aclose()
    blocks = [block for block in exchange.json()["content"] if block.get("text", "-").strip()]
    before = exchange.request["messages"]
    prefill = before[-1]["content"] if before[-1]["role"] == "assistant" else []
    first = [{"type": "text", "text": prefill}] if isinstance(prefill, str) else prefill
    assert stand_in.requests[1].json()["messages"][-2] == {"role": "assistant", "content": [*first, *blocks]}


@pytest.mark.parametrize(
    "exchange", params(*(each for each in MESSAGES if {"signature", "thinking"} <= each.features and not each.streamed))
)
async def test_thinking_survives_the_way_through_an_openai_client(exchange: Exchange) -> None:
    """A client that only echoes the message it was given sends the signed thinking back as it came."""
    with Upstream(Answer.recorded(exchange)) as stand_in:
        adapter = create(ProviderSettings("anthropic", "anthropic", stand_in.url, "key"))
        answer = await adapter.chat(to_call(exchange), CallContext())
        shown = json.loads(chat_completion(answer, request_id="r")[0])["choices"][0]["message"]
        user = {"role": "user", "content": "go on"}
        again = {"model": exchange.request["model"], "messages": [user, shown, user]}
        await adapter.chat(chat_call(json.dumps(again).encode()).call, CallContext())
        await adapter.aclose()
    recorded = [block for block in exchange.json()["content"] if "thinking" in block["type"]]
    sent = stand_in.requests[1].json()["messages"][1]["content"]
    assert [block for block in sent if block["type"] != "text"] == recorded


def text_part(text: str) -> message_pb2.Part:
    return message_pb2.Part(text=message_pb2.TextPart(text=text))


@pytest.mark.parametrize("exchange", params(*load("anthropic", "count_tokens")))
async def test_tokens_are_counted_as_recorded(exchange: Exchange) -> None:
    call = messages_call(json.dumps(exchange.request).encode(), counting=True).call
    with Upstream(Answer.recorded(exchange)) as stand_in:
        adapter = create(ProviderSettings("anthropic", "anthropic", stand_in.url, "key"))
        try:
            counted: int | str = (await adapter.count_tokens(call, CallContext())).input_tokens
        except GatewayError as error:
            counted = error.reason.name
        await adapter.aclose()
    (sent,) = stand_in.requests
    assert (sent.path, differences(sent.json(), exchange.request)) == ("/v1/messages/count_tokens", [])
    assert counted == (exchange.json()["input_tokens"] if exchange.status == 200 else "MODEL_NOT_FOUND")
