"""The two stream readers: what the formats allow, split anywhere."""

from __future__ import annotations

import itertools
import re
import time

import pytest
from aigateway_common import sse
from aigateway_common.errors import GatewayError
from aigateway_common.sse import NDJSONReader, SSEReader, SSEvent
from hypothesis import given
from hypothesis import strategies as st


def read(*chunks: bytes) -> list[SSEvent]:
    reader = SSEReader()
    return [event for chunk in chunks for event in reader.feed(chunk)] + reader.close()


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in itertools.pairwise(places)]


def by_the_book(stream: bytes) -> list[SSEvent]:
    """The specification's algorithm over the whole stream, but for the last record, which needs no blank line."""
    events: list[SSEvent] = []
    name, data = "", b""
    for line in [*re.split(rb"\r\n|\n|\r", stream.removeprefix(b"\xef\xbb\xbf")), b""]:
        if not line:
            if data:
                events.append(SSEvent(name, data[:-1]))
            name, data = "", b""
        elif not line.startswith(b":"):
            field, _, value = line.partition(b":")
            value = value[1:] if value.startswith(b" ") else value
            if field == b"data":
                data += value + b"\n"
            elif field == b"event":
                name = value.decode("utf-8", "replace")
    return events


FIELDS = [b"data: x", b"data:x", b"data:  x", b"data", b"data:", b"event: e", b"event:", b"id: 1", b"retry: 5"]
ODDITIES = [b": ping", b":", b"datax: 1", b" data: 1", "data: ☃".encode(), b"\xef\xbb\xbfdata: bom", b"data: \xff", b""]
LINES = st.sampled_from(FIELDS) | st.sampled_from(ODDITIES)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.lists(st.tuples(LINES, ENDS).map(b"".join)).map(b"".join) | st.lists(
    st.sampled_from([b"\r", b"\n", b"data", b":", b" ", b"a", b"\xef", b"\xbb", b"\xbf", b"event"])
).map(b"".join)


@given(STREAMS, st.lists(st.integers(0, 10_000), max_size=20))
def test_any_split_of_any_stream_reads_as_the_specification_says(stream: bytes, cuts: list[int]) -> None:
    expected = by_the_book(stream)

    assert read(stream) == expected
    assert read(*split(stream, cuts)) == expected
    assert read(*(stream[i : i + 1] for i in range(len(stream)))) == expected


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [SSEvent("", b"a")]),
        (b"data: a\n\ndata: b\n\n", [SSEvent("", b"a"), SSEvent("", b"b")]),
        (b"data:a\r\n\r\n", [SSEvent("", b"a")]),
        (b"data: a\r\rdata: b\r\r", [SSEvent("", b"a"), SSEvent("", b"b")]),
        (b"data: a\ndata: b\n\n", [SSEvent("", b"a\nb")]),
        (b"data\n\n", [SSEvent("", b"")]),
        (b"data\ndata\n\n", [SSEvent("", b"\n")]),
        (b"data:  a \n\n", [SSEvent("", b" a ")]),
        (b"event: e\ndata: a\n\ndata: b\n\n", [SSEvent("e", b"a"), SSEvent("", b"b")]),
        (b"event: e\n\ndata: b\n\n", [SSEvent("", b"b")]),
        (b": ping\n\n:\n\n", []),
        (b"id: 1\nretry: 10\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", [SSEvent("", b"a")]),
        (b"\xef\xbb\xbf\n\xef\xbb\xbfdata: a\n\n", []),
        (b"data: a:b: c\n\n", [SSEvent("", b"a:b: c")]),
        (b"data: a", [SSEvent("", b"a")]),
        (b"event: e\ndata: a\n", [SSEvent("e", b"a")]),
        (b"", []),
    ],
)
def test_the_corners_of_the_format(stream: bytes, events: list[SSEvent]) -> None:
    assert read(stream) == events


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_a_record_is_answered_with_the_chunk_that_ends_it(end: bytes) -> None:
    reader = SSEReader()

    assert reader.feed(b"data: a" + end) == [SSEvent("", b"a")]
    assert reader.feed(b"data: b" + end) == [SSEvent("", b"b")]
    assert reader.close() == []


def test_a_crlf_split_between_chunks_is_one_line_end() -> None:
    assert read(b"data: a\r", b"\ndata: b\r", b"", b"\n\r", b"\n") == [SSEvent("", b"a\nb")]


def test_a_long_record_in_many_chunks_costs_what_its_length_does() -> None:
    piece = b"x" * 64
    reader = SSEReader()
    reader.feed(b"data: ")
    began = time.process_time()
    for _ in range(200_000):  # copying what had come with each of them would take minutes
        reader.feed(piece)
    (event,) = reader.feed(b"\n\n")

    assert len(event.data) == 200_000 * 64
    assert time.process_time() - began < 10


@pytest.mark.parametrize("stream", [b"data: " + b"x" * 200, b"data: 12345678\n" * 20])
def test_an_endless_record_is_an_error(stream: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_RECORD_BYTES", 100)

    with pytest.raises(GatewayError) as caught:
        read(*(stream[start : start + 10] for start in range(0, len(stream), 10)))
    assert caught.value.reason.name == "UPSTREAM_INVALID"


RECORDS = st.sampled_from([b'{"a":1}', b'{"b":"\xe2\x98\x83"}', b"[]", b"  ", b"", b"\r", b' {"c": "\\r"} '])


@given(
    st.lists(st.tuples(RECORDS, st.sampled_from([b"\n", b"\r\n"])).map(b"".join)),
    st.lists(st.integers(0, 10_000)),
    RECORDS,
)
def test_any_split_of_ndjson_reads_the_same(lines: list[bytes], cuts: list[int], last: bytes) -> None:
    stream = b"".join(lines) + last
    expected = [record for line in stream.split(b"\n") if (record := line.strip())]
    reader = NDJSONReader()
    got = [record for chunk in split(stream, cuts) for record in reader.feed(chunk)]

    assert got + reader.close() == expected


def test_ndjson_answers_each_line_as_it_ends_and_the_last_without_one() -> None:
    reader = NDJSONReader()

    assert reader.feed(b'{"a":1}\n{"b"') == [b'{"a":1}']
    assert reader.feed(b":2}\r\n\n") == [b'{"b":2}']
    assert reader.feed(b'{"c":3}') == []
    assert reader.close() == [b'{"c":3}']
    assert reader.close() == []


def test_an_endless_ndjson_line_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_RECORD_BYTES", 100)
    reader = NDJSONReader()
    reader.feed(b"x" * 60)

    with pytest.raises(GatewayError):
        reader.feed(b"x" * 60)
