"""What processes hold over time, and whether it grows: samples, and the straight line through them."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.gateway import Gateway


@dataclass(frozen=True)
class Sample:
    """What one process held at one moment."""

    at: float
    """Seconds since the watch began."""
    kib: float
    """Memory that is its own alone (USS): a part of what it shares would grow when another process ends."""
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Slope:
    """Growth a minute, and how far it may be off (95 %)."""

    per_minute: float
    off: float

    @property
    def surely(self) -> float:
        """What it grows by at least."""
        return self.per_minute - self.off

    @override
    def __str__(self) -> str:
        return f"{self.per_minute:+.1f} ± {self.off:.1f}"


def slope(points: Sequence[tuple[float, float]]) -> Slope:
    """The least-squares slope of (seconds, value) points, by the minute; nothing is known of fewer than three."""
    count = len(points)
    if count < 3:
        return Slope(0.0, math.inf)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    value = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    squares = sum((y - mean_y - value * (x - mean_x)) ** 2 for x, y in points)
    return Slope(value * 60, 2 * math.sqrt(squares / (count - 2) / spread) * 60)


@dataclass
class Watching:
    """The processes of a gateway by service, and what they held."""

    processes: dict[str, psutil.Process]
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, gateway: Gateway) -> Watching:
        """Those of `up --split`: the parent is `supervisor`, the others are named by what they serve."""
        parent = psutil.Process(gateway.running[-1].process.pid)
        found = {"supervisor": parent}
        for child in parent.children():
            arguments = child.cmdline()
            found[arguments[arguments.index("serve") + 1]] = child
        return cls(found)

    async def run(self, every: float) -> None:
        """Take a sample every so many seconds, until cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(every)

    def sample(self) -> dict[str, Sample]:
        """One sample of each process, kept."""
        now = time.monotonic() - self._began
        taken = {name: _sample(process, now) for name, process in self.processes.items()}
        for name, one in taken.items():
            self.samples.setdefault(name, []).append(one)
        return taken


def _sample(process: psutil.Process, at: float) -> Sample:
    with process.oneshot():
        return Sample(at, process.memory_full_info().uss / 1024, process.num_fds(), process.num_threads())
