"""OpenAI in, OpenAI out: what the provider sent is what the caller gets, field by field, whole and streamed.

Every recorded answer of OpenAI and Groq goes through the adapter and the edge's writer, and the JSON of both ends is
compared. What remains different, and why:

- Fields that OpenAI's document requires are there, as null, where the host leaves them out (`logprobs`, `refusal`,
  `content`; in streams `usage`, for callers who asked for it): clients read them without asking.
- Reasoning that a host calls `reasoning` is there as it is, and again as `reasoning_content` and `reasoning_details`,
  which the gateway's callers find on every provider.
- A chunk that says several things at once (role and text, a tool call and all its arguments, the end and the usage) is
  told in several. Put together, both streams are the same.
- A stream's fields that are the same in every chunk are there in every chunk, also in one where the host left them out;
  a `role` is said once.
- Every choice ends with a `finish_reason`, also where a host says that it is done and never why.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aigateway_edge.openai import from_proto, to_proto
from aigateway_edge.openai.chunks import Chunks
from aigateway_providers.adapter import CallContext
from aigateway_providers.openai_compat.adapter import create
from aigateway_providers.settings import ProviderSettings
from support.exchanges import load, params
from support.recorded.openai_responses import leaves
from support.replay import Answer, Upstream

if TYPE_CHECKING:
    from support.exchanges import Exchange

ANSWERED = [one for one in (*load("openai", "chat"), *load("groq", "chat")) if one.status < 400]
WHOLE = [one for one in ANSWERED if not one.streamed]
STREAMS = [one for one in ANSWERED if one.streamed]
EMBEDDINGS = [one for one in load("openai", "embeddings") if one.status < 400]
HELLO = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
HEAD = {"id": "c1", "object": "chat.completion.chunk", "created": 17, "model": "m"}
WORDS = ("content", "refusal", "reasoning", "reasoning_content")


async def through(provider: str, request: dict[str, Any], answer: Answer) -> bytes:
    """What an OpenAI-dialect caller of `provider` is sent for `answer`."""
    parsed = to_proto.chat_call(json.dumps(request).encode())
    with Upstream(answer) as stand_in:
        base = stand_in.url + ("/v1" if provider == "openai" else "")
        adapter = create(ProviderSettings(provider, provider, base, "key"))
        try:
            if not parsed.stream:
                completion = await adapter.chat(parsed.call, CallContext())
                body, notes = from_proto.chat_completion(completion, request_id="r")
                assert notes == []
                return body
            chunks = Chunks(request_id="r", include_usage=parsed.call.include_usage)
            batches = [chunks.write(batch) async for batch in adapter.stream_chat(parsed.call, CallContext())]
            return b"".join(batches) + chunks.end()
        finally:
            await adapter.aclose()


def records(stream: bytes) -> list[dict[str, Any]]:
    lines = [line[5:].strip() for line in stream.decode().splitlines() if line.startswith("data:")]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def without_nulls(record: dict[str, Any]) -> dict[str, Any]:
    """A chunk without the nulls that the gateway may have added."""
    choices = [{k: v for k, v in one.items() if (k, v) != ("logprobs", None)} for one in record["choices"]]
    return {k: v for k, v in record.items() if (k, v) != ("usage", None)} | {"choices": choices}


def packed(stream: list[dict[str, Any]]) -> bool:
    """Whether the host says several things in one chunk, as OpenAI itself never does."""
    return any(
        (record["choices"] and record.get("usage"))
        or any(number and "role" in choice["delta"] and len(record["choices"]) == 1 for choice in record["choices"])
        or any(choice["delta"].get("role") and choice["delta"].get("content") for choice in record["choices"])
        for number, record in enumerate(stream)
    ) and {choice["index"] for record in stream for choice in record["choices"]} == {0}


def folded(stream: list[dict[str, Any]]) -> dict[str, Any]:
    """A stream put together: words and lists joined, of anything else every value it ever had; nulls are nothing."""
    whole: dict[str, Any] = {"usage": None, "choices": {}}
    for record in stream:
        whole["usage"] = record.pop("usage", None) or whole["usage"]
        for choice in record.pop("choices"):
            _fold_choice(whole["choices"].setdefault(choice.pop("index"), {"delta": {}, "calls": {}}), choice)
        _gather(whole, record)
    return whole


def _fold_choice(into: dict[str, Any], choice: dict[str, Any]) -> None:
    delta = choice.pop("delta")
    for word in WORDS:
        into[word] = into.get(word, "") + (delta.pop(word, None) or "")
    for call in delta.pop("tool_calls", None) or ():
        known = into["calls"].setdefault(call.pop("index"), {"arguments": ""})
        known["arguments"] += call["function"].pop("arguments", None) or ""
        _gather(known, call | {"function": {k: v for k, v in call["function"].items() if v}})
    into["logprobs"] = into.get("logprobs", []) + ((choice.pop("logprobs", None) or {}).get("content") or [])
    _gather(into["delta"], delta)
    _gather(into, choice)


def _gather(into: dict[str, Any], fields: dict[str, Any]) -> None:
    for leaf in leaves(fields):
        if not leaf.endswith(("=null", "={}")):
            into.setdefault("leaves", set()).add(leaf)


@pytest.mark.parametrize("exchange", params(*WHOLE))
async def test_a_whole_answer_is_what_the_provider_sent(exchange: Exchange) -> None:
    got = set(leaves(json.loads(await through(exchange.provider, exchange.request, Answer.recorded(exchange)))))
    wanted = set(leaves(exchange.json()))
    added = {leaf for leaf in got - wanted if not leaf.endswith(("logprobs=null", "refusal=null", "content=null"))}
    assert wanted - got == set()
    assert {leaf for leaf in added if ".reasoning_" not in leaf} == set()


@pytest.mark.parametrize("exchange", params(*STREAMS))
async def test_a_stream_put_together_is_what_the_provider_sent(exchange: Exchange) -> None:
    got = records(await through(exchange.provider, asking_usage(exchange), Answer.recorded(exchange)))
    wanted = folded(records(exchange.body))
    assert with_reasons(folded(got), wanted) == wanted


@pytest.mark.parametrize("exchange", params(*(one for one in STREAMS if not packed(records(one.body)))))
async def test_a_stream_is_what_the_provider_sent_chunk_by_chunk(exchange: Exchange) -> None:
    got = records(await through(exchange.provider, exchange.request, Answer.recorded(exchange)))
    assert [without_nulls(one) for one in got] == [without_nulls(one) for one in records(exchange.body)]


@pytest.mark.parametrize("exchange", params(*EMBEDDINGS))
async def test_vectors_are_the_decimals_or_the_bytes_that_the_provider_sent(exchange: Exchange) -> None:
    parsed = to_proto.embed_call(json.dumps(exchange.request).encode())
    with Upstream(Answer.recorded(exchange)) as stand_in:
        adapter = create(ProviderSettings("openai", "openai", stand_in.url + "/v1", "key"))
        try:
            vectors = await adapter.embed(parsed.call, CallContext())
        finally:
            await adapter.aclose()
    assert json.loads(from_proto.embeddings(vectors, base64_vectors=parsed.base64)) == exchange.json()
    asked = stand_in.requests[0].json().get("encoding_format", "float")
    assert asked == exchange.request.get("encoding_format", "float")


def with_reasons(got: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """What was got, without the reasons of choices for which the host gave none."""
    for index, choice in wanted["choices"].items():
        if not any(leaf.startswith(".finish_reason=") for leaf in choice.get("leaves", ())):
            mine = got["choices"][index]
            mine["leaves"] = {leaf for leaf in mine["leaves"] if not leaf.startswith(".finish_reason=")}
            if not mine["leaves"]:
                del mine["leaves"]
    return got


def asking_usage(exchange: Exchange) -> dict[str, Any]:
    """The recorded request; where the host told its usage unasked, a caller who wants to see it asks."""
    told = any(record.get("usage") for record in records(exchange.body))
    request: dict[str, Any] = exchange.request
    return request | ({"stream_options": {"include_usage": True}} if told else {})


def test_most_recorded_streams_are_compared_chunk_by_chunk() -> None:
    if not STREAMS:
        pytest.skip("no recorded exchanges here; set AIGATEWAY_FIXTURES")
    assert sum(packed(records(one.body)) for one in STREAMS) <= 3


async def test_groqs_reasoning_and_its_own_object_come_through_in_a_stream() -> None:
    """https://console.groq.com/docs/reasoning and https://console.groq.com/docs/api-reference#chat-create."""
    deltas = [
        {"role": "assistant", "content": ""},
        {"reasoning": "Hm", "channel": "analysis"},
        {"reasoning": "."},
        {"content": "Hi"},
        {},
    ]
    sent: list[dict[str, Any]] = [
        HEAD | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]} for delta in deltas
    ]
    sent[0]["x_groq"] = {"id": "req_1", "seed": 7}
    sent[-1]["choices"][0]["finish_reason"] = "stop"
    sent[-1]["x_groq"] = {"id": "req_1", "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
    got = records(await through("groq", HELLO | {"stream": True}, Answer.sse(*sent, done=True)))
    assert [one["choices"][0]["delta"].pop("reasoning_content", None) for one in got] == [None, "Hm", ".", None, None]
    assert got == sent


async def test_groqs_reasoning_comes_through_whole() -> None:
    message = {"role": "assistant", "content": "Hi", "reasoning": "Hm.", "channel": None}
    sent = {
        **HEAD,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "queue_time": 0.25},
        "usage_breakdown": None,
        "x_groq": {"id": "req_1", "seed": 12345678901234567},
    }
    got = json.loads(await through("groq", HELLO, Answer.of(sent)))
    shown = got["choices"][0]["message"]
    assert (shown.pop("reasoning_content"), shown.pop("refusal")) == ("Hm.", None)
    assert shown.pop("reasoning_details") == [{"type": "reasoning.text", "text": "Hm."}]
    assert got == sent
