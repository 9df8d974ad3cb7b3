"""Money before an attempt: asked for only where there is a budget, and never spent unseen."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
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


def reserve(of: Budgets, caller: Caller, provider: str = "acme", deadline: float = 30.0) -> Awaitable[list[str]]:
    return of.reserve(
        "e1", caller, provider=provider, model="acme-1", input_tokens=10, max_output_tokens=20, deadline=deadline
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
