"""Probing of providers that are down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aigateway_common.errors import GatewayError
from aigateway_router.policy.health import Prober, ProviderHealth
from structlog.testing import capture_logs
from support.clock import Clock

DOWN = GatewayError("UPSTREAM_UNREACHABLE", "acme cannot be reached", details={"provider": "acme"})
ROUNDS = 20
"""Rounds of the event loop after which everything that could happen has."""


def unhealthy() -> ProviderHealth:
    health = ProviderHealth(Clock())
    for _ in range(5):
        health.failed(DOWN)
    return health


async def settle() -> None:
    for _ in range(ROUNDS):
        await asyncio.sleep(0)


class Bench:
    """A prober whose pauses end when the test says so, and whose probes end as the test says."""

    def __init__(self, *, patience: float = 60.0, **providers: ProviderHealth) -> None:
        self.pauses: list[float] = []
        self.probed: list[str] = []
        self.results: list[Exception | None] = []
        """What becomes of the next probes; one beyond them hangs."""
        self._pauses_over = asyncio.Semaphore(0)
        self.prober = Prober(providers, self._probe, sleep=self._sleep, patience=patience)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await self._pauses_over.acquire()

    async def _probe(self, provider: str) -> None:
        self.probed.append(provider)
        if not self.results:
            await asyncio.Event().wait()
        result = self.results.pop(0)
        if result is not None:
            raise result

    async def end_pause(self) -> None:
        await settle()
        self._pauses_over.release()
        await settle()


@pytest.fixture(autouse=True)
async def _no_task_is_left() -> AsyncIterator[None]:
    yield
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("probing of")] == []


async def test_a_provider_that_is_down_is_probed_ever_more_rarely_until_it_answers() -> None:
    acme = unhealthy()
    bench = Bench(acme=acme)
    bench.prober.start()
    bench.results = [DOWN] * 6 + [None]
    for _ in range(7):
        assert acme.state() == "unhealthy"
        await bench.end_pause()
    assert bench.pauses == [5, 10, 20, 40, 60, 60, 60]
    assert bench.probed == ["acme"] * 7
    assert acme.state() == "degraded"
    assert acme.answered_at is not None
    await bench.end_pause()
    assert len(bench.probed) == len(bench.pauses) == 7


async def test_a_provider_that_is_well_is_never_probed() -> None:
    well, degraded, unknown = (ProviderHealth(Clock()) for _ in range(3))
    well.succeeded()
    degraded.failed(DOWN)
    bench = Bench(well=well, degraded=degraded, unknown=unknown)
    bench.prober.start()
    for provider in ("well", "degraded", "unknown"):
        bench.prober.notice(provider)
    await settle()
    assert bench.pauses == []


async def test_probing_begins_as_soon_as_a_failure_makes_a_provider_unhealthy() -> None:
    acme = ProviderHealth(Clock())
    bench = Bench(acme=acme)
    bench.prober.start()
    for failures in range(1, 8):
        acme.failed(DOWN)
        bench.prober.notice("acme")
        await settle()
        assert bench.pauses == ([5] if failures >= 5 else [])
    await bench.prober.stop()


async def test_a_provider_is_probed_once_at_a_time_and_providers_do_not_wait_for_each_other() -> None:
    bench = Bench(acme=unhealthy(), other=unhealthy())
    bench.prober.start()
    await bench.end_pause()
    assert bench.probed == ["acme"]
    bench.prober.notice("acme")
    await bench.end_pause()
    assert bench.probed == ["acme", "other"]
    assert bench.pauses == [5, 5]
    await bench.prober.stop()


async def test_a_provider_that_a_call_found_well_is_not_probed_any_more() -> None:
    acme = unhealthy()
    bench = Bench(acme=acme)
    bench.prober.start()
    await settle()
    acme.succeeded()
    await bench.end_pause()
    assert bench.probed == []


async def test_one_that_is_down_again_is_probed_anew() -> None:
    acme = unhealthy()
    bench = Bench(acme=acme)
    bench.results = [DOWN, None, None]
    bench.prober.start()
    await bench.end_pause()
    await bench.end_pause()
    assert acme.state() == "degraded"
    for _ in range(5):
        acme.failed(DOWN)
        bench.prober.notice("acme")
    await bench.end_pause()
    assert bench.pauses == [5, 10, 5]
    assert acme.state() == "degraded"


async def test_a_refusal_of_the_providers_own_is_an_answer() -> None:
    acme = unhealthy()
    bench = Bench(acme=acme)
    details = {"provider": "acme", "upstream_status": "429"}
    bench.results = [GatewayError("UPSTREAM_RATE_LIMITED", "slow down", details=details)]
    bench.prober.start()
    await bench.end_pause()
    assert acme.state() == "degraded"


@pytest.mark.parametrize(
    "error",
    [
        GatewayError("DEADLINE_EXCEEDED", "the deadline of the call passed"),
        GatewayError("UPSTREAM_AUTH", "wrong key", details={"upstream_status": "401"}),
        GatewayError("UPSTREAM_ERROR", "oops", details={"upstream_status": "500"}),
    ],
)
async def test_other_failures_are_no_answer(error: GatewayError) -> None:
    acme = unhealthy()
    bench = Bench(acme=acme)
    bench.results = [error]
    bench.prober.start()
    await bench.end_pause()
    assert acme.state() == "unhealthy"
    assert bench.pauses == [5, 10]
    await bench.prober.stop()


async def test_a_probe_that_hangs_is_given_up() -> None:
    acme = unhealthy()
    bench = Bench(patience=0, acme=acme)
    bench.prober.start()
    await bench.end_pause()
    assert bench.pauses == [5, 10]
    assert acme.last_error == "`acme` did not answer within 0 seconds"
    await bench.prober.stop()


async def test_a_fault_of_the_gateway_is_logged_and_probing_goes_on() -> None:
    acme = unhealthy()
    bench = Bench(acme=acme)
    bench.results = [KeyError("acme"), None]
    bench.prober.start()
    with capture_logs() as lines:
        await bench.end_pause()
    assert [line["event"] for line in lines] == ["a probe failed by a fault of the gateway"]
    assert acme.last_error == "acme cannot be reached"
    await bench.end_pause()
    assert acme.state() == "degraded"


async def test_once_stopped_nothing_is_under_way_and_nothing_begins() -> None:
    bench = Bench(acme=unhealthy(), other=unhealthy())
    bench.prober.start()
    await bench.end_pause()
    assert bench.probed == ["acme"]  # hangs, while the other pauses
    await bench.prober.stop()
    bench.prober.notice("acme")
    await settle()
    assert bench.pauses == [5, 5]
    await bench.prober.stop()


async def test_it_can_be_stopped_before_anything_began_and_started_again() -> None:
    acme = unhealthy()
    bench = Bench(acme=acme)
    await bench.prober.stop()
    bench.prober.start()
    await bench.prober.stop()
    bench.prober.start()
    bench.results = [None]
    await bench.end_pause()
    assert bench.probed == ["acme"]
    assert acme.state() == "degraded"
