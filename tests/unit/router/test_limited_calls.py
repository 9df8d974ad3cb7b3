"""Limits of a key and its project as callers meet them, over real ports and in process, wherever they are counted."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from aigateway.v1 import account_pb2, chat_pb2, embedding_pb2, gateway_service_pb2, provider_service_pb2
from aigateway_common import metrics
from aigateway_common.errors import GatewayError
from aigateway_router.policy import shared_counters
from aigateway_router.settings import CallLimits, Share
from redis import Redis
from support.redis import RedisServer
from support.router import (
    COMPLETION,
    END_USAGE,
    FINISH,
    START,
    ChatAnswer,
    EmbedAnswer,
    Hops,
    ScriptedProvider,
    always,
    answering,
    chat_call,
    chat_request,
    chunks,
    collected,
    fails,
    hangs,
    refused,
    router,
    streams,
    text,
)
from support.scripted_accounts import ScriptedAccounts, bearer

SECRET, OTHER = "gw-issued-0123456789", "gw-other-0123456789"
Limit = gateway_service_pb2.LimitState


@pytest.fixture(params=["wire", "in process", "wire, workers", "in process, redis"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The router's setting for where limits are counted: in memory where the name says no other."""
    hops, _, kept = request.param.partition(", ")
    monkeypatch.setattr(Hops, "in_process", hops == "in process")
    match kept:
        case "redis":
            return {"redis_url": emptied(request.getfixturevalue("redis_server"), monkeypatch)}
        case "workers":
            return {"share": Share(0, 2, tmp_path / "limits")}
    return {}


def emptied(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of `server`, which holds nothing, and is waited for on a slow machine too."""
    monkeypatch.setattr(shared_counters, "PATIENCE", 30.0)
    with Redis.from_url(server.url) as client:
        client.flushall()
    return server.url


def accounts(**limits: Any) -> ScriptedAccounts:
    """Two keys of one project; the first has limits."""
    made = ScriptedAccounts()
    made.issue(SECRET, "search", limits=account_pb2.Limits(**limits))
    made.issue(OTHER, "search", limits=account_pb2.Limits())
    return made


def call_of(most: int = 89) -> chat_pb2.ChatCall:
    """A call that may use one token of prompt and `most` of answer."""
    call = chat_call()
    call.options.max_output_tokens = most
    return call


def chat_of(most: int = 89) -> gateway_service_pb2.ChatRequest:
    return gateway_service_pb2.ChatRequest(call=call_of(most))


async def left(running: Any, expected: int) -> int:
    """Tokens of the key's limit that are left, once they are `expected`: not every store is told the facts at once.

    A call that is too large shows them and takes nothing.
    """
    end = time.monotonic() + 10
    while True:
        error = await refused(running.stub.Chat(chat_of(100_000), metadata=bearer(SECRET)))
        found = int(error.details["remaining_tokens"])
        if found == expected or time.monotonic() > end:
            return found


def provider(**answers: Any) -> ScriptedProvider:
    vectors = embedding_pb2.Embeddings(model="e")
    vectors.usage.input_uncached = 1
    return ScriptedProvider(**{"embed": always(EmbedAnswer(embeddings=vectors)), **answers})


async def test_answers_show_what_is_left_and_the_last_call_is_refused_with_details(
    tmp_path: Path, store: dict[str, Any]
) -> None:
    usage = accounts(requests_per_minute=2)
    before = _refusals("requests")
    async with router(tmp_path, {"acme": answering()}, ledger=usage, **store) as running:
        routes = [(await running.stub.Chat(chat_request(), metadata=bearer(SECRET))).route for _ in range(2)]
        error = await refused(running.stub.Chat(chat_request(), metadata=bearer(SECRET)))
        free = (await running.stub.Chat(chat_request(), metadata=bearer(OTHER))).route
    assert [(one.request_limit.limit, one.request_limit.remaining) for one in routes] == [(2, 1), (2, 0)]
    assert all(60_000 <= one.request_limit.reset_ms <= 120_000 for one in routes)
    assert not any(one.HasField("token_limit") for one in routes)
    assert not free.HasField("request_limit")
    assert (error.reason.name, error.http_status) == ("RATE_LIMITED", 429)
    assert error.message.startswith("the limit of this key, 2 calls a minute, is reached; try again in ")
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 120
    assert (error.details["limit_requests"], error.details["remaining_requests"]) == ("2", "0")
    assert "limit_tokens" not in error.details
    assert _refusals("requests") == before + 1


async def test_every_key_without_limits_of_its_own_has_those_of_the_file(tmp_path: Path, store: dict[str, Any]) -> None:
    usage = ScriptedAccounts()
    usage.issue(SECRET)
    keys = ("gw-static-one-0123", "gw-static-two-0123")
    limits = CallLimits(requests_per_minute=1)
    async with router(
        tmp_path, {"acme": answering()}, ledger=usage, api_keys=keys, key_limits=limits, **store
    ) as running:
        for key in (*keys, SECRET):
            await running.stub.Chat(chat_request(), metadata=bearer(key))
        for key in (*keys, SECRET):
            error = await refused(running.stub.Chat(chat_request(), metadata=bearer(key)))
            assert error.reason.name == "RATE_LIMITED"


async def test_a_project_is_limited_over_all_its_keys(tmp_path: Path, store: dict[str, Any]) -> None:
    usage = accounts()
    usage.projects["search"].limits.requests_per_minute = 2
    usage.projects["default"].limits.requests_per_minute = 1
    usage.changed()
    async with router(
        tmp_path, {"acme": answering()}, ledger=usage, api_keys=("gw-static-one-0123",), **store
    ) as running:
        await usage.polls()
        await running.stub.Chat(chat_request(), metadata=bearer(SECRET))
        await running.stub.Chat(chat_request(), metadata=bearer(OTHER))
        error = await refused(running.stub.Chat(chat_request(), metadata=bearer(SECRET)))
        await running.stub.Chat(chat_request(), metadata=bearer("gw-static-one-0123"))
        default = await refused(running.stub.Chat(chat_request(), metadata=bearer("gw-static-one-0123")))
    assert "the limit of the project `search`, 2 calls a minute" in error.message
    assert "the limit of the project `default`, 1 call a minute" in default.message


async def test_tokens_of_an_answer_are_put_right_by_the_providers_word(tmp_path: Path, store: dict[str, Any]) -> None:
    chat = always(ChatAnswer(completion=COMPLETION))  # 16 tokens
    async with router(
        tmp_path, {"acme": provider(chat=chat)}, ledger=accounts(tokens_per_minute=1000), **store
    ) as running:
        response = await running.stub.Chat(chat_of(), metadata=bearer(SECRET))
        assert response.route.token_limit.remaining == 910
        assert await left(running, 984) == 984
        inputs = [embedding_pb2.EmbeddingInput(text="a")]
        request = gateway_service_pb2.EmbedRequest(call=embedding_pb2.EmbedCall(model="acme/e", inputs=inputs))
        embedded = await running.stub.Embed(request, metadata=bearer(SECRET))
        assert embedded.route.token_limit.remaining == await left(running, 983) == 983


async def test_tokens_of_a_stream_are_put_right_and_guessed_when_nobody_says(
    tmp_path: Path, store: dict[str, Any]
) -> None:
    whole = streams(chunks([START, text("a" * 40)], [FINISH], [END_USAGE]))  # 16 tokens
    cut_short = fails(GatewayError("UPSTREAM_ERROR", "broke"), *chunks([START, text("a" * 40)]))  # 1 and 10
    failed = fails(GatewayError("UPSTREAM_ERROR", "broke"))
    acme = provider(stream=whole, chat=failed)
    request = gateway_service_pb2.StreamChatRequest(call=call_of())
    async with router(tmp_path, {"acme": acme}, ledger=accounts(tokens_per_minute=1000), **store) as running:
        messages = await collected(running.stub.StreamChat(request, metadata=bearer(SECRET)))
        assert messages[0].route.token_limit.remaining == 910
        assert await left(running, 984) == 984
        acme.answers["stream"] = cut_short
        await refused(collected(running.stub.StreamChat(request, metadata=bearer(SECRET))))
        assert await left(running, 973) == 973
        acme.answers["stream"] = failed
        await refused(collected(running.stub.StreamChat(request, metadata=bearer(SECRET))))
        await refused(running.stub.Chat(chat_of(), metadata=bearer(SECRET)))
        assert await left(running, 973) == 973


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_caller_that_leaves_pays_for_the_prompt_and_frees_its_place(
    tmp_path: Path, store: dict[str, Any], streamed: bool
) -> None:
    acme = provider(chat=hangs(), stream=hangs())
    usage = accounts(tokens_per_minute=1000, concurrent_calls=1)
    async with router(tmp_path, {"acme": acme}, ledger=usage, **store) as running:
        call: Any
        if streamed:
            request = gateway_service_pb2.StreamChatRequest(call=call_of())
            call = running.stub.StreamChat(request, metadata=bearer(SECRET))
        else:
            call = running.stub.Chat(chat_of(), metadata=bearer(SECRET))
        ending = asyncio.ensure_future(call.code())
        await asyncio.wait_for(acme.called.wait(), 10)
        busy = await refused(running.stub.Chat(chat_of(), metadata=bearer(SECRET)))
        call.cancel()
        await ending
        await running.ledger.of(1)
        assert await left(running, 999) == 999
    assert busy.message == "the limit of this key, 1 call at the same time, is reached; wait for one to end"


async def test_tokens_that_are_counted_ahead_use_calls_but_no_tokens(tmp_path: Path, store: dict[str, Any]) -> None:
    count = provider_service_pb2.ProviderServiceCountTokensResponse(count=chat_pb2.TokenCount(input_tokens=14))
    usage = accounts(requests_per_minute=1, tokens_per_minute=1)
    async with router(tmp_path, {"acme": provider(count=always(count))}, ledger=usage, **store) as running:
        request = gateway_service_pb2.CountTokensRequest(call=chat_call())
        answer = await running.stub.CountTokens(request, metadata=bearer(SECRET))
        error = await refused(running.stub.CountTokens(request, metadata=bearer(SECRET)))
    assert not answer.route.HasField("token_limit")
    assert "limit_tokens" not in error.details
    assert error.reason.name == "RATE_LIMITED"


async def test_a_bad_call_uses_nothing(tmp_path: Path, store: dict[str, Any]) -> None:
    async with router(tmp_path, {"acme": answering()}, ledger=accounts(requests_per_minute=1), **store) as running:
        await refused(running.stub.Chat(chat_request("unknown"), metadata=bearer(SECRET)))
        await refused(running.stub.Chat(gateway_service_pb2.ChatRequest(), metadata=bearer(SECRET)))
        await running.stub.Chat(chat_request(), metadata=bearer(SECRET))


@pytest.mark.parametrize("in_process", [True, False])
async def test_two_routers_share_limits_through_redis(
    tmp_path: Path, in_process: bool, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hops, "in_process", in_process)
    url = emptied(redis_server, monkeypatch)
    usage = accounts(requests_per_minute=2, tokens_per_minute=1000)
    acme = provider(chat=always(ChatAnswer(completion=COMPLETION)))
    async with (
        router(tmp_path / "a", {"acme": acme}, ledger=usage, redis_url=url) as one,
        router(tmp_path / "b", {"acme": acme}, ledger=usage, redis_url=url) as two,
    ):
        first = await one.stub.Chat(chat_of(), metadata=bearer(SECRET))
        second = await two.stub.Chat(chat_of(), metadata=bearer(SECRET))
        error = await refused(one.stub.Chat(chat_of(), metadata=bearer(SECRET)))
    assert first.route.token_limit.remaining == 910
    assert (second.route.request_limit.remaining, error.reason.name) == (0, "RATE_LIMITED")


def _refusals(limit: str) -> float:
    return metrics.REGISTRY.get_sample_value("aigateway_limited_calls_total", {"limit": limit}) or 0.0
