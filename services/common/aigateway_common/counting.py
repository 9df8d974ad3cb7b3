"""Counters, gauges and histograms that cost a call next to nothing, and are Prometheus' own only while it looks.

A child of prometheus_client takes a lock and checks who it is at every addition: half a microsecond each, thirty times
a call. Here an addition is one to a plain number, made in the event loop's thread; a scrape, in a thread of its own,
reads numbers that are whole at any moment. Which metrics there are is `metrics`' business.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from prometheus_client import Metric
from prometheus_client.utils import floatToGoString
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client import CollectorRegistry

MAX_CHILDREN: Final = 200
"""Combinations of labels that one metric keeps apart."""
OTHER: Final = "other"

Labels = tuple[str, ...]


class Family:
    """What all kinds of metric have: a name, labels, and a limit to their combinations."""

    kind: str

    def __init__(self, registry: CollectorRegistry, name: str, text: str, labels: Iterable[str] = ()) -> None:
        self.name = name
        self.labels = tuple(labels)
        self._text = text
        self._other = (OTHER,) * len(self.labels)
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """The metric without its numbers, for the registry to know its names."""
        return [Metric(self.name, self._text, self.kind)]

    def collect(self) -> Iterable[Metric]:
        """The metric as it is now."""
        metric = Metric(self.name, self._text, self.kind)
        for suffix, labels, value in self.samples():
            metric.add_sample(self.name + suffix, labels, value)
        return [metric]

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Suffix of the name, labels and value of each time series."""
        raise NotImplementedError

    def _named(self, labels: Labels) -> dict[str, str]:
        return dict(zip(self.labels, labels, strict=True))

    def _within(self, labels: Labels, known: int) -> Labels:
        """`labels`, which are new to a metric that knows so many; or what stands for all that are too many."""
        if len(labels) != len(self.labels):
            raise ValueError(f"`{self.name}` has the labels {self.labels}, not {len(labels)}")
        return labels if known < MAX_CHILDREN else self._other


class Count(Family):
    """A number that grows."""

    kind = "counter"

    def __init__(self, registry: CollectorRegistry, name: str, text: str, labels: Iterable[str] = ()) -> None:
        super().__init__(registry, name, text, labels)
        self._values: dict[Labels, float] = {} if self.labels else {(): 0}
        self._began: dict[Labels, float] = dict.fromkeys(self._values, time.time())

    def add(self, labels: Labels = (), amount: float = 1) -> None:
        """Add `amount`, which is not below 0."""
        try:
            self._values[labels] += amount
        except KeyError:
            labels = self._within(labels, len(self._values))
            self._began.setdefault(labels, time.time())
            self._values[labels] = self._values.get(labels, 0) + amount

    @override
    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """The total of each combination, and when it began."""
        for labels, value in list(self._values.items()):
            yield "_total", self._named(labels), value
            yield "_created", self._named(labels), self._began[labels]


class Level(Family):
    """A number that goes up and down."""

    kind = "gauge"

    def __init__(self, registry: CollectorRegistry, name: str, text: str, labels: Iterable[str] = ()) -> None:
        super().__init__(registry, name, text, labels)
        self._values: dict[Labels, float] = {} if self.labels else {(): 0}

    def set(self, labels: Labels, value: float) -> None:
        """It is `value` now."""
        if labels not in self._values:
            labels = self._within(labels, len(self._values))
        self._values[labels] = value

    def add(self, labels: Labels, amount: float) -> None:
        """It is `amount` more now."""
        if labels not in self._values:
            labels = self._within(labels, len(self._values))
        self._values[labels] = self._values.get(labels, 0) + amount

    @override
    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """The level of each combination."""
        for labels, value in list(self._values.items()):
            yield "", self._named(labels), value


class _Spread:
    __slots__ = ("began", "counts", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * (buckets + 1)
        self.total = 0.0
        self.began = time.time()


class Spread(Family):
    """How many of what was observed came up to each of some bounds."""

    kind = "histogram"

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        text: str,
        bounds: tuple[float, ...],
        labels: Iterable[str] = (),
    ) -> None:
        super().__init__(registry, name, text, labels)
        self._bounds = bounds
        self._shown: list[str] = [floatToGoString(bound) for bound in (*bounds, math.inf)]  # type: ignore[no-untyped-call] # it is untyped
        self._spreads: dict[Labels, _Spread] = {}

    def observe(self, labels: Labels, value: float) -> None:
        """Count `value` in."""
        spread = self._spreads.get(labels)
        if spread is None:
            labels = self._within(labels, len(self._spreads))
            spread = self._spreads.setdefault(labels, _Spread(len(self._bounds)))
        spread.counts[bisect_left(self._bounds, value)] += 1
        spread.total += value

    @override
    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """The buckets of each combination, each with all that is below it, their number and their sum."""
        for labels, spread in list(self._spreads.items()):
            named, below = self._named(labels), 0
            for bound, count in zip(self._shown, spread.counts, strict=True):
                below += count
                yield "_bucket", named | {"le": bound}, below
            yield "_count", named, below
            yield "_sum", named, spread.total
            yield "_created", named, spread.began
