"""Latency: what is slow is told, what is only noise is not, and what stays slow is the usual after a while."""

from __future__ import annotations

from aigateway_usage.alerts.pace import MEMORY_US, Pace
from hypothesis import given
from hypothesis import strategies as st

SECOND = 1_000_000


def feed(pace: Pace, durations: list[int], start_us: int, step_us: int = SECOND) -> list[bool | None]:
    return [pace.add(duration, start_us + number * step_us) for number, duration in enumerate(durations)]


@given(st.lists(st.integers(0, 2**62), max_size=200), st.integers(1, 30), st.floats(1.01, 100))
def test_any_durations_are_taken_and_nothing_is_said_before_enough_are_known(
    durations: list[int], calls: int, factor: float
) -> None:
    said = feed(Pace(calls, factor), durations, SECOND)
    assert set(said[: 2 * calls - 1]) <= {None}


@given(st.lists(st.integers(SECOND, 2 * SECOND), min_size=20, max_size=300))
def test_what_varies_by_less_than_the_factor_is_never_slow(durations: list[int]) -> None:
    assert True not in feed(Pace(5, 3.0), durations, SECOND)


@given(st.integers(1, 30), st.floats(1.5, 10), st.integers(100_000, 10 * SECOND))
def test_what_takes_longer_than_the_factor_is_slow_until_it_is_as_before(calls: int, factor: float, usual: int) -> None:
    pace = Pace(calls, factor)
    feed(pace, [usual] * (2 * calls), SECOND)
    slow = int(usual * factor * 1.5) + 200_000
    assert feed(pace, [slow] * calls, 100 * SECOND, 1000)[-1] is True
    assert pace.slow
    assert feed(pace, [usual] * calls, 101 * SECOND, 1000)[-1] is False
    assert not pace.slow


def test_a_single_slow_call_is_not_a_spike() -> None:
    pace = Pace(20, 3.0)
    feed(pace, [SECOND] * 40, SECOND)
    assert pace.add(600 * SECOND, 100 * SECOND) is False


def test_three_times_a_few_milliseconds_is_not_slow() -> None:
    pace = Pace(10, 3.0)
    feed(pace, [2000] * 20, SECOND)
    assert True not in feed(pace, [60_000] * 10, 100 * SECOND)


def test_between_slow_and_usual_nothing_is_said() -> None:
    pace = Pace(10, 3.0)
    feed(pace, [SECOND] * 20, SECOND)
    assert feed(pace, [4 * SECOND] * 10, 100 * SECOND, 1000)[-1] is True
    assert feed(pace, [5 * SECOND // 2] * 10, 101 * SECOND, 1000)[-1] is None
    assert pace.slow


def test_what_stays_slow_is_the_usual_after_the_memory_has_passed_and_not_before() -> None:
    pace = Pace(10, 3.0)
    feed(pace, [SECOND] * 20, SECOND)
    minute = MEMORY_US // 60
    said = feed(pace, [4 * SECOND] * 200, 100 * SECOND, minute)
    assert said[15] is True
    assert said[-1] is False


def test_a_busy_model_does_not_get_used_to_being_slow() -> None:
    pace = Pace(10, 3.0)
    feed(pace, [SECOND] * 20, SECOND)
    assert feed(pace, [4 * SECOND] * 5000, 100 * SECOND, 1000)[-1] is True
