"""Budgets on a real port, on both databases: set, listed, reserved from by tokens, and settled by what is recorded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from aigateway.v1 import account_pb2
from aigateway.v1 import account_service_pb2 as pb
from aigateway_common.component import Component
from aigateway_common.errors import from_status
from aigateway_usage import budget_calls
from aigateway_usage import budgets as rules
from aigateway_usage.pricing import Pricer
from aigateway_usage.server import UsageComponent
from aigateway_usage.settings import PriceOverride, UsageSettings
from support.accounts import Service, budget, refusal, service
from support.attempts import attempt, record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_MONTH = account_pb2.BUDGET_PERIOD_MONTH
_PROVIDER = account_pb2.BUDGET_SCOPE_PROVIDER


@pytest.fixture
async def one(database_url: str) -> AsyncIterator[Service]:
    async with service(database_url) as running:
        yield running


def now() -> int:
    return time.time_ns() // 1000


def ask(number: int = 1, **fields: Any) -> pb.ReserveBudgetRequest:
    """100 tokens in and 10 out, which cost 200 millionths of a dollar."""
    usual: dict[str, Any] = {
        "event_id": f"{number:032x}",
        "project": "default",
        "provider": "acme",
        "model": "acme-1",
        "input_tokens": 100,
        "max_output_tokens": 10,
        "expires_at_us": now() + 60_000_000,
    }
    return pb.ReserveBudgetRequest(**(usual | fields))


async def listed(one: Service, **fields: Any) -> list[account_pb2.Budget]:
    return list((await one.accounts.ListBudgets(pb.ListBudgetsRequest(**fields))).budgets)


async def test_a_budget_is_set_listed_and_removed(one: Service) -> None:
    made = await one.budget("default", 12.5)
    assert made == budget("default", 12.5, id="project:default:day", resets_at_us=rules.period_end("day", now()) or 0)
    monthly = await one.budget("acme", 0.1, scope=_PROVIDER, period=_MONTH, allow_unpriced=True)
    assert await listed(one) == [made, monthly]
    assert await listed(one, scope=_PROVIDER) == await listed(one, subject="acme") == [monthly]
    assert await listed(one, scope=_PROVIDER, subject="default") == []
    await one.accounts.DeleteBudget(pb.DeleteBudgetRequest(id=made.id))
    assert await listed(one) == [monthly]


async def test_a_budget_that_is_not_there_or_makes_no_sense_is_said_so(one: Service) -> None:
    await one.budget("default")
    error = await refusal(one.accounts.DeleteBudget(pb.DeleteBudgetRequest(id="project:default:dya")))
    assert (error.reason.name, error.details) == ("NOT_FOUND", {"param": "id"})
    assert "did you mean `project:default:day`?" in error.message
    error = await refusal(one.accounts.OverrideBudget(pb.OverrideBudgetRequest(id="a\0b")))
    assert (error.reason.name, error.details) == ("INVALID_REQUEST", {"param": "id"})
    error = await refusal(one.budget("serach"))
    assert (error.reason.name, error.details) == ("INVALID_REQUEST", {"param": "budget.subject"})
    assert (await refusal(listed(one, scope=9))).details == {"param": "scope"}
    assert (await refusal(listed(one, subject="a\0b"))).details == {"param": "subject"}


async def test_a_call_is_reserved_at_its_estimate_and_settled_at_its_cost(one: Service) -> None:
    await one.budget("default", 0.001)
    assert (await one.accounts.ReserveBudget(ask())).reserved_usd == 0.0002
    (before,) = await listed(one)
    assert (before.spent_usd, before.reserved_usd) == (0, 0.0002)
    used = {"input_uncached": 100, "output_text": 2}
    await one.usage.RecordAttempts(record(attempt(1, started_at_us=now(), usage=used)))
    (after,) = await listed(one)
    assert (after.spent_usd, after.reserved_usd) == (0.00012, 0)


async def test_what_does_not_fit_is_refused_with_the_numbers(one: Service) -> None:
    await one.budget("default", 0.0003)
    await one.accounts.ReserveBudget(ask(1))
    error = await refusal(one.accounts.ReserveBudget(ask(2)))
    assert (error.reason.name, error.http_status) == ("BUDGET_EXCEEDED", 429)
    assert error.details == {
        "budget": "project:default:day",
        "limit": "0.0003",
        "spent": "0",
        "reserved": "0.0002",
        "resets_at": rules.iso(rules.period_end("day", now()) or 0),
    }
    await one.accounts.ReleaseBudget(pb.ReleaseBudgetRequest(event_id=ask(1).event_id))
    assert (await one.accounts.ReserveBudget(ask(2))).reserved_usd == 0.0002


async def test_several_are_reserved_at_once_with_an_answer_for_each(one: Service) -> None:
    await one.budget("default", 0.0005)
    again = ask(1)
    wanted = [again, ask(2), ask(3), ask(4, provider=""), again, ask(5, provider="nobody"), ask(6, project="search")]
    got = (await one.accounts.ReserveBudgets(pb.ReserveBudgetsRequest(reservations=wanted))).answers
    reasons = [None if each.HasField("reserved") else from_status(each.refusal) for each in got]
    names = [reason and reason.reason.name for reason in reasons]
    assert names == [None, None, "BUDGET_EXCEEDED", "INVALID_REQUEST", None, "PERMISSION_DENIED", None]
    assert [each.reserved.reserved_usd for each in got] == [0.0002, 0.0002, 0, 0, 0.0002, 0, 0]
    assert reasons[2] is not None
    assert reasons[2].details == (await refusal(one.accounts.ReserveBudget(ask(3)))).details
    (state,) = await listed(one)
    assert (state.spent_usd, state.reserved_usd) == (0, 0.0004)


@pytest.mark.parametrize("count", [0, 501])
async def test_none_or_too_many_at_once_are_refused(one: Service, count: int) -> None:
    wanted = [ask(number) for number in range(count)]
    error = await refusal(one.accounts.ReserveBudgets(pb.ReserveBudgetsRequest(reservations=wanted)))
    assert (error.reason.name, error.details) == ("INVALID_REQUEST", {"param": "reservations"})


async def test_an_overridden_budget_lets_calls_through_and_says_until_when(one: Service) -> None:
    made = await one.budget("default", 0.0001)
    answer = await one.accounts.OverrideBudget(pb.OverrideBudgetRequest(id=made.id))
    assert answer.budget.overridden_until_us == made.resets_at_us
    assert (await one.accounts.ReserveBudget(ask())).reserved_usd == 0.0002
    answer = await one.accounts.OverrideBudget(pb.OverrideBudgetRequest(id=made.id, revert=True))
    assert not answer.budget.HasField("overridden_until_us")
    assert answer.budget.reserved_usd == 0.0002
    assert (await refusal(one.accounts.ReserveBudget(ask(2)))).reason.name == "BUDGET_EXCEEDED"


async def test_budgets_that_are_nearly_spent_are_named(one: Service) -> None:
    await one.budget("default", 0.0006)
    await one.budget("default", 1, period=_MONTH)
    lows = [[low.id for low in (await one.accounts.ReserveBudget(ask(number))).low] for number in range(3)]
    assert lows == [[], [], ["project:default:day"]]


async def test_callers_without_a_key_or_project_fall_under_default(one: Service) -> None:
    await one.budget("default", 0.0003)
    assert (await one.accounts.ReserveBudget(ask(1, project=""))).reserved_usd == 0.0002
    assert (await one.accounts.ReserveBudget(ask(2, project="search"))).reserved_usd == 0
    await one.usage.RecordAttempts(record(attempt(1, project="", started_at_us=now())))
    (after,) = await listed(one)
    assert (after.spent_usd, after.reserved_usd) == (0.0002, 0)


async def test_a_model_without_a_price_is_refused_unless_allowed(one: Service) -> None:
    await one.budget("default", 1)
    error = await refusal(one.accounts.ReserveBudget(ask(provider="nobody", model="thing")))
    assert error.reason.name == "PERMISSION_DENIED"
    assert "set `prices.nobody/thing` in the configuration, or `allow_unpriced` of the budget" in error.message
    await one.budget("default", 1, allow_unpriced=True)
    assert (await one.accounts.ReserveBudget(ask(provider="nobody", model="thing"))).reserved_usd == 0
    assert (await one.accounts.ReserveBudget(ask(provider="ollama", model="thing"))).reserved_usd == 0


async def test_a_published_price_is_found_without_a_warm_up(one: Service) -> None:
    await one.budget("default", 100)
    tokens = {"input_tokens": 1_000_000, "max_output_tokens": 0}
    answer = await one.accounts.ReserveBudget(ask(provider="openai", model="gpt-4o-mini", **tokens))
    assert answer.reserved_usd == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"event_id": ""}, "event_id"),
        ({"event_id": "x" * 65}, "event_id"),
        ({"event_id": "a\0b"}, "event_id"),
        ({"provider": ""}, "provider"),
        ({"model": ""}, "model"),
        ({"model": "a\0b"}, "model"),
        ({"key_id": "a\0b"}, "key_id"),
        ({"input_tokens": -1}, "input_tokens"),
        ({"max_output_tokens": 10**9 + 1}, "max_output_tokens"),
        ({"expires_at_us": 0}, "expires_at_us"),
        ({"expires_at_us": 1}, "expires_at_us"),
    ],
)
async def test_a_reservation_that_makes_no_sense_is_refused_by_name(
    one: Service, fields: dict[str, Any], param: str
) -> None:
    await one.budget("default", 1)
    error = await refusal(one.accounts.ReserveBudget(ask(**fields)))
    assert (error.reason.name, error.details) == ("INVALID_REQUEST", {"param": param})
    assert (await listed(one))[0].reserved_usd == 0


async def test_money_is_given_back_in_time_though_nobody_asks(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget_calls, "SWEEP_EVERY", 0.02)
    async with service(database_url) as one:
        await one.budget("default", 1)
        await one.accounts.ReserveBudget(ask(expires_at_us=now() + 100_000))
        end = time.monotonic() + 20
        while (await listed(one))[0].reserved_usd and time.monotonic() < end:
            pass
        assert (await listed(one))[0].reserved_usd == 0


def test_an_estimate_takes_the_dearest_price_of_text() -> None:
    prices = {
        "acme/*": PriceOverride(input=2, output=10, cache_read=0.1, cache_write_1h=4, reasoning=20),
        "acme/plain": PriceOverride(input=2, output=10),
    }
    pricer = Pricer(UsageSettings("sqlite:///unused.db", price_overrides=prices))
    million = 1_000_000
    assert pricer.estimate("acme", "plain", million, million) == 12
    assert pricer.estimate("acme", "smart", million, million) == 24
    assert pricer.estimate("acme", "smart", million, 0) == 4
    assert pricer.estimate("ollama", "any", million, million) == 0
    assert pricer.estimate("nobody", "any", million, million) is None


def test_the_service_is_one_component() -> None:
    component: Component = UsageComponent(UsageSettings("sqlite:///unused.db"))
    assert len(component.service_names) == 3
