"""Limits per minute: what fits, what is given back, and that no minute pays for another, wherever it is counted.

Time is the test's.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from aigateway_common.errors import GatewayError
from aigateway_router.callers import Caller
from aigateway_router.policy.limits import DEFAULT_OUTPUT, Estimate, Hold, Limits, LimitState
from aigateway_router.policy.minutes import Reading
from aigateway_router.settings import CallLimits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from support.limit_stores import KINDS, Kind, Store, opened, reading


def limits(store: Store) -> Limits:
    return Limits(store.member(), store.places())


def caller(project: CallLimits | None = None, **of_key: int) -> Caller:
    return Caller(
        key_id="key-1", project="search", key_limits=CallLimits(**of_key), project_limits=project or CallLimits()
    )


async def denied(limits: Limits, caller: Caller, estimate: Estimate | None = None) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await limits.admit(caller, estimate)
    assert caught.value.reason.name == "RATE_LIMITED"
    return caught.value


async def test_calls_a_minute_end_with_the_time_to_wait(store: Store) -> None:
    own = limits(store)
    for left in (1, 0):
        hold = await own.admit(caller(requests_per_minute=2), Estimate(5, 5))
        assert hold.requests == LimitState(limit=2, remaining=left, reset_ms=120_000)
        assert hold.tokens is None
        hold.end()
    store.clock.sleep(15)
    error = await denied(own, caller(requests_per_minute=2))
    assert error.message == "the limit of this key, 2 calls a minute, is reached; try again in 75 s"
    assert error.retry_after == pytest.approx(75)
    assert error.details == {"limit_requests": "2", "remaining_requests": "0", "reset_requests_ms": "105000"}
    store.clock.sleep(74)
    await denied(own, caller(requests_per_minute=2))
    store.clock.sleep(1)
    await own.admit(caller(requests_per_minute=2), None)


async def test_there_is_no_burst_of_twice_the_limit_where_two_minutes_meet(store: Store) -> None:
    own = limits(store)
    store.clock.sleep(59)
    for _ in range(60):
        await own.admit(caller(requests_per_minute=60), None)
    store.clock.sleep(2)
    await own.admit(caller(requests_per_minute=60), None)  # one of the sixty is 60 seconds away by now
    await denied(own, caller(requests_per_minute=60))


async def test_key_and_project_count_both_and_the_message_says_which_refused(store: Store) -> None:
    own = limits(store)
    project = CallLimits(requests_per_minute=2, tokens_per_minute=1000)
    one = caller(project, requests_per_minute=100, tokens_per_minute=5000)
    other = replace(one, key_id="key-2")
    hold = await own.admit(one, Estimate(100, 100))
    assert (hold.requests, hold.tokens) == (
        LimitState(limit=2, remaining=1, reset_ms=120_000),
        LimitState(limit=1000, remaining=800, reset_ms=120_000),
    )
    error = await denied(own, other, Estimate(100, 701))
    assert error.message.startswith("the limit of the project `search`, 1,000 tokens a minute, is reached;")
    assert error.details == {
        "limit_requests": "2",
        "remaining_requests": "1",
        "reset_requests_ms": "120000",
        "limit_tokens": "1000",
        "remaining_tokens": "800",
        "reset_tokens_ms": "120000",
    }
    assert (await own.admit(other, Estimate(100, 700))).requests == LimitState(limit=2, remaining=0, reset_ms=120_000)


async def test_tokens_are_put_right_by_fact(store: Store) -> None:
    own = limits(store)
    mine = caller(tokens_per_minute=1000)
    less = await own.admit(mine, Estimate(100, 900))
    await denied(own, mine, Estimate(1, 0))
    less.used = 150
    less.end()
    await store.settled()
    more = await own.admit(mine, Estimate(100, 100))
    assert more.tokens is not None
    assert more.tokens.remaining == 650
    more.used = 849
    more.end()
    await store.settled()
    last = await own.admit(mine, Estimate(1, 0))
    assert last.tokens is not None
    assert last.tokens.remaining == 0
    more.end()
    await store.settled()
    await denied(own, mine, Estimate(1, 0))


async def test_a_call_that_was_refused_takes_nothing(store: Store) -> None:
    own = limits(store)
    mine = caller(requests_per_minute=1, tokens_per_minute=100, concurrent_calls=1)
    for _ in range(3):
        await denied(own, mine, Estimate(101, 0))
    assert (await own.admit(mine, Estimate(100, 0))).requests == LimitState(limit=1, remaining=0, reset_ms=120_000)


async def test_an_answer_of_no_given_length_never_makes_a_call_too_large(store: Store) -> None:
    own = limits(store)
    assert Estimate(10, None).within(1_000_000) == 10 + DEFAULT_OUTPUT
    hold = await own.admit(caller(tokens_per_minute=100), Estimate(10, None))
    assert hold.tokens == LimitState(limit=100, remaining=0, reset_ms=120_000)
    hold.used = 30
    hold.end()
    await store.settled()
    error = await denied(own, caller(tokens_per_minute=100), Estimate(10, 200))
    assert error.message == (
        "the limit of this key is 100 tokens a minute, and this call alone may use 210; "
        "shorten the prompt or lower its most output tokens"
    )
    assert error.retry_after is None


async def test_calls_at_the_same_time_are_let_in_as_others_end(store: Store) -> None:
    own = limits(store)
    mine = caller(CallLimits(concurrent_calls=3), concurrent_calls=2)
    first, second = await own.admit(mine, None), await own.admit(mine, None)
    error = await denied(own, mine)
    assert error.message == "the limit of this key, 2 calls at the same time, is reached; wait for one to end"
    assert error.retry_after == 1
    other = replace(mine, key_id="key-2")
    third = await own.admit(other, None)
    assert (await denied(own, other)).message.startswith("the limit of the project `search`, 3 calls")
    for hold in (first, first, second, third):
        hold.end()
    assert store.kept() == 0


async def test_a_caller_without_limits_costs_no_counter(store: Store) -> None:
    own = limits(store)
    hold = await own.admit(caller(), Estimate(1, 1))
    hold.used = 5
    hold.end()
    assert (hold.requests, hold.tokens, caller().counts_tokens) == (None, None, False)
    await store.settled()
    assert store.kept() == 0


@given(
    previous=st.integers(0, 1000),
    current=st.integers(0, 1000),
    elapsed=st.floats(0, 59.9),
    limit=st.integers(1, 1000),
    cost=st.integers(1, 1000),
)
def test_the_time_to_wait_is_enough_and_hardly_more(
    previous: int, current: int, elapsed: float, limit: int, cost: int
) -> None:
    cost = min(cost, limit)
    reading = Reading(previous, current, elapsed)
    wait = reading.wait(limit, cost)

    def fits(seconds: float) -> bool:
        at = elapsed + seconds
        later = Reading(previous, current, at) if at < 60 else Reading(current, 0, min(at - 60, 60))
        return later.used + cost <= limit

    assert fits(wait + 1e-6)
    assert wait == 0 or not fits(max(0.0, wait - 0.001))


class Reservations(RuleBasedStateMachine):
    """Tokens reserved, settled and forgotten in any order, beside the sums that they must come to."""

    LIMIT = 500

    def __init__(self, store: Store, runner: asyncio.Runner, key_id: str) -> None:
        super().__init__()
        self.store = store
        self.runner = runner
        self.limits = limits(store)
        self.caller = replace(caller(tokens_per_minute=self.LIMIT), key_id=key_id)
        self.open: list[tuple[int, int, Hold]] = []
        self.facts: dict[int, int] = defaultdict(int)
        """Tokens of ended calls, by the minute that they began in."""
        store.clock.sleep(-store.clock.now % 60)  # each run of the same steps comes to the same

    def now(self) -> tuple[int, float]:
        minute, elapsed = divmod(self.store.clock.now, 60)
        return int(minute), elapsed

    def expected(self, minute: int) -> int:
        return self.facts[minute] + sum(cost for begun, cost, _ in self.open if begun == minute)

    @rule(prompt=st.integers(0, 300), output=st.one_of(st.none(), st.integers(0, 300)))
    def reserve(self, prompt: int, output: int | None) -> None:
        estimate = Estimate(prompt, output)
        cost = estimate.within(self.LIMIT)
        now, elapsed = self.now()
        used = self.expected(now) + math.ceil(self.expected(now - 1) * (1 - elapsed / 60))
        try:
            hold = self.runner.run(self.limits.admit(self.caller, estimate))
        except GatewayError:
            assert used + cost > self.LIMIT
        else:
            assert used + cost <= self.LIMIT
            self.open.append((now, cost, hold))

    @rule(data=st.data(), used=st.integers(0, 900))
    def settle(self, data: st.DataObject, used: int) -> None:
        if self.open:
            begun, _, hold = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
            hold.used = used
            self.runner.run(self._ended(hold))
            self.facts[begun] += used

    @rule(seconds=st.sampled_from([1, 7, 20, 59, 60, 61, 130]))
    def wait(self, seconds: int) -> None:
        self.store.clock.sleep(seconds)

    @invariant()
    def each_minute_holds_its_own_calls_and_nothing_else(self) -> None:
        now, elapsed = self.now()
        found = self.runner.run(reading(self.store.member(), f"key:{self.caller.key_id}:tokens"))
        assert found == (self.expected(now - 1), self.expected(now), elapsed)

    async def _ended(self, hold: Hold) -> None:
        hold.end()
        await self.store.settled()


@pytest.mark.parametrize("kind", KINDS)
def test_reservations_settled_in_any_order_come_to_what_was_used(
    kind: Kind, tmp_path: Path, request: pytest.FixtureRequest, patience: None
) -> None:
    url = request.getfixturevalue("redis_server").url if kind == "redis" else None
    keys = itertools.count()
    with asyncio.Runner() as runner:
        stores = AsyncExitStack()
        store = runner.run(stores.enter_async_context(opened(kind, tmp_path, url)))

        class Own(Reservations):
            def __init__(self) -> None:
                super().__init__(store, runner, f"key-{next(keys)}")

        examples = 60 if kind == "memory" else 20
        run_state_machine_as_test(Own, settings=settings(max_examples=examples, stateful_step_count=40, deadline=None))
        runner.run(stores.aclose())
