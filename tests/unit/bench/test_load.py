"""The load generator counts what it is sent, however the network cuts it."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from bench.load import Caller, request
from bench.mock_upstream import AT_ONCE, RECORDS, WHOLE
from bench.tally import Tally

ROOT = Path(__file__).resolve().parents[3]
PAYLOAD = request(b"{}", {"authorization": "Bearer x"})


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    @override
    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    @override
    def close(self) -> None:
        self.closed = True


def nothing() -> None:
    raise AssertionError("no other connection is needed")


def caller(again: Callable[[], None] = nothing) -> tuple[Caller, Tally, Wire]:
    tally, wire = Tally(), Wire()
    one = Caller(PAYLOAD, tally, again)
    one.connection_made(wire)
    one.call()
    return one, tally, wire


def test_a_request_is_whole() -> None:
    assert PAYLOAD == (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer x\r\n"
        b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    )


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7, 64, 1000, len(AT_ONCE)])
def test_a_stream_in_pieces_of_any_size_has_the_same_records(size: int) -> None:
    one, tally, wire = caller()
    for at in range(0, len(AT_ONCE), size):
        one.data_received(AT_ONCE[at : at + size])
    assert (tally.units, tally.calls, tally.failure) == (len(RECORDS), 1, "")
    assert (len(tally.first_records), len(tally.gaps), len(tally.latencies)) == (1, len(RECORDS) - 1, 1)
    assert wire.written == [PAYLOAD, PAYLOAD]


@pytest.mark.parametrize("size", [1, 50, len(WHOLE)])
def test_a_whole_answer_is_one_call_and_followed_by_the_next(size: int) -> None:
    one, tally, wire = caller()
    for at in range(0, len(WHOLE), size):
        one.data_received(WHOLE[at : at + size])
    assert (tally.units, tally.calls) == (1, 1)
    assert wire.written == [PAYLOAD, PAYLOAD]


def test_a_whole_answer_in_chunks_is_one_call_too() -> None:
    one, tally, _ = caller()
    one.data_received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
    assert (tally.units, tally.calls) == (1, 1)


def test_a_refusal_is_a_failure_with_its_words_and_no_call_follows() -> None:
    one, tally, wire = caller()
    one.data_received(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 4\r\n\r\nslow")
    assert tally.failure == "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 4\r\n\r\nslow"
    assert tally.calls == 0
    assert wire.written == [PAYLOAD]


def test_a_server_that_hangs_up_is_a_failure() -> None:
    one, tally, _ = caller()
    one.connection_lost(None)
    assert tally.failure == "the connection was closed: None"


@pytest.mark.parametrize("size", [1, 2, 50, 10_000])
@pytest.mark.parametrize("said", [b"connection: close", b"Connection:Close", b"CONNECTION: x-own, close"])
@pytest.mark.parametrize("answer", [WHOLE, AT_ONCE])
def test_after_an_answer_that_is_the_last_the_next_call_has_a_connection_of_its_own(
    answer: bytes, said: bytes, size: int
) -> None:
    asked: list[bool] = []
    one, tally, wire = caller(lambda: asked.append(wire.closed))
    last = answer.replace(b"\r\n", b"\r\n%s\r\n" % said, 1)
    for at in range(0, len(last), size):
        assert not asked
        one.data_received(last[at : at + size])
    one.connection_lost(None)
    assert (asked, tally.calls, tally.failure) == ([True], 1, "")
    assert wire.written == [PAYLOAD]


def test_a_connection_that_is_kept_alive_by_word_is_kept() -> None:
    one, tally, wire = caller()
    one.data_received(WHOLE.replace(b"\r\n", b"\r\nconnection: keep-alive\r\n", 1))
    assert (tally.calls, wire.written, wire.closed) == (1, [PAYLOAD, PAYLOAD], False)


def test_a_server_that_hangs_up_in_its_last_answer_is_a_failure() -> None:
    one, tally, _ = caller()
    one.data_received(WHOLE.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)[:-1])
    one.connection_lost(None)
    assert (tally.calls, tally.failure) == (0, "the connection was closed: None")


async def test_callers_connect_again_as_often_as_they_are_told_to(tmp_path: Path) -> None:
    answered, enough = [0], asyncio.Event()
    closing = WHOLE.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (WHOLE, closing):
            if len(await reader.read(1000)) < len(PAYLOAD):
                break  # the generator has ended
            writer.write(answer)
            answered[0] += 1
        else:
            assert await reader.read() == b"", "a call after the last answer"
        if answered[0] >= 20:
            enough.set()
        writer.close()
        await writer.wait_closed()

    (tmp_path / "call").write_bytes(PAYLOAD)
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        line = [sys.executable, "-m", "bench.load", str(server.sockets[0].getsockname()[1]), str(tmp_path / "call")]
        process = await asyncio.create_subprocess_exec(*line, "--at-once", "2", stdin=PIPE, stdout=PIPE, cwd=ROOT)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        await asyncio.wait_for(enough.wait(), 20)
        said, _ = await process.communicate(b"")
    found = json.loads(said)
    assert (found["failure"], found["calls"] > 10) == ("", True)


def test_what_comes_while_it_is_warming_is_counted_but_not_timed() -> None:
    tally = Tally(since=10.0)
    tally.records(3, began=8.0, last=0.0, now=9.0)
    tally.records(2, began=8.0, last=9.0, now=11.0)
    tally.ended(began=8.0, now=12.0, units=0)
    assert (tally.units, tally.calls) == (5, 1)
    assert (tally.first_records, tally.gaps, tally.latencies) == ([], [2.0, 0.0], [])
    assert tally.summary() == {"calls": 1, "failure": "", "gap_p50_ms": 1000.0, "gap_p99_ms": 2000.0}
