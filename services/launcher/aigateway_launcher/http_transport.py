"""A connection on which the head of an answer leaves together with the first of its body.

uvicorn hands them to the connection one after the other and uvloop sends each at once: two system calls and two
packets for every answer, of which each wakes the caller up. Here a head waits for what follows it, until the event loop
has gone round once at most. Nothing but bytes is known here: what looks like a head and is none waits as long.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable

_HEAD: Final = b"HTTP/1.1 "
_MAX_JOINED: Final = 64 * 1024
"""Bytes of a body that are copied behind their head; copying more costs more than another system call."""


class HeadWithBody(asyncio.Transport):
    """The part of a transport that uvicorn uses."""

    def __init__(self, inner: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._inner = inner
        self._loop = loop
        self._head = b""

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        head = self._head
        if head:
            self._head = b""
            if len(data) <= _MAX_JOINED:
                self._inner.write(head + data)
                return
            self._inner.write(head)
        elif data[:9] == _HEAD:
            self._head = bytes(data)
            self._loop.call_soon(self._flush)
            return
        self._inner.write(data)

    @override
    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    @override
    def close(self) -> None:
        self._flush()
        self._inner.close()

    @override
    def abort(self) -> None:
        self._head = b""
        self._inner.abort()

    @override
    def is_closing(self) -> bool:
        return self._inner.is_closing()

    @override
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._inner.get_extra_info(name, default)

    @override
    def pause_reading(self) -> None:
        self._inner.pause_reading()

    @override
    def resume_reading(self) -> None:
        self._inner.resume_reading()

    @override
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._inner.set_protocol(protocol)

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head and not self._inner.is_closing():
            self._inner.write(head)
