"""The load generator counts what it is sent, however the network cuts it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from typing_extensions import override

from bench.load import Caller, request
from bench.mock_upstream import AT_ONCE, RECORDS, WHOLE
from bench.tally import Tally

PAYLOAD = request(b"{}", {"authorization": "Bearer x"})


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    @override
    def write(self, data: Any) -> None:
        self.written.append(bytes(data))


def caller() -> tuple[Caller, Tally, Wire]:
    tally, wire = Tally(), Wire()
    one = Caller(PAYLOAD, tally)
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


def test_what_comes_while_it_is_warming_is_counted_but_not_timed() -> None:
    tally = Tally(since=10.0)
    tally.records(3, began=8.0, last=0.0, now=9.0)
    tally.records(2, began=8.0, last=9.0, now=11.0)
    tally.ended(began=8.0, now=12.0, units=0)
    assert (tally.units, tally.calls) == (5, 1)
    assert (tally.first_records, tally.gaps, tally.latencies) == ([], [2.0, 0.0], [])
    assert tally.summary() == {"calls": 1, "failure": "", "gap_p50_ms": 1000.0, "gap_p99_ms": 2000.0}
