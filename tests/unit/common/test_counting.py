"""Metrics of our own are, to a scrape, what prometheus_client's would be."""

from __future__ import annotations

import re

import pytest
from aigateway_common.counting import MAX_CHILDREN, OTHER, Count, Level, Spread
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BOUNDS = (0.1, 1.0, 2.5)
SECONDS = (0.05, 0.1, 0.2, 1.0, 2.0, 99.0)


def scraped(registry: CollectorRegistry) -> str:
    """What a scrape gets, times of beginnings left out."""
    return re.sub(r"(_created(?:{[^}]*})?) \S+", r"\1", generate_latest(registry).decode())


def test_a_scrape_gets_what_prometheus_own_client_would_give_it() -> None:
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    counter = Counter("c", "Some.", ("a", "b"), registry=theirs)
    plain = Counter("p", "All.", registry=theirs)
    gauge = Gauge("g", "Now.", ("a",), registry=theirs)
    histogram = Histogram("h", "Time.", ("a",), buckets=BOUNDS, registry=theirs)
    counter.labels("x", 'q"uoted').inc()
    counter.labels("x", 'q"uoted').inc(2.5)
    counter.labels("y", "").inc()
    plain.inc(3)
    gauge.labels("x").set(4)
    gauge.labels("x").inc(2)
    gauge.labels("y").dec()

    count, whole = Count(ours, "c", "Some.", ("a", "b")), Count(ours, "p", "All.")
    level, spread = Level(ours, "g", "Now.", ("a",)), Spread(ours, "h", "Time.", BOUNDS, ("a",))
    count.add(("x", 'q"uoted'))
    count.add(("x", 'q"uoted'), 2.5)
    count.add(("y", ""))
    whole.add((), 3)
    level.set(("x",), 4)
    level.add(("x",), 2)
    level.add(("y",), -1)
    for seconds in SECONDS:
        histogram.labels("x").observe(seconds)
        spread.observe(("x",), seconds)

    assert scraped(ours) == scraped(theirs)


def test_what_has_no_labels_is_there_from_the_beginning() -> None:
    registry = CollectorRegistry()
    Count(registry, "c", "All.")
    Level(registry, "g", "Now.")
    assert registry.get_sample_value("c_total") == 0
    assert registry.get_sample_value("g") == 0


def test_combinations_beyond_the_limit_are_counted_together() -> None:
    registry = CollectorRegistry()
    count, level = Count(registry, "c", "Some.", ("a",)), Level(registry, "g", "Now.", ("a",))
    spread = Spread(registry, "h", "Time.", BOUNDS, ("a",))
    for number in range(MAX_CHILDREN + 3):
        count.add((str(number),))
        level.add((str(number),), 1)
        spread.observe((str(number),), 0.5)
    for name in ("c_total", "g", "h_count"):
        assert registry.get_sample_value(name, {"a": "0"}) == 1
        assert registry.get_sample_value(name, {"a": OTHER}) == 3


def test_labels_must_be_those_of_the_metric() -> None:
    count = Count(CollectorRegistry(), "c", "Some.", ("a",))
    with pytest.raises(ValueError, match="has the labels"):
        count.add(("x", "y"))
