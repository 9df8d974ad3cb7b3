"""From Prometheus metrics to those of OpenTelemetry: pure, and nothing is renamed.

A counter is a cumulative monotonic sum under the name of its sample (`aigateway_calls_total`), a gauge a gauge, a
histogram one with the same bounds. Numbers are floats, as they are in Prometheus, so that a series never changes its
type. For how OpenTelemetry pairs the two see
https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/. Not for sending: see `otlp_metrics`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.sdk.metrics.export import DataT
    from prometheus_client import Metric as Family

_PROCESS_START: Final = "process_start_time_seconds"


@dataclass(frozen=True, slots=True)
class Clock:
    """When the numbers were read, and since when those count that do not say it themselves; in nanoseconds."""

    began: int
    now: int


@dataclass(slots=True)
class _Series:
    """What the samples of one combination of labels said."""

    labels: dict[str, str]
    value: float = 0
    count: float = 0
    began: int = 0
    buckets: list[tuple[float, float]] = field(default_factory=list)
    """Upper bounds, each with all that is below it."""


def convert(families: Iterable[Family], clock: Clock) -> list[Metric]:
    """The metrics of `families`; those of other kinds than counter, gauge and histogram are left out."""
    found = list(families)
    clock = Clock(_process_start(found) or clock.began, clock.now)
    return [metric for family in found if (metric := _metric(family, clock)) is not None]


def _metric(family: Family, clock: Clock) -> Metric | None:
    series = _series(family, clock).values()
    if not series:
        return None
    cumulative = AggregationTemporality.CUMULATIVE
    name: str = family.name
    data: DataT | None = None
    match family.type:
        case "counter":
            name = f"{family.name}_total"
            data = Sum([_number(one, clock, one.began) for one in series], cumulative, is_monotonic=True)
        case "gauge":
            data = Gauge([_number(one, clock) for one in series])
        case "histogram":
            data = Histogram([_distribution(one, clock) for one in series], cumulative)
    return Metric(name, family.documentation, family.unit, data) if data else None


def _series(family: Family, clock: Clock) -> dict[tuple[str, ...], _Series]:
    found: dict[tuple[str, ...], _Series] = {}
    for sample in family.samples:
        bound = sample.labels.get("le") if family.type == "histogram" else None
        labels = {name: value for name, value in sample.labels.items() if bound is None or name != "le"}
        one = found.setdefault((*labels.values(),), _Series(labels, began=clock.began))
        match sample.name.removeprefix(family.name):
            case "_created":
                one.began = _nanoseconds(sample.value)
            case "_bucket" if bound is not None:
                one.buckets.append((float(bound), sample.value))
            case "_count":
                one.count = sample.value
            case _:
                one.value = float(sample.value)
    return found


def _number(one: _Series, clock: Clock, began: int = 0) -> NumberDataPoint:
    return NumberDataPoint(one.labels, began, clock.now, one.value)


def _distribution(one: _Series, clock: Clock) -> HistogramDataPoint:
    """OpenTelemetry's buckets stand each for itself, where those of Prometheus hold what is below them too."""
    buckets = sorted(one.buckets)
    below = [0.0, *(count for _, count in buckets)]
    return HistogramDataPoint(
        attributes=one.labels,
        start_time_unix_nano=one.began,
        time_unix_nano=clock.now,
        count=int(one.count),
        sum=one.value,
        bucket_counts=[int(upper - lower) for lower, upper in pairwise(below)],
        explicit_bounds=[bound for bound, _ in buckets if bound != math.inf],
        min=None,  # type: ignore[arg-type] # nobody knows it; the encoder leaves None out
        max=None,  # type: ignore[arg-type] # as above
    )


def _process_start(families: Iterable[Family]) -> int:
    for family in families:
        if family.name == _PROCESS_START:
            return next((_nanoseconds(sample.value) for sample in family.samples), 0)
    return 0


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
