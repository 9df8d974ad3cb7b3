"""What the router tries for a call, on real ports and in process: retries, pools, stand-ins, breakers, hedges."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, gateway_service_pb2
from aigateway_common.errors import GatewayError
from aigateway_router.settings import BreakerPolicy, ConcurrencyLimit, Pool, RetryPolicy
from grpc import aio
from support.router import (
    CANCELLED,
    COMPLETION,
    END_USAGE,
    ERROR,
    FINISH,
    OK,
    START,
    TIMING,
    ChatAnswer,
    Hops,
    ScriptedProvider,
    always,
    answering,
    chat_request,
    chunks,
    collected,
    fails,
    hangs,
    refused,
    router,
    stream_request,
    streams,
    text,
)

QUICK = RetryPolicy(attempts=3, base=0.01, longest=0.05)
BUSY = GatewayError("UPSTREAM_OVERLOADED", "busy")
WHOLE = streams(chunks([START], [text("hello")], [FINISH, END_USAGE]))
GIVE = always(ChatAnswer(completion=COMPLETION, timing=TIMING))


@pytest.fixture(params=["wire", "in process"], autouse=True)
def _transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hops, "in_process", request.param == "in process")


def in_turn(*answers: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    """Each call gets the next answer, the last one again and again."""
    left = list(answers)

    async def answer(request: Any, context: Any) -> Any:
        return await (left.pop(0) if len(left) > 1 else left[0])(request, context)

    return answer


def words(messages: list[Any]) -> str:
    return "".join(event.text for message in messages for event in message.events)


# Retries.


async def test_a_failed_attempt_is_made_again_and_each_is_recorded(tmp_path: Path) -> None:
    provider = ScriptedProvider(chat=in_turn(fails(BUSY), fails(BUSY), GIVE))
    async with router(tmp_path, {"acme": provider}, retries=QUICK) as running:
        response = await running.stub.Chat(chat_request())
        attempts = await running.ledger.of(3)
    assert response.route.attempts == 3
    assert response.route.original_provider == ""
    assert [(one.attempt, one.status, one.error_reason) for one in attempts] == [
        (1, ERROR, "UPSTREAM_OVERLOADED"),
        (2, ERROR, "UPSTREAM_OVERLOADED"),
        (3, OK, ""),
    ]
    assert len({one.request_id for one in attempts}) == 1
    assert len({one.event_id for one in attempts}) == 3


@pytest.mark.parametrize("before", [[], [START]], ids=["at once", "after the start"])
async def test_a_stream_that_fails_before_its_content_is_made_again(
    tmp_path: Path, before: list[chat_pb2.ChatEvent]
) -> None:
    provider = ScriptedProvider(stream=in_turn(fails(BUSY, *chunks(*([before] if before else []))), WHOLE))
    async with router(tmp_path, {"acme": provider}, retries=QUICK) as running:
        messages = await collected(running.stub.StreamChat(stream_request()))
        attempts = await running.ledger.of(2)
    assert words(messages) == "hello"
    assert [event.HasField("start") for event in messages[0].events][:2] == [True, False], "one start, not two"
    assert messages[0].route.attempts == 2
    assert [one.status for one in attempts] == [ERROR, OK]


async def test_nothing_is_made_again_once_the_caller_has_content(tmp_path: Path) -> None:
    provider = ScriptedProvider(stream=fails(BUSY, *chunks([START], [text("hel")])))
    async with router(tmp_path, {"acme": provider}, retries=QUICK) as running:
        call = running.stub.StreamChat(stream_request())
        first = await call.read()
        error = await refused(call.read())
        attempts = await running.ledger.of(1)
    assert words([first]) == "hel"
    assert error.reason.name == "UPSTREAM_OVERLOADED"
    assert len(provider.calls) == len(attempts) == 1


@pytest.mark.parametrize("reason", ["INVALID_REQUEST", "UPSTREAM_AUTH", "CONTEXT_TOO_LONG", "UNSUPPORTED"])
async def test_what_will_fail_again_is_not_made_again(tmp_path: Path, reason: str) -> None:
    provider = ScriptedProvider(chat=fails(GatewayError(reason, "no")))
    async with router(tmp_path, {"acme": provider}, retries=QUICK) as running:
        error = await refused(running.stub.Chat(chat_request()))
    assert (error.reason.name, len(provider.calls)) == (reason, 1)


async def test_a_provider_that_asks_for_too_long_a_pause_is_left_alone(tmp_path: Path) -> None:
    failure = GatewayError("UPSTREAM_RATE_LIMITED", "slow down", retry_after=60)
    provider = ScriptedProvider(chat=fails(failure))
    async with router(tmp_path, {"acme": provider}, retries=QUICK) as running:
        error = await refused(running.stub.Chat(chat_request()))
    assert (error.retry_after, len(provider.calls)) == (60, 1)


async def test_no_pause_outlasts_the_callers_deadline(tmp_path: Path) -> None:
    failure = GatewayError("UPSTREAM_RATE_LIMITED", "slow down", retry_after=7)
    provider = ScriptedProvider(chat=fails(failure))
    patient = RetryPolicy(attempts=3, longest=30)
    async with router(tmp_path, {"acme": provider}, retries=patient) as running:
        error = await refused(running.stub.Chat(chat_request(), timeout=5))
    assert (error.reason.name, len(provider.calls)) == ("UPSTREAM_RATE_LIMITED", 1)


async def test_retries_never_become_a_storm(tmp_path: Path) -> None:
    policy = RetryPolicy(attempts=3, base=0.001, longest=0.01, budget_ratio=0.1, budget_per_second=0.2)
    provider = ScriptedProvider(chat=fails(BUSY))
    async with router(tmp_path, {"acme": provider}, retries=policy, breaker=BreakerPolicy(enabled=False)) as running:
        for _ in range(30):
            await refused(running.stub.Chat(chat_request()))
    assert 30 < len(provider.calls) <= 30 + 0.1 * 30 + 0.2 * 10


# Stand-ins.


async def test_another_model_stands_in_and_everybody_is_told(tmp_path: Path) -> None:
    acme, other = ScriptedProvider(chat=fails(BUSY)), answering()
    fallbacks = {"smart": ("other/o-1",)}
    async with router(
        tmp_path,
        {"acme": acme, "other": other},
        aliases={"smart": "acme/acme-1"},
        fallbacks=fallbacks,
        retries=RetryPolicy(attempts=2, base=0.01),
    ) as running:
        response = await running.stub.Chat(chat_request("smart"))
        attempts = await running.ledger.of(3)
    assert response.route == gateway_service_pb2.Route(
        provider="other",
        requested_model="smart",
        sent_model="o-1",
        request_id=response.route.request_id,
        original_provider="acme",
        attempts=3,
    )
    assert [(one.provider, one.sent_model, one.fallback_from) for one in attempts] == [
        ("acme", "acme-1", ""),
        ("acme", "acme-1", ""),
        ("other", "o-1", "acme/acme-1"),
    ]


async def test_a_stream_has_stand_ins_too(tmp_path: Path) -> None:
    acme = ScriptedProvider(stream=fails(GatewayError("CONTEXT_TOO_LONG", "too long"), *chunks([START])))
    fallbacks = {"acme/acme-1": ("other/o-1",)}
    async with router(
        tmp_path, {"acme": acme, "other": ScriptedProvider(stream=WHOLE)}, fallbacks=fallbacks
    ) as running:
        messages = await collected(running.stub.StreamChat(stream_request()))
    assert words(messages) == "hello"
    assert (messages[0].route.provider, messages[0].route.original_provider) == ("other", "acme")


async def test_without_a_chain_nothing_stands_in(tmp_path: Path) -> None:
    other = answering()
    async with router(tmp_path, {"acme": ScriptedProvider(chat=fails(BUSY)), "other": other}) as running:
        error = await refused(running.stub.Chat(chat_request()))
    assert error.reason.name == "UPSTREAM_OVERLOADED"
    assert not other.calls


async def test_the_callers_mistake_is_not_carried_on(tmp_path: Path) -> None:
    other = answering()
    acme = ScriptedProvider(chat=fails(GatewayError("INVALID_REQUEST", "no such tool")))
    async with router(tmp_path, {"acme": acme, "other": other}, fallbacks={"acme/acme-1": ("other/o-1",)}) as running:
        error = await refused(running.stub.Chat(chat_request()))
    assert (error.reason.name, len(other.calls)) == ("INVALID_REQUEST", 0)


async def test_when_all_fail_the_last_failure_is_told(tmp_path: Path) -> None:
    last = GatewayError("UPSTREAM_QUOTA", "spent")
    async with router(
        tmp_path,
        {"acme": ScriptedProvider(chat=fails(BUSY)), "other": ScriptedProvider(chat=fails(last))},
        fallbacks={"acme/acme-1": ("other/o-1",)},
    ) as running:
        error = await refused(running.stub.Chat(chat_request()))
    assert (error.reason.name, error.details["provider"]) == ("UPSTREAM_QUOTA", "other")


# Breakers.


async def test_a_model_that_fails_is_left_alone_and_the_caller_told_for_how_long(tmp_path: Path) -> None:
    provider = ScriptedProvider(chat=fails(GatewayError("UPSTREAM_ERROR", "broken")))
    policy = BreakerPolicy(min_calls=4, open_seconds=60)
    async with router(tmp_path, {"acme": provider}, breaker=policy) as running:
        for _ in range(4):
            await refused(running.stub.Chat(chat_request()))
        error = await refused(running.stub.Chat(chat_request()))
        other = await refused(running.stub.Chat(chat_request("acme/another")))
        attempts = await running.ledger.of(5)
    assert error.reason.name == "UPSTREAM_OVERLOADED"
    assert error.details["breaker"] == "open"
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 60
    assert other.reason.name == "UPSTREAM_ERROR", "each model has a breaker of its own"
    assert len(provider.calls) == len(attempts) == 5, "a call that is not made is not recorded"


async def test_rate_limits_open_no_breaker(tmp_path: Path) -> None:
    provider = ScriptedProvider(chat=fails(GatewayError("UPSTREAM_RATE_LIMITED", "slow down", retry_after=60)))
    async with router(tmp_path, {"acme": provider}, breaker=BreakerPolicy(min_calls=2)) as running:
        for _ in range(6):
            await refused(running.stub.Chat(chat_request()))
    assert len(provider.calls) == 6


async def test_an_adapter_that_is_away_opens_no_breaker(tmp_path: Path) -> None:
    """It is back within seconds, and gRPC knows when; an open breaker would keep callers out for longer."""
    provider = ScriptedProvider(chat=in_turn(*[fails(GatewayError("UNAVAILABLE", "away"))] * 6, GIVE))
    async with router(tmp_path, {"acme": provider}, breaker=BreakerPolicy(min_calls=2, open_seconds=60)) as running:
        for _ in range(6):
            await refused(running.stub.Chat(chat_request()))
        assert (await running.stub.Chat(chat_request())).completion == COMPLETION
    assert len(provider.calls) == 7


async def test_one_call_is_let_through_to_see_and_closes_the_breaker(tmp_path: Path) -> None:
    provider = ScriptedProvider(chat=in_turn(fails(BUSY), fails(BUSY), GIVE))
    async with router(tmp_path, {"acme": provider}, breaker=BreakerPolicy(min_calls=2, open_seconds=0.05)) as running:
        await refused(running.stub.Chat(chat_request()))
        await refused(running.stub.Chat(chat_request()))
        async with asyncio.timeout(10):
            while True:
                try:
                    await running.stub.Chat(chat_request())
                    break
                except aio.AioRpcError:  # open until its time has come
                    continue
        await asyncio.gather(*(running.stub.Chat(chat_request()) for _ in range(5)))
    assert len(provider.calls) == 8


async def test_an_open_breaker_goes_on_to_the_stand_in(tmp_path: Path) -> None:
    acme, other = ScriptedProvider(chat=fails(BUSY)), answering()
    async with router(
        tmp_path,
        {"acme": acme, "other": other},
        fallbacks={"acme/acme-1": ("other/o-1",)},
        breaker=BreakerPolicy(min_calls=2, open_seconds=60),
    ) as running:
        for _ in range(5):
            await running.stub.Chat(chat_request())
    assert (len(acme.calls), len(other.calls)) == (2, 5)


# Pools.


async def test_the_members_of_a_pool_share_calls_and_answer_for_each_other(tmp_path: Path) -> None:
    bad, good = ScriptedProvider(chat=fails(GatewayError("UPSTREAM_QUOTA", "spent"))), answering()
    pool = Pool(members={"key-a": 1, "key-b": 1})
    async with router(tmp_path, {"key-a": bad, "key-b": good}, pools={"acme": pool}) as running:
        for _ in range(12):
            response = await running.stub.Chat(chat_request())
            assert response.route.provider == "key-b"
            assert response.route.original_provider == "", "a member is no stand-in"
    assert len(good.calls) == 12
    assert bad.calls, "by its weight it is asked too"


async def test_calls_of_one_session_stay_with_one_member(tmp_path: Path) -> None:
    members = {f"key-{number}": answering() for number in range(4)}
    pool = Pool(members=dict.fromkeys(members, 1.0), sticky="session")
    async with router(tmp_path, members, pools={"acme": pool}) as running:
        for session in "abcdef":
            used = set()
            for _ in range(4):
                response = await running.stub.Chat(chat_request(), metadata=(("x-session-id", session),))
                used.add(response.route.provider)
            assert len(used) == 1
    assert sum(bool(member.calls) for member in members.values()) > 1


# Room.


async def test_a_full_provider_refuses_at_once_and_says_when_to_come_back(tmp_path: Path) -> None:
    provider = ScriptedProvider(stream=hangs(*chunks([START, text("x")])))
    limit = ConcurrencyLimit(max_in_flight=1)
    async with router(tmp_path, {"acme": provider}, concurrency={"acme": limit}) as running:
        first = running.stub.StreamChat(stream_request())
        await first.read()
        error = await refused(running.stub.Chat(chat_request()))
        first.cancel()
        await asyncio.wait_for(provider.calls[0].cancelled.wait(), 10)
    assert error.reason.name == "RATE_LIMITED"
    assert error.retry_after is not None
    assert error.details["provider"] == "acme"
    assert len(provider.calls) == 1


async def test_a_place_is_free_again_when_its_caller_leaves(tmp_path: Path) -> None:
    provider = ScriptedProvider(stream=hangs(*chunks([START, text("x")])), chat=GIVE)
    limit = ConcurrencyLimit(max_in_flight=1, max_queued=1)
    async with router(tmp_path, {"acme": provider}, concurrency={"acme": limit}) as running:
        for _ in range(3):
            first = running.stub.StreamChat(stream_request())
            await first.read()
            second = asyncio.ensure_future(_whole(running, 20))
            first.cancel()
            assert (await second).completion == COMPLETION


async def _whole(running: Any, timeout: float) -> gateway_service_pb2.ChatResponse:
    answer: gateway_service_pb2.ChatResponse = await running.stub.Chat(chat_request(), timeout=timeout)
    return answer


# Hedges.


async def test_a_second_attempt_answers_for_a_slow_first_which_is_stopped_and_counted(tmp_path: Path) -> None:
    provider = ScriptedProvider(stream=in_turn(hangs(*chunks([START])), WHOLE))
    async with router(tmp_path, {"acme": provider}, hedging={"acme/acme-1": 0.05}) as running:
        messages = await collected(running.stub.StreamChat(stream_request()))
        await asyncio.wait_for(provider.calls[0].cancelled.wait(), 10)
        first, second = await running.ledger.of(2)
    assert words(messages) == "hello"
    assert messages[0].route.attempts == 2
    assert [(first.status, first.hedge), (second.status, second.hedge)] == [(CANCELLED, False), (OK, True)]
    assert first.usage.estimated


async def test_a_whole_answer_is_hedged_too_and_a_quick_one_never(tmp_path: Path) -> None:
    provider = ScriptedProvider(chat=in_turn(hangs(), GIVE))
    async with router(tmp_path, {"acme": provider}, hedging={"acme/acme-1": 0.05}) as running:
        assert (await running.stub.Chat(chat_request())).route.attempts == 2
        assert (await running.stub.Chat(chat_request(), timeout=30)).completion == COMPLETION
        await running.ledger.of(3)
    assert len(provider.calls) == 3


async def test_only_models_that_ask_for_it_are_hedged(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def slow(_request: Any, _context: Any) -> Any:
        await release.wait()
        return ChatAnswer(completion=COMPLETION, timing=TIMING)

    provider = ScriptedProvider(chat=slow)
    async with router(tmp_path, {"acme": provider}, hedging={"acme/other": 0.001}) as running:
        call = asyncio.ensure_future(_whole(running, 30))
        await provider.called.wait()
        release.set()
        await call
    assert len(provider.calls) == 1


async def test_a_caller_that_leaves_stops_both(tmp_path: Path) -> None:
    provider = ScriptedProvider(stream=hangs(*chunks([START])))
    async with router(tmp_path, {"acme": provider}, hedging={"acme/acme-1": 0.02}) as running:
        call = running.stub.StreamChat(stream_request())
        reading = asyncio.ensure_future(call.read())
        async with asyncio.timeout(10):
            while len(provider.calls) < 2:
                await provider.called.wait()
                provider.called.clear()
        call.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await asyncio.wait_for(provider.calls[0].cancelled.wait(), 10)
        await asyncio.wait_for(provider.calls[1].cancelled.wait(), 10)
        attempts = await running.ledger.of(2)
    assert [one.status for one in attempts] == [CANCELLED, CANCELLED]


async def test_a_model_that_thinks_for_long_still_gives_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aigateway_router.streams.PEEK_SECONDS", 0.05)
    go_on = asyncio.Event()

    async def think(_request: Any, context: Any) -> None:
        start, words_, end = chunks([START], [text("hello")], [FINISH, END_USAGE])
        await context.write(start)
        await go_on.wait()
        await context.write(words_)
        await context.write(end)

    async with router(tmp_path, {"acme": ScriptedProvider(stream=think)}) as running:
        call = running.stub.StreamChat(stream_request())
        first: Any = await call.read()
        go_on.set()
        rest = [await call.read(), await call.read()]
    assert [event.WhichOneof("event") for event in first.events] == ["start"]
    assert words(rest) == "hello"
