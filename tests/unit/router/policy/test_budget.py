"""Money before an attempt: asked for only where there is a budget, and never spent unseen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from aigateway.v1 import account_pb2, account_service_pb2
from aigateway_common.errors import GatewayError
from aigateway_router import accounts as accounts_module
from aigateway_router.accounts import Accounts
from aigateway_router.callers import Caller
from aigateway_router.policy.budget import Budgets
from aigateway_router.settings import RouterSettings
from grpc import aio
from support.router import Hops
from support.scripted_accounts import ScriptedAccounts

RICH = Caller(key_id="key-1", project="search")
POOR = Caller(key_id="key-2", project="search", budgeted=True)


@pytest.fixture(params=["wire", "in process"], autouse=True)
def _transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hops, "in_process", request.param == "in process")
    monkeypatch.setattr(accounts_module, "POLL", 0.05)


@asynccontextmanager
async def budgets(folder: Path, usage: ScriptedAccounts) -> AsyncIterator[Budgets]:
    hops = Hops()
    channel: aio.Channel = await hops.to(usage)
    accounts = Accounts(channel, RouterSettings(outbox_dir=folder), lambda _: None)
    await accounts.start()
    try:
        await usage.polls()
        yield Budgets(channel, accounts)
    finally:
        await accounts.stop()
        await hops.stop()


def reserve(
    of: Budgets, caller: Caller, provider: str = "acme", deadline: float = 30.0, event_id: str = "e1"
) -> Coroutine[Any, Any, list[str]]:
    return of.reserve(
        event_id, caller, provider=provider, model="acme-1", input_tokens=10, max_output_tokens=20, deadline=deadline
    )


async def test_money_is_asked_for_only_where_there_is_a_budget(tmp_path: Path) -> None:
    usage = ScriptedAccounts()
    usage.changes.budgeted_providers.append("dear")
    usage.reserve = lambda request: account_service_pb2.ReserveBudgetResponse(
        reserved_usd=0.1,
        low=[
            account_pb2.Budget(
                scope=account_pb2.BUDGET_SCOPE_PROJECT,
                subject=request.project,
                period=account_pb2.BUDGET_PERIOD_MONTH,
                limit_usd=10,
                spent_usd=7,
                reserved_usd=0.21,
            )
        ],
    )
    async with budgets(tmp_path, usage) as own:
        assert await reserve(own, RICH) == []
        assert not usage.asked("ReserveBudget")
        before = time.time_ns() // 1000
        assert await reserve(own, POOR) == ["project search, month: 72 % of $10 used"]
        await reserve(own, RICH, "dear")
        own.release("e1")
        await own.stop()
    of_key, of_provider = usage.asked("ReserveBudget")
    assert of_key == account_service_pb2.ReserveBudgetRequest(
        event_id="e1",
        key_id="key-2",
        project="search",
        provider="acme",
        model="acme-1",
        input_tokens=10,
        max_output_tokens=20,
        expires_at_us=of_key.expires_at_us,
    )
    assert before + 30_000_000 < of_key.expires_at_us < before + 86_400_000_000
    assert (of_provider.key_id, of_provider.provider) == ("key-1", "dear")
    assert usage.asked("ReleaseBudget") == [account_service_pb2.ReleaseBudgetRequest(event_id="e1")]


async def test_a_spent_budget_comes_through_with_its_details(tmp_path: Path) -> None:
    usage = ScriptedAccounts()
    spent = GatewayError("BUDGET_EXCEEDED", "spent", details={"limit_usd": "10", "resets_at": "soon"}, retry_after=60)
    unpriced = GatewayError("PERMISSION_DENIED", "nobody knows its price")
    async with budgets(tmp_path, usage) as own:
        for error in (spent, unpriced):
            usage.reserve = _answering(error)
            with pytest.raises(GatewayError) as caught:
                await reserve(own, POOR)
            assert (caught.value.reason.name, caught.value.message, caught.value.details, caught.value.retry_after) == (
                error.reason.name,
                error.message,
                error.details,
                error.retry_after,
            )


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN],
)
async def test_nothing_is_spent_unseen(tmp_path: Path, code: grpc.StatusCode) -> None:
    usage = ScriptedAccounts()
    usage.changes.budgeted_providers.append("dear")
    async with budgets(tmp_path, usage) as own:
        usage.away = code
        await usage.polls()
        for caller, provider in ((POOR, "acme"), (RICH, "dear")):
            with pytest.raises(GatewayError) as caught:
                await reserve(own, caller, provider)
            assert (caught.value.reason.name, caught.value.retry_after) == ("UNAVAILABLE", 1)
        assert await reserve(own, RICH) == []
        await own.stop()


async def test_money_that_may_be_set_aside_unseen_is_given_back(tmp_path: Path) -> None:
    usage = ScriptedAccounts()

    def late(_request: Any) -> Any:
        return GatewayError("UNAVAILABLE", "the answer is lost")

    usage.reserve = late
    async with budgets(tmp_path, usage) as own:
        with pytest.raises(GatewayError):
            await reserve(own, POOR)
        await own.stop()
    assert usage.asked("ReleaseBudget") == [account_service_pb2.ReleaseBudgetRequest(event_id="e1")]


@asynccontextmanager
async def waiting(own: Budgets, usage: ScriptedAccounts, *ids: str) -> AsyncIterator[list[asyncio.Task[list[str]]]]:
    """A reservation that is asked for and not answered while inside, and those of `ids`, which wait for that."""
    usage.reserving.clear()
    first = asyncio.create_task(reserve(own, POOR, event_id="first"))
    await usage.until_asked("ReserveBudget")
    others = [asyncio.create_task(reserve(own, POOR, event_id=event_id)) for event_id in ids]
    await asyncio.sleep(0)  # they have begun
    try:
        yield others
    finally:
        usage.reserving.set()
        await first


async def test_calls_that_wait_are_one_question_with_an_answer_for_each(tmp_path: Path) -> None:
    usage = ScriptedAccounts()
    low = account_pb2.Budget(scope=account_pb2.BUDGET_SCOPE_KEY, subject="key-2", limit_usd=1, spent_usd=0.9)
    spent = GatewayError("BUDGET_EXCEEDED", "spent", details={"limit_usd": "10"}, retry_after=60)
    answers: dict[str, Any] = {
        "b": spent,
        "c": account_service_pb2.ReserveBudgetResponse(low=[low]),
        "d": GatewayError("UNAVAILABLE", "the database is away"),
    }
    usage.reserve = lambda request: answers.get(request.event_id, account_service_pb2.ReserveBudgetResponse())
    async with budgets(tmp_path, usage) as own:
        async with waiting(own, usage, "a", "b", "c", "d") as tasks:
            pass
        a, b, c, d = await asyncio.gather(*tasks, return_exceptions=True)
        assert (a, c) == ([], ["key key-2, period: 90 % of $1 used"])
        assert isinstance(b, GatewayError)
        assert (b.reason.name, b.message, b.details, b.retry_after) == ("BUDGET_EXCEEDED", "spent", spent.details, 60)
        assert isinstance(d, GatewayError)
        assert (d.reason.name, d.retry_after) == ("UNAVAILABLE", 1)
        await own.stop()
    (question,) = usage.asked("ReserveBudgets")
    assert [each.event_id for each in question.reservations] == ["a", "b", "c", "d"]
    assert [each.event_id for each in usage.asked("ReserveBudget")] == ["first"]
    assert [each.event_id for each in usage.asked("ReleaseBudget")] == ["d"]


async def test_an_older_usage_service_is_asked_for_one_at_a_time(tmp_path: Path) -> None:
    usage = ScriptedAccounts()
    usage.together = False
    async with budgets(tmp_path, usage) as own:
        for _ in range(2):
            async with waiting(own, usage, "a", "b") as tasks:
                pass
            assert await asyncio.gather(*tasks) == [[], []]
    assert len(usage.asked("ReserveBudgets")) == 1  # and it is not tried again at once
    assert sorted(each.event_id for each in usage.asked("ReserveBudget")) == ["a", "a", "b", "b", "first", "first"]


async def test_a_question_of_several_that_is_not_answered_lets_none_through(tmp_path: Path) -> None:
    usage = ScriptedAccounts()
    async with budgets(tmp_path, usage) as own:
        async with waiting(own, usage, "a", "b") as tasks:
            usage.away = grpc.StatusCode.INTERNAL
        for got in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(got, GatewayError)
            assert (got.reason.name, got.retry_after) == ("UNAVAILABLE", 1)
        await own.stop()
    assert sorted(each.event_id for each in usage.asked("ReleaseBudget")) == ["a", "b"]


async def test_a_call_that_left_is_not_asked_for_or_its_money_is_given_back(tmp_path: Path) -> None:
    usage = ScriptedAccounts()
    async with budgets(tmp_path, usage) as own:
        async with waiting(own, usage, "a", "left") as tasks:
            tasks[1].cancel()
        assert await tasks[0] == []
        assert not usage.asked("ReleaseBudget")
        usage.reserving.clear()
        asked = asyncio.create_task(reserve(own, POOR, event_id="under way"))
        await usage.until_asked("ReserveBudget", 3)
        asked.cancel()
        await asyncio.wait([asked, tasks[1]])
        assert not usage.asked("ReleaseBudget")  # it would come before what it gives back
        usage.reserving.set()
        await own.stop()
    assert not usage.asked("ReserveBudgets")
    assert [each.event_id for each in usage.asked("ReleaseBudget")] == ["under way"]


async def test_a_call_waits_for_its_answer_no_longer_than_it_may(tmp_path: Path) -> None:
    usage = ScriptedAccounts()
    async with budgets(tmp_path, usage) as own:
        async with waiting(own, usage):
            with pytest.raises(GatewayError) as caught:
                await reserve(own, POOR, deadline=0.05, event_id="late")
        assert caught.value.reason.name == "UNAVAILABLE"
        await own.stop()
    assert [each.event_id for each in usage.asked("ReserveBudget")] == ["first"]


async def test_without_a_usage_service_there_are_no_budgets(tmp_path: Path) -> None:
    accounts = Accounts(None, RouterSettings(outbox_dir=tmp_path), lambda _: None)
    own = Budgets(None, accounts)
    assert await reserve(own, POOR) == []
    own.release("e1")
    await own.stop()
    assert await accounts.resolve(b"x") is None
    assert not await accounts.has_keys()


def _answering(answer: Any) -> Callable[[Any], Any]:
    return lambda _request: answer
