"""Metrics at a real OTLP receiver: what a scrape of the same moment says, and nothing that disturbs anybody."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from aigateway_common.counting import Count, Level, Spread
from aigateway_common.otlp_metrics import MetricsExport
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.collector import Receiver, collector, text_of
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterator

FOREVER = 3600.0
Series = tuple[str, frozenset[tuple[str, str]]]


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    calls = Count(registry, "calls", "Calls.", ["status"])
    calls.add(("ok",), 3)
    calls.add(("other",))
    Level(registry, "in_flight", "Under way.").set((), 2)
    seconds = Spread(registry, "seconds", "Time.", (0.5, 1), ["hop"])
    for value in (0.1, 0.7, 0.9, 4.4):
        seconds.observe(("edge",), value)
    return registry


@pytest.fixture
def receiver() -> Iterator[tuple[Receiver, str]]:
    with collector() as (receiver, address):
        yield receiver, f"http://{address}"


@pytest.fixture
def nobody() -> Iterator[str]:
    """An endpoint that nobody listens at, held so that nobody will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def scraped(registry: CollectorRegistry) -> dict[Series, float]:
    """What `/metrics` says, but for the times at which series began."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def exported(metrics: dict[str, Any]) -> dict[Series, float]:
    """The same of what arrived."""
    found: dict[Series, float] = {}
    for name, metric in metrics.items():
        kind = metric.WhichOneof("data")
        for point in getattr(metric, kind).data_points:
            labels = frozenset(text_of(point.attributes).items())
            if kind != "histogram":
                found[name, labels] = point.as_double
                continue
            found |= {(f"{name}_count", labels): point.count, (f"{name}_sum", labels): point.sum}
            below = 0
            for bound, count in zip(
                [*(str(bound) for bound in point.explicit_bounds), "+Inf"], point.bucket_counts, strict=True
            ):
                below += count
                found[f"{name}_bucket", labels | {("le", bound)}] = below
    return found


async def test_what_is_exported_is_what_a_scrape_says(
    registry: CollectorRegistry, receiver: tuple[Receiver, str]
) -> None:
    export = MetricsExport("router", receiver[1], FOREVER, registry)
    await export.shutdown()

    (got,) = receiver[0].exports
    assert got.service == "aigateway-router"
    assert exported(got.metrics) == scraped(registry)
    assert set(got.metrics) == {"calls_total", "in_flight", "seconds"}
    assert got.metrics["calls_total"].sum.is_monotonic


async def test_exports_follow_each_other_and_are_of_one_process(
    registry: CollectorRegistry, receiver: tuple[Receiver, str]
) -> None:
    export = MetricsExport("", receiver[1], 0.01, registry)
    receiver[0].wait_requests("metrics", 3)
    await export.shutdown()

    first, second = receiver[0].exports[:2]
    assert first.service == "aigateway"
    assert first.resource == second.resource
    assert len(first.resource["service.instance.id"]) == 36
    times = [one.metrics["calls_total"].sum.data_points[0] for one in (first, second)]
    assert times[0].start_time_unix_nano == times[1].start_time_unix_nano
    assert times[0].time_unix_nano < times[1].time_unix_nano


async def test_the_end_is_soon_when_nobody_is_there(registry: CollectorRegistry, nobody: str) -> None:
    before = set(threading.enumerate())
    export = MetricsExport("edge", nobody, FOREVER, registry)
    (thread,) = (one for one in threading.enumerate() if one not in before and one.name == "otlp-metrics")
    await export.shutdown()

    assert not thread.is_alive()


async def test_an_export_that_hangs_is_cut_off(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("aigateway_common.otlp.EXPORT_TIMEOUT", 60)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        export = MetricsExport("edge", f"http://127.0.0.1:{silent.getsockname()[1]}", 0.01, registry)
        monkeypatch.setattr("aigateway_common.otlp.END_TIMEOUT", 0.05)
        connection, _ = await asyncio.to_thread(silent.accept)
        with connection:
            await export.shutdown()

    assert "CANCELLED" in caplog.text
    assert "otlp-metrics" not in {thread.name for thread in threading.enumerate()}


async def test_a_collector_without_metrics_is_asked_again_and_complained_of(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    with collector({"traces"}) as (receiver, address), caplog.at_level(logging.ERROR):
        export = MetricsExport("edge", f"http://{address}", 0.01, registry)
        receiver.wait_requests("metrics", 3)
        await export.shutdown()

    assert receiver.exports == []
    assert "UNIMPLEMENTED" in caplog.text


async def test_a_registry_that_fails_ends_nothing(
    receiver: tuple[Receiver, str], registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter((RuntimeError("no numbers"),))

    class Broken(CollectorRegistry):
        @override
        def collect(self) -> Any:
            if error := next(answers, None):
                raise error
            return registry.collect()

    with caplog.at_level(logging.ERROR):
        export = MetricsExport("edge", receiver[1], 0.01, Broken())
        receiver[0].wait_requests("metrics", 1)
        await export.shutdown()

    assert "metrics were not exported" in caplog.text
    assert "no numbers" in caplog.text
    assert exported(receiver[0].exports[0].metrics) == scraped(registry)
