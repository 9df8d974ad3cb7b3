"""Writing an event stream without waiting where the server offers it, and as ever where it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aigateway_common.outflow import Outflow
from aigateway_edge.sse_out import SseOut

HEARTBEAT = 61.5
"""Seconds that no other timer is set for."""
ALIVE = b": keep-alive\n\n"


class Server:
    """What the application sent, in order; `full` says that the connection takes no more for now."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.full = False
        self.closed = 0
        self.room = asyncio.Event()
        self.room.set()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            await self.room.wait()
            self.sent.append(message["body"])

    def close(self) -> None:
        self.closed += 1

    def put(self, data: bytes) -> bool:
        self.sent.append(b"at once: " + data)
        return not self.full


class Clock:
    """Rings the timers of streams when a test says so; each ring lets all tasks go as far as they can."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._loop = asyncio.get_running_loop()
        self._due: Callable[[], object] | None = None
        self._later = self._loop.call_later
        self._timer: asyncio.TimerHandle | None = None
        monkeypatch.setattr(self._loop, "call_later", self._set)

    def _set(self, seconds: float, callback: Callable[..., object], *arguments: Any) -> asyncio.TimerHandle:
        timer = self._later(seconds, callback, *arguments)
        if seconds == HEARTBEAT:
            self._due, self._timer = callback, timer
        return timer

    @property
    def cancelled(self) -> bool:
        return self._timer is not None and self._timer.cancelled()

    async def ring(self) -> None:
        assert self._timer is not None
        assert self._due is not None
        assert not self._timer.cancelled()
        self._timer.cancel()
        self._due()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


@contextmanager
def stream(server: Server, put: Outflow | None) -> Iterator[SseOut]:
    out = SseOut(server.send, lambda _: b"", HEARTBEAT, [], closed=server.close, put=put)
    try:
        yield out
    finally:
        out.close()


async def test_records_are_written_at_once_until_it_is_time_to_wait() -> None:
    server = Server()
    with stream(server, server.put) as out:
        await out.send(b"first")
        assert out.put(b"second") is True
        server.full = True
        assert out.put(b"third") is False
        await out.drain()
        await out.end(b"last")
    assert server.sent == [b"first", b"at once: second", b"at once: third", b"", b"last"]


async def test_a_server_that_knows_no_such_thing_gets_every_record_all_the_same() -> None:
    server = Server()
    with stream(server, None) as out:
        await out.send(b"first")
        assert out.put(b"second") is False
        await out.drain()
        assert out.put(b"third") is False
        await out.drain()
        await out.end(b"last")
    assert server.sent == [b"first", b"second", b"third", b"last"]


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def test_a_silent_stream_shows_a_sign_of_life_each_time_and_one_that_goes_on_none(clock: Clock) -> None:
    server = Server()
    with stream(server, server.put) as out:
        for count in (1, 2):
            await clock.ring()
            assert server.sent == [ALIVE] * count
        assert out.committed
        out.put(b"x")
        await clock.ring()
        assert server.sent[2:] == [b"at once: x"]  # it was heard since
        await clock.ring()
        assert server.sent[2:] == [b"at once: x", ALIVE]


async def test_no_sign_of_life_is_written_while_a_record_waits_for_the_connection(clock: Clock) -> None:
    server = Server()
    server.room.clear()
    with stream(server, None) as out:
        sending = asyncio.ensure_future(out.send(b"first"))
        await clock.settle()
        for _ in range(3):
            await clock.ring()
        server.room.set()
        await sending
        await clock.settle()
    assert server.sent == [b"first"]


async def test_one_sign_of_life_at_a_time_waits_for_the_connection(clock: Clock) -> None:
    server = Server()
    server.room.clear()
    with stream(server, None):
        for _ in range(3):
            await clock.ring()
        server.room.set()
        await clock.settle()
        assert server.sent == [ALIVE]


async def test_closing_ends_signs_of_life_and_is_told_once(clock: Clock) -> None:
    server = Server()
    server.room.clear()
    with stream(server, None) as out:
        await clock.ring()  # one is under way
        out.close()
        server.room.set()
        await out.end(b"last")
        out.close()
        assert clock.cancelled
        await clock.settle()
    assert (server.sent, server.closed) == ([b"last"], 1)
