"""Workers on one socket: each has its share of the connections, and none is lost when a worker leaves or is gone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aigateway_launcher import acceptor
from aigateway_launcher.acceptor import SharedSocket, Tally
from aigateway_launcher.http_server import HttpServer
from aigateway_launcher.listener import listen
from typing_extensions import override

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class App:
    """Says which worker it is."""

    def __init__(self, worker: int) -> None:
        self.body = str(worker).encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": self.body})


class Workers:
    """Some workers in one event loop."""

    def __init__(self, folder: Path, count: int) -> None:
        self.parent = listen("127.0.0.1", 0)
        self.port = self.parent.getsockname()[1]
        self.tally = Tally.make(folder / "connections", count)
        self.servers: dict[int, HttpServer] = {}
        self.connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def start(self, worker: int) -> None:
        shared = SharedSocket(self.parent.dup(), self.tally, worker)
        shared.listener.setblocking(False)
        self.servers[worker] = HttpServer(App(worker), "", 0, shared=shared)
        await self.servers[worker].start()

    async def ask(self) -> int:
        """Which worker answers on a new connection, which stays open."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.connections.append((reader, writer))
        writer.write(GET)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 200")
        return int(await reader.readexactly(1))

    async def ask_many(self, count: int) -> list[int]:
        return await asyncio.gather(*(self.ask() for _ in range(count)))

    async def ask_again(self) -> None:
        """Ask on every connection once more; one that is closed after its answer is opened anew."""
        for index, (reader, writer) in enumerate(self.connections):
            writer.write(GET)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            await reader.readexactly(1)
            if b"connection: close" in head.lower():
                writer.close()
                await writer.wait_closed()
                self.connections[index] = await asyncio.open_connection("127.0.0.1", self.port)

    def spread(self) -> list[int]:
        return [len(self.servers[worker]._server.server_state.connections) for worker in sorted(self.servers)]

    async def forgotten(self) -> None:
        """Until the workers have noticed that nobody is connected."""
        for _ in range(5000):
            still = [one._server.server_state.connections for one in self.servers.values()]
            if not any(still) and self.tally.fewest() == 0:
                return
            await asyncio.sleep(0.001)
        raise AssertionError("connections that ended are still counted")

    def hang_up(self) -> None:
        for _, writer in self.connections:
            writer.transport.abort()
        self.connections.clear()


@asynccontextmanager
async def workers(folder: Path, count: int = 2, started: int | None = None) -> AsyncIterator[Workers]:
    made = Workers(folder, count)
    for worker in range(count if started is None else started):
        await made.start(worker)
    try:
        yield made
    finally:
        made.hang_up()
        made.parent.close()
        await asyncio.gather(*(server.drain(1) for server in made.servers.values()))
        made.tally.close()


@pytest.mark.parametrize("connections", [8, 32, 128])
async def test_connections_that_come_at_once_spread_evenly(tmp_path: Path, connections: int) -> None:
    async with workers(tmp_path, 4) as running:
        answered = await running.ask_many(connections)
    shares = [answered.count(worker) for worker in range(4)]
    assert max(shares) - min(shares) <= connections // 32, shares
    assert sum(shares) == connections


async def test_who_has_fewer_connections_takes_the_next(tmp_path: Path) -> None:
    async with workers(tmp_path, started=1) as running:
        assert await running.ask_many(6) == [0] * 6
        await running.start(1)
        assert await running.ask_many(6) == [1] * 6
        running.hang_up()
        await running.forgotten()
        assert sorted(await running.ask_many(2)) == [0, 1]


async def test_callers_who_keep_their_connections_spread_over_a_worker_that_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "CLOSE_SECONDS", 0.0)
    async with workers(tmp_path, started=1) as running:
        await running.ask_many(16)
        await running.start(1)
        for _ in range(3):
            await running.ask_again()
        assert max(running.spread()) <= 9
        settled = running.spread()
        await running.ask_again()
        assert running.spread() == settled


async def test_connections_are_closed_for_others_one_at_a_time(tmp_path: Path) -> None:
    async with workers(tmp_path, started=1) as running:
        await running.ask_many(16)
        running.tally.write(1, 0)  # it says that it has none, and accepts none
        assert running.servers[0]._server.acceptor is not None
        asked = [running.servers[0]._server.acceptor.crowded() for _ in range(16)]
        assert sum(asked) == 1


async def test_a_worker_that_takes_no_connections_only_holds_the_others_up_for_a_moment(tmp_path: Path) -> None:
    async with workers(tmp_path, started=1) as running:
        running.tally.write(1, 0)  # it says that it has none, and is busy with something else
        assert await running.ask_many(5) == [0] * 5


async def test_connections_wait_while_no_worker_is_there(tmp_path: Path) -> None:
    async with workers(tmp_path, started=0) as running:
        asked = asyncio.create_task(running.ask())
        await asyncio.sleep(0)
        await running.start(1)
        assert await asked == 1


async def test_one_that_leaves_lets_the_others_take_what_comes_and_the_last_ones_take_it_all(tmp_path: Path) -> None:
    async with workers(tmp_path) as running:
        assert sorted(await running.ask_many(2)) == [0, 1]
        leaving = asyncio.create_task(running.servers.pop(0).drain(5))
        await asyncio.sleep(0)
        answered = await running.ask_many(16)
        assert answered.count(1) > answered.count(0), "it takes what the other leaves for a moment, and no more"
        running.hang_up()
        await leaving
        assert await running.ask_many(4) == [1] * 4
        both = asyncio.create_task(running.servers.pop(1).drain(5))
        await asyncio.sleep(0)
        assert await running.ask() == 1
        running.hang_up()
        await both


async def test_a_process_without_descriptors_tries_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "_PAUSE", 0.01)
    failures = iter([OSError(24, "Too many open files"), OSError(24, "Too many open files")])

    class Short(socket.socket):
        @override
        def accept(self) -> Any:
            for failure in failures:
                raise failure
            return super().accept()

    async with workers(tmp_path, 1, started=0) as running:
        shared = SharedSocket(Short(fileno=running.parent.dup().detach()), running.tally, 0)
        shared.listener.setblocking(False)
        running.servers[0] = HttpServer(App(0), "", 0, shared=shared)
        await running.servers[0].start()
        assert await running.ask() == 0
    assert next(failures, None) is None
