"""One HTTP/1.1 answer as it comes over a connection: status and headers, then the body, read by who waits for it.

This is the little that the answer to one request needs, over the parser that aiohttp has too (llhttp, by way of
httptools): aiohttp's reader cost a quarter of all that is done for a chunk of a stream. Bounded: a head has at most
`_HEAD_BYTES`, and a body that nobody reads stops the connection at `_HELD_BYTES`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import aiohttp
import httptools
import httpx
from httpx_aiohttp.transport import map_aiohttp_exceptions
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection

_HEAD_BYTES: Final = 128 * 1024
"""The most that may come without bringing any of the body: a head, or what stands between two chunks."""
_HELD_BYTES: Final = 128 * 1024
"""Bytes of the body that wait to be read before no more are taken from the connection."""
_FIRST_FINAL: Final = 200
_BODILESS: Final = frozenset({204, 304})


class Answer(httpx.AsyncByteStream):
    """The answer to one request; its connection goes back to the pool once it is whole, and is closed before.

    `feed` and `lost` are the connection's to call, whatever begins with `on_` is the parser's.
    """

    def __init__(self, connection: Connection, protocol: ResponseHandler) -> None:
        self._connection = connection
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        parser = httptools.HttpResponseParser(self)
        # As aiohttp has it, and with it what browsers take.
        parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._parser: httptools.HttpResponseParser | None = parser
        """None once no more is expected, so that the two do not hold each other."""
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        """As they were sent, once `head` has returned."""
        self._headed = False
        self._framed = False
        """The head says where the body ends; else it ends with the connection."""
        self._bodiless = 0
        """Bytes that have come since the last of the body."""
        self._pieces: list[bytes] = []
        self._held = 0
        self._paused = False
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[bytes] | None = None
        """Of who waits: for the head, or for some of the body, which is then handed over by it."""
        self.shortcut: Callable[[bytes], bool] | None = None
        """Is shown what comes while somebody waits for it; what it takes, by answering True, is not read any more."""
        self.complete = False
        """All of it has come, though perhaps not all is read."""

    async def head(self) -> None:
        """Wait for status and headers. Raises aiohttp's and httpx's errors."""
        if not self._headed:
            await self._wait()

    async def read(self) -> bytes:
        """What has come of the body, once some has; empty at the end. Raises aiohttp's and httpx's errors."""
        pieces = self._pieces
        if not pieces:
            return b"" if self.complete else await self._wait()
        self._pieces, self._held = [], 0
        self._resume()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while piece := await self.read():
                yield piece
        except aiohttp.ClientError:
            with map_aiohttp_exceptions():
                raise

    @override
    async def aclose(self) -> None:
        self.shortcut = None  # the connection knows this answer until it has another, and must not hold on to a call
        if not self.complete:
            self._parser = None
            self._connection.close()

    def _wait(self) -> asyncio.Future[bytes]:
        if self._failure is not None:
            raise self._failure
        waiter = self._waiter = self._loop.create_future()
        return waiter

    def _waiting(self) -> asyncio.Future[bytes] | None:
        """The future of who waits; it is not to be had again."""
        waiter, self._waiter = self._waiter, None
        return None if waiter is None or waiter.done() else waiter

    def _pause(self) -> None:
        """Leave what comes next with the system; not by aiohttp's protocol, which would pause a parser of its own."""
        if not self._paused and self._protocol.transport is not None:
            self._paused = True
            self._protocol.transport.pause_reading()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._protocol.transport is not None:
                self._protocol.transport.resume_reading()

    # What the connection tells.

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        parser = self._parser
        if parser is None:
            self._protocol.close()  # nothing was asked for
            return
        self._bodiless += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._protocol.force_close()
            if not self.complete:
                self._reject(error)
                return
        if self.complete:
            self._end()
        elif self._bodiless > _HEAD_BYTES:
            self._reject(ValueError(f"over {_HEAD_BYTES} bytes of headers"))

    def lost(self, error: BaseException | None) -> None:
        """The connection has ended; that ends the answer too if its head did not say where it ends."""
        if self.complete or self._parser is None:
            return
        self._protocol.force_close()
        if error is None and self._headed and not self._framed:
            self._end()
        elif isinstance(error, OSError):
            self._fail(aiohttp.ClientOSError(*error.args), error)
        elif self._headed:
            self._fail(aiohttp.ClientPayloadError("the connection ended before the answer"), error)
        else:
            self._fail(aiohttp.ServerDisconnectedError(), error)

    def _reject(self, error: Exception) -> None:
        self._fail(httpx.RemoteProtocolError("this is no HTTP answer"), error)
        self._connection.close()

    def _fail(self, failure: Exception, cause: BaseException | None) -> None:
        failure.__cause__ = cause
        self._failure, self._parser = failure, None
        if (waiter := self._waiting()) is not None:
            waiter.set_exception(failure)

    def _end(self) -> None:
        self.complete, self._parser = True, None
        self._resume()
        self._connection.release()
        if (waiter := self._waiting()) is not None:
            waiter.set_result(b"")

    # What the parser tells.

    def on_message_begin(self) -> None:
        """One answer was asked for: another one may not follow on this connection."""
        if self.complete:
            raise ValueError("more came than was asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or after the body a trailer, which nobody wants."""
        if self._headed:
            return
        value = value.rstrip(b" \t")
        self.headers.append((name, value))
        match name.lower():
            case b"content-length":
                self._framed = True
            case b"transfer-encoding":
                self._framed = value.lower().endswith(b"chunked")

    def on_headers_complete(self) -> None:
        """Status and headers are here; those of a provisional answer are dropped."""
        parser = self._parser
        if parser is None or self.complete:
            return
        status = parser.get_status_code()
        if status < _FIRST_FINAL:
            self.headers.clear()
            self._framed = False
            return
        self.status = status
        self._headed = True
        if status in _BODILESS:
            self._framed = True
        if (waiter := self._waiting()) is not None:
            waiter.set_result(b"")

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._bodiless = 0
        waiter = self._waiter
        if waiter is not None:
            if self.shortcut is not None and not waiter.done() and self.shortcut(data):
                return
            self._waiter = None
            if not waiter.done():
                waiter.set_result(data)
                return
        self._pieces.append(data)
        self._held += len(data)
        if self._held > _HELD_BYTES:
            self._pause()

    def on_message_complete(self) -> None:
        """The answer is whole, unless it was a provisional one."""
        parser = self._parser
        if self._headed and parser is not None and not self.complete:
            self.complete = True
            if not parser.should_keep_alive():
                self._protocol.force_close()
