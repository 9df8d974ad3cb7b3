"""What an application sends its answer with: ASGI's `send` for one request of an HTTP/1.1 connection.

uvicorn's own writes the head by itself, so that every answer takes two system calls and two packets, of which each
wakes the caller up, and it looks through each header by two expressions. Here the head leaves with the first of the
body, for which ASGI asks anyhow, and all headers are looked through at once. Not for reading requests, nor for what
becomes of an application that fails: both stay uvicorn's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uvicorn._types import ASGISendEvent
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_MAX_JOINED: Final = 64 * 1024
"""Bytes of a body that are copied behind their head; copying more costs more than another system call."""
_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""What the name of a header may hold: https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2"""
_VALUE: Final = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
"""What its value may hold: https://www.rfc-editor.org/rfc/rfc9110#section-5.5"""
_CONNECTION: Final = b"\r\nconnection: "
_LENGTH: Final = b"\r\ncontent-length: "
_MAX_NAMES: Final = 256
_BODILESS: Final = frozenset({204, 304})


class _Beginnings(dict[bytes, bytes]):
    """The end of a line and how a header's begins, by its name; one that was seen is not looked through again."""

    def __missing__(self, name: bytes) -> bytes:
        """Raises RuntimeError for what is no name."""
        if not name or name.translate(None, _TOKEN):
            raise RuntimeError("the name of a header holds what no name has")
        beginning = b"\r\n%b: " % name.lower()
        if len(self) < _MAX_NAMES:
            self[name] = beginning
        return beginning


_beginnings: Final = _Beginnings()


def _value(head: bytes, beginning: bytes) -> bytes:
    """What follows `beginning`, which must be there, up to the end of its line."""
    return head[head.index(beginning) + len(beginning) :].partition(b"\r\n")[0]


class Answer:
    """One answer; `cycle` is uvicorn's side of the request."""

    __slots__ = ("_begun", "_cycle", "_head", "_left")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._begun = False
        self._head = b""
        """What waits for the first of the body."""
        self._left: int | None = 0
        """Bytes of the body that are still to come; None when it goes in chunks."""

    async def send(self, message: ASGISendEvent) -> None:
        """ASGI's `send`."""
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        if message["type"] == "http.response.body" and self._begun and not cycle.response_complete:
            self._write(message.get("body", b""), more=message.get("more_body", False))
        elif message["type"] == "http.response.start" and not self._begun:
            self._begin(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"`{message['type']}` was sent out of its place")

    def put(self, body: bytes) -> bool:
        """Write some of the body of an answer that `send` has begun; see `aigateway_common.outflow`."""
        cycle = self._cycle
        if not cycle.disconnected:
            if self._left is None and body and not self._head:
                cycle.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
            else:
                self._write(body, more=True)
        return not cycle.flow.write_paused

    def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        cycle = self._cycle
        beginnings = _beginnings
        lines = [beginnings[name] + value for name, value in (*cycle.default_headers, *headers)]
        head = b"".join(lines)
        if len(head.translate(None, _VALUE)) != 2 * len(lines):
            raise RuntimeError("the value of a header holds what no value has")
        self._left = int(_value(head, _LENGTH)) if _LENGTH in head else None
        if self._left is None and (status in _BODILESS or cycle.scope["method"] == "HEAD"):
            self._left = 0
        elif self._left is None:
            head += b"\r\ntransfer-encoding: chunked"
        if _CONNECTION in head:
            cycle.keep_alive = cycle.keep_alive and b"close" not in _value(head, _CONNECTION).lower()
        elif not cycle.keep_alive:
            head += b"\r\nconnection: close"
        self._head = b"%b%b\r\n\r\n" % (STATUS_LINE[status][:-2], head)
        self._begun = True
        cycle.waiting_for_100_continue = False

    def _write(self, body: bytes, *, more: bool) -> None:
        cycle, transport = self._cycle, self._cycle.transport
        data = self._framed(body, more=more)
        if head := self._head:
            self._head = b""
            cycle.response_started = True
            if len(data) <= _MAX_JOINED:
                data = head + data
            else:
                transport.write(head)
        if data:
            transport.write(data)
        if not more:
            self._end()

    def _framed(self, body: bytes, *, more: bool) -> bytes:
        """`body` as it goes over the connection."""
        if self._left is None:
            data = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return data if more else data + b"0\r\n\r\n"
        if self._cycle.scope["method"] == "HEAD":
            return b""
        self._left -= len(body)
        if self._left < 0 or (self._left and not more):
            raise RuntimeError("the body is not as long as its headers say")
        return body

    def _end(self) -> None:
        cycle: Any = self._cycle  # whose `on_response` is declared with arguments and called without any
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
