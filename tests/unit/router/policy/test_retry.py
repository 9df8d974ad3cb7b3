"""Attempts that are made again."""

from __future__ import annotations

import random

import pytest
from aigateway_common.errors import GatewayError
from aigateway_common.reasons import REASONS
from aigateway_router.policy.retry import BUDGET_SECONDS, RetryBudget, is_retryable, pause
from aigateway_router.settings import RetryPolicy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.clock import Clock

POLICY = RetryPolicy(base=0.25, longest=8.0)


def test_only_failures_of_the_provider_that_pass_are_worth_another_attempt() -> None:
    assert {name for name in REASONS if is_retryable(GatewayError(name, ""))} == {
        "UPSTREAM_RATE_LIMITED",
        "UPSTREAM_OVERLOADED",
        "UPSTREAM_ERROR",
        "UPSTREAM_INVALID",
        "UPSTREAM_UNREACHABLE",
        "UPSTREAM_TIMEOUT",
        "UNAVAILABLE",
    }


@given(st.integers(1, 5000), st.integers())
def test_a_pause_is_drawn_from_nothing_to_twice_as_long_each_time(number: int, seed: int) -> None:
    seconds = pause(POLICY, number, None, random.Random(seed))
    assert seconds is not None
    assert 0 <= seconds <= min(8.0, 0.25 * 2 ** min(number - 1, 10))


@pytest.mark.parametrize(("number", "most"), [(1, 0.25), (2, 0.5), (3, 1.0), (6, 8.0), (7, 8.0), (5000, 8.0)])
def test_pauses_use_all_of_the_room_they_have(number: int, most: float) -> None:
    rng = random.Random(number)
    drawn = [pause(POLICY, number, None, rng) or 0.0 for _ in range(2000)]
    assert min(drawn) < most * 0.01
    assert most * 0.99 < max(drawn) <= most
    assert sum(drawn) / len(drawn) == pytest.approx(most / 2, rel=0.05)


@given(st.floats(0, 8), st.integers(1, 20), st.integers())
def test_a_provider_that_says_when_is_asked_then_and_never_sooner(asked: float, number: int, seed: int) -> None:
    seconds = pause(POLICY, number, asked, random.Random(seed))
    assert seconds is not None
    assert asked <= seconds <= asked + POLICY.base


def test_calls_refused_together_do_not_come_back_together() -> None:
    rng = random.Random(1)
    assert len({pause(POLICY, 1, 2.0, rng) for _ in range(100)}) == 100


def test_a_provider_that_asks_for_more_than_the_longest_pause_is_not_asked_again() -> None:
    assert pause(POLICY, 1, 8.0, random.Random(1)) is not None
    assert pause(POLICY, 1, 8.001, random.Random(1)) is None


def retries(budget: RetryBudget, most: int = 10_000) -> int:
    return next(count for count in range(most) if not budget.try_retry())


def test_retries_are_a_share_of_the_calls_and_some_for_each_second() -> None:
    budget = RetryBudget(RetryPolicy(budget_ratio=0.2, budget_per_second=1.0), Clock())
    for _ in range(100):
        budget.called()
    assert retries(budget) == 10 + 20


def test_a_provider_that_is_down_gets_little_more_than_its_calls() -> None:
    clock = Clock()
    budget = RetryBudget(RetryPolicy(budget_ratio=0.1, budget_per_second=0), clock)
    made = 0
    for _ in range(1000):
        clock.sleep(0.05)
        budget.called()
        made += budget.try_retry() + budget.try_retry()
    assert 90 <= made <= 110


def test_nothing_spent_comes_back_after_ten_seconds_and_nothing_is_saved_up_beyond() -> None:
    clock = Clock()
    budget = RetryBudget(RetryPolicy(budget_ratio=0, budget_per_second=0.5), clock)
    clock.sleep(3600)
    assert retries(budget) == 5
    clock.sleep(BUDGET_SECONDS - 1)
    assert not budget.try_retry()
    clock.sleep(1)
    assert retries(budget) == 5


def test_a_budget_of_nothing_allows_nothing() -> None:
    budget = RetryBudget(RetryPolicy(budget_ratio=0, budget_per_second=0), Clock())
    budget.called()
    assert not budget.try_retry()


class Budgets(RuleBasedStateMachine):
    """Whatever happens, the retries of the last ten seconds stay within what their calls and seconds allow."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.budget = RetryBudget(RetryPolicy(budget_ratio=0.5, budget_per_second=0.2), self.clock)
        self.calls: list[float] = []
        self.retried: list[float] = []

    def lately(self, times: list[float]) -> int:
        return sum(int(time) > int(self.clock.now) - 10 for time in times)

    @rule(seconds=st.floats(0, 4))
    def wait(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    @rule(times=st.integers(1, 5))
    def call(self, times: int) -> None:
        for _ in range(times):
            self.budget.called()
            self.calls.append(self.clock.now)

    @rule()
    def retry(self) -> None:
        room = self.lately(self.retried) + 1 <= 2 + self.lately(self.calls) / 2
        assert self.budget.try_retry() == room
        if room:
            self.retried.append(self.clock.now)

    @invariant()
    def never_saves_up(self) -> None:
        assert self.lately(self.retried) <= 2 + len(self.calls) / 2


TestBudgets = Budgets.TestCase
TestBudgets.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
