"""`python -m bench.ledger`: what the ledger's calls cost when it is empty, and when it holds ten million events.

The usage service runs in a process of its own and is called over gRPC; CPU is the operating system's account of that
process (with PostgreSQL: without the server). Times of single calls are as their caller sees them. Prints one JSON line
per figure, and leaves nothing behind.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import psutil
import uvloop
from aigateway.v1 import account_pb2, account_service_pb2, usage_service_pb2
from aigateway.v1.account_service_pb2_grpc import AccountServiceStub
from aigateway.v1.usage_service_pb2_grpc import UsageServiceStub
from aigateway_common.ids import new_id
from aigateway_common.serving import grpc_channel, grpc_server
from aigateway_usage.database import Database
from aigateway_usage.server import UsageComponent
from aigateway_usage.settings import UsageSettings

from bench.ledger_events import DAY_US, FIRST_US, PRICES, events
from bench.ledger_load import load

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from support.postgres import running  # noqa: E402 -- found by the line above

DAYS: Final = 90
BATCH: Final = 1000
"""What an outbox delivers at once."""
INGESTED, ROUNDS, CALLS, ASKED = 10_000, 5, 500, 5
NOW_US: Final = FIRST_US + DAYS * DAY_US + DAY_US // 3
"""While the bench measures, it is eight in the morning of the day after the last that was filled."""
_Key = usage_service_pb2.SummaryKey
KEYS: Final = {
    "model": _Key.SUMMARY_KEY_MODEL,
    "provider": _Key.SUMMARY_KEY_PROVIDER,
    "project": _Key.SUMMARY_KEY_PROJECT,
    "status": _Key.SUMMARY_KEY_STATUS,
    "day": _Key.SUMMARY_KEY_DAY,
}


def show(name: str, value: float, unit: str) -> None:
    """One figure."""
    print(json.dumps({"name": name, "value": round(value, 4), "unit": unit}), flush=True)


class Service:
    """A running usage service."""

    def __init__(self, channel: Any, process: psutil.Process) -> None:
        self.usage: Any = UsageServiceStub(channel)
        self.accounts: Any = AccountServiceStub(channel)
        self._process = process

    def cpu(self) -> float:
        """Seconds so far."""
        times = self._process.cpu_times()
        return times.user + times.system


@contextlib.asynccontextmanager
async def served(url: str) -> AsyncIterator[Service]:
    """A usage service in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.ledger", "--serve", url),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        async with grpc_channel(f"127.0.0.1:{port}") as channel:
            yield Service(channel, psutil.Process(process.pid))
    finally:
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 30)


async def serve(url: str) -> None:
    """Be that service, until standard input ends."""
    server = grpc_server([UsageComponent(UsageSettings(url, price_overrides=PRICES))], "127.0.0.1:0")
    await server.start()
    print(server.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.drain(5)


async def ingest(service: Service, state: str, seed: int) -> None:
    """Events as an outbox delivers them; the first round warms up."""
    spent = []
    for number in range(ROUNDS + 1):
        first = NOW_US + (seed * (ROUNDS + 1) + number) * 60_000_000
        made = list(events(INGESTED, first, first + 50_000_000, seed=hash((seed, number))))
        requests = [
            usage_service_pb2.RecordAttemptsRequest(attempts=made[start : start + BATCH])
            for start in range(0, INGESTED, BATCH)
        ]
        before = service.cpu()
        for request in requests:
            answer = await service.usage.RecordAttempts(request)
            assert answer.recorded == BATCH
        spent.append(service.cpu() - before)
    show(f"ingest, {state}", statistics.median(spent[1:]), "CPU s per 10,000 events")
    show(f"ingest, {state}, dearest round", max(spent[1:]), "CPU s per 10,000 events")


async def call_costs(service: Service, state: str) -> None:
    """Setting a budget, reserving, looking a key up, and the first page."""
    budget = account_pb2.Budget(
        scope=account_pb2.BUDGET_SCOPE_PROJECT,
        subject="default",
        period=account_pb2.BUDGET_PERIOD_TOTAL,
        limit_usd=1_000_000,
    )
    provider = account_pb2.Budget(
        scope=account_pb2.BUDGET_SCOPE_PROVIDER,
        subject="provider-0",
        period=account_pb2.BUDGET_PERIOD_TOTAL,
        limit_usd=1_000_000,
    )
    for name, one in (("a project", budget), ("a provider", provider)):
        begun = time.perf_counter()
        await service.accounts.SetBudget(account_service_pb2.SetBudgetRequest(budget=one))
        show(f"a new budget of {name}, {state}", (time.perf_counter() - begun) * 1e3, "ms")
    made = await service.accounts.CreateKey(
        account_service_pb2.CreateKeyRequest(key=account_pb2.Key(project="default"))
    )
    digest = hashlib.sha256(made.secret.encode()).digest()
    page = usage_service_pb2.ListAttemptsRequest(page_size=100)
    of_project = usage_service_pb2.ListAttemptsRequest(
        page_size=100, filter=usage_service_pb2.AttemptFilter(projects=["project-07"])
    )
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "reserve": lambda: service.accounts.ReserveBudget(_reservation()),
        "a key's look-up": lambda: service.accounts.ResolveKey(account_service_pb2.ResolveKeyRequest(sha256=digest)),
        "a page of 100": lambda: service.usage.ListAttempts(page),
        "a project's page of 100": lambda: service.usage.ListAttempts(of_project),
    }
    for name, call in calls.items():
        await _repeat(service, f"{name}, {state}", call)


def _reservation() -> account_service_pb2.ReserveBudgetRequest:
    return account_service_pb2.ReserveBudgetRequest(
        event_id=new_id(),
        provider="provider-0",
        model="model-00",
        input_tokens=1000,
        max_output_tokens=100,
        expires_at_us=time.time_ns() // 1000 + 600_000_000,
    )


async def _repeat(service: Service, name: str, call: Callable[[], Awaitable[Any]]) -> None:
    for _ in range(20):
        await call()
    times, before = [], service.cpu()
    for _ in range(CALLS):
        begun = time.perf_counter()
        await call()
        times.append(time.perf_counter() - begun)
    show(name, (service.cpu() - before) / CALLS * 1e3, "CPU ms per call")
    show(f"{name}, median", statistics.median(times) * 1e3, "ms")


async def summaries(service: Service) -> None:
    """Every grouping of everything, and the questions that people ask."""
    month = usage_service_pb2.AttemptFilter(from_us=FIRST_US + 62 * DAY_US)
    week = usage_service_pb2.AttemptFilter(from_us=NOW_US - 7 * DAY_US + 1)
    middle = usage_service_pb2.AttemptFilter(from_us=FIRST_US + DAY_US // 2 + 1, until_us=FIRST_US + 80 * DAY_US - 1)
    named = usage_service_pb2.AttemptFilter(models=["model-03"], projects=["project-01"])
    await _ask(service, "summary, this month by model", month, ["model"])
    await _ask(service, "summary, all time by project and day", usage_service_pb2.AttemptFilter(), ["project", "day"])
    await _ask(service, "summary, the last seven days by model", week, ["model"])
    await _ask(service, "summary, between two odd times by project", middle, ["project"])
    await _ask(service, "summary, one model of one project by day", named, ["day"])
    for size in range(len(KEYS) + 1):
        for keys in combinations(KEYS, size):
            name = f"summary, all time by {', '.join(keys) or 'nothing'}"
            await _ask(service, name, usage_service_pb2.AttemptFilter(), list(keys))


async def _ask(service: Service, name: str, chosen: usage_service_pb2.AttemptFilter, keys: list[str]) -> None:
    request = usage_service_pb2.SummarizeAttemptsRequest(filter=chosen, group_by=[KEYS[key] for key in keys])
    times, before = [], service.cpu()
    for _ in range(ASKED):
        begun = time.perf_counter()
        answer = await service.usage.SummarizeAttempts(request)
        times.append(time.perf_counter() - begun)
    show(f"{name}, rows", len(answer.rows), "rows")
    show(name, (service.cpu() - before) / ASKED * 1e3, "CPU ms per call")
    show(f"{name}, median", statistics.median(times) * 1e3, "ms")
    show(f"{name}, slowest", max(times) * 1e3, "ms")


async def fill(url: str, count: int) -> None:
    """Fill the ledger, which is empty."""
    database = Database(url, busy_timeout=60)
    begun = time.perf_counter()
    await database.open()
    try:
        await load(database, count, DAYS, lambda text: print(text, file=sys.stderr, flush=True))
    finally:
        await database.close()
    show(f"filling with {count:,} events", time.perf_counter() - begun, "s")


async def measure(empty: str, full: str, count: int) -> None:
    """Both ledgers, one after the other."""
    async with served(empty) as service:
        await ingest(service, "empty", seed=1)
        await call_costs(service, "empty")
        await ingest(service, "empty, under budgets", seed=2)
    await fill(full, count)
    async with served(full) as service:
        await ingest(service, "full", seed=1)
        await summaries(service)
        await call_costs(service, "full")
        await ingest(service, "full, under budgets", seed=2)


@contextlib.contextmanager
def ledgers(folder: str | None, *, postgres: bool) -> Iterator[tuple[str, str]]:
    """The URLs of two new databases, which are gone afterwards."""
    if postgres:
        with running() as server:
            yield asyncio.run(server.create()), asyncio.run(server.create())
        return
    with tempfile.TemporaryDirectory(prefix="ledger-bench-", dir=folder) as own:
        yield f"sqlite:///{own}/empty.db", f"sqlite:///{own}/full.db"


def main() -> None:
    """Measure, or serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--postgres", action="store_true", help="a PostgreSQL server of its own instead of SQLite")
    parser.add_argument("--data-dir", help="where the files of SQLite lie meanwhile")
    parser.add_argument("--serve", metavar="URL", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        uvloop.run(serve(asked.serve))
        return
    with ledgers(asked.data_dir, postgres=asked.postgres) as (empty, full):
        uvloop.run(measure(empty, full, asked.events))


if __name__ == "__main__":
    main()
