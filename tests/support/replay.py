"""A provider stand-in on loopback: answers what a test says, keeps what it was sent, sees the client hang up.

A small HTTP/1.1 server of its own, in a thread with its own event loop, so that tests of any colour and other processes
can use it, and so that a closed socket is seen at once.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from support.exchanges import Exchange


@dataclass(frozen=True)
class Answer:
    """What to answer: the body in pieces, each one write on the socket."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    pieces: Sequence[bytes] = ()
    gap: float = 0.0
    """Seconds between pieces."""
    hold: bool = False
    """After the pieces, keep the answer open until the client hangs up or the server stops."""
    hold_before_headers: bool = False
    """Answer nothing at all until the client hangs up."""
    cut: bool = False
    """After the pieces, close the socket in mid-answer."""
    reset: bool = False
    """Answer nothing and reset the connection."""
    raw: bytes = b""
    """Written as it is instead of an answer, and the socket closed."""

    @classmethod
    def of(cls, body: object, status: int = 200, **headers: str) -> Self:
        """A JSON answer."""
        fields = {"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        return cls(status, fields, (json.dumps(body).encode(),))

    @classmethod
    def sse(cls, *records: object, done: bool = False, **more: Any) -> Self:
        """An event stream, one piece per record; a `str` is sent as it is, a dict as `data:` JSON."""
        pieces = [r.encode() if isinstance(r, str) else b"data: " + json.dumps(r).encode() + b"\n\n" for r in records]
        if done:
            pieces.append(b"data: [DONE]\n\n")
        return cls(200, {"content-type": "text/event-stream"}, pieces, **more)

    @classmethod
    def recorded(cls, exchange: Exchange, piece_size: int = 0) -> Self:
        """The recorded answer, whole or cut into pieces of `piece_size` bytes."""
        keep = {
            k: v
            for k, v in exchange.headers.items()
            if k.lower() not in {"transfer-encoding", "content-length", "content-encoding", "connection"}
        }
        size = piece_size or max(1, len(exchange.body))
        pieces = [exchange.body[i : i + size] for i in range(0, len(exchange.body), size)]
        return cls(exchange.status, keep, pieces)


@dataclass(frozen=True)
class Sent:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Upstream:
    """The stand-in. Use it as a context manager; `answers` are given in turn, the last one again and again."""

    def __init__(self, *answers: Answer, script: Callable[[Sent], Answer] | None = None) -> None:
        self.answers: deque[Answer] = deque(answers)
        self.script = script
        self.requests: list[Sent] = []
        self.arrived = threading.Event()
        """Set when a request has been read."""
        self.hung_up = threading.Event()
        """Set when a client closed its socket while an answer was held open."""
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def reset(self, *answers: Answer, script: Callable[[Sent], Answer] | None = None) -> None:
        """Forget what happened and answer anew."""
        self.answers = deque(answers)
        self.script = script
        self.requests = []
        self.arrived.clear()
        self.hung_up.clear()

    async def wait_arrived(self, timeout: float = 10) -> None:
        assert await asyncio.to_thread(self.arrived.wait, timeout), "no request arrived upstream"

    async def wait_hung_up(self, timeout: float = 10) -> None:
        assert await asyncio.to_thread(self.hung_up.wait, timeout), "the upstream connection stayed open"

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _stop(self) -> None:
        assert self._server is not None
        for listener in self._server.sockets:
            self._loop.remove_reader(listener.fileno())
        # A connection that asyncio is still accepting is in no task of ours; a server that closes now leaves it open.
        accepting = asyncio.all_tasks() - self._connections.keys() - {asyncio.current_task()}
        await asyncio.gather(*accepting, return_exceptions=True)
        self._server.close()
        connections = dict(self._connections)
        for task, writer in connections.items():
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*connections, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._connections[task] = writer
        task.add_done_callback(self._connections.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (sent := await _read(reader)) is not None:
                self.requests.append(sent)
                self.arrived.set()
                if not await self._answer(self._next(sent), reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            self.hung_up.set()
        except asyncio.CancelledError:
            pass
        finally:
            writer.close()

    def _next(self, sent: Sent) -> Answer:
        if self.script:
            return self.script(sent)
        return self.answers.popleft() if len(self.answers) > 1 else self.answers[0]

    async def _answer(self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if answer.hold_before_headers:
            return await self._held(reader)
        if answer.reset:
            linger = struct.pack("ii", 1, 0)  # on, for no time: closing resets
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return False
        if answer.raw:
            writer.write(answer.raw)
            await writer.drain()
            return False
        head = f"HTTP/1.1 {answer.status} X\r\ntransfer-encoding: chunked\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        writer.write(head.encode() + b"\r\n")
        for number, piece in enumerate(answer.pieces):
            if number and answer.gap:
                await asyncio.sleep(answer.gap)
            if piece:
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
        if answer.cut:
            return False
        if answer.hold:
            return await self._held(reader)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _held(self, reader: asyncio.StreamReader) -> bool:
        if not await reader.read(1):
            self.hung_up.set()
        return False


async def _read(reader: asyncio.StreamReader) -> Sent | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    url = urlsplit(target)
    return Sent(method, url.path, parse_qs(url.query), headers, body)
