"""uvicorn's HTTP/1.1 connection with the limits that it leaves to a proxy in front.

A client that sends or reads too slowly, or whose head has no end, loses its connection; malformed requests are refused
in the shape of every other failure; and a server that is about to stop asks its clients to connect elsewhere. What a
request says is the application's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
from aigateway_common import departure, metrics, outflow
from aigateway_common.errors import GatewayError
from aigateway_common.load import FULL, Load
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from aigateway_launcher import http_shed
from aigateway_launcher.http_answer import Answer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterable

    from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

MAX_HEAD_BYTES: Final = 64 * 1024
"""Bytes of a request's line and headers together; Go's net/http takes 1 MiB, nginx 32 KiB, gRPC metadata 8 KiB."""


@dataclass(slots=True)
class Gate:
    """What the connections of one server share."""

    head_seconds: float = 20.0
    """Seconds for a request's head, and for the first of it on a new connection.

    As Apache has it: https://httpd.apache.org/docs/2.4/mod/mod_reqtimeout.html
    """
    body_seconds: float = 20.0
    """Seconds for a request's body, and one more for every `body_rate` bytes of it that have come."""
    body_rate: int = 500
    stalled_seconds: float = 60.0
    """Seconds that a client may leave an answer unread once no more of it can be buffered."""
    leaving: bool = False
    """The server is about to stop: each answer is the last one on its connection."""
    crowded: Callable[[], bool] | None = None
    """Whether the connection that asks next should be closed after its answer, for another server to have it."""
    lost: Callable[[], None] | None = None
    """Called when a connection has ended."""
    load: Load | None = None
    """Tells when there is no room for a call."""
    refuse: Callable[[bytes], tuple[int, Iterable[tuple[bytes, bytes]], bytes] | None] | None = None
    """The application's answer to a call on a path that there is no room for: status, headers, body."""


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, gate: Gate, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._gate = gate
        self._head = 0
        """Bytes of the head being read."""
        self._unparsed = 0
        """Bytes since the parser last made something of them: chunk extensions and endless headers show up here."""
        self._body = 0
        self._reading: str = "head"
        """What is awaited: `head`, `body`, or nothing while a request is answered or the connection idles."""
        self._since = self.loop.time()
        self._slow: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._answering: RequestResponseCycle | None = None
        self._departure: departure.Departure | None = None
        """Of the client that `_answering` is for."""

    # What comes in.

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self._watch()

    @override
    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if (load := self._gate.load) is not None and load.refuses(len(self.tasks)) and self._shed(load, data):
            return
        self._unparsed += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._unparsed > MAX_HEAD_BYTES:
            self._refuse(_too_large())
        elif not self._reading and self._idle and self.timeout_keep_alive_task is None:
            self._await("head")  # line ends before a request: the parser says nothing of them
        if self._reading and self._slow is None:
            self._watch()

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = self._body = 0
        self._await("head")

    @override
    def on_url(self, url: bytes) -> None:
        self._head += len(url)
        if self._head <= MAX_HEAD_BYTES:
            super().on_url(url)

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        self._head += len(name) + len(value)
        if self._reading == "head" and self._head <= MAX_HEAD_BYTES:  # trailers mean nothing to any route
            super().on_header(name, value)

    @override
    def on_headers_complete(self) -> None:
        if self.transport.is_closing():
            return
        self._unparsed = 0
        if self._head > MAX_HEAD_BYTES:
            self._refuse(_too_large())
            return
        super().on_headers_complete()
        if self._gate.leaving or (self._gate.crowded is not None and self._gate.crowded()):
            self.cycle.keep_alive = False
        self._await("body")

    @override
    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            self._unparsed = 0
            self._body += len(body)
            super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        if not self.transport.is_closing():
            self._unparsed = 0
            self._reading = ""
            super().on_message_complete()

    @override
    def send_400_response(self, msg: str) -> None:
        self._refuse(GatewayError("INVALID_REQUEST", "this is not an HTTP/1.1 request"))

    # What goes out.

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(self._gate.stalled_seconds, self.transport.abort)

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._slow, self._stalled):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        if (cycle := self._answering) is not None and not cycle.response_complete:
            cycle.disconnected = True  # uvicorn tells the last request alone, which may wait behind this one
            cycle.message_event.set()
            if self._departure is not None:
                self._departure.happened()
        if self._gate.lost is not None:
            self._gate.lost()

    def leave(self) -> None:
        """Make the answer under way the last one, unless its head has already promised that more may follow."""
        if (cycle := self._answering) is not None and not cycle.response_started:
            cycle.keep_alive = False

    @override
    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        if (load := self._gate.load) is not None and cycle.scope["method"] == "POST" and load.full(len(self.tasks)):
            cycle.scope["state"][FULL] = True
        left = self._departure = departure.Departure(cycle.flow.resume_reading)  # as uvicorn's `receive` does
        answer = Answer(cycle)

        def answered(scope: Scope, receive: ASGIReceiveCallable, _: ASGISendCallable) -> Awaitable[None]:
            cast("dict[str, object]", scope)["extensions"] = {
                departure.EXTENSION: left,
                outflow.EXTENSION: answer.put,
            }
            return app(scope, receive, answer.send)

        super()._start_asgi_task(cycle, answered)

    def _shed(self, load: Load, data: bytes) -> bool:
        """Refuse `data` at once, where it is a whole call on a connection that has nothing else under way."""
        gate = self._gate
        begun = self._unparsed or (self._reading and self._head)
        if begun or not self._idle or gate.leaving or gate.refuse is None or self.flow.write_paused:
            return False
        path = http_shed.path_of(data)
        refused = gate.refuse(path) if path is not None else None
        if refused is None or not load.full(len(self.tasks)):
            return False
        metrics.call_unread("edge")
        self.transport.write(http_shed.answer(*refused))
        self._await("")
        self.on_response_complete()
        return True

    @property
    def _idle(self) -> bool:
        return self._answering is None or self._answering.response_complete

    # Slow clients.

    def _await(self, what: str) -> None:
        self._reading, self._since = what, self.loop.time()
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def _watch(self) -> None:
        self._slow = self.loop.call_later(self._left(), self._look)

    def _left(self) -> float:
        """Seconds until what is awaited must be here."""
        gate = self._gate
        allowed = gate.head_seconds if self._reading == "head" else gate.body_seconds + self._body / gate.body_rate
        return self._since + allowed - self.loop.time()

    def _look(self) -> None:
        self._slow = None
        if not self._reading or self.transport.is_closing():
            return
        if self._left() > 0:
            self._watch()
        elif self._head or self._unparsed:
            self._refuse(GatewayError("REQUEST_TIMEOUT", "the request came too slowly"))
        else:
            self.transport.close()  # nothing was asked

    def _refuse(self, error: GatewayError) -> None:
        """Answer with `error` unless an answer is under way, and close."""
        if (cycle := self._answering) is not None and cycle.response_started and not cycle.response_complete:
            self.transport.abort()
            return
        body = orjson.dumps(error.to_openai())
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[error.http_status] + head + body)
        self.transport.close()


def _too_large() -> GatewayError:
    return GatewayError("REQUEST_TOO_LARGE", f"the request's line and headers are over {MAX_HEAD_BYTES} bytes")
