"""Replicas of a provider's adapter that join, leave, die and dawdle under load, and an adapter that is all gone."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from support.envoy import Envoy, until
from support.fleet import HOSTS, KEY, Fleet, host_of
from support.front_load import CASE, OTHER, answers, failures, load, told
from support.replay import Upstream

FIRST, SECOND, THIRD = HOSTS
OPENAI, ANTHROPIC = "provider:openai", "provider:anthropic"
CALLERS = 3
BODY = {"model": CASE.name, "messages": [{"role": "user", "content": "Hi"}]}
BEARER = {"authorization": f"Bearer {KEY}"}


def scale(front: Envoy, fleet: Fleet, *hosts: str) -> None:
    """Have replicas of the adapter of OpenAI on `hosts` and nowhere else, and every router know them."""
    running = fleet.hosts(OPENAI)
    for host in set(running) - set(hosts):
        fleet.leave(OPENAI, host)
        fleet.stop(OPENAI, host)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: fleet.start(OPENAI, host), sorted(set(hosts) - set(running))))
    fleet.resolve(OPENAI, *hosts)
    known(front, fleet, *hosts)


def known(front: Envoy, fleet: Fleet, *hosts: str) -> None:
    """Wait until every router has a connection to each of these adapters, which calls make."""

    def linked() -> bool:
        httpx.post(f"{front.http}/v1/chat/completions", json=BODY, headers=BEARER)
        return all(found == set(hosts) for found in fleet.linked("router", OPENAI))

    until(linked, f"the routers know the adapters on {hosts}")


@pytest.fixture
def front(plain: Envoy, fleet: Fleet, upstream: Upstream) -> Envoy:
    """Envoy before one replica of the adapter of OpenAI."""
    upstream.reset(script=answers)
    scale(plain, fleet, FIRST)
    return plain


@pytest.fixture
def three(plain: Envoy, fleet: Fleet, upstream: Upstream) -> Envoy:
    """Envoy before three replicas of the adapter of OpenAI."""
    upstream.reset(script=answers)
    scale(plain, fleet, *HOSTS)
    return plain


@pytest.fixture(scope="module", autouse=True)
def as_before(plain: Envoy, fleet: Fleet) -> Iterator[None]:
    yield
    scale(plain, fleet, FIRST)


async def test_an_adapter_scaled_from_one_to_three_takes_its_load_and_touches_no_other(
    front: Envoy, fleet: Fleet, upstream: Upstream
) -> None:
    other = fleet.running[f"{ANTHROPIC}@{FIRST}"].process
    async with load(front.address, CALLERS) as seen, load(front.address, 1, OTHER) as beside:
        await seen.more(10)
        await asyncio.to_thread(scale, front, fleet, *HOSTS)
        begun = len(upstream.requests)
        await seen.more(60)
        shares = Counter(host_of(sent) for sent in upstream.requests[begun:] if sent.path == CASE.path)
    told("adapter scaled", seen)
    told("adapter scaled", beside)
    print(f"shares: {dict(shares)}")
    assert seen.failed("http") == seen.failed("grpc") == {}
    assert set(shares) == set(HOSTS)
    assert min(shares.values()) >= shares.total() // 6
    assert fleet.running[f"{ANTHROPIC}@{FIRST}"].process is other
    assert other.poll() is None
    assert beside.failed("http") == beside.failed("grpc") == {}


async def test_a_killed_adapter_fails_at_most_the_streams_that_it_had(three: Envoy, fleet: Fleet) -> None:
    async with load(three.address, CALLERS) as seen:
        await seen.more(10)
        await asyncio.to_thread(fleet.stop, OPENAI, FIRST, signal.SIGKILL)
        await asyncio.to_thread(known, three, fleet, SECOND, THIRD)
        seen.mark()
        await seen.more(60)
    told("adapter killed", seen)
    for over in seen.outcomes:
        assert sum(seen.failed(over).values()) <= CALLERS, "what had not begun is made again elsewhere"
        assert failures(seen.later[over]) == {}
        assert seen.later[over]["answered"] > 0


@pytest.mark.parametrize("noticed", [True, False], ids=["after leaving its name", "without notice"])
async def test_a_stopped_adapter_fails_no_call(noticed: bool, three: Envoy, fleet: Fleet) -> None:
    async with load(three.address, CALLERS) as seen:
        await seen.more(10)
        if noticed:
            fleet.leave(OPENAI, FIRST)
        await asyncio.to_thread(fleet.stop, OPENAI, FIRST)
        await seen.more(60)
    told("adapter stopped", seen)
    assert seen.failed("http") == seen.failed("grpc") == {}


async def test_an_adapter_that_stands_still_for_a_while_fails_no_call(three: Envoy, fleet: Fleet) -> None:
    slow = fleet.running[f"{OPENAI}@{FIRST}"].process
    async with load(three.address, CALLERS) as seen, load(three.address, 1, OTHER) as beside:
        await seen.more(10)
        slow.send_signal(signal.SIGSTOP)
        try:
            await beside.more(20)
        finally:
            slow.send_signal(signal.SIGCONT)
        await seen.more(30)
    told("adapter stood still", seen)
    told("adapter stood still", beside)
    assert seen.failed("http") == seen.failed("grpc") == {}
    assert beside.failed("http") == beside.failed("grpc") == {}


async def test_without_any_adapter_of_a_provider_the_others_go_on_and_it_recovers(front: Envoy, fleet: Fleet) -> None:
    async with (
        load(front.address, CALLERS, OTHER) as beside,
        httpx.AsyncClient(base_url=front.http, headers=BEARER, timeout=30) as client,
    ):
        await beside.more(10)
        await asyncio.to_thread(fleet.stop, OPENAI, FIRST, signal.SIGKILL)
        beside.mark()
        got = await client.post("/v1/chat/completions", json=BODY)
        assert (got.status_code, got.json()["error"]["code"]) == (503, "unavailable")
        assert int(got.headers["retry-after"]) > 0
        await beside.more(30)
        await asyncio.to_thread(scale, front, fleet, FIRST)
        got = await client.post("/v1/chat/completions", json=BODY)
        assert got.status_code == 200, got.text
    told("no adapter of another provider", beside)
    assert beside.failed("http") == beside.failed("grpc") == {}
    assert beside.later["http"]["answered"] > 0
