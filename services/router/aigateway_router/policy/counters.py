"""Counters of limits, in memory: what one router counts for itself. See `shared_counters` and `machine` for several."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from aigateway_router.policy.minutes import MINUTE, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Kind = Literal["requests", "tokens"]


class Charge:
    """What one call adds to one counter.

    Args:
        subject: Whose counter: `key:ID` or `project:ID`.
        kind: What is counted.
        limit: What the counter may come to.
        cost: What is added.
    """

    __slots__ = ("cost", "kind", "limit", "name", "subject")

    def __init__(self, subject: str, kind: Kind, limit: int, cost: int) -> None:
        self.subject = subject
        self.kind = kind
        self.limit = limit
        self.cost = cost
        self.name = f"{subject}:{kind}"
        """The counter's."""


class Taken(NamedTuple):
    """What became of charges: all of them were counted, or none."""

    granted: bool
    minute: int
    """The window that they were counted in."""
    readings: tuple[Reading, ...]
    """Each charge's counter, before it."""
    counters: Counters
    """Who counted, and so who has to be told the facts."""


class Counters(Protocol):
    """Counts charges."""

    async def take(self, charges: Sequence[Charge]) -> Taken:
        """Count all of `charges` where each one's limit allows it, else none of them."""

    def settle(self, minute: int, changes: Sequence[tuple[str, int]]) -> None:
        """Change counters in the window that they were charged in, never below 0; a window that has passed stays.

        Args:
            minute: The window, as in `Taken`.
            changes: Names of counters, each with what to add.
        """

    async def stop(self) -> None:
        """Finish what is under way, and close."""


class MemoryCounters:
    """Counts in this process. Counters that nobody used for two minutes are forgotten."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counters: dict[str, Counter] = {}
        self._swept = 0

    async def take(self, charges: Sequence[Charge]) -> Taken:
        """As in `Counters`; does not wait for anything."""
        minute, elapsed = self._now()
        if minute != self._swept:
            self._sweep(minute)
        counters: list[Counter] = []
        readings: list[Reading] = []
        granted = True
        for charge in charges:
            counter = self._counters.get(charge.name)
            if counter is None or counter.minute < minute:
                counter = self._counter(charge.name, minute)
            reading = Reading(counter.previous, counter.current, elapsed)
            granted = granted and reading.used + charge.cost <= charge.limit
            counters.append(counter)
            readings.append(reading)
        if granted:
            for counter, charge in zip(counters, charges, strict=True):
                counter.current += charge.cost
        return Taken(granted, minute, tuple(readings), self)

    def settle(self, minute: int, changes: Sequence[tuple[str, int]]) -> None:
        """As in `Counters`."""
        now, _ = self._now()
        for name, change in changes:
            counter = self._counters.get(name)
            if counter is not None:
                counter.roll(now)
                counter.add(minute, change)

    async def stop(self) -> None:
        """Nothing is ever under way."""

    def _now(self) -> tuple[int, float]:
        minute, elapsed = divmod(self._clock(), MINUTE)
        return int(minute), elapsed

    def _counter(self, name: str, minute: int) -> Counter:
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = Counter(minute)
        elif minute > counter.minute:
            counter.roll(minute)
        return counter

    def _sweep(self, minute: int) -> None:
        self._swept = minute
        self._counters = {name: one for name, one in self._counters.items() if one.minute >= minute - 1}


class Counter:
    """The counts of two minutes."""

    __slots__ = ("current", "minute", "previous")

    def __init__(self, minute: int) -> None:
        self.minute = minute
        self.previous = 0
        self.current = 0

    def roll(self, minute: int) -> None:
        """Go on to `minute`."""
        if minute > self.minute:
            self.previous = self.current if minute == self.minute + 1 else 0
            self.current = 0
            self.minute = minute

    def add(self, minute: int, amount: int) -> None:
        """Count `amount` in `minute`, never below 0; one that has passed stays."""
        if minute == self.minute:
            self.current = max(0, self.current + amount)
        elif minute == self.minute - 1:
            self.previous = max(0, self.previous + amount)
