"""Writing an event stream to one caller: committing late, and keeping it alive.

The status is committed with the first bytes, so that a failure before them still has its own. One timer per stream
looks whether it has been silent for the heartbeat's time, and then has a comment written; there is none per record.
Not for reading streams: see `aigateway_common.sse`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from aigateway_common.errors import GatewayError
    from aigateway_common.outflow import Outflow
    from starlette.types import Send

    from aigateway_edge.errors import Headers

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_HEARTBEAT: Final = b": keep-alive\n\n"


class SseOut:
    """One event stream.

    Args:
        send: ASGI's.
        failure: Makes the records that tell of a failure in mid-stream.
        heartbeat: Seconds of silence after which there is a sign of life.
        headers: Go with the status.
        closed: Called once nothing but the end is still to be written.
        put: Writes at once, where the server can; see `aigateway_common.outflow`.
    """

    __slots__ = (
        "_active",
        "_beat",
        "_busy",
        "_closed",
        "_failure",
        "_headers",
        "_heartbeat",
        "_lock",
        "_loop",
        "_put",
        "_rest",
        "_send",
        "_timer",
        "committed",
        "heartbeat",
    )

    def __init__(
        self,
        send: Send,
        failure: Callable[[GatewayError], bytes],
        heartbeat: float,
        headers: Headers,
        closed: Callable[[], object],
        put: Outflow | None = None,
    ) -> None:
        self._send = send
        self._failure = failure
        self._heartbeat = heartbeat
        self._headers = headers
        self._closed: Callable[[], object] | None = closed
        self._put = put
        self._rest = b""  # what `put` could not write
        self._lock = asyncio.Lock()  # the heartbeat and the stream never commit at once
        self._active = False
        self._busy = False  # a record waits for the connection: no sign of life is needed, or would get through
        self.heartbeat = _HEARTBEAT
        """What is written into a silent stream."""
        self.committed = False
        """Whether the status has been sent."""
        self._beat: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(heartbeat, self._look)

    async def send(self, data: bytes, headers: Headers | None = None) -> None:
        """Write some records; the first time with the status, and with `headers`."""
        self._active = True
        await self._write(data, headers or [])

    def put(self, data: bytes) -> bool:
        """Write some records of a stream whose status is sent, without waiting; False where it is time to `drain`."""
        if self._put is None:
            self._rest += data
            return False
        self._active = True
        return self._put(data)

    async def drain(self) -> None:
        """Wait until there is room for more."""
        rest, self._rest = self._rest, b""
        await self.send(rest)

    async def end(self, data: bytes) -> None:
        """Write the last records and end the response."""
        self.close()
        if not self.committed:
            await self._commit([])
        await self._send({"type": "http.response.body", "body": data})

    async def fail(self, error: GatewayError) -> bool:
        """Write the records of a failure and end the response, without the mark that ends a whole stream.

        False, and nothing is written, while the status is still open: then the failure can have its own.
        """
        self.close()
        async with self._lock:
            committed = self.committed
        if committed:
            await self._send({"type": "http.response.body", "body": self._failure(error)})
        return committed

    def close(self) -> None:
        """Give no more signs of life."""
        if self._closed is None:
            return
        self._closed()
        self._closed = None
        self._timer.cancel()
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    async def _write(self, data: bytes, headers: Headers) -> None:
        if not self.committed:
            await self._commit(headers)
        self._busy = True
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._busy = False

    async def _commit(self, headers: Headers) -> None:
        async with self._lock:
            if not self.committed:
                all_headers = [*_HEADERS, *self._headers, *headers]
                await self._send({"type": "http.response.start", "status": 200, "headers": all_headers})
                self.committed = True

    def _look(self) -> None:
        self._timer = self._loop.call_later(self._heartbeat, self._look)
        if not (self._active or self._busy or self._lock.locked()):
            self._beat = self._loop.create_task(self._live(), name="sign of life")
        self._active = False

    async def _live(self) -> None:
        with suppress(OSError):  # whoever writes the stream learns of it as well
            await self._write(self.heartbeat, [])
