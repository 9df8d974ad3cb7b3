"""`kill -9` of each service or worker in turn under load: nothing answered is lost, counted twice or answered wrong.

Calls that a kill cuts may fail, with a clear error and soon. They may be in the ledger or not: their caller saw no end.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support import workers
from support.chaos.echo import MODELS
from support.chaos.load import Call, Load, Mix
from support.chaos.services import kill, wait_serving
from support.chaos.table import Table
from support.gateway import Gateway, environment
from support.ledger import rows, wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(4000)]

CALLERS = 64
LEAST = 2
"""Kills in a run."""
LONGEST = 60.0
"""Seconds beyond the given ones for which there are calls, should services be slow to come back."""
PROVIDER = "provider:"
WORKERS = ("worker-0", "worker-1")


@dataclass
class Kill:
    """One kill, and when the service was there again."""

    service: str
    at: float
    serving: float = 0.0

    def hits(self, call: Call) -> bool:
        """Whether the call goes through the service."""
        return not self.service.startswith(PROVIDER) or call.model.startswith(self.service.removeprefix(PROVIDER) + "/")


@dataclass
class Killer:
    """Kills services in turn, each at a random moment after all are back."""

    gateway: Gateway
    services: list[str]
    chance: random.Random
    kills: list[Kill] = field(default_factory=list)

    async def run(self, seconds: float) -> None:
        """Kill until `seconds` have passed, at least `LEAST` times however long a service takes to be back."""
        end = time.monotonic() + seconds
        turn: list[str] = []
        while True:
            turn = turn or self.chance.sample(self.services, len(self.services))
            await asyncio.sleep(self.chance.uniform(0.2, 1.2))
            if time.monotonic() > end and len(self.kills) >= LEAST:
                return
            one = Kill(turn.pop(), time.monotonic())
            self.kills.append(one)
            if one.service in WORKERS:
                await workers.again(self.gateway, one.service, workers.kill(self.gateway, one.service))
            else:
                kill(self.gateway, one.service)
                await wait_serving(self.gateway.running[-1], one.service)
            one.serving = time.monotonic()


@pytest.mark.parametrize("topology", ["split", "workers"])
async def test_nothing_answered_is_lost_or_doubled(
    tmp_path: Path, echoing: str, seconds: float, seed: int, long: bool, topology: str
) -> None:
    providers = list(MODELS) if long else ["openai", "anthropic"]
    services = ["usage", "router", "edge", *(PROVIDER + name for name in providers)]
    if topology == "workers":
        services = ["usage", *WORKERS]
    mix = Mix(models=[MODELS[name] for name in providers])
    with Gateway(topology, tmp_path, environment(echoing, *providers)) as gateway:
        load = Load([gateway.http], f"kill{seed}", mix, seed)
        killer = Killer(gateway, services, random.Random(seed))
        running = asyncio.create_task(load.run(CALLERS, seconds + LONGEST))
        await killer.run(seconds)
        await asyncio.sleep(2)  # calls go on behind the last
        load.stop()
        await running
        ids = {call.request_id for call in load.answered()}
        sql = "select request_id, status, attempt from requests"
        wait_until(gateway.data, lambda found: ids <= {row["request_id"] for row in found}, sql, seconds=15)
        recorded = rows(gateway.data, sql)
    _show(killer.kills, load, seed, seconds)
    lost, doubled = _compare(load, recorded)
    print(f"answered {len(ids)}, recorded {len(recorded)}: {len(lost)} lost, {len(doubled)} doubled")
    assert len(ids) > CALLERS, "calls were answered all the while"
    assert not lost
    assert not doubled
    assert not load.broken(), load.broken()[:5]


def _compare(load: Load, recorded: list[dict[str, object]]) -> tuple[list[str], list[str]]:
    """Answered calls that the ledger lacks, and calls that it holds twice (an attempt, or a success)."""
    successes = Counter(row["request_id"] for row in recorded if row["status"] == "ok")
    attempts = Counter((row["request_id"], row["attempt"]) for row in recorded)
    lost = [call.request_id for call in load.answered() if not successes[call.request_id]]
    twice = [str(key) for counted in (successes, attempts) for key, count in counted.items() if count > 1]
    return lost, twice


def _show(kills: list[Kill], load: Load, seed: int, seconds: float) -> None:
    table = Table(
        f"kill -9 under {CALLERS} callers for {seconds:g} s (seed {seed})",
        ("service", "at", "serves again", "answers again", "calls cut", "refused"),
    )
    began = load.calls[0].began
    for one in kills:
        through = [call for call in load.calls if one.hits(call)]
        again = min((c.ended for c in through if c.began > one.at and c.outcome == "answered"), default=0.0)
        during = [call for call in through if call.began < max(one.serving, again) and call.ended > one.at]
        cut = sum(call.outcome == "cut" for call in during)
        refused = sum(call.outcome in ("refused", "unreachable") for call in during)
        back, answers = one.serving - one.at, f"{again - one.at:.2f} s" if again else "after the end"
        table.add(one.service, f"{one.at - began:.2f} s", f"{back:.2f} s", answers, cut, refused)
    print(table.text())
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(load.counts().items())))
    failures = Counter(call.detail for call in load.calls if call.outcome in ("refused", "cut", "unreachable"))
    print("failures: " + ", ".join(f"{count} x {detail}" for detail, count in failures.most_common()))
