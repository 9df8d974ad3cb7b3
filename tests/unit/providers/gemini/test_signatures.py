"""Thought signatures for clients that drop them: kept for a while, for the conversation that they came with."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_providers.adapter import CallContext
from aigateway_providers.gemini.contents import UNSIGNED
from aigateway_providers.gemini.signatures import TTL, Signatures, of_completion, of_events
from aigateway_providers.registry import create_adapter
from aigateway_providers.settings import ProviderSettings
from support.replay import Answer, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aigateway_providers.adapter import Adapter

PRO3 = "gemini-3-pro-preview"
PARIS: dict[str, Any] = {
    "functionCall": {"name": "weather", "args": {"city": "Paris", "days": 1}},
    "thoughtSignature": "sig-paris",
}
ROME = {"functionCall": {"name": "weather", "args": {"city": "Rome"}}}
DONE = {"candidates": [{"content": {"parts": [{"text": "Rain."}]}, "finishReason": "STOP"}]}

Part = message_pb2.Part
both = pytest.mark.parametrize("stream", [False, True])


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def text(said: str) -> Part:
    return Part(text=message_pb2.TextPart(text=said))


def tool_call(
    call_id: str = "c1", name: str = "weather", arguments: bytes = b'{"city":"Paris"}'
) -> message_pb2.ToolCall:
    return message_pb2.ToolCall(id=call_id, name=name, arguments=arguments)


def ask(question: str = "Weather?", *more: message_pb2.Message, model: str = PRO3) -> chat_pb2.ChatCall:
    user = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[text(question)])
    return chat_pb2.ChatCall(model=model, messages=[user, *more])


def found(kept: Signatures, call: chat_pb2.ChatCall, made: message_pb2.ToolCall) -> str:
    lookup = kept.lookup(call.model)
    return lookup(made, call.messages[-1]) if lookup else ""


def test_a_signature_is_found_by_its_call_within_its_conversation() -> None:
    kept = Signatures()
    kept.keep(ask(), [(tool_call(), b"sig")])
    assert found(kept, ask(), tool_call()) == "sig"
    assert found(kept, ask(), tool_call(arguments=b'{ "city": "Paris" }')) == "sig"


@pytest.mark.parametrize(
    ("call", "made"),
    [
        (ask("Weather in my town?"), tool_call()),
        (ask(model="gemini-3-flash-preview"), tool_call()),
        (ask(), tool_call("c2")),
        (ask(), tool_call(name="time")),
        (ask(), tool_call(arguments=b'{"city":"Rome"}')),
        (ask(), tool_call(arguments=b"{")),
    ],
)
def test_another_conversation_never_finds_it_even_with_the_same_id(
    call: chat_pb2.ChatCall, made: message_pb2.ToolCall
) -> None:
    kept = Signatures()
    kept.keep(ask(), [(tool_call(), b"sig")])
    assert found(kept, call, made) == ""


def test_results_of_tools_tell_conversations_apart() -> None:
    def after(result: str) -> chat_pb2.ChatCall:
        answer = message_pb2.ToolResult(call_id="c0", content=[text(result)])
        return ask("Go", message_pb2.Message(role=message_pb2.ROLE_TOOL, parts=[Part(tool_result=answer)]))

    kept = Signatures()
    kept.keep(after("one"), [(tool_call(), b"sig")])
    assert found(kept, after("one"), tool_call()) == "sig"
    assert found(kept, after("two"), tool_call()) == ""


def test_a_signature_expires_some_time_after_its_last_use() -> None:
    clock = Clock()
    kept = Signatures(clock=clock)
    kept.keep(ask(), [(tool_call(), b"sig"), (tool_call("c2"), b"other")])
    clock.now += TTL - 1
    assert found(kept, ask(), tool_call()) == "sig"
    clock.now += TTL - 1
    assert found(kept, ask(), tool_call("c2")) == ""
    assert (found(kept, ask(), tool_call()), len(kept)) == ("sig", 1)
    clock.now += TTL
    assert (found(kept, ask(), tool_call()), len(kept)) == ("", 0)


def test_no_more_signatures_are_kept_than_allowed_and_the_longest_unused_go_first() -> None:
    kept = Signatures(max_entries=2)
    kept.keep(ask(), [(tool_call("a"), b"1"), (tool_call("b"), b"2")])
    assert found(kept, ask(), tool_call("a")) == "1"
    kept.keep(ask(), [(tool_call("c"), b"3")])
    assert [found(kept, ask(), tool_call(name)) for name in "abc"] == ["1", "", "3"]


def test_no_more_bytes_are_kept_than_allowed() -> None:
    kept = Signatures(max_bytes=10_000)
    for number in range(10):
        kept.keep(ask(), [(tool_call(f"c{number}"), b"s" * 4000)])
    assert [bool(found(kept, ask(), tool_call(f"c{n}"))) for n in range(10)] == [False] * 8 + [True] * 2
    kept.keep(ask(), [(tool_call("c9"), b"s" * 4000)])
    assert len(kept) == 2
    kept.keep(ask(), [(tool_call("huge"), b"s" * 10_000)])
    assert (found(kept, ask(), tool_call("huge")), len(kept)) == ("", 2)


def test_calls_without_signatures_and_signatures_of_texts_are_not_kept() -> None:
    state = message_pb2.ProviderState(provider="gemini", state=b"s")
    message = message_pb2.Message(parts=[Part(tool_call=tool_call()), Part(text=text("Hi").text, provider_state=state)])
    assert list(of_completion(chat_pb2.ChatCompletion(choices=[chat_pb2.Choice(message=message)]))) == []
    events = [chat_pb2.ChatEvent(text="Hi"), chat_pb2.ChatEvent(provider_state=state)]
    assert list(of_events(events)) == []


@asynccontextmanager
async def gemini(upstream: Upstream) -> AsyncIterator[Adapter]:
    adapter = create_adapter(ProviderSettings("gemini", "gemini", upstream.url, api_key="k"))
    try:
        yield adapter
    finally:
        await adapter.aclose()


def answer(*parts: dict[str, Any], stream: bool) -> Answer:
    record = {"candidates": [{"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP"}]}
    return Answer.sse(record) if stream else Answer.of(record)


async def answered(adapter: Adapter, call: chat_pb2.ChatCall, *, stream: bool) -> list[message_pb2.ToolCall]:
    """The tool calls of the answer as a client keeps them that knows of nothing else."""
    if not stream:
        completion = await adapter.chat(call, CallContext())
        return [part.tool_call for part in completion.choices[0].message.parts]
    events = [event async for batch in adapter.stream_chat(call, CallContext()) for event in batch]
    calls = [event.tool_call for event in events if event.HasField("tool_call")]
    arguments = [event.arguments for event in events if event.HasField("arguments")]
    return [tool_call(c.id, c.name, a.encode()) for c, a in zip(calls, arguments, strict=True)]


def following(call: chat_pb2.ChatCall, calls: list[message_pb2.ToolCall]) -> chat_pb2.ChatCall:
    """The next turn: the tool calls without their signatures, and their results."""
    results = [Part(tool_result=message_pb2.ToolResult(call_id=c.id, content=[text("ok")])) for c in calls]
    return chat_pb2.ChatCall(
        model=call.model,
        messages=[
            *call.messages,
            message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=[Part(tool_call=c) for c in calls]),
            *(message_pb2.Message(role=message_pb2.ROLE_TOOL, parts=[result]) for result in results),
        ],
    )


def sent_signatures(upstream: Upstream) -> list[str | None]:
    """The signatures of the function calls in the last request."""
    turns = json.loads(upstream.requests[-1].body)["contents"]
    return [part.get("thoughtSignature") for turn in turns for part in turn["parts"] if "functionCall" in part]


@both
async def test_a_client_that_drops_signatures_still_gets_its_thoughts_continued(stream: bool) -> None:
    with Upstream(answer(PARIS, ROME, stream=stream), Answer.of(DONE)) as upstream:
        async with gemini(upstream) as adapter:
            calls = await answered(adapter, ask(), stream=stream)
            await adapter.chat(following(ask(), calls), CallContext())
    assert sent_signatures(upstream) == ["sig-paris", None]


@both
async def test_with_the_same_id_in_another_conversation_the_signature_stays_where_it_is(stream: bool) -> None:
    numbered = PARIS | {"functionCall": {"id": "call_0", "name": "weather", "args": {}}}
    with Upstream(answer(numbered, stream=stream), Answer.of(DONE)) as upstream:
        async with gemini(upstream) as adapter:
            calls = await answered(adapter, ask("Weather at my secret place?"), stream=stream)
            await adapter.chat(following(ask("Weather?"), calls), CallContext())
            assert sent_signatures(upstream) == [UNSIGNED]
            await adapter.chat(following(ask("Weather at my secret place?"), calls), CallContext())
            assert sent_signatures(upstream) == ["sig-paris"]


async def test_a_signature_that_the_caller_brings_is_not_replaced() -> None:
    with Upstream(answer(PARIS, stream=False), Answer.of(DONE)) as upstream:
        async with gemini(upstream) as adapter:
            calls = await answered(adapter, ask(), stream=False)
            again = following(ask(), calls)
            again.messages[1].parts[0].provider_state.CopyFrom(
                message_pb2.ProviderState(provider="gemini", state=b"own")
            )
            await adapter.chat(again, CallContext())
            assert sent_signatures(upstream) == ["own"]
            again.messages[1].parts[0].provider_state.provider = "anthropic"
            await adapter.chat(again, CallContext())
            assert sent_signatures(upstream) == [UNSIGNED]


async def test_counting_tokens_counts_the_kept_signature() -> None:
    with Upstream(answer(PARIS, stream=False), Answer.of({"totalTokens": 9})) as upstream:
        async with gemini(upstream) as adapter:
            calls = await answered(adapter, ask(), stream=False)
            await adapter.count_tokens(following(ask(), calls), CallContext())  # type: ignore[attr-defined] # it counts
    assert sent_signatures(upstream) == ["sig-paris"]
