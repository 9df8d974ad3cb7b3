"""Gates: places, turns, and what becomes of those who cannot wait."""

from __future__ import annotations

import asyncio
import random

import pytest
from aigateway_common import metrics
from aigateway_common.errors import GatewayError
from aigateway_router.policy.concurrency import Gate
from aigateway_router.policy.fallback import falls_back
from aigateway_router.settings import ConcurrencyLimit
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import Clock

PATIENT = 60.0


def gate(in_flight: int = 1, queued: int = 10, seconds: float = PATIENT, clock: Clock | None = None) -> Gate:
    limit = ConcurrencyLimit(max_in_flight=in_flight, max_queued=queued, queue_seconds=seconds)
    return Gate("acme", limit, clock or Clock())


def waiting() -> float | None:
    """How many wait, by the metric."""
    return metrics.REGISTRY.get_sample_value("aigateway_attempts_queued", {"provider": "acme"})


async def waiter(gate: Gate, project: str = "p", patience: float = PATIENT) -> asyncio.Task[None]:
    """A call that waits in the queue by now."""
    task = asyncio.create_task(gate.enter(project, patience))
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_calls_enter_at_once_up_to_the_limit() -> None:
    entrance = gate(in_flight=2)
    await entrance.enter("p", 0)
    await entrance.enter("p", 0)
    assert (entrance.in_flight, entrance.queued) == (2, 0)
    entrance.leave()
    await entrance.enter("p", 0)
    assert entrance.in_flight == 2


async def test_those_beyond_wait_and_take_turns_by_project() -> None:
    entrance = gate()
    await entrance.enter("p", 0)
    order: list[str] = []

    async def call(name: str) -> None:
        await entrance.enter(name[0], PATIENT)
        order.append(name)
        entrance.leave()

    calls = [asyncio.create_task(call(name)) for name in ("a1", "a2", "a3", "b1", "c1")]
    await asyncio.sleep(0)
    assert (entrance.in_flight, entrance.queued, order) == (1, 5, [])
    assert waiting() == 5
    entrance.leave()
    await asyncio.gather(*calls)
    assert order == ["a1", "b1", "c1", "a2", "a3"]
    assert (entrance.in_flight, entrance.queued) == (0, 0)
    assert waiting() == 0


async def test_a_newcomer_does_not_take_the_place_of_one_that_waits() -> None:
    entrance = gate()
    await entrance.enter("p", 0)
    waiting = await waiter(entrance)
    entrance.leave()
    with pytest.raises(GatewayError):
        await entrance.enter("p", 0)
    await waiting
    assert entrance.in_flight == 1


async def test_a_full_queue_refuses_at_once_and_says_whose_limit_it_is() -> None:
    entrance = gate(queued=1)
    await entrance.enter("p", 0)
    waiting = await waiter(entrance)
    with pytest.raises(GatewayError, match="`acme` is given no more than 1 calls") as caught:
        await entrance.enter("q", PATIENT)
    assert caught.value.reason.name == "RATE_LIMITED"
    assert caught.value.details == {"provider": "acme"}
    assert falls_back(caught.value)
    assert (entrance.in_flight, entrance.queued) == (1, 1)
    entrance.leave()
    await waiting


async def test_in_a_full_queue_the_newest_of_the_busiest_project_makes_room_for_another() -> None:
    entrance = gate(queued=2)
    await entrance.enter("p", 0)
    first, second = await waiter(entrance, "busy"), await waiter(entrance, "busy")
    other = await waiter(entrance, "quiet")
    with pytest.raises(GatewayError) as refused:
        await second
    assert refused.value.reason.name == "RATE_LIMITED"
    with pytest.raises(GatewayError):
        await entrance.enter("busy", PATIENT)
    entrance.leave()
    await first
    entrance.leave()
    await other
    entrance.leave()
    assert (entrance.in_flight, entrance.queued) == (0, 0)


async def test_without_a_queue_and_without_patience_nobody_waits() -> None:
    for entrance, patience in ((gate(queued=0), PATIENT), (gate(), 0.0), (gate(), -1.0)):
        await entrance.enter("p", 0)
        with pytest.raises(GatewayError):
            await entrance.enter("p", patience)
        assert (entrance.in_flight, entrance.queued) == (1, 0)


@pytest.mark.parametrize(("patience", "queue_seconds"), [(0.01, PATIENT), (PATIENT, 0.01)])
async def test_waiting_ends_with_the_patience_or_the_limits_seconds(patience: float, queue_seconds: float) -> None:
    entrance = gate(seconds=queue_seconds)
    await entrance.enter("p", 0)
    with pytest.raises(GatewayError) as caught:
        await entrance.enter("p", patience)
    assert caught.value.reason.name == "RATE_LIMITED"
    assert (entrance.in_flight, entrance.queued) == (1, 0)
    entrance.leave()
    assert entrance.in_flight == 0


async def test_a_place_that_comes_as_the_patience_ends_is_taken() -> None:
    entrance = gate()
    await entrance.enter("p", 0)
    loop = asyncio.get_running_loop()
    waiting = await waiter(entrance, patience=0.001)
    handed = loop.time() + 0.002
    loop.call_at(handed, entrance.leave)
    while loop.time() < handed:  # the loop is held up, so that both come in one round: the end first, then the place
        pass
    await waiting
    assert (entrance.in_flight, entrance.queued) == (1, 0)


async def test_a_waiter_that_is_cancelled_leaves_no_trace() -> None:
    entrance = gate(queued=1)
    await entrance.enter("p", 0)
    waiting = await waiter(entrance)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (entrance.in_flight, entrance.queued) == (1, 0)
    entrance.leave()
    assert entrance.in_flight == 0


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_place_handed_to_a_waiter_as_it_is_cancelled_goes_to_the_next(cancelled_first: bool) -> None:
    entrance = gate()
    await entrance.enter("p", 0)
    waiting, following = await waiter(entrance), await waiter(entrance)
    if cancelled_first:
        waiting.cancel()
        entrance.leave()
    else:
        entrance.leave()
        waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await following
    assert (entrance.in_flight, entrance.queued) == (1, 0)
    entrance.leave()
    assert entrance.in_flight == 0


async def refused_after(entrance: Gate) -> float | None:
    with pytest.raises(GatewayError) as caught:
        await entrance.enter("p", 0)
    return caught.value.retry_after


async def test_the_refused_are_told_to_come_back_when_calls_end_at_the_pace_of_late() -> None:
    clock = Clock()
    entrance = gate(in_flight=3, clock=clock)
    for _ in range(3):
        await entrance.enter("p", 0)
    assert await refused_after(entrance) == 30
    for _ in range(5):
        entrance.leave()
        await entrance.enter("p", 0)
    assert await refused_after(entrance) == 2
    waiting = [await waiter(entrance) for _ in range(4)]
    assert await refused_after(entrance) == 10
    clock.sleep(10)
    assert await refused_after(entrance) == 30
    for _ in waiting:
        entrance.leave()
    await asyncio.gather(*waiting)
    for _ in range(100):
        entrance.leave()
        await entrance.enter("p", 0)
    assert await refused_after(entrance) == 1


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3), st.integers(0, 4), st.integers(0, 2**32), st.integers(5, 60))
def test_in_any_order_of_events_no_place_is_lost_or_taken_twice(most: int, queued: int, seed: int, steps: int) -> None:
    asyncio.run(at_random(gate(most, queued), most, random.Random(seed), steps))


async def at_random(entrance: Gate, most: int, rng: random.Random, steps: int) -> None:
    tasks: list[asyncio.Task[None]] = []
    gone: list[asyncio.Task[None]] = []

    def inside() -> list[asyncio.Task[None]]:
        entered = [task for task in tasks if task.done() and not task.cancelled() and task.exception() is None]
        return [task for task in entered if task not in gone]

    for _ in range(steps):
        match rng.choice(["come", "come", "leave", "cancel", "go on", "go on"]):
            case "come":
                tasks.append(asyncio.create_task(entrance.enter(rng.choice("abc"), rng.choice([0, PATIENT]))))
            case "leave" if there := inside():
                gone.append(rng.choice(there))
                entrance.leave()
            case "cancel" if tasks:
                rng.choice(tasks).cancel()
            case _:
                await asyncio.sleep(0)
        assert len(inside()) <= entrance.in_flight <= most
    for _ in range(5 * steps):
        await asyncio.sleep(0)
        for task in inside():
            gone.append(task)
            entrance.leave()
    assert all(task.done() for task in tasks)
    assert (entrance.in_flight, entrance.queued) == (0, 0)
