"""The load: whole calls and streams over plain sockets, with as little work per call as Python can do."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field

KEY = "bench-key-0123456789abcdef"


@dataclass
class Result:
    """What the caller saw; times in seconds."""

    calls: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    first_bytes: list[float] = field(default_factory=list)


def request(url_path: str, host: str, model: str, *, stream: bool) -> bytes:
    """The bytes of one call."""
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Tell me about foxes and dogs, briefly."},
    ]
    body = json.dumps({"model": model, "messages": messages, "stream": stream}).encode()
    head = f"POST {url_path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {KEY}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def run(port: int, payload: bytes, *, calls: int, concurrency: int) -> Result:
    """Make `calls` calls, `concurrency` at once, each worker on one connection kept open."""
    result = Result()
    left = iter(range(calls))

    async def worker() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        for _ in left:
            await _one(reader, writer, payload, result)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    result.seconds = time.perf_counter() - began
    return result


async def _one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, payload: bytes, result: Result) -> None:
    began = time.perf_counter()
    writer.write(payload)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise RuntimeError(head.decode())
    at = head.find(b"content-length:")
    if at >= 0:
        await reader.readexactly(int(head[at + 15 :].split(b"\r\n", 1)[0]))
    else:
        await _chunked(reader, began, result)
    result.calls += 1
    result.latencies.append(time.perf_counter() - began)


async def _chunked(reader: asyncio.StreamReader, began: float, result: Result) -> None:
    first = True
    tail = b""
    while not tail.endswith(b"\r\n0\r\n\r\n"):
        data = await reader.read(65536)
        if not data:
            raise RuntimeError("the stream was cut")
        if first:
            result.first_bytes.append(time.perf_counter() - began)
            first = False
        tail = (tail + data)[-16:]
