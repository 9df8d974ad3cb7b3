"""The load over HTTP: whole calls and streams over plain sockets, with as little work per call as Python can do.

Run as `python -m bench.load PORT FILE`, FILE holding the bytes of one request; `bench.tally` says how it is talked to.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, cast

import uvloop
from typing_extensions import override

from bench.tally import Tally, converse

PATH: Final = "/v1/chat/completions"
_RECORD: Final = b"data: "
_END: Final = b"\r\n0\r\n\r\n"


def request(body: bytes, headers: Mapping[str, str]) -> bytes:
    """The bytes of one call."""
    lines = [f"POST {PATH} HTTP/1.1", "host: gateway", *(f"{name}: {value}" for name, value in headers.items())]
    lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Caller(asyncio.Protocol):
    """One connection, kept open, that makes call after call until an answer says `connection: close`.

    Then no request may follow on it (https://www.rfc-editor.org/rfc/rfc9112#section-9.6): once that answer is whole,
    the connection is closed and `again` called, which makes another.
    """

    def __init__(self, payload: bytes, tally: Tally, again: Callable[[], None]) -> None:
        self._payload, self._tally, self._again = payload, tally, again
        self._transport: asyncio.Transport | None = None
        self._began = self._last = 0.0
        self._head = True
        """The answer's head is still to come."""
        self._left = 0
        """Bytes of the body still to come; below 0 when only the end of the chunks says so."""
        self._last_one = False
        """The answer has said that it is the last on this connection."""
        self._over = False
        self._data = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; calling begins later."""
        self._transport = cast("asyncio.Transport", transport)

    def call(self) -> None:
        """Make one call; the next follows its answer."""
        assert self._transport is not None
        self._head, self._data, self._last = True, b"", 0.0
        self._began = time.perf_counter()
        self._transport.write(self._payload)

    @override
    def data_received(self, data: bytes) -> None:
        """Take a part of the answer."""
        if self._head:
            data = self._data = self._data + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                return
            if not self._begin(data[:end].lower()):
                return
            data, self._data = data[end + 4 :], b""
        if self._left < 0:
            self._chunks(data)
        elif (left := self._left - len(data)) > 0:
            self._left = left
        else:
            self._done()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """A server that hangs up, unless it has said so and its answer is whole, is a failure."""
        if not self._over and not self._tally.failure:
            self._tally.failure = f"the connection was closed: {exc}"

    def _begin(self, head: bytes) -> bool:
        if not head.startswith(b"http/1.1 200"):
            self._tally.failure = self._data[:1000].decode(errors="replace")
            return False
        at = head.find(b"content-length:")
        self._left = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else -1
        if (at := head.find(b"\r\nconnection:")) >= 0:
            self._last_one = b"close" in head[at + 13 :].split(b"\r\n", 1)[0]
        self._head = False
        return True

    def _chunks(self, data: bytes) -> None:
        joined = self._data + data  # a record's beginning may be split over two reads
        if count := joined.count(_RECORD):
            now = time.perf_counter()
            self._tally.records(count, self._began, self._last, now)
            self._last = now
        if joined.endswith(_END):
            self._done()
        else:
            self._data = b"" if joined.endswith(_RECORD) else joined[-(len(_END) - 1) :]

    def _done(self) -> None:
        self._tally.ended(self._began, time.perf_counter(), units=0 if self._last else 1)
        if self._last_one:
            self._hang_up()
        else:
            self.call()

    def _hang_up(self) -> None:
        assert self._transport is not None
        self._over = True
        self._transport.close()
        self._again()


async def run(port: int, payload: bytes, *, at_once: int, warm: float, ramp: float) -> Tally:
    """Call until there are no more questions; callers begin one after the other within `ramp` seconds."""
    loop = asyncio.get_running_loop()
    tally = Tally()
    connecting: set[asyncio.Task[None]] = set()

    async def connected() -> Caller:
        _, caller = await loop.create_connection(lambda: Caller(payload, tally, again), "127.0.0.1", port)
        return caller

    async def go_on() -> None:
        try:
            (await connected()).call()
        except OSError as error:
            tally.failure = tally.failure or f"there is no new connection: {error}"

    def again() -> None:
        task = loop.create_task(go_on())
        connecting.add(task)
        task.add_done_callback(connecting.discard)

    for number, caller in enumerate([await connected() for _ in range(at_once)]):
        loop.call_later(ramp * number / at_once, caller.call)
    await converse(tally, warm)
    return tally


def options(target: str) -> argparse.ArgumentParser:
    """The command line of a generator that calls `target`."""
    parser = argparse.ArgumentParser()
    parser.add_argument(target)
    parser.add_argument("file", type=Path)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--warm", type=float, default=0.0)
    parser.add_argument("--ramp", type=float, default=0.0)
    return parser


def main() -> None:
    """The command."""
    given = options("port").parse_args()
    coroutine = run(int(given.port), given.file.read_bytes(), at_once=given.at_once, warm=given.warm, ramp=given.ramp)
    print(json.dumps(uvloop.run(coroutine).summary()), flush=True)


if __name__ == "__main__":
    main()
