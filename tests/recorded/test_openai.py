"""Every recorded exchange of OpenAI and Groq, through the edge's reader and the adapter, against a replay of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aigateway_common.errors import GatewayError
from aigateway_edge.openai import to_proto
from aigateway_providers.adapter import CallContext
from aigateway_providers.openai_compat.adapter import create
from aigateway_providers.openai_compat.profiles import PROFILES
from aigateway_providers.openai_compat.request import to_body
from aigateway_providers.settings import ProviderSettings
from support.exchanges import Expected, load, params
from support.recorded import assembled, failed, openai, seen
from support.replay import Answer, Upstream

if TYPE_CHECKING:
    from aigateway_providers.adapter import Adapter
    from support.exchanges import Exchange

EXCHANGES = (*load("openai"), *load("groq"))
CHATS = [one for one in EXCHANGES if one.operation == "chat"]
STREAMS = [one for one in CHATS if one.streamed]
EMBEDDINGS = [one for one in EXCHANGES if one.operation == "embeddings"]
OTHERS = [one for one in EXCHANGES if one.operation not in {"chat", "embeddings", "responses"}]


def adapter(exchange: Exchange, stand_in: Upstream) -> Adapter:
    base = stand_in.url + "/v1" if exchange.provider == "openai" else stand_in.url
    return create(ProviderSettings(exchange.provider, exchange.provider, base, "key"))


async def replay(exchange: Exchange, piece_size: int = 0) -> tuple[Expected, Any]:
    """What a caller gets for the recorded request when the provider answers as recorded, and the typed answer."""
    body = json.dumps(openai.to_openai(exchange)).encode()
    with Upstream(Answer.recorded(exchange, piece_size)) as stand_in:
        provider = adapter(exchange, stand_in)
        try:
            got, answer = await ask(exchange, provider, body)
        except GatewayError as error:
            got, answer = failed(error), None
        finally:
            await provider.aclose()
    for sent in stand_in.requests:
        assert (sent.method, sent.path) == ("POST", exchange.path)
        assert sent.headers["authorization"] == "Bearer key"
        assert openai.differences(sent.json(), exchange.request) == []
    assert stand_in.requests or got.error_reason == "INVALID_REQUEST"
    return got, answer


async def ask(exchange: Exchange, provider: Adapter, body: bytes) -> tuple[Expected, Any]:
    if exchange.operation == "embeddings":
        vectors = await provider.embed(to_proto.embed_call(body).call, CallContext())
        lists = [list(one.values) for one in vectors.embeddings]
        got = Expected(model=vectors.model, prompt_tokens=vectors.usage.input_uncached, extra={"vectors": lists})
        return got, vectors
    parsed = to_proto.chat_call(body)
    if parsed.stream:
        events = [event async for batch in provider.stream_chat(parsed.call, CallContext()) for event in batch]
        completion = assembled(events)
    else:
        completion = await provider.chat(parsed.call, CallContext())
    return seen(completion), completion


@pytest.mark.parametrize("exchange", params(*CHATS))
async def test_a_recorded_chat_is_carried_both_ways(exchange: Exchange) -> None:
    got, completion = await replay(exchange)
    assert got == openai.expected(exchange)
    if completion is not None and not exchange.streamed:
        assert untold(completion, exchange.json()) == []


@pytest.mark.parametrize("exchange", params(*STREAMS))
async def test_a_recorded_stream_in_small_pieces_is_the_same(exchange: Exchange) -> None:
    assert (await replay(exchange, 7))[0] == openai.expected(exchange)


@pytest.mark.parametrize("exchange", params(*(one for one in CHATS if one.status == 200)))
def test_what_the_provider_itself_took_is_sent_to_it_as_it_was(exchange: Exchange) -> None:
    call = to_proto.chat_call(json.dumps(openai.to_openai(exchange)).encode()).call
    profile = PROFILES[exchange.provider]
    body, notes = to_body(call, profile, provider=exchange.provider, stream=exchange.streamed)
    recorded = exchange.request
    if "fixed" in profile.family(call.model).sampling:
        recorded = {key: value for key, value in recorded.items() if (key, value) != ("temperature", 1)}
    assert (openai.differences(json.loads(body), recorded), notes) == ([], [])


@pytest.mark.parametrize("exchange", params(*EMBEDDINGS))
async def test_recorded_embeddings_are_carried_both_ways(exchange: Exchange) -> None:
    assert (await replay(exchange))[0] == openai.expected(exchange)


@pytest.mark.parametrize("exchange", params(*OTHERS))
def test_other_operations_wait_for_their_surface(exchange: Exchange) -> None:
    pytest.skip(openai.SKIPPED[exchange.operation])


def untold(completion: Any, body: dict[str, Any]) -> list[str]:
    """Fields of a recorded answer that the typed one has nowhere."""
    choice, first = completion.choices[0], body["choices"][0]
    levels = (
        ("", body, completion.extra_json, {"id", "object", "created", "model", "choices", "usage"}),
        ("choices[0].", first, choice.extra_json, {"index", "message", "finish_reason", "logprobs"}),
        ("choices[0].message.", first["message"], choice.message.extra_json, MESSAGE),
    )
    lines = [
        name + key
        for name, fields, extra, typed in levels
        for key, value in fields.items()
        if key not in typed and json.loads(extra or b"{}").get(key, ...) != value
    ]
    if (first.get("logprobs") or None) != json.loads(choice.logprobs_json or b"null"):
        lines.append("choices[0].logprobs")
    if body["usage"] != json.loads(completion.usage.native_json):
        lines.append("usage")
    return lines


MESSAGE = {"role", "content", "refusal", "tool_calls", "reasoning", "reasoning_content"}
