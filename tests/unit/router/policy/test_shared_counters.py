"""What is Redis's own about limits in it: its clock, and what becomes of them while it is away. See `test_counters`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from aigateway_common import metrics
from aigateway_common.errors import GatewayError
from aigateway_router.callers import Caller
from aigateway_router.policy import shared_counters
from aigateway_router.policy.counters import Charge
from aigateway_router.policy.limits import Estimate, Limits
from aigateway_router.policy.shared_counters import PREFIX, SharedCounters
from aigateway_router.server import RouterComponent
from aigateway_router.settings import CallLimits, RouterSettings
from redis.asyncio import Redis
from support.redis import RedisServer, running


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running() as started:
        yield started


@pytest.fixture
async def counters(server: RedisServer) -> AsyncIterator[list[SharedCounters]]:
    """Two routers' counters, over an empty Redis."""
    async with Redis.from_url(server.url) as client:
        await client.flushall()
    both = [SharedCounters(server.url), SharedCounters(server.url)]
    yield both
    for one in both:
        await one.stop()


def requests(limit: int = 3, cost: int = 1, subject: str = "key:a") -> Charge:
    return Charge(subject, "requests", limit, cost)


def tokens(limit: int = 100, cost: int = 10, subject: str = "key:a") -> Charge:
    return Charge(subject, "tokens", limit, cost)


async def test_a_counter_ends_by_itself_some_time_after_its_minutes(
    counters: list[SharedCounters], server: RedisServer
) -> None:
    await counters[0].take([tokens()])
    async with Redis.from_url(server.url) as client:
        assert 120 < await client.ttl(PREFIX + tokens().name) <= 180


async def test_counters_of_passed_minutes_are_dropped(counters: list[SharedCounters], server: RedisServer) -> None:
    taken = await counters[0].take([tokens()])
    name = PREFIX + tokens().name
    async with Redis.from_url(server.url) as client:
        await client.hset(name, mapping={str(taken.minute - 2): 90, str(taken.minute - 30): 90})
        assert (await counters[1].take([tokens()])).granted
        assert all(int(field) >= taken.minute for field in await client.hkeys(name))


async def test_while_redis_is_away_each_router_counts_for_itself(
    server: RedisServer, counters: list[SharedCounters], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = [Limits(one) for one in counters]
    caller = Caller(key_id="a", key_limits=CallLimits(requests_per_minute=2, tokens_per_minute=100))
    await limits[0].admit(caller, Estimate(1, 1))
    server.stop()
    try:
        for own in limits:
            for _ in range(2):
                hold = await own.admit(caller, Estimate(10, 10))
                hold.used = 5
                hold.end()
            with pytest.raises(GatewayError, match="2 calls a minute"):
                await own.admit(caller, Estimate(1, 1))
        assert metrics.REGISTRY.get_sample_value("aigateway_shared_limits_available") == 0
        assert not counters[0]._settling
    finally:
        server.start()
    monkeypatch.setattr(shared_counters, "PAUSE", 0.0)
    for one in counters:
        one._away_until = 0.0
    granted = [(await own.take([requests(2)])).granted for own in (*counters, counters[0])]
    assert granted == [True, True, False]
    assert metrics.REGISTRY.get_sample_value("aigateway_shared_limits_available") == 1


async def test_a_redis_that_never_answers_costs_a_moment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    connections = 0

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await _reader.read()
        writer.close()

    monkeypatch.setattr(shared_counters, "PATIENCE", 0.05)
    monkeypatch.setattr(shared_counters, "PAUSE", 60.0)
    listening = await asyncio.start_server(silent, "127.0.0.1", 0)
    counters = SharedCounters(f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    assert [(await counters.take([requests()])).granted for _ in range(4)] == [True, True, True, False]
    assert connections == 1
    await counters.stop()
    listening.close()
    await listening.wait_closed()


async def test_a_changed_password_is_shown_when_a_connection_is_made_anew(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_counters, "PATIENCE", 30.0)
    old, new = (server.url.replace("://", f"://:{password}@") for password in ("old-password", "new-password"))
    async with Redis.from_url(server.url) as operator:
        await operator.flushall()
        try:
            await operator.config_set("requirepass", "old-password")
            one = SharedCounters(old)
            counted = [(await one.take([requests(9)])).counters is one]
            await operator.config_set("requirepass", "new-password")
            one.log_in("redis://:another@elsewhere")
            one.log_in(new)
            counted.append((await one.take([requests(9)])).counters is one)
            await operator.client_kill_filter(_type="normal", skipme=True)
            taken = await one.take([requests(9)])
            await one.stop()
        finally:
            await operator.config_set("requirepass", "")
    assert counted == [True, True]
    assert (taken.counters, taken.readings[0].current) == (one, 2)


async def test_a_router_takes_the_login_and_no_other_redis(tmp_path: Path) -> None:
    settings = RouterSettings(outbox_dir=tmp_path, redis_url="redis://:one@here")
    component = RouterComponent(settings, providers={}, usage=None)
    assert component._shared is not None
    shown = []
    for url in ("redis://me:two@here", "redis://:three@there", None):
        component.reload(replace(settings, redis_url=url))
        shown.append(component._shared._login.get_credentials())
    await component._shared.stop()
    assert shown == [("me", "two")] * 3
