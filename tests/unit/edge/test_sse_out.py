"""Writing an event stream without waiting where the server offers it, and as ever where it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aigateway_common.outflow import Outflow
from aigateway_edge.sse_out import SseOut


class Server:
    """What the application sent, in order; `full` says that the connection takes no more for now."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.full = False
        self.closed = 0
        self.room = asyncio.Event()
        self.room.set()
        self._told = asyncio.Condition()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            await self.room.wait()
            async with self._told:
                self.sent.append(message["body"])
                self._told.notify_all()

    async def heard(self, count: int) -> None:
        """Wait until so much was sent."""
        async with self._told:
            await asyncio.wait_for(self._told.wait_for(lambda: len(self.sent) >= count), 10)

    def close(self) -> None:
        self.closed += 1

    def put(self, data: bytes) -> bool:
        self.sent.append(b"at once: " + data)
        return not self.full


@contextmanager
def stream(server: Server, put: Outflow | None, heartbeat: float = 60) -> Iterator[SseOut]:
    out = SseOut(server.send, lambda _: b"", heartbeat, [], closed=server.close, put=put)
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


async def test_a_silent_stream_shows_a_sign_of_life_each_time_and_one_that_goes_on_none() -> None:
    server = Server()
    with stream(server, server.put, heartbeat=0.05) as out:
        await server.heard(3)
        assert server.sent == [b": keep-alive\n\n"] * 3
        assert out.committed
        for _ in range(20):  # longer than two heartbeats
            out.put(b"x")
            await asyncio.sleep(0.01)
    assert server.sent[3:].count(b": keep-alive\n\n") <= 1  # the first silence may just have ended


async def test_no_sign_of_life_is_written_while_a_record_waits_for_the_connection() -> None:
    server = Server()
    server.room.clear()
    with stream(server, None, heartbeat=0.01) as out:
        sending = asyncio.ensure_future(out.send(b"first"))
        await asyncio.sleep(0.1)
        assert server.sent == []
        server.room.set()
        await sending
    assert server.sent[0] == b"first"


async def test_closing_ends_signs_of_life_and_is_told_once() -> None:
    server = Server()
    with stream(server, None, heartbeat=0.01) as out:
        await server.heard(1)
        await out.end(b"last")
        out.close()
        await asyncio.sleep(0.05)
        assert server.sent[-1] == b"last"
    assert server.closed == 1
