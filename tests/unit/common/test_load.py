"""How a process finds out that it has too many calls, and takes as many as it can serve."""

from __future__ import annotations

import asyncio
import time

import pytest
from aigateway_common.load import FEW, INTERVAL, LATE, QUIET, Load
from support.clock import Clock

MANY = FEW + 1


@pytest.fixture
async def clock() -> Clock:
    return Clock()


class Watched(Load):
    """A load whose looks are made by hand."""

    def __init__(self, clock: Clock, max_calls: int = 1000) -> None:
        super().__init__("test", max_calls=max_calls, clock=clock)
        self.clock = clock

    def look(self, late: float = 0.0) -> None:
        self.clock.sleep(INTERVAL + late)
        assert self._tick is not None
        self._tick.cancel()
        self._look()

    def taken(self, offered: int = 1000) -> int:
        return offered - sum(self.full(MANY) for _ in range(offered))


async def test_a_loop_that_keeps_up_takes_every_call(clock: Clock) -> None:
    load = Watched(clock)
    for _ in range(10):
        assert load.taken() == 1000
        load.look()
    load.stop()


async def test_one_pause_is_no_overload(clock: Clock) -> None:
    load = Watched(clock)
    load.full(MANY)
    load.look(late=10)
    assert load.taken() == 1000
    load.stop()


async def test_a_loop_that_is_late_twice_takes_a_few_more_each_time_it_is_not_and_fewer_when_it_is(
    clock: Clock,
) -> None:
    load = Watched(clock)
    load.full(MANY)
    load.look(late=2 * LATE)
    load.look(late=2 * LATE)
    first = load.taken()
    load.look()
    second = load.taken()
    load.look(late=LATE)
    third = load.taken()
    assert 0 < first < second < 1000
    assert third < second
    load.stop()


async def test_however_late_it_is_some_calls_are_taken(clock: Clock) -> None:
    load = Watched(clock)
    load.full(MANY)
    for _ in range(50):
        load.look(late=1)
    assert load.taken() > 0
    load.stop()


async def test_few_calls_are_never_refused_for_a_late_loop(clock: Clock) -> None:
    load = Watched(clock)
    load.full(FEW)
    load.look(late=1)
    load.look(late=1)
    assert not any(load.full(FEW) for _ in range(1000))
    load.stop()


async def test_an_overload_is_over_once_nobody_was_refused_for_a_while(clock: Clock) -> None:
    load = Watched(clock)
    load.full(MANY)
    load.look(late=1)
    load.look(late=1)
    assert load.taken() < 1000
    for _ in range(int(QUIET / INTERVAL) + 1):
        load.look()
    assert load.taken() == 1000
    load.stop()


async def test_so_many_calls_under_way_are_the_most_however_idle_the_loop_is(clock: Clock) -> None:
    load = Watched(clock, max_calls=5)
    assert not load.full(4)
    assert load.full(5)
    load.stop()


async def test_asking_whether_a_call_would_be_refused_counts_nothing(clock: Clock) -> None:
    load = Watched(clock)
    load.full(MANY)
    load.look(late=1)
    load.look(late=1)
    assert not any(load.refuses(MANY) for _ in range(1000))
    assert load.taken() > 0
    load.stop()


async def test_a_loop_that_is_really_kept_is_found_out() -> None:
    load = Load("test", max_calls=1000)
    for _ in range(5):
        load.full(MANY)
        time.sleep(INTERVAL + 2 * LATE)  # noqa: ASYNC251 -- what keeps the loop
        await asyncio.sleep(0)
    assert any(load.full(MANY) for _ in range(100))
    load.stop()


async def test_nobody_looks_while_nobody_comes(clock: Clock) -> None:
    load = Watched(clock)
    load.full(0)
    load.look()
    assert load._tick is None
