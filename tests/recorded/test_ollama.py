"""Every recorded exchange of Ollama, through the edge's reader and the adapter, against a replay of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from aigateway_common.errors import GatewayError
from aigateway_edge.openai import to_proto
from aigateway_providers.adapter import CallContext
from aigateway_providers.ollama.adapter import create
from aigateway_providers.settings import ProviderSettings
from support.exchanges import Expected, load, params
from support.recorded import assembled, failed, ollama, seen
from support.replay import Answer, Upstream

if TYPE_CHECKING:
    from aigateway_providers.adapter import Adapter
    from support.exchanges import Exchange

EXCHANGES = load("ollama")
CHATS = [one for one in EXCHANGES if one.operation == "chat"]
STREAMS = [one for one in CHATS if ollama.streamed(one)]
EMBEDDINGS = [one for one in EXCHANGES if one.operation in {"embeddings", "embed"}]
OTHERS = [one for one in EXCHANGES if one.operation not in {"chat", "embeddings", "embed"}]


def recorded_answer(exchange: Exchange, piece_size: int) -> Answer:
    """The recorded answer; that of the old embeddings endpoint in the shape of the one that the gateway calls."""
    if exchange.path == "/api/embeddings" and exchange.status == 200:
        return Answer.of({"model": exchange.request["model"], "embeddings": [exchange.json()["embedding"]]})
    return Answer.recorded(exchange, piece_size)


async def replay(exchange: Exchange, piece_size: int = 0) -> tuple[Expected, Any]:
    """What a caller gets for the recorded request when Ollama answers as recorded, and the typed answer."""
    body = json.dumps(ollama.to_openai(exchange)).encode()
    with Upstream(recorded_answer(exchange, piece_size)) as stand_in:
        provider = create(ProviderSettings("ollama", "ollama", stand_in.url))
        try:
            got, answer = await ask(exchange, provider, body)
        except GatewayError as error:
            got, answer = failed(error), None
        finally:
            await provider.aclose()
    (sent,) = stand_in.requests
    assert (sent.method, sent.path) == ("POST", "/api/chat" if exchange.operation == "chat" else "/api/embed")
    assert ollama.differences(sent.json(), exchange.request) == []
    return got, answer


async def ask(exchange: Exchange, provider: Adapter, body: bytes) -> tuple[Expected, Any]:
    if exchange.operation != "chat":
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
    assert list(completion.translation) == []
    return with_recorded_ids(seen(completion), ollama.expected(exchange)), completion


def with_recorded_ids(got: Expected, expected: Expected) -> Expected:
    """`got` without the ids that the gateway had to make up, once they have proved to be there and to differ."""
    ids = [call.id for call in got.tool_calls]
    assert all(ids)
    assert len(set(ids)) == len(ids)
    made_up = [call.id is None for call in expected.tool_calls]
    calls = [replace(call, id=None) if new else call for call, new in zip(got.tool_calls, made_up, strict=True)]
    return replace(got, tool_calls=tuple(calls))


@pytest.mark.parametrize("exchange", params(*CHATS))
async def test_a_recorded_chat_is_carried_both_ways(exchange: Exchange) -> None:
    got, completion = await replay(exchange)
    assert got == ollama.expected(exchange)
    if completion is not None and not ollama.streamed(exchange):
        assert untold(completion, exchange.json()) == []


@pytest.mark.parametrize("exchange", params(*STREAMS))
async def test_a_recorded_stream_in_small_pieces_is_the_same(exchange: Exchange) -> None:
    assert (await replay(exchange, 7))[0] == ollama.expected(exchange)


@pytest.mark.parametrize("exchange", params(*EMBEDDINGS))
async def test_recorded_embeddings_are_carried_both_ways(exchange: Exchange) -> None:
    assert (await replay(exchange))[0] == ollama.expected(exchange)


@pytest.mark.parametrize("exchange", params(*OTHERS))
def test_other_endpoints_are_not_called(exchange: Exchange) -> None:
    pytest.skip(ollama.SKIPPED.get(exchange.operation, f"`{exchange.operation}` is not an operation of the gateway"))


def untold(completion: Any, body: dict[str, Any]) -> list[str]:
    """Fields of a recorded answer that the typed one has nowhere."""
    message = completion.choices[0].message
    told = json.loads(completion.usage.native_json or b"{}") | json.loads(completion.extra_json or b"{}")
    typed = {"model", "created_at", "message", "done", "done_reason", "logprobs"}
    lines = [key for key, value in body.items() if key not in typed and told.get(key, ...) != value]
    extra = json.loads(message.extra_json or b"{}")
    known = {"role", "content", "thinking", "tool_calls"}
    return lines + [key for key, value in body["message"].items() if key not in known and extra.get(key, ...) != value]
