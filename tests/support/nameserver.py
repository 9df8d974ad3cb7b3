"""A DNS server on loopback whose names lead where a test says, as those of a cluster do while replicas come and go.

It answers A questions over UDP and has nothing else (https://www.rfc-editor.org/rfc/rfc1035, section 4).
"""

from __future__ import annotations

import socket
import struct
import threading
from typing import Self

_HEADER = struct.Struct("!HHHHHH")
_ANSWER = struct.Struct("!HHHIH4s")
_A, _IN, _NAME_AT_12 = 1, 1, 0xC00C
_RESPONSE, _NO_SUCH_NAME = 0x8580, 3
TTL = 600
"""Seconds that an answer may be kept: as long as Docker's own server says."""


class NameServer:
    """The server; `names` may change at any time."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        """IPv4 addresses by name."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self._socket.getsockname())
        self._thread.join(10)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            question, client = self._socket.recvfrom(4096)
            if not question:
                return
            self._socket.sendto(self._answer(question), client)

    def _answer(self, question: bytes) -> bytes:
        end, labels = _HEADER.size, []
        while length := question[end]:
            labels.append(question[end + 1 : end + 1 + length].decode().lower())
            end += 1 + length
        (kind,) = struct.unpack_from("!H", question, end + 1)
        found = self.names.get(".".join(labels))
        addresses = (found or []) if kind == _A else []
        flags = _RESPONSE | (_NO_SUCH_NAME if found is None else 0)
        (number,) = struct.unpack_from("!H", question)
        head = _HEADER.pack(number, flags, 1, len(addresses), 0, 0)
        body = b"".join(_ANSWER.pack(_NAME_AT_12, _A, _IN, TTL, 4, socket.inet_aton(one)) for one in addresses)
        return head + question[_HEADER.size : end + 5] + body
