"""What a load generator has seen so far, and how the benchmark asks a generator for it: a line in, a line of JSON out.

A generator prints `ready` when its connections are open, its progress for each line on its standard input, and all that
it saw when its standard input ends; then it ends too.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Tally:
    """Times in seconds, of what happened after `since`."""

    since: float = 0.0
    units: int = 0
    """Calls, or records of streams, since the start."""
    calls: int = 0
    latencies: list[float] = field(default_factory=list)
    first_records: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    failure: str = ""

    def records(self, count: int, began: float, last: float, now: float) -> None:
        """`count` records of a stream came together, `last` being when the ones before them came (0 for none)."""
        self.units += count
        if now < self.since:
            return
        if last:
            self.gaps.append(now - last)
        else:
            self.first_records.append(now - began)
        self.gaps += [0.0] * (count - 1)

    def ended(self, began: float, now: float, units: int) -> None:
        """A call ended well."""
        self.units += units
        self.calls += 1
        if began >= self.since:
            self.latencies.append(now - began)

    def summary(self) -> dict[str, Any]:
        """Medians and 99th percentiles in milliseconds."""
        found: dict[str, Any] = {"calls": self.calls, "failure": self.failure}
        for name, values in (("latency", self.latencies), ("ttft", self.first_records), ("gap", self.gaps)):
            if values:
                found[f"{name}_p50_ms"] = statistics.median(values) * 1000
                found[f"{name}_p99_ms"] = sorted(values)[len(values) * 99 // 100] * 1000
        return found


async def converse(tally: Tally, warm: float) -> None:
    """Say ready, answer questions, and return when there will be no more or a call failed."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    tally.since = time.perf_counter() + warm
    print("ready", flush=True)
    while await lines.readline():
        print(json.dumps({"units": tally.units, "failure": tally.failure}), flush=True)
