"""Bytes on a socket, for what no HTTP client would send, and what came back."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@dataclass(frozen=True)
class Got:
    """What a server answered to some bytes."""

    data: bytes
    closed: bool
    """The server closed the connection."""

    @property
    def statuses(self) -> list[int]:
        """The status of every answer in it."""
        return [int(status) for status in _STATUS.findall(self.data)]

    def header(self, name: str) -> str:
        found = re.search(rb"\r\n" + name.encode() + rb": ([^\r\n]*)", self.data, re.IGNORECASE)
        return found[1].decode("latin-1") if found else ""


async def send(address: str, data: bytes, *, quiet: float = 0.3, seconds: float = 10) -> Got:
    """Send `data`, and read until the server closes, or has answered and then been `quiet`; at most `seconds`."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    got, closed = b"", False
    try:
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(seconds):
                writer.write(data)
                sending = asyncio.ensure_future(writer.drain())
                while True:
                    try:
                        piece = await asyncio.wait_for(reader.read(65536), quiet if got else seconds)
                    except ConnectionError:
                        piece = b""
                    if not piece:
                        closed = True
                        break
                    got += piece
                sending.cancel()
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return Got(got, closed)


def request(path: str, body: bytes = b"", *headers: str, method: str = "POST", length: str | None = None) -> bytes:
    """One request with just these headers, and a content length unless one is among them."""
    size = str(len(body)) if length is None else length
    lines = [f"{method} {path} HTTP/1.1", "host: gateway", *headers]
    if not any(header.lower().startswith(("transfer-encoding", "content-length")) for header in headers):
        lines.append(f"content-length: {size}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
