"""Counts over the last seconds."""

from __future__ import annotations

import math

from aigateway_router.policy.window import BUCKETS, Window
from hypothesis import given
from hypothesis import strategies as st
from support.clock import Clock


@given(
    st.sampled_from([1.0, 10.0, 30.0]),
    st.lists(st.tuples(st.floats(0, 50), st.integers(0, 3)), max_size=40),
)
def test_it_counts_what_happened_in_its_last_buckets(seconds: float, steps: list[tuple[float, int]]) -> None:
    clock, width = Clock(), seconds / BUCKETS
    window, times = Window(seconds, clock), list[float]()
    for passed, added in steps:
        clock.sleep(passed)
        for _ in range(added):
            window.add()
            times.append(clock.now)
        oldest = math.floor(clock.now / width) - BUCKETS + 1
        assert window.total == sum(math.floor(time / width) >= oldest for time in times)


def test_nothing_is_kept_longer_than_the_window_or_lost_much_sooner() -> None:
    for start in (1000.0, 1000.5, 1000.99):
        clock = Clock(start)
        window = Window(10, clock)
        window.add()
        clock.sleep(9)
        assert window.total == 1
        clock.sleep(1)
        assert window.total == 0


def test_what_is_cleared_is_not_subtracted_later() -> None:
    clock = Clock()
    window = Window(10, clock)
    window.add()
    window.clear()
    window.add()
    assert window.total == 1
    clock.sleep(100)
    assert window.total == 0
