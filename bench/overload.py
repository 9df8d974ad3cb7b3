"""`python -m bench.overload [TOPOLOGY] [SECONDS]`: four times the calls that the gateway can take, and the call after.

Calls are sent when they are due, whether or not earlier ones were answered (an open loop), over as many connections as
that takes, up to `CONNECTIONS`. Prints one JSON line per figure (`name`, `value`, `unit`): what was offered and what
became of it, how long answers and refusals took, and how long a single call takes before the overload and right after.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop
from typing_extensions import override

from bench.bodies import AT_ONCE, body
from bench.gateways import Features, gateway, issue
from bench.load import PATH, request
from bench.servers import Counting

TIMES = 4
"""Offered calls, as a multiple of what the gateway answers when it is asked as fast as it answers."""
CONNECTIONS = 2000
CAPACITY_SECONDS = 4
TICK = 0.002


@dataclass
class Seen:
    """What became of calls; times in seconds."""

    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    without_retry_after: int = 0
    otherwise: dict[bytes, int] = field(default_factory=dict)
    broken: int = 0
    unsent: int = 0
    """Calls that were due while every connection waited for an answer."""


class _Connection(asyncio.Protocol):
    """One call at a time."""

    def __init__(self, caller: _Caller) -> None:
        self._caller = caller
        self._data = b""
        self._began = 0.0
        self.transport: asyncio.Transport | None = None

    def ask(self, payload: bytes) -> None:
        assert self.transport is not None
        self._began = time.perf_counter()
        self.transport.write(payload)

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._data[:end].lower()
        at = head.find(b"content-length:")
        if len(self._data) >= end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0]):
            self._data = b""
            self._caller.ended(self, head, time.perf_counter() - self._began)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._caller.lost(self)


class _Caller:
    """Sends calls at a rate."""

    def __init__(self, port: int, payload: bytes) -> None:
        self._port = port
        self._payload = payload
        self._free: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._idle = asyncio.Event()
        self._again_until = 0.0
        self.seen = Seen()

    async def connect(self, count: int) -> None:
        """Open connections."""
        await asyncio.gather(*(self._connect() for _ in range(count)))

    async def keep(self, seconds: float) -> Seen:
        """Ask on each connection as soon as it has an answer."""
        self.seen = Seen()
        self._again_until = time.perf_counter() + seconds
        for _ in range(len(self._free)):
            self._send()
        await self._answers()
        self._again_until = 0.0
        return self.seen

    async def send(self, rate: float, seconds: float) -> Seen:
        """Send `rate` calls a second, then wait for what is still under way."""
        self.seen = Seen()
        began, sent = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - began) < seconds:
            due = int(elapsed * rate) - sent
            sent += due
            for _ in range(due):
                self._send()
            await asyncio.sleep(TICK)
        await self._answers()
        return self.seen

    def close(self) -> None:
        """End every connection."""
        for one in [*self._free, *self._busy]:
            assert one.transport is not None
            one.transport.abort()

    def ended(self, connection: _Connection, head: bytes, seconds: float) -> None:
        """An answer came."""
        self._busy.discard(connection)
        self._free.append(connection)
        status = head[9:12]
        if status == b"200":
            self.seen.answered.append(seconds)
        elif status in (b"503", b"429"):
            self.seen.refused.append(seconds)
            self.seen.without_retry_after += b"\r\nretry-after:" not in head
        else:
            self.seen.otherwise[status] = self.seen.otherwise.get(status, 0) + 1
        if time.perf_counter() < self._again_until:
            self._send()
        if not self._busy:
            self._idle.set()

    def lost(self, connection: _Connection) -> None:
        """A connection ended."""
        if connection in self._busy:
            self._busy.discard(connection)
            self.seen.broken += 1
        elif connection in self._free:
            self._free.remove(connection)

    async def _answers(self) -> None:
        self._idle.clear()
        if self._busy:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), 60)
        self.seen.broken += len(self._busy)

    def _send(self) -> None:
        if not self._free:
            self.seen.unsent += 1
            return
        connection = self._free.pop()
        self._busy.add(connection)
        connection.ask(self._payload)

    async def _connect(self) -> None:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(self), "127.0.0.1", self._port
        )
        self._free.append(connection)


@contextlib.asynccontextmanager
async def callers(port: int, payload: bytes, count: int) -> AsyncIterator[_Caller]:
    """Callers with `count` connections."""
    caller = _Caller(port, payload)
    await caller.connect(count)
    try:
        yield caller
    finally:
        caller.close()


async def measured(port: int, payload: bytes, seconds: float) -> dict[str, float]:
    """The figures of one gateway."""
    async with callers(port, payload, 32) as few:
        await few.keep(1)
        rate = len((await few.keep(CAPACITY_SECONDS)).answered) / CAPACITY_SECONDS
    async with callers(port, payload, 1) as one, callers(port, payload, CONNECTIONS) as many:
        before = await one.keep(1)
        cpu = time.process_time()
        seen = await many.send(TIMES * rate, seconds)
        cpu = time.process_time() - cpu
        after = await one.keep(1)
    answered, refused = sorted(seen.answered or [0.0]), sorted(seen.refused or [0.0])
    return {
        "capacity; calls/s": rate,
        "offered; calls/s": TIMES * rate,
        "not sent for want of a connection; calls": seen.unsent,
        "answered; calls/s": len(seen.answered) / seconds,
        "refused; calls/s": len(seen.refused) / seconds,
        "refused without Retry-After; calls": seen.without_retry_after,
        "answered otherwise; calls": sum(seen.otherwise.values()),
        "broken; calls": seen.broken,
        "answered, median; ms": statistics.median(answered) * 1000,
        "answered, 99th percentile; ms": answered[len(answered) * 99 // 100] * 1000,
        "refused, median; ms": statistics.median(refused) * 1000,
        "refused, 99th percentile; ms": refused[len(refused) * 99 // 100] * 1000,
        "a call alone before, median; ms": statistics.median(before.answered) * 1000,
        "a call alone right after, median; ms": statistics.median(after.answered) * 1000,
        "the first call right after; ms": after.answered[0] * 1000,
        "the generator's own CPU; cores": cpu / seconds,
    }


def main() -> None:
    """Measure and print."""
    topology = sys.argv[1] if len(sys.argv) > 1 else "embedded"
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 30.0
    with (
        Counting([sys.executable, "-m", "bench.mock_upstream"]) as mock,
        tempfile.TemporaryDirectory() as folder,
        gateway(Path(folder), topology, Features(), mock.port, 0) as server,
    ):
        issue(server, Features())
        asked = body("short", server.model.format(AT_ONCE), stream=False)
        server.until(200, "POST", PATH, asked, server.headers)
        figures = uvloop.run(measured(server.port, request(asked, server.headers), seconds))
    for name, value in figures.items():
        what, _, unit = name.rpartition("; ")
        print(json.dumps({"name": f"{topology}: {what}", "value": round(value, 3), "unit": unit}))


if __name__ == "__main__":
    main()
