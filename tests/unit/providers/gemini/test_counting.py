"""Counting tokens with `countTokens`, as https://ai.google.dev/api/tokens documents it, and as recorded."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.adapter import CallContext, TokenCounter
from aigateway_providers.gemini.adapter import GeminiAdapter
from aigateway_providers.settings import ProviderSettings
from support.exchanges import Exchange, load, params
from support.replay import Answer, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONTENTS = [{"role": "user", "parts": [{"text": "Hello, world!"}]}]


def ask(model: str = "gemini-2.5-flash", system: str = "", **fields: Any) -> chat_pb2.ChatCall:
    said = [(message_pb2.ROLE_SYSTEM, system)] if system else []
    messages = [
        message_pb2.Message(role=role, parts=[message_pb2.Part(text=message_pb2.TextPart(text=text))])
        for role, text in (*said, (message_pb2.ROLE_USER, "Hello, world!"))
    ]
    return chat_pb2.ChatCall(model=model, messages=messages, **fields)


@asynccontextmanager
async def gemini(upstream: Upstream) -> AsyncIterator[GeminiAdapter]:
    adapter = GeminiAdapter(ProviderSettings("gemini", "gemini", upstream.url, api_key="secret"))
    try:
        yield adapter
    finally:
        await adapter.aclose()


async def test_a_plain_prompt_is_counted_as_contents() -> None:
    details = {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 5}]}
    with Upstream(Answer.of({"totalTokens": 5, "cachedContentTokenCount": 2} | details)) as upstream:
        async with gemini(upstream) as adapter:
            assert isinstance(adapter, TokenCounter)
            count = await adapter.count_tokens(ask(), CallContext())
    assert json.loads(count.extra_json) == details
    count.ClearField("extra_json")
    assert count == chat_pb2.TokenCount(input_tokens=5, input_cache_read=2, dialect=message_pb2.DIALECT_GEMINI)
    (sent,) = upstream.requests
    assert (sent.method, sent.path) == ("POST", "/v1beta/models/gemini-2.5-flash:countTokens")
    assert sent.json() == {"contents": CONTENTS}


async def test_system_and_options_are_counted_as_a_whole_request() -> None:
    with Upstream(Answer.of({"totalTokens": 9})) as upstream:
        async with gemini(upstream) as adapter:
            count = await adapter.count_tokens(
                ask(system="Be brief.", user="u", options=chat_pb2.GenerationOptions(top_k=3)), CallContext()
            )
    assert (count.input_tokens, [note.field for note in count.translation]) == (9, ["user"])
    assert upstream.requests[0].json() == {
        "generateContentRequest": {
            "model": "models/gemini-2.5-flash",
            "contents": CONTENTS,
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "generationConfig": {"topK": 3},
        }
    }


@pytest.mark.parametrize("answer", [{}, {"totalTokens": "many"}, []])
async def test_an_answer_that_is_no_count_is_the_providers_fault(answer: Any) -> None:
    with Upstream(Answer.of(answer)) as upstream:
        async with gemini(upstream) as adapter:
            with pytest.raises(GatewayError) as caught:
                await adapter.count_tokens(ask(), CallContext())
    assert caught.value.reason.name == "UPSTREAM_INVALID"


@pytest.mark.parametrize("exchange", params(*load("gemini", "countTokens")))
async def test_a_recorded_count(exchange: Exchange) -> None:
    with Upstream(Answer.recorded(exchange)) as upstream:
        async with gemini(upstream) as adapter:
            with pytest.raises(GatewayError) as caught:
                await adapter.count_tokens(ask("nonexistent-model"), CallContext())
    assert caught.value.reason.name == "MODEL_NOT_FOUND"
    (sent,) = upstream.requests
    assert (sent.path, sent.json()) == (exchange.path, exchange.request)
