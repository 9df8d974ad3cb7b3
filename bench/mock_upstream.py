"""A provider that costs next to nothing: canned OpenAI answers, whole or as 100 chunks.

Run as `python -m bench.mock_upstream [MS]`; it prints its port, and for each line on its standard input how many calls
it has answered. A request whose body asks for a stream gets 100 chunks, MS (0) milliseconds apart, or 10 when it names
the model `bench-paced`; of `bench-first` all but the first two, the role and a word, come 10 ms later.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from typing import Final, cast

import uvloop
from typing_extensions import override

from bench.bodies import FIRST, PACED

CHUNKS: Final = 100
PACE: Final = 0.010
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
AT_ONCE: Final = STREAM_HEAD + b"".join(RECORDS) + END
BEGINNING: Final = STREAM_HEAD + RECORDS[0] + RECORDS[1]
REST: Final = b"".join(RECORDS[2:]) + END
_PACED: Final = PACED.encode()
_FIRST: Final = FIRST.encode()


class Mock(asyncio.Protocol):
    """One connection."""

    answered = 0
    """Calls that all connections have answered, or begun to."""

    def __init__(self, gap: float) -> None:
        self._gap = gap
        self._data = bytearray()
        self._wanted = 0
        """Bytes before which there is nothing to look for."""
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self._data += data
        while len(self._data) >= self._wanted and (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            at = head.find(b"content-length:")
            self._wanted = end + 4 + (int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0)
            if len(self._data) < self._wanted:
                return
            body = self._data[end + 4 : self._wanted]
            del self._data[: self._wanted]
            self._wanted = 0
            self._answer(body)

    def _answer(self, body: bytearray) -> None:
        assert self._transport is not None
        Mock.answered += 1
        if b'"stream":true' not in body and b'"stream": true' not in body:
            self._transport.write(WHOLE)
        elif gap := PACE if _PACED in body else self._gap:
            self._transport.write(STREAM_HEAD)
            self._next(0, gap)
        elif _FIRST in body:
            self._transport.write(BEGINNING)
            asyncio.get_running_loop().call_later(PACE, self._rest)
        else:
            self._transport.write(AT_ONCE)

    def _rest(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(REST)

    def _next(self, number: int, gap: float) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if number == len(RECORDS):
            transport.write(END)
            return
        transport.write(RECORDS[number])
        asyncio.get_running_loop().call_later(gap, self._next, number + 1, gap)


def _tell() -> None:
    if not sys.stdin.buffer.readline():  # whoever asked has gone
        asyncio.get_running_loop().remove_reader(0)
        return
    print(Mock.answered, flush=True)


async def main(gap: float) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Mock(gap), "127.0.0.1", 0, backlog=1024)
    if stat.S_ISFIFO(os.fstat(0).st_mode):  # somebody may ask
        loop.add_reader(0, _tell)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(float(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0.0))
