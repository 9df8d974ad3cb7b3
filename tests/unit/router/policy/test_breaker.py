"""When a provider's model is left alone."""

from __future__ import annotations

import pytest
from aigateway_common.errors import GatewayError
from aigateway_common.reasons import REASONS
from aigateway_router.policy.breaker import MAX_BREAKERS, Breaker, Breakers, Permit, State, is_failure
from aigateway_router.settings import BreakerPolicy
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.clock import Clock

POLICY = BreakerPolicy(window=30, min_calls=4, failure_ratio=0.5, open_seconds=15)


def admitted(breaker: Breaker) -> Permit:
    permit = breaker.admit()
    assert permit is not None
    return permit


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        admitted(breaker).failed()


def succeed(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        admitted(breaker).succeeded()


def half_open(clock: Clock) -> Breaker:
    breaker = Breaker(POLICY, clock)
    fail(breaker, 4)
    clock.sleep(15)
    assert breaker.state is State.HALF_OPEN
    return breaker


def test_only_what_says_that_the_provider_is_not_well_is_a_failure() -> None:
    assert {name for name in REASONS if is_failure(GatewayError(name, ""))} == {
        "UPSTREAM_OVERLOADED",
        "UPSTREAM_ERROR",
        "UPSTREAM_INVALID",
        "UPSTREAM_UNREACHABLE",
        "UPSTREAM_TIMEOUT",
    }


def test_too_many_failures_open_it_and_no_call_is_let_through() -> None:
    clock = Clock()
    breaker = Breaker(POLICY, clock)
    succeed(breaker, 2)
    fail(breaker, 1)
    assert (breaker.state, breaker.retry_at) == (State.CLOSED, None)
    fail(breaker, 1)
    assert (breaker.state, breaker.calls, breaker.failures) == (State.OPEN, 4, 2)
    assert breaker.retry_at == clock.now + 15
    assert breaker.admit() is None


def test_nothing_is_concluded_from_few_calls() -> None:
    breaker = Breaker(POLICY, Clock())
    fail(breaker, 3)
    assert breaker.state is State.CLOSED


def test_fewer_failures_than_the_share_leave_it_closed() -> None:
    breaker = Breaker(POLICY, Clock())
    succeed(breaker, 51)
    fail(breaker, 50)
    assert (breaker.state, breaker.calls, breaker.failures) == (State.CLOSED, 101, 50)


def test_a_success_never_opens_it() -> None:
    breaker = Breaker(POLICY, Clock())
    fail(breaker, 3)
    succeed(breaker, 1)
    assert breaker.state is State.CLOSED


def test_failures_older_than_the_window_are_forgotten() -> None:
    clock = Clock()
    breaker = Breaker(POLICY, clock)
    fail(breaker, 3)
    clock.sleep(30)
    assert (breaker.calls, breaker.failures) == (0, 0)
    fail(breaker, 3)
    assert breaker.state is State.CLOSED


def test_calls_without_a_verdict_are_not_counted() -> None:
    breaker = Breaker(POLICY, Clock())
    for _ in range(100):
        admitted(breaker).dropped()
    assert (breaker.state, breaker.calls, breaker.failures) == (State.CLOSED, 0, 0)


def test_half_open_lets_one_call_through_at_a_time() -> None:
    breaker = half_open(Clock())
    assert breaker.retry_at is None
    probe = admitted(breaker)
    assert breaker.admit() is None
    probe.dropped()
    admitted(breaker)
    assert breaker.admit() is None


def test_a_probe_that_succeeds_closes_it_and_the_past_is_forgotten() -> None:
    breaker = half_open(Clock())
    succeed(breaker)
    assert (breaker.state, breaker.calls, breaker.failures) == (State.CLOSED, 0, 0)
    fail(breaker, 3)
    assert breaker.state is State.CLOSED


def test_a_probe_that_fails_opens_it_again_for_as_long() -> None:
    clock = Clock()
    breaker = half_open(clock)
    probe = admitted(breaker)
    clock.sleep(5)
    probe.failed()
    assert (breaker.state, breaker.retry_at) == (State.OPEN, clock.now + 15)
    clock.sleep(15)
    succeed(breaker)
    assert breaker.state is State.CLOSED


def test_only_the_first_word_of_a_permit_counts() -> None:
    breaker = Breaker(POLICY, Clock())
    permit = admitted(breaker)
    permit.succeeded()
    permit.failed()
    permit.dropped()
    assert (breaker.calls, breaker.failures) == (1, 0)
    probed = half_open(Clock())
    probe = admitted(probed)
    probe.dropped()
    next_probe = admitted(probed)
    probe.succeeded()
    next_probe.failed()
    assert probed.state is State.OPEN


def test_a_call_from_before_it_opened_says_nothing_afterwards() -> None:
    clock = Clock()
    breaker = Breaker(POLICY, clock)
    slow = [admitted(breaker) for _ in range(6)]
    fail(breaker, 4)
    slow[0].succeeded()
    slow[1].failed()
    assert (breaker.state, breaker.retry_at) == (State.OPEN, clock.now + 15)
    clock.sleep(15)
    probe = admitted(breaker)
    slow[2].succeeded()
    slow[3].dropped()
    assert breaker.state is State.HALF_OPEN
    assert breaker.admit() is None
    probe.succeeded()
    slow[4].failed()
    slow[5].failed()
    assert (breaker.state, breaker.calls) == (State.CLOSED, 0)


def test_without_breakers_every_call_is_let_through() -> None:
    breaker = Breaker(BreakerPolicy(enabled=False, min_calls=1), Clock())
    fail(breaker, 100)
    assert (breaker.state, breaker.calls, breaker.failures) == (State.CLOSED, 100, 100)


def test_each_model_of_each_provider_has_its_own_and_keeps_it() -> None:
    breakers = Breakers(POLICY, Clock())
    first = breakers.of("acme", "b")
    fail(first, 4)
    other = breakers.of("acme", "a")
    assert breakers.of("acme", "b") is first
    assert breakers.of("other", "b").state is State.CLOSED
    assert breakers.by_provider("acme") == [("a", other), ("b", first)]
    assert breakers.by_provider("unheard") == []


def test_of_too_many_the_longest_unused_closed_one_is_forgotten() -> None:
    breakers = Breakers(POLICY, Clock())
    broken = breakers.of("acme", "broken")
    fail(broken, 4)
    used, unused = breakers.of("acme", "used"), breakers.of("acme", "unused")
    for number in range(MAX_BREAKERS - 3):
        breakers.of("acme", f"m{number}")
    assert breakers.of("acme", "used") is used
    breakers.of("acme", "one more")
    kept = dict(breakers.by_provider("acme"))
    assert len(kept) == MAX_BREAKERS
    assert kept["broken"] is broken
    assert kept["used"] is used
    assert "unused" not in kept
    assert breakers.of("acme", "unused") is not unused


def test_there_are_never_too_many_even_when_all_are_open() -> None:
    breakers = Breakers(POLICY, Clock())
    for number in range(MAX_BREAKERS + 5):
        fail(breakers.of("acme", f"m{number:04}"), 4)
    kept = [model for model, _ in breakers.by_provider("acme")]
    assert kept == [f"m{number:04}" for number in range(5, MAX_BREAKERS + 5)]


class Calls(RuleBasedStateMachine):
    """Any order of calls, ends and waits against the plain rules."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(POLICY, self.clock)
        self.under_way: list[Permit] = []
        self.probe: Permit | None = None
        self.opened_at: float | None = None
        self.closed_since = 0
        """Permits of `under_way` from here on still count."""
        self.verdicts: list[tuple[float, bool]] = []

    def lately(self) -> list[bool]:
        return [bad for time, bad in self.verdicts if int(time / 3) > int(self.clock.now / 3) - 10]

    def expected(self) -> State:
        if self.opened_at is None:
            return State.CLOSED
        return State.OPEN if self.clock.now < self.opened_at + 15 else State.HALF_OPEN

    def opens(self) -> None:
        self.opened_at, self.closed_since, self.probe = self.clock.now, len(self.under_way), None

    @rule(seconds=st.sampled_from([0.5, 3.0, 14.75, 15.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    @rule()
    def call(self) -> None:
        permit = self.breaker.admit()
        match self.expected():
            case State.CLOSED:
                assert permit is not None
                self.under_way.append(permit)
            case State.OPEN:
                assert permit is None
            case State.HALF_OPEN:
                assert (permit is None) == (self.probe is not None)
                self.probe = self.probe or permit

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), bad=st.sampled_from([True, True, False, None]))
    def end(self, data: st.DataObject, bad: bool | None) -> None:
        self.end_one(data.draw(st.integers(0, len(self.under_way) - 1)), bad)

    @rule(results=st.lists(st.booleans(), min_size=1, max_size=6))
    def call_in_a_row(self, results: list[bool]) -> None:
        for bad in results:
            if self.opened_at is None:
                self.call()
                self.end_one(len(self.under_way) - 1, bad)

    def end_one(self, number: int, bad: bool | None) -> None:
        counts = self.opened_at is None and number >= self.closed_since
        self.closed_since -= number < self.closed_since
        tell(self.under_way.pop(number), bad)
        if counts and bad is not None:
            self.verdicts.append((self.clock.now, bad))
            late = self.lately()
            if bad and len(late) >= 4 and sum(late) * 2 >= len(late):
                self.opens()

    @precondition(lambda self: self.probe is not None)
    @rule(bad=st.sampled_from([True, False, None]))
    def end_probe(self, bad: bool | None) -> None:
        assert self.probe is not None
        tell(self.probe, bad)
        self.probe = None
        if bad:
            self.opens()
        elif bad is False:
            self.opened_at = None
            self.verdicts.clear()

    @invariant()
    def is_in_the_state_that_the_rules_say(self) -> None:
        assert self.breaker.state is self.expected()
        late = self.lately()
        assert (self.breaker.calls, self.breaker.failures) == (len(late), sum(late))
        opened = self.opened_at
        is_open = opened is not None and self.clock.now < opened + 15
        assert self.breaker.retry_at == (opened + 15 if is_open and opened is not None else None)


def tell(permit: Permit, bad: bool | None) -> None:
    match bad:
        case True:
            permit.failed()
        case False:
            permit.succeeded()
        case None:
            permit.dropped()


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


def test_the_states_are_called_as_in_reports() -> None:
    assert [str(state) for state in State] == ["closed", "open", "half_open"]


@pytest.mark.parametrize("ratio", [0.01, 1.0])
def test_the_share_is_taken_at_its_word(ratio: float) -> None:
    breaker = Breaker(BreakerPolicy(min_calls=4, failure_ratio=ratio), Clock())
    succeed(breaker, 3 if ratio < 1 else 0)
    fail(breaker, 1 if ratio < 1 else 3)
    assert breaker.state is (State.OPEN if ratio < 1 else State.CLOSED)
    if ratio == 1:
        fail(breaker, 1)
        assert breaker.state is State.OPEN
