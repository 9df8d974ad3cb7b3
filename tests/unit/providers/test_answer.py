"""One HTTP answer, however it is cut, and what becomes of its connection."""

from __future__ import annotations

import asyncio
import ssl
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self, cast

import aiohttp
import httpx
import pytest
import uvloop
from aigateway_common.errors import GatewayError
from aigateway_providers.adapter import CallContext
from aigateway_providers.answer import Answer
from aigateway_providers.settings import ProviderSettings
from aigateway_providers.upstream import Upstream
from hypothesis import given, settings
from hypothesis import strategies as st
from support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n"
OK = HEAD + b"content-length: 2\r\n\r\nok"
LARGE = 400 * 1024


class Wire:
    """Stands for connection and protocol, and notes what an answer does with them, in order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.transport = self

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda: self.done.append(name)

    def answer(self) -> Answer:
        return Answer(cast("Connection", self), cast("ResponseHandler", self))


async def drained(answer: Answer) -> bytes:
    await answer.head()
    parts = []
    while part := await answer.read():
        parts.append(part)
    return b"".join(parts)


async def read(pieces: Sequence[bytes], *, ends: bool = False, error: Exception | None = None) -> tuple[Any, ...]:
    """Status, headers, body and what was done with the connection."""
    wire = Wire()
    answer = wire.answer()

    reading = asyncio.ensure_future(drained(answer))
    for piece in pieces:
        await asyncio.sleep(0)
        if not answer.complete:
            answer.feed(piece)
    if ends:
        answer.lost(error)
    return answer.status, answer.headers, await reading, wire.done


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % len(data) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


@settings(deadline=None)
@given(places=st.lists(st.integers(0, 10_000), max_size=30))
@pytest.mark.parametrize(
    ("data", "headers", "body"),
    [
        (HEAD + b"Content-Length: 5\r\nX-A:  b \r\n\r\nhello", {"content-length": "5", "x-a": "b"}, b"hello"),
        (
            b"HTTP/1.1 100 Continue\r\nlink: </b>\r\ncontent-length: 7\r\n\r\n"
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
            + CHUNKED
            + b"\r\n5;x=y\r\nhello\r\n1 \r\n!\r\n0\r\nx-trailer: 1\r\n\r\n",
            {"transfer-encoding": "chunked"},
            b"hello!",
        ),
        (b"HTTP/1.1 200 \nContent-Length: 2\n\nok", {"content-length": "2"}, b"ok"),
        (HEAD + b"x-name: caf\xe9\r\ncontent-length: 0\r\n\r\n", {"x-name": "caf\xe9", "content-length": "0"}, b""),
    ],
    ids=["length", "chunked", "bare line ends", "empty"],
)
def test_an_answer_is_the_same_however_it_is_cut(
    data: bytes, headers: dict[str, str], body: bytes, places: list[int]
) -> None:
    status, found, content, done = asyncio.run(read(cut(data, places)))
    assert (status, dict(httpx.Headers(found)), content) == (200, headers, body)
    assert done == ["release"]


@pytest.mark.parametrize("head", [HEAD, HEAD + b"transfer-encoding: gzip\r\n", b"HTTP/1.0 200 OK\r\n"])
async def test_an_answer_without_a_length_ends_with_its_connection(head: bytes) -> None:
    assert await read([head + b"\r\nto the", b" end"], ends=True) == (
        200,
        [tuple(line.split(b": ")) for line in head.splitlines()[1:]],
        b"to the end",
        ["force_close", "release"],
    )


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_an_answer_that_has_no_body_is_whole_at_once(status: bytes) -> None:
    assert (await read([b"HTTP/1.1 " + status + b"\r\n\r\n"]))[2:] == (b"", ["release"])


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        HEAD + b"connection: close\r\ncontent-length: 2\r\n\r\nok",
        HEAD + b"content-length: 2\r\n\r\nok" + HEAD + b"content-length: 2\r\n\r\nno",
        HEAD + b"content-length: 2\r\n\r\nok and more",
        CHUNKED + b"connection: close\r\n\r\n2\r\nok\r\n0\r\n\r\nmore",
    ],
    ids=["HTTP/1.0", "close", "another answer", "rubbish", "after close"],
)
async def test_a_connection_is_not_used_again_where_it_said_so_or_more_came_than_was_asked_for(answer: bytes) -> None:
    _, _, body, done = await read([answer])
    assert body == b"ok"
    assert done[-1] == "release"
    assert set(done[:-1]) == {"force_close"}  # before it is released, so that it does not get into the pool


async def test_what_comes_when_nothing_was_asked_closes_the_connection() -> None:
    wire = Wire()
    answer = wire.answer()
    answer.feed(HEAD + b"content-length: 0\r\n\r\n")
    answer.feed(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert wire.done == ["release", "close"]


@pytest.mark.parametrize(
    ("pieces", "error", "failure"),
    [
        ([], None, aiohttp.ServerDisconnectedError),
        ([HEAD], None, aiohttp.ServerDisconnectedError),
        ([HEAD + b"content-length: 9\r\n\r\n", b"short"], None, aiohttp.ClientPayloadError),
        ([CHUNKED + b"\r\n5\r\nhello\r\n"], None, aiohttp.ClientPayloadError),
        ([HEAD + b"\r\nto the end"], ConnectionResetError(104, "reset"), aiohttp.ClientOSError),
        ([], ConnectionResetError(104, "reset"), aiohttp.ClientOSError),
    ],
    ids=["nothing", "half a head", "too short", "no last chunk", "reset", "reset at once"],
)
async def test_a_connection_that_ends_early_fails_the_answer(
    pieces: list[bytes], error: Exception | None, failure: type[Exception]
) -> None:
    with pytest.raises(failure):
        await read(pieces, ends=True, error=error)


@pytest.mark.parametrize(
    "pieces",
    [
        [b"SSH-2.0-OpenSSH_9.6\r\n"],
        [HEAD + b"content-length: x\r\n\r\n"],
        [CHUNKED + b"\r\nzz\r\n"],
        [CHUNKED + b"content-length: 3\r\n\r\n"],
        [b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nabc"],
        [HEAD, *[b"x-%d: %s\r\n" % (number, b"y" * 1000) for number in range(200)]],
        [HEAD + b"x: ", *[b"y" * 65536] * 3],
        [CHUNKED + b"\r\n1\r\na\r\n5;", *[b"y" * 65536] * 3],
        [CHUNKED + b"\r\n1\r\na\r\n0\r\n", *[b"x: %s\r\n" % (b"y" * 65536)] * 3],
    ],
    ids=[
        "no HTTP",
        "no length",
        "no chunk",
        "two lengths",
        "another protocol",
        "endless headers",
        "endless header",
        "endless extension",
        "endless trailers",
    ],
)
async def test_what_is_no_answer_or_has_no_end_is_refused_and_its_connection_closed(pieces: list[bytes]) -> None:
    wire = Wire()
    answer = wire.answer()
    for piece in pieces:
        if "close" not in wire.done:
            answer.feed(piece)
    assert wire.done[-1] == "close"
    with pytest.raises(httpx.RemoteProtocolError):
        await drained(answer)


async def test_a_body_that_nobody_reads_stops_the_connection_until_somebody_does() -> None:
    wire = Wire()
    answer = wire.answer()
    answer.feed(HEAD + b"content-length: %d\r\n\r\n" % LARGE)
    for _ in range(4):
        answer.feed(b"x" * 65536)
    assert wire.done == ["pause_reading"]
    assert len(await answer.read()) == 4 * 65536
    assert wire.done == ["pause_reading", "resume_reading"]
    answer.feed(b"x" * (LARGE - 4 * 65536))
    assert wire.done == ["pause_reading", "resume_reading", "pause_reading", "resume_reading", "release"]
    assert len(await answer.read()) == LARGE - 4 * 65536
    assert await answer.read() == b""


async def test_a_read_given_up_loses_nothing() -> None:
    wire = Wire()
    answer = wire.answer()
    answer.feed(HEAD + b"content-length: 2\r\n\r\n")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(answer.read(), 0)
    answer.feed(b"ok")
    assert await answer.read() == b"ok"


async def test_an_answer_that_is_closed_holds_on_to_nobody() -> None:
    answer = Wire().answer()
    answer.shortcut = lambda _: True
    answer.feed(OK)
    await answer.aclose()
    assert answer.shortcut is None


class Server:
    """Answers each request on a connection with the next of `answers`; the bytes of one may have a pause in them."""

    def __init__(
        self, *answers: bytes | tuple[bytes, ...], closing: int = 0, context: ssl.SSLContext | None = None
    ) -> None:
        self._answers = list(answers)
        self._closing = closing  # so many of the last answers end their connections
        self._context = context
        self.connections = 0
        self.url = ""
        self.said = asyncio.Event()
        """All of an answer's bytes were sent."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        scheme = "https" if self._context else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(2)
                answer = self._answers.pop(0)
                for piece in (answer,) if isinstance(answer, bytes) else answer:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.05)
                self.said.set()
                if len(self._answers) < self._closing:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def test_a_provider_that_says_more_than_it_was_asked_is_connected_to_anew() -> None:
    """And what it said is the answer to nothing."""
    async with Server((OK, OK.replace(b"ok", b"no")), OK) as server:
        upstream = Upstream(ProviderSettings("acme", "openai", server.url), {})
        for _ in range(2):
            assert (await upstream.fetch("POST", "/", context=CallContext(), body=b"{}"))[2] == b"ok"
            await server.said.wait()
            await asyncio.sleep(0)
        await upstream.aclose()
    assert server.connections == 2


async def test_a_large_answer_comes_whole_to_a_slow_reader() -> None:
    size = 8 * 1024 * 1024
    async with Server(HEAD + b"content-length: %d\r\n\r\n" % size + b"x" * size) as server:
        upstream = Upstream(ProviderSettings("acme", "openai", server.url), {})
        read = 0
        async with await upstream.send("POST", "/", context=CallContext(), body=b"{}") as answer:
            async for chunk in answer.chunks():
                read += len(chunk)
                await asyncio.sleep(0.001)
        await upstream.aclose()
    assert read == size


async def test_an_answer_left_half_read_closes_its_connection() -> None:
    half = HEAD + b"content-length: 9\r\n\r\nhalf"
    async with Server(half, OK) as server:
        upstream = Upstream(ProviderSettings("acme", "openai", server.url), {})
        async with await upstream.send("POST", "/", context=CallContext(), body=b"{}") as answer:
            assert await anext(answer.chunks()) == b"half"
        assert (await upstream.fetch("POST", "/", context=CallContext(), body=b"{}"))[2] == b"ok"
        await upstream.aclose()
    assert server.connections == 2


async def test_headers_without_end_are_the_providers_fault() -> None:
    async with Server((HEAD, *[b"x: %s\r\n" % (b"y" * 65536)] * 3)) as server:
        upstream = Upstream(ProviderSettings("acme", "openai", server.url), {})
        with pytest.raises(GatewayError, match="acme sent what is no HTTP answer"):
            await upstream.fetch("POST", "/", context=CallContext(), body=b"{}")
        await upstream.aclose()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_answers_come_by_tls_as_well(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces, large, to the end of the connection, and broken off; on one connection where that can be."""
    for name, content in Authority().issue("127.0.0.1").items():
        (tmp_path / name).write_bytes(content)
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    trusting = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    monkeypatch.setattr("aigateway_providers.upstream.ssl_context", lambda: trusting)
    size = 4 * 1024 * 1024
    pieces = (CHUNKED + b"\r\n2\r\non", b"\r\n2\r\ne \r\n", b"3\r\ntwo\r\n0\r\n\r\n")
    large = HEAD + b"content-length: %d\r\n\r\n" % size + b"x" * size
    endless = HEAD + b"connection: close\r\n\r\nto the end"

    async def run() -> None:
        short = HEAD + b"content-length: 9\r\n\r\nshort"
        async with Server(pieces, large, OK, endless, short, closing=2, context=serving) as server:
            upstream = Upstream(ProviderSettings("acme", "openai", server.url, idle_timeout=5.0), {})
            for body in (b"one two", b"x" * size, b"ok"):
                assert (await upstream.fetch("POST", "/", context=CallContext(), body=b"{}"))[2] == body
            assert server.connections == 1
            assert (await upstream.fetch("POST", "/", context=CallContext(), body=b"{}"))[2] == b"to the end"
            with pytest.raises(GatewayError, match="acme closed the connection in mid-answer"):
                await upstream.fetch("POST", "/", context=CallContext(), body=b"{}")
            await upstream.aclose()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())
