"""Both forms of a Gemini stream, cut anywhere."""

from __future__ import annotations

import json

import pytest
from aigateway_common.errors import GatewayError
from aigateway_providers.gemini.records import ArrayRecords, EventRecords, Records, reader
from hypothesis import given
from hypothesis import strategies as st

_JSON = st.dictionaries(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists), max_size=4)


def fed(records: Records, body: bytes, size: int) -> list[bytes]:
    found = [record for i in range(0, len(body), size) for record in records.feed(body[i : i + size])]
    return found + records.close()


@given(st.lists(_JSON, max_size=4), st.integers(1, 50), st.sampled_from([None, 2]), st.booleans())
def test_an_array_gives_its_objects_wherever_it_is_cut(
    items: list[dict[str, object]], size: int, indent: int | None, ascii_only: bool
) -> None:
    body = json.dumps(items, indent=indent, ensure_ascii=ascii_only).replace("\n", "\r\n").encode()
    assert [json.loads(record) for record in fed(ArrayRecords(), body, size)] == items


def test_an_object_is_answered_as_soon_as_it_is_complete() -> None:
    records = ArrayRecords()
    assert records.feed(b'[{"a": "}\\"') == []
    assert records.feed(b'"}\r\n') == [b'{"a": "}\\""}']
    assert records.feed(b",\r\n{}") == [b"{}"]
    assert records.feed(b"]") + records.close() == []


def test_an_escape_may_be_cut_in_two() -> None:
    assert fed(ArrayRecords(), b'[{"a":"\\\\\\""}]', 1) == [b'{"a":"\\\\\\""}']


def test_a_single_object_is_a_record() -> None:
    assert fed(ArrayRecords(), b'{"error": {"code": 400}}\n', 5) == [b'{"error": {"code": 400}}']


def test_an_object_cut_short_is_no_record() -> None:
    assert fed(ArrayRecords(), b'[{"a": 1},{"b"', 100) == [b'{"a": 1}']


@pytest.mark.parametrize("body", [b"<html>", b'["text"]', b"oops"])
def test_anything_but_objects_is_an_error(body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        ArrayRecords().feed(body)
    assert caught.value.reason.name == "UPSTREAM_INVALID"


def test_the_content_type_tells_the_form() -> None:
    assert isinstance(reader("text/event-stream"), EventRecords)
    assert isinstance(reader("application/json"), ArrayRecords)
    assert isinstance(reader(""), EventRecords)
    assert reader("text/html") is None


def test_an_event_stream_may_end_without_its_last_blank_line() -> None:
    assert fed(EventRecords(), b'data: {"a":1}\r\n\r\ndata: {"b":2}', 3) == [b'{"a":1}', b'{"b":2}']
