"""The usage service in a process of its own, killed in the middle of its work."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aigateway.v1 import usage_service_pb2_grpc
from aigateway_common.errors import from_rpc_error
from aigateway_common.serving import grpc_channel
from grpc import aio
from support.attempts import attempt, record
from support.ledger import rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

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
async def service(folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, UsageServiceAsyncStub]]:
    url = f"sqlite+aiosqlite:///{folder / 'ledger.db'}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SERVER, url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        port = int(await asyncio.wait_for(process.stdout.readline(), 60))
        async with grpc_channel(f"127.0.0.1:{port}") as channel:
            yield process, usage_service_pb2_grpc.UsageServiceStub(channel)
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
    async with service(tmp_path) as (process, stub):
        senders = Senders(stub, kill_after=kill_after, process=process)
        await senders.run()
        assert await process.wait() == -signal.SIGKILL
    assert len(senders.sent) > len(senders.acknowledged) >= kill_after

    async with service(tmp_path) as (process, stub):
        survived = {int(row["id"], 16) for row in rows(tmp_path)}
        for first, size in senders.sent.items():
            kept = survived & set(range(first, first + size))
            assert len(kept) in ({size} if first in senders.acknowledged else {0, size})  # whole, or not at all
            answer = await send(stub, first, size)  # as a sender without an answer does
            assert (answer.recorded, answer.duplicates) == (size - len(kept), len(kept))
    assert sorted(int(row["id"], 16) for row in rows(tmp_path)) == list(range(senders._next))
