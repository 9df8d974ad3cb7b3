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

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            self.sent.append(message["body"])

    async def receive(self) -> Any:
        await asyncio.Event().wait()

    def put(self, data: bytes) -> bool:
        self.sent.append(b"at once: " + data)
        return not self.full


@contextmanager
def stream(server: Server, put: Outflow | None) -> Iterator[SseOut]:
    out = SseOut(server.send, server.receive, lambda: None, lambda _: b"", 60, [], put)
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
