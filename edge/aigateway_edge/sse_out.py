"""Writing an event stream to one caller: committing late, keeping it alive, and noticing that the caller has gone.

The status is committed with the first bytes, so that a failure before them still has its own. One task per stream
waits for the disconnect and, whenever the stream has been silent for the heartbeat's time, writes a comment; there is
no timer per record. Not for reading streams: see `aigateway_common.sse`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from aigateway_common.errors import GatewayError
    from aigateway_common.outflow import Outflow
    from starlette.types import Receive, Send

    from aigateway_edge.errors import Headers

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_HEARTBEAT: Final = b": keep-alive\n\n"


class SseOut:
    """One event stream."""

    __slots__ = (
        "_active",
        "_busy",
        "_failure",
        "_gone",
        "_headers",
        "_heartbeat",
        "_lock",
        "_put",
        "_receive",
        "_rest",
        "_send",
        "_task",
        "committed",
        "heartbeat",
    )

    def __init__(
        self,
        send: Send,
        receive: Receive,
        gone: Callable[[], None],
        failure: Callable[[GatewayError], bytes],
        heartbeat: float,
        headers: Headers,
        put: Outflow | None = None,
    ) -> None:
        self._send = send
        self._receive = receive
        self._gone = gone
        self._failure = failure  # how the caller's dialect tells one in mid-stream
        self._heartbeat = heartbeat
        self._headers = headers
        self._put = put
        self._rest = b""  # what `put` could not write
        self._lock = asyncio.Lock()  # the heartbeat and the stream never commit at once
        self._active = False
        self._busy = False  # a record waits for the connection: no sign of life is needed, or would get through
        self.heartbeat = _HEARTBEAT
        """What is written into a silent stream."""
        self.committed = False
        """Whether the status has been sent."""
        self._task: asyncio.Task[None] | None = asyncio.ensure_future(self._watch())

    async def send(self, data: bytes, headers: Headers | None = None) -> None:
        """Write some records; the first time with the status, and with `headers`."""
        self._active = True
        if not self.committed:
            await self._commit(headers or [])
        self._busy = True
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._busy = False

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
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            self._task = None  # it knows this stream: a cycle for the collector

    async def _commit(self, headers: Headers) -> None:
        async with self._lock:
            if not self.committed:
                all_headers = [*_HEADERS, *self._headers, *headers]
                await self._send({"type": "http.response.start", "status": 200, "headers": all_headers})
                self.committed = True

    async def _watch(self) -> None:
        while True:
            self._active = False
            try:
                async with asyncio.timeout(self._heartbeat):
                    message = await self._receive()
            except TimeoutError:
                if not (self._active or self._busy or self._lock.locked()):
                    await self.send(self.heartbeat)
                continue
            if message["type"] == "http.disconnect":
                self._gone()
                return
