"""A provider that costs next to nothing: canned OpenAI answers, whole or as 100 chunks.

Run as `python -m bench.mock_upstream MS`; it prints its port. A request whose body asks for a stream gets 100 chunks,
MS milliseconds apart.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Final, cast

import uvloop
from typing_extensions import override

CHUNKS: Final = 100
_HEAD: Final = {"id": "chatcmpl-bench", "created": 1700000000, "model": "bench-model"}
_USAGE: Final = {"prompt_tokens": 12, "completion_tokens": CHUNKS, "total_tokens": 12 + CHUNKS}


def _whole() -> bytes:
    message = {"role": "assistant", "content": "The quick brown fox jumps over the lazy dog. " * 5}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    body = json.dumps(_HEAD | {"object": "chat.completion", "choices": [choice], "usage": _USAGE}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def _chunk(delta: dict[str, str], finish: str | None = None) -> dict[str, object]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _HEAD | {"object": "chat.completion.chunk", "choices": [choice]}


def _records() -> list[bytes]:
    records = [_chunk({"role": "assistant", "content": ""})]
    records += [_chunk({"content": f" word{number}"}) for number in range(CHUNKS - 3)]
    records += [_chunk({}, "stop"), _HEAD | {"object": "chat.completion.chunk", "choices": [], "usage": _USAGE}]
    payloads = [json.dumps(record).encode() for record in records] + [b"[DONE]"]
    framed = [b"data: " + payload + b"\n\n" for payload in payloads]
    return [b"%x\r\n%s\r\n" % (len(record), record) for record in framed]


WHOLE: Final = _whole()
STREAM_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
RECORDS: Final = _records()
END: Final = b"0\r\n\r\n"


class Mock(asyncio.Protocol):
    """One connection."""

    def __init__(self, gap: float) -> None:
        self._gap = gap
        self._data = b""
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._data) < end + 4 + length:
                return
            body = self._data[end + 4 : end + 4 + length]
            self._data = self._data[end + 4 + length :]
            self._answer(stream=b'"stream":true' in body.replace(b" ", b""))

    def _answer(self, *, stream: bool) -> None:
        assert self._transport is not None
        if not stream:
            self._transport.write(WHOLE)
        elif self._gap:
            self._transport.write(STREAM_HEAD)
            self._next(0)
        else:
            self._transport.write(STREAM_HEAD)
            for record in RECORDS:
                self._transport.write(record)
            self._transport.write(END)

    def _next(self, number: int) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if number == len(RECORDS):
            transport.write(END)
            return
        transport.write(RECORDS[number])
        asyncio.get_running_loop().call_later(self._gap, self._next, number + 1)


async def main(gap: float) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Mock(gap), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(float(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0.0))
