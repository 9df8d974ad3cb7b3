"""Replicas that die, leave, join and dawdle while calls go through Envoy."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
from support.envoy import Envoy, until
from support.fleet import HOSTS, Fleet
from support.front_load import answers, failures, load, told
from support.replay import Upstream

Over = Literal["http", "grpc"]
SERVICES: dict[str, Over] = {"edge": "http", "router": "grpc"}
EACH = pytest.mark.parametrize(("service", "over"), SERVICES.items(), ids=list(SERVICES))
FIRST, SECOND, THIRD = HOSTS
STANDS, RUNS = 0.3, 0.02
"""Seconds for which a slow replica stands still and runs, in turn."""
CUT = {"cut", "RemoteProtocolError", "ReadError"}
"""How streams end that began and were not finished."""


@pytest.fixture
def front(plain: Envoy, fleet: Fleet, upstream: Upstream) -> Iterator[Envoy]:
    """Envoy before two well replicas of each; they are two and well again afterwards."""
    upstream.reset(script=answers)
    yield plain
    for service in SERVICES:
        for host in (FIRST, SECOND):
            if f"{service}@{host}" not in fleet.running:
                fleet.start(service, host)
        plain.wait_healthy(f"{service}s", fleet.addresses(service))


def served(front: Envoy, address: str) -> int:
    """How many calls a replica has answered, by the access log."""
    return sum(line["upstream"] == address and line["status"] == 200 for line in front.lines())


@EACH
async def test_a_killed_replica_fails_at_most_the_calls_that_it_had(
    service: str, over: Over, front: Envoy, fleet: Fleet
) -> None:
    callers = 3
    async with load(front.address, callers) as seen:
        await seen.more(10)
        await asyncio.to_thread(fleet.stop, service, FIRST, signal.SIGKILL)
        await asyncio.to_thread(front.wait_healthy, f"{service}s", fleet.addresses(service, SECOND))
        seen.mark()
        await seen.more(60)
    told(f"{service} killed", seen)
    assert sum(seen.failed(over).values()) <= 2 * callers, "at most what each caller had under way"
    assert failures(seen.later[over]) == {}, "once it is known to be dead, nothing fails"
    assert seen.later[over]["answered"] > 0


@EACH
async def test_a_replica_that_leaves_its_name_and_is_stopped_then_fails_no_call(
    service: str, over: Over, front: Envoy, fleet: Fleet
) -> None:
    async with load(front.address) as seen:
        await seen.more(10)
        fleet.leave(service, FIRST)
        await asyncio.to_thread(front.wait_healthy, f"{service}s", fleet.addresses(service, SECOND))
        await asyncio.to_thread(fleet.stop, service, FIRST)
        await seen.more(30)
    told(f"{service} left and stopped", seen)
    assert seen.failed(over) == {}


@EACH
async def test_a_replica_stopped_without_notice_cuts_no_call_and_no_retry_is_in_vain(
    service: str, over: Over, front: Envoy, fleet: Fleet
) -> None:
    callers = 3
    in_vain = f"cluster.{service}s.upstream_rq_retry_limit_exceeded"
    before = front.stat(in_vain)
    async with load(front.address, callers) as seen:
        await seen.more(10)
        await asyncio.to_thread(fleet.stop, service, FIRST)
        await asyncio.to_thread(front.wait_healthy, f"{service}s", fleet.addresses(service, SECOND))
        seen.mark()
        await seen.more(30)
    told(f"{service} stopped without notice", seen)
    assert front.stat(in_vain) == before, "each retry found the replica that is well"
    assert not seen.failed(over).keys() & CUT
    assert sum(seen.failed(over).values()) <= 2 * callers, "at most what was sent as a connection was closed"
    assert failures(seen.later[over]) == {}


@contextmanager
def slowed(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """In here the process stands still for most of the time."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(RUNS):
            process.send_signal(signal.SIGSTOP)
            over.wait(STANDS)
            process.send_signal(signal.SIGCONT)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@EACH
async def test_a_slow_replica_fails_no_call_and_gets_fewer(
    service: str, over: Over, front: Envoy, fleet: Fleet
) -> None:
    slow, quick = (min(fleet.addresses(service, host)) for host in (FIRST, SECOND))
    async with load(front.address, callers=3) as seen:
        await seen.more(10)
        with slowed(fleet.running[f"{service}@{FIRST}"].process):
            before = {address: served(front, address) for address in (slow, quick)}
            await seen.more(40)
            shares = {address: served(front, address) - before[address] for address in (slow, quick)}
    told(f"{service} slow", seen)
    print(f"shares: {shares}")
    assert seen.failed(over) == {}
    assert 0 < shares[slow] < shares[quick]


@EACH
async def test_a_replica_that_joins_takes_its_share(service: str, over: Over, front: Envoy, fleet: Fleet) -> None:
    async with load(front.address) as seen:
        await seen.more(10)
        await asyncio.to_thread(fleet.start, service, THIRD)
        await asyncio.to_thread(front.wait_healthy, f"{service}s", fleet.addresses(service, *HOSTS))
        (address,) = fleet.addresses(service, THIRD)
        await asyncio.to_thread(until, lambda: served(front, address) >= 10, f"{address} has served ten calls")
        fleet.leave(service, THIRD)
        await asyncio.to_thread(front.wait_healthy, f"{service}s", fleet.addresses(service))
        await asyncio.to_thread(fleet.stop, service, THIRD)
    told(f"{service} joined and left", seen)
    assert seen.failed(over) == {}
