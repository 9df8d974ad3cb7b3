"""The limits of one HTTP connection: slow senders and readers lose it, and whoever shares it with others is heard."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop
from aigateway_common.departure import EXTENSION
from aigateway_common.load import FULL, Load
from aigateway_launcher.http_protocol import MAX_HEAD_BYTES, Gate
from aigateway_launcher.http_server import HttpServer
from typing_extensions import override

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n"


@dataclass
class App:
    """Reads what it is sent, answers by path, and remembers who left."""

    left: list[str] = field(default_factory=list)
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    full: list[bool] = field(default_factory=list)
    """Of each request that got here, whether there was no room for it."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["path"] == "/read":
            while (message := await receive()).get("more_body"):
                pass
            if message["type"] == "http.disconnect":
                return
        self.headers = list(scope["headers"])
        self.full.append(scope["state"].get(FULL, False))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/listen":
            scope["extensions"][EXTENSION].listen(self.gone.set)
            self.begun.set()
            await self.gone.wait()
            return
        if scope["path"] == "/flood":
            for _ in range(1000):
                await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
        if scope["path"] in ("/hold", "/flood"):
            await send({"type": "http.response.body", "body": b"", "more_body": True})  # now its head has left
            self.begun.set()
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left.append(scope["path"])
            self.gone.set()
            return
        await send({"type": "http.response.body", "body": b"done"})


@asynccontextmanager
async def serving(
    app: App, **limits: Any
) -> AsyncIterator[tuple[HttpServer, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A server with these limits, and one connection to it."""
    server = HttpServer(app, "127.0.0.1", 0, gate=Gate(**limits))
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield server, reader, writer
    finally:
        writer.transport.abort()
        await server.drain(1)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server closes."""
    return await asyncio.wait_for(reader.read(), 10)


def reason(answer: bytes) -> tuple[bytes, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.split(b" ")[1], json.loads(body)["error"]["code"]


async def test_a_connection_on_which_nothing_is_asked_is_closed() -> None:
    async with serving(App(), head_seconds=0.1) as (_, reader, _writer):
        assert await rest(reader) == b""


@pytest.mark.parametrize("begun", [b"GET / HT", b"GET / HTTP/1.1\r\nx-a: b\r\n", b"\r\n"])
async def test_a_head_that_does_not_end_in_time_is_refused(begun: bytes) -> None:
    async with serving(App(), head_seconds=0.1) as (_, reader, writer):
        writer.write(begun)
        assert reason(await rest(reader)) == (b"408", "request_timeout")


async def test_so_is_the_second_one_of_a_connection() -> None:
    async with serving(App(), head_seconds=0.1) as (_, reader, writer):
        writer.write(GET + b"GET / HT")
        answers = await rest(reader)
        assert answers.count(b"HTTP/1.1 200") == answers.count(b"HTTP/1.1 408") == 1


async def test_a_body_that_does_not_end_in_time_is_refused() -> None:
    async with serving(App(), body_seconds=0.1) as (_, reader, writer):
        writer.write(POST + b"12345")
        assert reason(await rest(reader)) == (b"408", "request_timeout")


async def test_what_comes_of_a_body_earns_it_time() -> None:
    async with serving(App(), body_seconds=0.1, body_rate=10) as (_, reader, writer):
        writer.write(POST + b"12345")  # half a second more
        await asyncio.sleep(0.3)
        writer.write(b"67890")
        assert (await asyncio.wait_for(reader.readline(), 10)).split(b" ")[1] == b"200"


async def test_a_client_that_reads_nothing_is_disconnected_and_its_call_told() -> None:
    app = App()
    async with serving(app, stalled_seconds=0.1) as (_, _reader, writer):
        writer.write(GET.replace(b"/ ", b"/flood "))
        await asyncio.wait_for(app.gone.wait(), 10)


async def test_a_client_may_take_its_time_to_ask_again_and_to_be_answered() -> None:
    app = App()
    async with serving(app, head_seconds=0.1, body_seconds=0.1, stalled_seconds=0.1) as (_, reader, writer):
        writer.write(GET)
        await reader.readuntil(b"0\r\n\r\n")
        await asyncio.sleep(0.3)
        writer.write(GET.replace(b"/ ", b"/hold "))
        await asyncio.wait_for(app.begun.wait(), 10)
        await asyncio.sleep(0.3)
        assert not app.left


async def test_a_head_may_only_be_so_long() -> None:
    async with serving(App()) as (_, reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nx-a: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n")
        assert reason(await rest(reader)) == (b"413", "request_too_large")


async def test_trailers_are_no_headers() -> None:
    app = App()
    async with serving(app) as (_, reader, writer):
        writer.write(b"POST /read HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-api-key: k\r\n\r\n")
        await reader.readuntil(b"done")
    assert app.headers == [(b"transfer-encoding", b"chunked")]


async def test_who_asks_twice_at_once_and_leaves_is_missed_by_the_first_call() -> None:
    app = App()
    async with serving(app) as (_, _reader, writer):
        writer.write(GET.replace(b"/ ", b"/hold ") * 2)
        await asyncio.wait_for(app.begun.wait(), 10)
        writer.transport.abort()
        await asyncio.wait_for(app.gone.wait(), 10)
    assert app.left == ["/hold"]


@pytest.mark.parametrize("requests", [1, 2], ids=["alone", "with another request behind it"])
async def test_a_listener_is_told_that_the_client_left(requests: int) -> None:
    app = App()
    async with serving(app) as (_, _reader, writer):
        writer.write(GET.replace(b"/ ", b"/listen ") * requests)
        await asyncio.wait_for(app.begun.wait(), 10)
        assert not app.gone.is_set()
        writer.transport.abort()
        await asyncio.wait_for(app.gone.wait(), 10)


async def test_garbage_during_an_answer_ends_it_instead_of_going_into_it() -> None:
    app = App()
    async with serving(app) as (_, reader, writer):
        writer.write(GET.replace(b"/ ", b"/hold "))
        await asyncio.wait_for(app.begun.wait(), 10)
        writer.write(b"\0\0\0\r\n\r\n")
        try:
            got = await rest(reader)
        except ConnectionResetError:
            return
    assert b"400" not in got


async def test_a_server_that_leaves_says_so_in_its_last_answers() -> None:
    async with serving(App()) as (server, reader, writer):
        writer.write(GET)
        assert b"connection: close" not in await reader.readuntil(b"done\r\n0\r\n\r\n")
        leaving = asyncio.create_task(server.drain(5))
        await asyncio.sleep(0)
        writer.write(GET)
        assert b"connection: close" in await rest(reader)
        await leaving


class Room(Load):
    """Has room when it is told so."""

    def __init__(self) -> None:
        super().__init__("test", max_calls=1000)
        self.none = True

    @override
    def refuses(self, calls: int) -> bool:
        return self.none


def refusal(path: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
    return (503, [(b"content-length", b"2"), (b"retry-after", b"1")], b"no") if path == b"/read" else None


REFUSED = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\nretry-after: 1\r\n\r\nno"


async def test_a_call_without_room_is_refused_before_the_application_hears_of_it_and_the_connection_lives_on() -> None:
    app, room = App(), Room()
    async with serving(app, load=room, refuse=refusal, head_seconds=0.1) as (_, reader, writer):
        for _ in range(2):
            writer.write(POST + b"1234567890")
            assert await reader.readexactly(len(REFUSED)) == REFUSED
        await asyncio.sleep(0.3)  # nobody waits for the head of a request any more
        room.none = False
        writer.write(POST + b"1234567890")
        assert b"done" in await reader.readuntil(b"0\r\n\r\n")
    assert app.full == [False]


@pytest.mark.parametrize(
    "pieces",
    [
        [POST, b"1234567890"],
        [POST + b"12345", b"67890"],
        [POST[:10], POST[10:] + b"1234567890"],
        [POST.replace(b"/read", b"/other") + b"1234567890"],
        [POST.replace(b"host: x", b"connection: keep-alive") + b"1234567890"],
    ],
)
async def test_one_that_is_not_plainly_whole_reaches_the_application_with_the_word_that_there_is_none(
    pieces: list[bytes],
) -> None:
    app = App()
    async with serving(app, load=Room(), refuse=refusal) as (_, reader, writer):
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.05)
        assert b"done" in await reader.readuntil(b"0\r\n\r\n")
    assert app.full == [True]


async def test_what_is_no_call_has_room() -> None:
    app = App()
    async with serving(app, load=Room(), refuse=refusal) as (_, reader, writer):
        writer.write(GET)
        await reader.readuntil(b"0\r\n\r\n")
    assert app.full == [False]


def test_a_busy_loop_accepts_many_connections_in_a_turn() -> None:
    async def turns(connections: int) -> int:
        app = App()
        server = HttpServer(app, "127.0.0.1", 0)
        await server.start()
        # The system completes them; the loop stands still meanwhile.
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(connections)]
        count = 0
        while len(server.connections) < connections:
            count += 1
            await asyncio.sleep(0)
        for client in clients:
            client.close()
        await server.drain(1)
        return count

    assert uvloop.run(turns(160)) < 40
