"""Prometheus metrics as OpenTelemetry's: the same names, labels and numbers."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from aigateway_common.counting import Count, Level, Spread
from aigateway_common.otlp_points import Clock, convert
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry, Info, Summary
from prometheus_client import Metric as Family

CUMULATIVE = AggregationTemporality.CUMULATIVE
CLOCK = Clock(began=5, now=9)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aigateway_common.counting.time.time", lambda: 2.0)


def encoded(metrics: list[Metric]) -> Any:
    scope = ScopeMetrics(InstrumentationScope("s"), metrics, "")
    request = encode_metrics(MetricsData([ResourceMetrics(Resource.get_empty(), [scope], "")]))
    return request.resource_metrics[0].scope_metrics[0].metrics


def test_a_counter_is_a_monotonic_sum_since_it_began(registry: CollectorRegistry) -> None:
    calls = Count(registry, "calls", "Calls.", ["service", "status"])
    calls.add(("edge", "ok"), 3)
    calls.add(("edge", "other"))

    first = NumberDataPoint({"service": "edge", "status": "ok"}, 2_000_000_000, 9, 3.0)
    second = NumberDataPoint({"service": "edge", "status": "other"}, 2_000_000_000, 9, 1.0)
    data = Sum([first, second], CUMULATIVE, is_monotonic=True)
    assert convert(registry.collect(), CLOCK) == [Metric("calls_total", "Calls.", "", data)]


def test_a_counter_without_labels_is_there_from_the_start(registry: CollectorRegistry) -> None:
    Count(registry, "cut", "Cut.")

    (metric,) = convert(registry.collect(), CLOCK)
    assert metric.data == Sum([NumberDataPoint({}, 2_000_000_000, 9, 0.0)], CUMULATIVE, is_monotonic=True)


def test_a_gauge_is_what_it_is_now(registry: CollectorRegistry) -> None:
    Level(registry, "in_flight", "Under way.", ["provider"]).set(("openai",), 4)

    data = Gauge([NumberDataPoint({"provider": "openai"}, 0, 9, 4.0)])
    assert convert(registry.collect(), CLOCK) == [Metric("in_flight", "Under way.", "", data)]


def test_a_histogram_has_what_lies_in_each_bucket_and_beyond_the_last(registry: CollectorRegistry) -> None:
    seconds = Spread(registry, "seconds", "Time.", (0.5, 1, 10), ["hop"])
    for value in (0.1, 0.5, 0.7, 3, 4, 5, 11, 1e9):
        seconds.observe(("edge",), value)

    (metric,) = convert(registry.collect(), CLOCK)
    point = HistogramDataPoint(
        attributes={"hop": "edge"},
        start_time_unix_nano=2_000_000_000,
        time_unix_nano=9,
        count=8,
        sum=0.1 + 0.5 + 0.7 + 3 + 4 + 5 + 11 + 1e9,
        bucket_counts=[2, 1, 3, 2],
        explicit_bounds=[0.5, 1.0, 10.0],
        min=None,  # type: ignore[arg-type] # nobody knows it
        max=None,  # type: ignore[arg-type] # as above
    )
    assert metric == Metric("seconds", "Time.", "", Histogram([point], CUMULATIVE))
    (sent,) = encoded([metric])[0].histogram.data_points
    assert (sent.HasField("min"), sent.HasField("max")) == (False, False)
    assert (sent.count, list(sent.bucket_counts), list(sent.explicit_bounds)) == (8, [2, 1, 3, 2], [0.5, 1, 10])


def test_each_combination_of_labels_is_a_point_of_its_own(registry: CollectorRegistry) -> None:
    seconds = Spread(registry, "seconds", "Time.", (1,), ["service", "le_of_ours"])
    seconds.observe(("edge", "1"), 0.5)
    seconds.observe(("edge", "2"), 2)

    (metric,) = convert(registry.collect(), CLOCK)
    found = [(point.attributes, point.bucket_counts) for point in metric.data.data_points]  # type: ignore[union-attr] # it is a histogram
    assert found == [
        ({"service": "edge", "le_of_ours": "1"}, [1, 0]),
        ({"service": "edge", "le_of_ours": "2"}, [0, 1]),
    ]


def test_what_says_no_beginning_began_with_the_process(registry: CollectorRegistry) -> None:
    counter = Family("process_cpu_seconds", "CPU.", "counter")
    counter.add_sample("process_cpu_seconds_total", {}, 1.5)
    gauge = Family("process_start_time_seconds", "Start.", "gauge")
    gauge.add_sample("process_start_time_seconds", {}, 1.25)

    cpu, start = convert([counter, gauge], CLOCK)
    assert cpu.name == "process_cpu_seconds_total"
    assert cpu.data == Sum([NumberDataPoint({}, 1_250_000_000, 9, 1.5)], CUMULATIVE, is_monotonic=True)
    assert start.data == Gauge([NumberDataPoint({}, 0, 9, 1.25)])
    (cpu,) = convert([counter], CLOCK)
    assert cpu.data.data_points[0].start_time_unix_nano == CLOCK.began


def test_metrics_without_series_and_of_other_kinds_are_left_out(registry: CollectorRegistry) -> None:
    Count(registry, "calls", "Calls.", ["service"])
    Spread(registry, "seconds", "Time.", (1,), ["hop"])
    Summary("sizes", "Sizes.", registry=registry).observe(1)
    Info("build", "Build.", registry=registry).info({"version": "1"})

    assert convert(registry.collect(), CLOCK) == []


@given(st.lists(st.floats(0, 100, allow_nan=False), min_size=1, max_size=50))
def test_buckets_hold_every_observation_once(values: list[float]) -> None:
    registry, bounds = CollectorRegistry(), (0.0, 0.1, 1.0, 50.0)
    spread = Spread(registry, "seconds", "Time.", bounds)
    for value in values:
        spread.observe((), value)

    (metric,) = convert(registry.collect(), CLOCK)
    (point,) = metric.data.data_points
    assert isinstance(point, HistogramDataPoint)
    edges = (-math.inf, *bounds, math.inf)
    assert point.bucket_counts == [sum(lower < value <= upper for value in values) for lower, upper in pairwise(edges)]
    assert point.count == len(values)
    assert math.isclose(point.sum, sum(values))
