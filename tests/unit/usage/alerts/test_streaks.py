"""Streaks of failures: in order they are what anybody would count, and in any order they never say too much."""

from __future__ import annotations

from typing import Any

import pytest
from aigateway.v1 import usage_service_pb2
from aigateway_usage.alerts.streaks import FAULTS, Streak, outcome
from aigateway_usage.rows import to_row
from hypothesis import given
from hypothesis import strategies as st
from support.attempts import attempt

ERROR = usage_service_pb2.ATTEMPT_STATUS_ERROR
CANCELLED = usage_service_pb2.ATTEMPT_STATUS_CANCELLED


@given(st.lists(st.booleans(), max_size=40))
def test_in_order_a_streak_is_the_failures_since_the_last_success(ends: list[bool]) -> None:
    streak = Streak()
    for at_us, failed in enumerate(ends, 1):
        if failed:
            streak.failed(at_us)
        else:
            assert streak.worked(at_us)
    tail = next((number for number, failed in enumerate(reversed(ends)) if not failed), len(ends))
    assert streak.count == tail
    assert streak.lasts_us() == max(0, tail - 1)


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=30))
def test_in_any_order_a_streak_counts_no_failure_from_before_the_last_success(ends: list[tuple[int, bool]]) -> None:
    streak = Streak()
    for at_us, failed in ends:
        if failed:
            streak.failed(at_us)
        else:
            streak.worked(at_us)
    last_worked = max((at_us for at_us, failed in ends if not failed), default=0)
    after = [at_us for at_us, failed in ends if failed and at_us > last_worked]
    assert streak.count <= len(after)
    assert bool(streak.count) == bool(after)
    if after:
        assert last_worked < streak.first_us
        assert streak.lasts_us() <= max(after) - min(after)


def test_a_success_that_is_told_late_ends_nothing_that_came_after_it() -> None:
    streak = Streak()
    streak.failed(20)
    streak.failed(30)
    assert not streak.worked(10)
    assert streak.count == 2
    streak.failed(5)
    assert streak.count == 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "worked"),
        ({"status": CANCELLED, "first_event_us": 5}, "worked"),
        ({"status": CANCELLED}, "unknown"),
        *(({"status": ERROR, "error_reason": reason}, "failed") for reason in sorted(FAULTS)),
        ({"status": ERROR, "error_reason": "UPSTREAM_ERROR", "upstream_status": 500}, "failed"),
        ({"status": ERROR, "error_reason": "UPSTREAM_RATE_LIMITED", "upstream_status": 429}, "unknown"),
        ({"status": ERROR, "error_reason": "INVALID_REQUEST", "upstream_status": 400}, "answered"),
        ({"status": ERROR, "error_reason": "INVALID_REQUEST"}, "unknown"),
        ({"status": ERROR, "error_reason": "INTERNAL"}, "unknown"),
        ({"status": ERROR, "error_reason": "DEADLINE_EXCEEDED"}, "unknown"),
        ({"status": ERROR, "error_reason": ""}, "unknown"),
        ({"status": ERROR, "error_reason": "SOMETHING_NEW", "upstream_status": 418}, "answered"),
    ],
)
def test_an_attempt_says_of_its_provider(changes: dict[str, Any], says: str) -> None:
    assert outcome(to_row(attempt(**changes), 0)) == says


def test_faults_are_the_providers_and_never_a_rate_limit() -> None:
    assert {"UPSTREAM_ERROR", "UPSTREAM_TIMEOUT", "UPSTREAM_UNREACHABLE", "UNAVAILABLE"} <= FAULTS
    assert not {"UPSTREAM_RATE_LIMITED", "RATE_LIMITED", "INVALID_REQUEST", "INTERNAL"} & FAULTS
