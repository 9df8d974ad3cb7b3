"""A rolling restart of every service behind Envoy, under load, as docs/operations.md and Kubernetes do it.

Usage, adapters, routers and edges in this order. A new replica has an address of its own and is ready before the old
one leaves its name; a router is gone before it comes back; the one usage service is away for a moment. What has left
its name is stopped once nobody has a connection to it; in Kubernetes `preStop` waits for longer than connections last.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support.collector import Receiver
from support.envoy import Envoy, program, until
from support.fleet import ADAPTERS, HOSTS, Fleet
from support.front_load import CASE, OTHER, Load, answers, load, told
from support.ledger import wait_until
from support.replay import Upstream

_, SECOND, THIRD = HOSTS
LOOKS = 10
"""In a row, at which a replica without a connection counts as left."""
ANSWERED = "select request_id from requests where status = 'ok'"


def leave(fleet: Fleet, client: str, service: str, host: str) -> None:
    """A replica leaves its name, is left by its clients, and is stopped.

    A client whose connection has reached its age makes it anew at once, if it has asked for the name a moment ago; on a
    busy machine that takes a while, in which it has none. It has left once it has one to a replica of the name instead.
    """
    fleet.leave(service, host)
    others = set(fleet.hosts(service)) - {host}
    looks = 0

    def left() -> bool:
        nonlocal looks
        looks = looks + 1 if all(links and links <= others for links in fleet.linked(client, service)) else 0
        return looks == LOOKS

    until(left, f"every {client} has a connection to {others} instead of {host}")
    fleet.stop(service, host)


def restart_adapters(fleet: Fleet, service: str, spare: str) -> None:
    for host in fleet.hosts(service):
        fleet.start(service, spare)
        leave(fleet, "router", service, host)
        spare = host


def restart_routers(fleet: Fleet, front: Envoy, spare: str) -> None:
    """Each comes back at another address, as a pod does, and the next one goes as soon as it is ready."""
    for host in fleet.hosts("router"):
        leave(fleet, "edge", "router", host)
        fleet.start("router", spare)
        front.wait_healthy("routers", fleet.addresses("router", *fleet.hosts("router")))
        spare = host


def restart_edges(fleet: Fleet, front: Envoy, spare: str) -> None:
    for host in fleet.hosts("edge"):
        fleet.start("edge", spare)
        fleet.leave("edge", host)
        front.wait_healthy("edges", fleet.addresses("edge", *(set(fleet.hosts("edge")) - {host})))
        fleet.stop("edge", host)
        spare = host


@pytest.fixture
def fleet(upstream: Upstream, spans: tuple[Receiver, str], tmp_path: Path) -> Iterator[Fleet]:
    """A fleet of its own, whose routers renew connections as well, with two of all but the second adapter."""
    program()  # skips before anything is started
    upstream.reset(script=answers)
    with Fleet(tmp_path, upstream.url, spans[1], renew=("router", *ADAPTERS)) as running:
        running.start(ADAPTERS[0], SECOND)
        yield running


async def test_a_rolling_restart_of_every_service_loses_no_call_and_counts_each_once(
    fleet: Fleet, tmp_path: Path
) -> None:
    before = {one.process.pid for one in fleet.running.values()}
    async with AsyncExitStack() as stack:
        front = stack.enter_context(fleet.front(tmp_path / "envoy"))
        seen: list[Load] = [await stack.enter_async_context(load(front.address, 2, case)) for case in (CASE, OTHER)]

        async def then(what: Callable[..., None], *arguments: object) -> None:
            await asyncio.to_thread(what, *arguments)
            await seen[0].more(20)
            for one in seen:
                told(f"after {what.__name__}", one)

        await seen[0].more(20)
        await then(fleet.stop_ledger)
        await then(fleet.start_ledger)
        await then(restart_adapters, fleet, ADAPTERS[0], THIRD)
        await then(restart_adapters, fleet, ADAPTERS[1], THIRD)
        await then(restart_routers, fleet, front, THIRD)
        await then(restart_edges, fleet, front, THIRD)
    assert before.isdisjoint(one.process.pid for one in fleet.running.values())
    assert [one.failed(over) for one in seen for over in one.outcomes] == [{}] * 4
    answered = Counter(request_id for one in seen for request_id in one.answered)
    rows = wait_until(
        fleet.ledger, lambda rows: answered.keys() <= {row["request_id"] for row in rows}, ANSWERED, seconds=60
    )
    counted = Counter(row["request_id"] for row in rows)
    assert {one: counted[one] for one in answered} == answered
