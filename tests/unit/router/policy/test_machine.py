"""What is the workers' own about limits that they share, whatever becomes of a worker or of the store.

See `test_counters` for the counting.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
from aigateway_common import metrics
from aigateway_common.errors import GatewayError
from aigateway_router.callers import Caller
from aigateway_router.policy.concurrency import Gate
from aigateway_router.policy.counters import Charge
from aigateway_router.policy.limits import Limits
from aigateway_router.policy.machine import Machine, open_store
from aigateway_router.settings import CallLimits, ConcurrencyLimit, Share
from support.clock import Clock

OTHER = """
import asyncio, sys
from pathlib import Path
from aigateway_router.policy.counters import Charge
from aigateway_router.policy.machine import Machine, open_store
from aigateway_router.settings import Share

folder, worker, takes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
machine = Machine(Share(worker, 4, folder), open_store(folder))
charge, granted = Charge("key:a", "requests", 1000, 1), 0
async def main():
    global granted
    for number in range(takes) if takes else iter(int, 1):
        granted += (await machine.counters.take([charge])).granted
        machine.places.enter([("key:a", 3)])
        if number == 0:
            print("begun", flush=True)
asyncio.run(main())
print(granted)
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[lmdb.Environment]:
    opened = open_store(tmp_path / "limits")
    yield opened
    opened.close()


def workers(store: lmdb.Environment, count: int = 2, clock: Clock | None = None) -> list[Machine]:
    return [Machine(Share(number, count, Path("unused")), store, clock or Clock()) for number in range(count)]


def requests(limit: int = 3, cost: int = 1, subject: str = "key:a") -> Charge:
    return Charge(subject, "requests", limit, cost)


def other(folder: Path, worker: int, takes: int) -> subprocess.Popen[str]:
    """A worker in a process of its own, which takes so many times, or for ever."""
    command = [sys.executable, "-c", OTHER, str(folder), str(worker), str(takes)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def test_calls_at_the_same_time_are_limited_over_all_workers(store: lmdb.Environment) -> None:
    one, two = workers(store)
    caller = Caller(key_id="a", project="p", key_limits=CallLimits(concurrent_calls=3))
    first, second = (Limits(worker.counters, worker.places) for worker in (one, two))
    holds = [await limits.admit(caller, None) for limits in (first, second, second)]
    for limits in (first, second):
        with pytest.raises(GatewayError, match="3 calls at the same time"):
            await limits.admit(caller, None)
    holds.pop().end()
    holds.append(await first.admit(caller, None))
    for hold in holds:
        hold.end()
    assert store.stat()["entries"] == 0


async def test_a_worker_that_starts_again_holds_nothing_and_the_others_hold_what_they_did(
    store: lmdb.Environment,
) -> None:
    one, two = workers(store)
    one.places.enter([("key:a", 9)])
    one.places.enter([("key:b", 9)])
    two.places.enter([("key:a", 9)])
    again = Machine(Share(0, 2, Path("unused")), store)
    assert (again.places.elsewhere("key:a"), again.places.elsewhere("key:b")) == (1, 0)
    assert two.places.elsewhere("key:a") == 0


async def test_several_processes_together_never_get_more_than_the_limit(tmp_path: Path) -> None:
    running = [other(tmp_path, number, 600) for number in range(3)]
    said = [process.communicate(timeout=60)[0].split() for process in running]
    assert [word for word, _ in said] == ["begun"] * 3
    assert sum(int(granted) for _, granted in said) == 1000


async def test_workers_killed_at_any_moment_leave_the_store_whole_and_free(tmp_path: Path) -> None:
    for number in range(12):
        killed = other(tmp_path, number % 3, 0)
        assert killed.stdout is not None
        assert killed.stdout.readline() == "begun\n"
        await asyncio.sleep(0.001 * number)
        killed.send_signal(signal.SIGKILL)
        killed.communicate(timeout=10)
    store = open_store(tmp_path)
    last = Machine(Share(3, 4, tmp_path), store)
    assert last.places.elsewhere("key:a") == 3
    for number in range(3):
        Machine(Share(number, 4, tmp_path), store)
    assert last.places.elsewhere("key:a") == 0
    assert (await last.counters.take([requests(1, subject="key:b")])).granted
    store.close()


async def test_while_the_store_takes_nothing_each_worker_counts_for_itself(tmp_path: Path) -> None:
    store = open_store(tmp_path / "small", size=128 * 1024)
    one, two = workers(store)
    for number in range(10_000):
        await one.counters.take([requests(subject=f"key:{number:0100}")])
        if not metrics.REGISTRY.get_sample_value("aigateway_shared_limits_available"):
            break
    assert metrics.REGISTRY.get_sample_value("aigateway_shared_limits_available") == 0
    caller = Caller(key_id="z" * 100, project="p", key_limits=CallLimits(requests_per_minute=2, concurrent_calls=1))
    for worker in (one, two):
        limits = Limits(worker.counters, worker.places)
        hold = await limits.admit(caller, None)
        with pytest.raises(GatewayError, match="1 call at the same time"):
            await limits.admit(caller, None)
        hold.end()
        (await limits.admit(caller, None)).end()
        with pytest.raises(GatewayError, match="2 calls a minute"):
            await limits.admit(caller, None)
    store.close()


def gates(store: lmdb.Environment, most: int, queued: int = 10) -> list[Gate]:
    limit = ConcurrencyLimit(max_in_flight=most, max_queued=queued, queue_seconds=60)
    return [Gate("acme", limit, Clock(), worker.places) for worker in workers(store)]


async def test_a_provider_is_given_no_more_calls_by_all_workers_than_its_limit(store: lmdb.Environment) -> None:
    one, two = gates(store, most=2, queued=0)
    await one.enter("p", 0)
    await two.enter("p", 0)
    for gate in (one, two):
        with pytest.raises(GatewayError, match="no more than 2 calls"):
            await gate.enter("p", 60)
    one.leave()
    await two.enter("p", 0)
    assert (one.in_flight, two.in_flight) == (0, 2)


async def test_a_place_that_one_worker_leaves_goes_to_those_who_wait_at_another(store: lmdb.Environment) -> None:
    one, two = gates(store, most=1)
    await one.enter("p", 0)
    waiting = asyncio.create_task(two.enter("p", 60))
    await asyncio.sleep(0)
    one.leave()
    with pytest.raises(GatewayError):  # who comes later does not go before one that waits elsewhere
        await one.enter("p", 0)
    await asyncio.wait_for(waiting, 10)
    assert (one.in_flight, two.in_flight, two.queued) == (0, 1, 0)
    two.leave()
    assert store.stat()["entries"] == 0


async def test_no_worker_keeps_all_places_to_those_who_wait_with_it(store: lmdb.Environment) -> None:
    one, two = gates(store, most=1, queued=100)
    served: list[str] = []

    async def call(gate: Gate, name: str) -> None:
        await gate.enter("p", 60)
        served.append(name)
        await asyncio.sleep(0)
        gate.leave()

    busy = [asyncio.create_task(call(one, "one")) for _ in range(80)]
    await asyncio.sleep(0)
    quiet = [asyncio.create_task(call(two, "two")) for _ in range(3)]
    await asyncio.wait_for(asyncio.gather(*busy, *quiet), 60)
    last = len(served) - served[::-1].index("two")
    assert last < 60, "the few at one worker were served while many still waited at the other"
    assert (one.in_flight, two.in_flight, store.stat()["entries"]) == (0, 0, 0)
