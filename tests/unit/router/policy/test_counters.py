"""What every store of limits promises of its counters, and what those promise that several routers share."""

from __future__ import annotations

import asyncio

import pytest
from aigateway_router.policy.counters import Charge
from support.limit_stores import Store, reading


def requests(limit: int = 3, cost: int = 1, subject: str = "key:a") -> Charge:
    return Charge(subject, "requests", limit, cost)


def tokens(limit: int = 100, cost: int = 10, subject: str = "key:a") -> Charge:
    return Charge(subject, "tokens", limit, cost)


async def test_all_charges_are_counted_or_none(store: Store) -> None:
    one = store.member()
    assert not (await one.take([requests(), tokens(cost=101)])).granted
    taken = await one.take([requests(), tokens()])
    assert (taken.granted, taken.readings) == (True, ((0, 0, 0), (0, 0, 0)))
    store.clock.sleep(7.5)
    again = await one.take([requests(), tokens()])
    assert (again.minute, again.readings) == (taken.minute, ((0, 1, 7.5), (0, 10, 7.5)))


async def test_who_counted_is_said(store: Store) -> None:
    assert (await store.member().take([requests()])).counters is store.member()


async def test_facts_reach_the_minute_of_the_call_and_never_go_below_zero(store: Store) -> None:
    one = store.member()
    taken = await one.take([tokens(cost=80)])
    name = tokens().name
    store.clock.sleep(60)
    one.settle(taken.minute, [(name, -50), ("key:unknown:tokens", 5)])
    one.settle(taken.minute - 2, [(name, 1000)])
    await store.settled()
    assert await reading(one, name) == (30, 0, 0)
    assert store.kept() == 1
    await one.take([tokens(cost=1)])
    one.settle(taken.minute, [(name, -1000)])
    await store.settled()
    assert await reading(one, name) == (0, 1, 0)
    store.clock.sleep(60)
    one.settle(taken.minute, [(name, 7)])
    await store.settled()
    assert await reading(one, name) == (1, 0, 0)


async def test_what_was_counted_two_minutes_ago_counts_no_more(store: Store) -> None:
    one = store.member()
    for used in ((0, 0, 0), (90, 0, 0), (10, 0, 0)):
        assert (await one.take([tokens(cost=90 if not any(used) else 10)])).readings == (used,)
        store.clock.sleep(60)
    store.clock.sleep(60)
    assert await reading(one, tokens().name) == (0, 0, 0)


@pytest.mark.parametrize("store", ["memory", "workers"], indirect=True)  # Redis forgets by its own clock
async def test_counters_that_nobody_used_for_two_minutes_are_forgotten(store: Store) -> None:
    one = store.member()
    await one.take([requests(subject=f"key:{number}") for number in range(50)])
    full = store.kept()
    store.clock.sleep(120)
    await one.take([requests(subject="key:new")])
    assert (full, store.kept()) == (50, 1)


async def test_names_of_any_length_are_kept_apart(store: Store) -> None:
    one = store.member()
    long = "project:" + "x" * 2000
    assert (await one.take([requests(1, subject=long), tokens(1, 1, subject=long)])).granted
    assert (await one.take([requests(1, subject=long + "y")])).granted
    assert not (await one.take([requests(1, subject=long)])).granted


async def test_many_at_once_never_get_more_than_the_limit(store: Store) -> None:
    taken = await asyncio.gather(*(store.member().take([tokens(cost=7)]) for _ in range(60)))
    assert sum(one.granted for one in taken) == 14


async def test_what_one_router_counts_counts_for_the_others(shared: Store) -> None:
    one, two = shared.member(0), shared.member(1)
    granted = [(await router.take([requests()])).granted for router in (one, two, one, two)]
    assert granted == [True, True, True, False]
    assert (await two.take([requests(subject="key:b")])).granted


async def test_one_router_puts_right_what_another_counted(shared: Store) -> None:
    taken = await shared.member(0).take([tokens(cost=80)])
    shared.member(1).settle(taken.minute, [(tokens().name, -50)])
    await shared.settled()
    assert await reading(shared.member(2), tokens().name) == (0, 30, 0)


async def test_many_at_several_routers_never_get_more_than_the_limit(shared: Store) -> None:
    taken = await asyncio.gather(*(shared.member(number % 4).take([tokens(cost=7)]) for number in range(60)))
    assert sum(one.granted for one in taken) == 14
