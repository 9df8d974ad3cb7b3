"""Embeddings of more texts than one `batchEmbedContents` takes."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aigateway.v1 import embedding_pb2, tokens_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.adapter import CallContext
from aigateway_providers.registry import create_adapter
from aigateway_providers.settings import ProviderSettings
from support.replay import Answer, Sent, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aigateway_providers.adapter import Adapter


def numbers(count: int) -> embedding_pb2.EmbedCall:
    """A call to embed the texts "0", "1" and so on."""
    inputs = [embedding_pb2.EmbeddingInput(text=str(number)) for number in range(count)]
    return embedding_pb2.EmbedCall(model="gemini-embedding-001", inputs=inputs)


def texts(body: bytes) -> list[str]:
    return [request["content"]["parts"][0]["text"] for request in json.loads(body)["requests"]]


def vectors(body: bytes, **more: object) -> dict[str, object]:
    """The answer whose vectors are the numbers in the texts."""
    return {"embeddings": [{"values": [float(text)]} for text in texts(body)], **more}


@asynccontextmanager
async def gemini(upstream: Upstream) -> AsyncIterator[Adapter]:
    adapter = create_adapter(ProviderSettings("gemini", "gemini", upstream.url, api_key="secret"))
    try:
        yield adapter
    finally:
        await adapter.aclose()


class Fetches:
    """What the upstream client is to the adapter; keeps count of the requests under way."""

    def __init__(self, answer: Callable[[bytes], Any]) -> None:
        self._answer = answer
        self.running = 0
        self.most = 0

    async def fetch(self, *_: object, body: bytes, **__: object) -> tuple[int, dict[str, str], bytes]:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return 200, {}, json.dumps(await self._answer(body)).encode()
        finally:
            self.running -= 1


def adapter(fetches: Fetches) -> Any:
    made: Any = create_adapter(ProviderSettings("gemini", "gemini", "http://127.0.0.1:1", api_key="k"))
    made._upstream = fetches
    return made


@pytest.mark.parametrize(("count", "sizes"), [(100, [100]), (101, [1, 100]), (250, [50, 100, 100])])
async def test_at_most_a_hundred_texts_go_in_one_request(count: int, sizes: list[int]) -> None:
    with Upstream(script=lambda sent: Answer.of(vectors(sent.body))) as upstream:
        async with gemini(upstream) as provider:
            context = CallContext()
            found = await provider.embed(numbers(count), context)
    assert sorted(len(texts(sent.body)) for sent in upstream.requests) == sizes
    assert [(one.index, *one.values) for one in found.embeddings] == [(n, float(n)) for n in range(count)]
    assert not found.HasField("usage")
    assert (context.upstream_status, context.upstream_ns > 0) == (200, True)


async def test_the_order_of_the_texts_is_kept_when_the_last_request_is_answered_first() -> None:
    last_answered = asyncio.Event()

    async def answer(body: bytes) -> object:
        if "0" in texts(body):
            await last_answered.wait()
        elif "249" in texts(body):
            last_answered.set()
        return vectors(body)

    found = await adapter(Fetches(answer)).embed(numbers(250), CallContext())
    assert [(one.index, *one.values) for one in found.embeddings] == [(n, float(n)) for n in range(250)]


async def test_only_a_few_requests_are_under_way_together() -> None:
    async def answer(body: bytes) -> object:
        await asyncio.sleep(0)
        return vectors(body)

    fetches = Fetches(answer)
    await adapter(fetches).embed(numbers(1000), CallContext())
    assert (fetches.most, fetches.running) == (4, 0)


async def counted(*counts: dict[str, int] | None) -> tokens_pb2.TokenUsage | None:
    """The usage of a call of as many requests, each answered with the counts given for it."""

    async def answer(body: bytes) -> object:
        told = counts[int(texts(body)[0]) // 100]
        return vectors(body) if told is None else vectors(body, usageMetadata=told)

    found = await adapter(Fetches(answer)).embed(numbers(100 * len(counts)), CallContext())
    return found.usage if found.HasField("usage") else None


async def test_the_tokens_of_all_requests_are_added_up() -> None:
    found = await counted({"promptTokenCount": 300}, {"promptTokenCount": 20}, {"promptTokenCount": 1})
    assert found == tokens_pb2.TokenUsage(input_uncached=321)


async def test_tokens_that_one_request_does_not_tell_are_missing_and_not_zero() -> None:
    assert await counted({"promptTokenCount": 300}, None) == tokens_pb2.TokenUsage(input_uncached=300, estimated=True)
    assert await counted({"promptTokenCount": 3, "toolUsePromptTokenCount": 2}, {"promptTokenCount": 4}) == (
        tokens_pb2.TokenUsage(input_uncached=7, tool_use_prompt=2, estimated=True)
    )
    assert await counted(None, None) is None


async def test_the_first_failure_fails_the_call_and_leaves_no_request_running() -> None:
    def second_fails(_: Sent) -> Answer:
        if len(upstream.requests) == 1:
            return Answer(hold_before_headers=True)
        return Answer.of({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow down"}}, 429)

    with Upstream(script=second_fails) as upstream:
        async with gemini(upstream) as provider:
            context = CallContext()
            with pytest.raises(GatewayError) as caught:
                await provider.embed(numbers(200), context)
            await upstream.wait_hung_up()
    assert caught.value.reason.name == "UPSTREAM_RATE_LIMITED"
    assert (context.upstream_status, len(upstream.requests)) == (429, 2)


async def test_after_a_failure_no_further_request_is_sent() -> None:
    asked = []

    async def answer(body: bytes) -> object:
        asked.append(texts(body)[0])
        return {"embeddings": "x"}

    fetches = Fetches(answer)
    with pytest.raises(GatewayError) as caught:
        await adapter(fetches).embed(numbers(2000), CallContext())
    assert (caught.value.reason.name, fetches.running) == ("UPSTREAM_INVALID", 0)
    assert asked == ["0", "100", "200", "300"]


async def test_cancelling_the_call_closes_all_its_requests() -> None:
    begun = asyncio.Event()

    async def answer(_: bytes) -> object:
        if fetches.running == 3:
            begun.set()
        return await asyncio.Event().wait()

    fetches = Fetches(answer)
    waiting = asyncio.ensure_future(adapter(fetches).embed(numbers(300), CallContext()))
    await begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert fetches.running == 0


async def test_a_request_that_is_answered_with_too_few_vectors_is_an_error() -> None:
    async def answer(body: bytes) -> object:
        found = vectors(body)
        return found if "0" in texts(body) else {"embeddings": [{"values": [1]}] * 2}

    with pytest.raises(GatewayError) as caught:
        await adapter(Fetches(answer)).embed(numbers(103), CallContext())
    assert caught.value.reason.name == "UPSTREAM_INVALID"


@pytest.mark.parametrize("count", [2, 150])
async def test_an_error_inside_an_answer_of_status_200_keeps_its_reason(count: int) -> None:
    busy = {"error": {"code": 503, "status": "UNAVAILABLE", "message": "The model is overloaded."}}
    with Upstream(Answer.of(busy)) as upstream:
        async with gemini(upstream) as provider:
            with pytest.raises(GatewayError) as caught:
                await provider.embed(numbers(count), CallContext())
    assert caught.value.reason.name == "UPSTREAM_OVERLOADED"


async def test_tokens_that_add_up_to_more_than_the_contract_holds_are_an_error() -> None:
    with pytest.raises(GatewayError) as caught:
        await counted({"promptTokenCount": 2**63 - 1}, {"promptTokenCount": 1})
    assert caught.value.reason.name == "UPSTREAM_INVALID"
