"""SIGTERM of each service under 64 streams, with a replica beside: no stream is cut, no call fails, each exits 0.

What a rolling update does to a cluster. A caller's connection to an edge is its own: it ends with the answer that was
under way, and the next call goes to the other edge, as a load balancer would send it.
"""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest
from support.chaos.load import Load, Mix
from support.chaos.replicas import Replicas
from support.chaos.table import Table
from support.ledger import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(4000)]

CALLERS = 64
LONGEST = 90.0
"""Seconds beyond the given ones for which there are calls, should services be slow to come back."""
DRAIN_SECONDS = 30
"""The default of `server.drain_seconds`."""
STEPS = ("router-a", "adapter-a", "usage", "edge-a")
"""In this order: an edge is last, for its callers then are all at the other one."""


async def test_a_rolling_update_cuts_no_stream_and_fails_no_call(
    tmp_path: Path, echoing: str, seconds: float, seed: int, long: bool
) -> None:
    steps = (*STEPS, "router-b", "adapter-b", "edge-b") if long else STEPS
    mix = Mix(weights=(1, 3), words=15, gap_ms=60)
    table = Table(
        f"SIGTERM under {CALLERS} callers, a replica beside (seed {seed})",
        ("service", "exit code", "took", "calls under way", "failed"),
    )
    with Replicas(tmp_path, echoing) as replicas:
        load = Load([replicas.running[name].http for name in ("edge-a", "edge-b")], f"drain{seed}", mix, seed)
        running = asyncio.create_task(load.run(CALLERS, seconds + LONGEST))
        for step in steps:
            await asyncio.sleep(0.7)
            began, before = time.monotonic(), len(load.calls)
            under_way = sum(not call.ended for call in load.calls)
            code = await asyncio.to_thread(replicas.running[step].stop, signal.SIGTERM)
            took = time.monotonic() - began
            await asyncio.to_thread(replicas.start, step)
            await asyncio.sleep(0.2)
            failed = [c for c in load.calls if c.ended > began and c.outcome != "answered"]
            table.add(step, code, f"{took:.1f} s", under_way, len(failed))
            assert len(load.calls) > before, "calls went on"
            assert code == 0, replicas.running[step].text()
            assert took < DRAIN_SECONDS
        load.stop()
        await running
        ids = {call.request_id for call in load.answered()}
        sql = "select request_id from requests where status = 'ok'"
        recorded = wait_until(replicas.data, lambda found: len(found) >= len(ids), sql)
    print(table.text())
    print(", ".join(f"{count} {outcome}" for outcome, count in load.counts().items()))
    assert {call.outcome for call in load.calls} == {"answered"}, [c for c in load.calls if c.outcome != "answered"][:5]
    assert sorted(row["request_id"] for row in recorded) == sorted(ids)
