"""Where limits are counted, one behind the other with the same interface: in memory, in the workers' LMDB, in Redis.

The clock is the test's for all of them. Redis goes by its own; here its scripts read a key that the test writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, Protocol

import lmdb
import redis
from aigateway_router.policy import shared_counters
from aigateway_router.policy.counters import Charge, Counters, MemoryCounters
from aigateway_router.policy.machine import Machine, open_store
from aigateway_router.policy.minutes import Reading
from aigateway_router.policy.places import OwnPlaces, Places
from aigateway_router.policy.shared_counters import PREFIX, SharedCounters
from aigateway_router.settings import Share
from typing_extensions import override

from support.clock import Clock

Kind = Literal["memory", "workers", "redis"]
KINDS: tuple[Kind, ...] = ("memory", "workers", "redis")
SHARED: tuple[Kind, ...] = ("workers", "redis")
MEMBERS = 4
START = 6000.0
"""Seconds, at the beginning of a minute."""
_TIME, _CLOCK = "redis.call('TIME')", "clock"


class Store(Protocol):
    """Where the limits of a gateway are counted."""

    clock: Clock

    def member(self, number: int = 0) -> Counters:
        """What one of the routers that share it counts with."""

    def places(self, number: int = 0) -> Places:
        """The places that router `number` gives out."""

    async def settled(self) -> None:
        """Returns once the facts that were told are counted."""

    def kept(self) -> int:
        """How many counters and places there are."""

    async def close(self) -> None:
        """Let go of it."""


async def reading(counters: Counters, name: str) -> Reading:
    """What counter `name` holds. Nothing is counted, since nothing fits."""
    subject, _, kind = name.rpartition(":")
    taken = await counters.take([Charge(subject, "tokens" if kind == "tokens" else "requests", 0, 1)])
    assert not taken.granted
    return taken.readings[0]


@asynccontextmanager
async def opened(kind: Kind, folder: Path, redis_url: str | None) -> AsyncIterator[Store]:
    """An empty store; `redis_url` is that of a Redis which is the test's alone for now."""
    store: Store
    match kind:
        case "memory":
            store = _Memory()
        case "workers":
            store = _Workers(folder)
        case "redis":
            assert redis_url is not None
            store = _Redis(redis_url)
    try:
        yield store
    finally:
        await store.close()


class _Memory:
    def __init__(self) -> None:
        self.clock = Clock(START)
        self._counters = MemoryCounters(self.clock)
        self._places = OwnPlaces()

    def member(self, number: int = 0) -> Counters:
        assert number == 0, "nobody shares the memory of a router"
        return self._counters

    def places(self, number: int = 0) -> Places:
        assert number == 0, "nobody shares the memory of a router"
        return self._places

    async def settled(self) -> None:
        pass

    def kept(self) -> int:
        return len(self._counters._counters) + len(self._places.held)

    async def close(self) -> None:
        pass


class _Workers:
    def __init__(self, folder: Path) -> None:
        self.clock = Clock(START)
        self.store: lmdb.Environment = open_store(folder)
        self._machines = [Machine(Share(number, MEMBERS, folder), self.store, self.clock) for number in range(MEMBERS)]

    def member(self, number: int = 0) -> Counters:
        return self._machines[number].counters

    def places(self, number: int = 0) -> Places:
        return self._machines[number].places

    async def settled(self) -> None:
        pass

    def kept(self) -> int:
        with self.store.begin() as transaction, transaction.cursor() as cursor:
            # All but the time of the last sweep.
            return sum(b":" in bytes(key) for key in cursor.iternext(values=False))

    async def close(self) -> None:
        self.store.close()


class _RedisClock(Clock):
    """Tells Redis what time it is."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(START)
        self._client = client
        self.sleep(0)

    @override
    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        whole, part = divmod(self.now, 1)
        with self._client.pipeline() as pipe:
            pipe.delete(_CLOCK)
            pipe.rpush(_CLOCK, int(whole), round(part * 1e6))
            pipe.execute()


class _Redis:
    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._client.flushall()
        self.clock: Clock = _RedisClock(self._client)
        self._members = [_timed(SharedCounters(url)) for _ in range(MEMBERS)]
        self._places = [OwnPlaces() for _ in range(MEMBERS)]

    def member(self, number: int = 0) -> Counters:
        return self._members[number]

    def places(self, number: int = 0) -> Places:
        return self._places[number]

    async def settled(self) -> None:
        await asyncio.gather(*(task for one in self._members for task in one._settling))

    def kept(self) -> int:
        counters = sum(1 for _ in self._client.scan_iter(f"{PREFIX}*"))
        return counters + sum(len(one.held) for one in self._places)

    async def close(self) -> None:
        for one in self._members:
            await one.stop()
        self._client.close()


def _timed(counters: SharedCounters) -> SharedCounters:
    """`counters` with the scripts that they have, but for the time."""
    counters._take = counters._redis.register_script(_by_clock(shared_counters._TAKE))
    counters._settle = counters._redis.register_script(_by_clock(shared_counters._SETTLE))
    return counters


def _by_clock(script: str) -> str:
    assert _TIME in script
    return script.replace(_TIME, f"redis.call('LRANGE', '{_CLOCK}', 0, 1)")
