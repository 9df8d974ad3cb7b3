"""The usage service in a process of its own, killed in the middle of its work."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aigateway.v1 import account_pb2, account_service_pb2, account_service_pb2_grpc, usage_service_pb2_grpc
from aigateway_common.errors import from_rpc_error
from aigateway_common.serving import grpc_channel
from grpc import aio
from support.accounts import budget
from support.attempts import attempt, record
from support.ledger import rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aigateway.v1.account_service_pb2_grpc import AccountServiceAsyncStub
    from aigateway.v1.usage_service_pb2 import RecordAttemptsResponse
    from aigateway.v1.usage_service_pb2_grpc import UsageServiceAsyncStub

_SERVER = """
import asyncio, sys
from aigateway_common.serving import grpc_server
from aigateway_usage.server import UsageComponent
from aigateway_usage.settings import UsageSettings

async def main():
    server = grpc_server([UsageComponent(UsageSettings(sys.argv[1]))], "127.0.0.1:0")
    await server.start()
    print(server.port, flush=True)
    await server.wait()

asyncio.run(main())
"""


@asynccontextmanager
async def service(
    folder: Path,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, UsageServiceAsyncStub, AccountServiceAsyncStub]]:
    url = f"sqlite+aiosqlite:///{folder / 'ledger.db'}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SERVER, url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        port = int(await asyncio.wait_for(process.stdout.readline(), 60))
        async with grpc_channel(f"127.0.0.1:{port}") as channel:
            usage = usage_service_pb2_grpc.UsageServiceStub(channel)
            yield process, usage, account_service_pb2_grpc.AccountServiceStub(channel)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Senders:
    """Concurrent senders, each with batches of its own; they stop at the first failure."""

    def __init__(self, stub: UsageServiceAsyncStub, *, kill_after: int, process: asyncio.subprocess.Process) -> None:
        self.stub, self.process, self.kill_after = stub, process, kill_after
        self.sent: dict[int, int] = {}
        """Batches sent: first number to size."""
        self.acknowledged: set[int] = set()
        self._next = 0

    async def run(self) -> None:
        await asyncio.gather(*(self._send(size) for size in (1, 1, 1, 5, 5, 20, 20, 50, 100, 200)))

    async def _send(self, size: int) -> None:
        while True:
            first, self._next = self._next, self._next + size
            self.sent[first] = size
            try:
                answer = await send(self.stub, first, size)
            except aio.AioRpcError as error:
                assert from_rpc_error(error).reason.name == "UNAVAILABLE"  # noqa: PT017 -- the loop ends here
                return
            assert (answer.recorded, answer.duplicates) == (size, 0)
            self.acknowledged.add(first)
            if len(self.acknowledged) == self.kill_after:
                os.kill(self.process.pid, signal.SIGKILL)


async def send(stub: UsageServiceAsyncStub, first: int, size: int) -> RecordAttemptsResponse:
    return await stub.RecordAttempts(record(*[attempt(number) for number in range(first, first + size)]), timeout=60)


@pytest.mark.parametrize("kill_after", [1, 37, 300])
async def test_kill_9_loses_nothing_acknowledged_and_doubles_nothing(tmp_path: Path, kill_after: int) -> None:
    async with service(tmp_path) as (process, stub, _):
        senders = Senders(stub, kill_after=kill_after, process=process)
        await senders.run()
        assert await process.wait() == -signal.SIGKILL
    assert len(senders.sent) > len(senders.acknowledged) >= kill_after

    async with service(tmp_path) as (process, stub, _):
        survived = {int(row["id"], 16) for row in rows(tmp_path)}
        for first, size in senders.sent.items():
            kept = survived & set(range(first, first + size))
            assert len(kept) in ({size} if first in senders.acknowledged else {0, size})  # whole, or not at all
            answer = await send(stub, first, size)  # as a sender without an answer does
            assert (answer.recorded, answer.duplicates) == (size - len(kept), len(kept))
    assert sorted(int(row["id"], 16) for row in rows(tmp_path)) == list(range(senders._next))


class Spenders:
    """Concurrent calls that reserve money and then record what they cost; they stop at the first failure."""

    def __init__(self, usage: UsageServiceAsyncStub, accounts: AccountServiceAsyncStub) -> None:
        self.usage, self.accounts = usage, accounts
        self.begun: list[int] = []
        self.recorded = asyncio.Semaphore(0)

    async def run(self) -> None:
        try:
            while True:
                self.begun.append(number := len(self.begun))
                await self.call(number)
                self.recorded.release()
        except aio.AioRpcError as error:
            assert from_rpc_error(error).reason.name == "UNAVAILABLE"  # noqa: PT017 -- the loop ends here

    async def call(self, number: int) -> None:
        """100 tokens in and 10 out at most, of which 5 are used: 21 and 18 millionths of a dollar."""
        event, model = f"{number:032x}", "gpt-4o-mini"
        ask = account_service_pb2.ReserveBudgetRequest(
            event_id=event,
            project="default",
            provider="openai",
            model=model,
            input_tokens=100,
            max_output_tokens=10,
            expires_at_us=_EXPIRES,
        )
        await self.accounts.ReserveBudget(ask, timeout=60)
        used = {"input_uncached": 100, "output_text": 5}
        made = attempt(
            number, provider="openai", sent_model=model, answered_model=model, usage=used, started_at_us=_EXPIRES
        )
        await self.usage.RecordAttempts(record(made), timeout=60)


_EXPIRES = time.time_ns() // 1000 + 3_600_000_000
_TOTAL = "SELECT spent_nano, reserved_nano FROM budget_spending"


async def test_kill_9_between_reserving_and_recording_keeps_a_budget_exact(tmp_path: Path) -> None:
    wanted = budget(limit_usd=1000, period=account_pb2.BUDGET_PERIOD_TOTAL)
    async with service(tmp_path) as (process, usage, accounts):
        await accounts.SetBudget(account_service_pb2.SetBudgetRequest(budget=wanted))
        spenders = Spenders(usage, accounts)
        running = [asyncio.create_task(spenders.run()) for _ in range(8)]
        for _ in range(150):
            await spenders.recorded.acquire()
        os.kill(process.pid, signal.SIGKILL)
        await asyncio.gather(*running)
        assert await process.wait() == -signal.SIGKILL

    async with service(tmp_path) as (_, usage, accounts):
        (cost,) = {row["cost_usd"] for row in rows(tmp_path)}
        counted, held = len(rows(tmp_path)), rows(tmp_path, "SELECT amount_nano FROM reservations")
        (state,) = rows(tmp_path, _TOTAL)
        assert state == {
            "spent_nano": round(cost * 1e9) * counted,
            "reserved_nano": sum(row["amount_nano"] for row in held),
        }
        again = Spenders(usage, accounts)
        for number in spenders.begun:  # as a router does that had no answer
            await again.call(number)
        release = [row["event_id"] for row in rows(tmp_path, "SELECT event_id FROM reservations")]
        for event in release:  # of attempts that had been recorded before they were reserved again
            await accounts.ReleaseBudget(account_service_pb2.ReleaseBudgetRequest(event_id=event))
        (state,) = rows(tmp_path, _TOTAL)
        assert state == {"spent_nano": round(cost * 1e9) * len(spenders.begun), "reserved_nano": 0}
