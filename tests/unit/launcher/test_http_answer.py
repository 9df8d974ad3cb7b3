"""Sending an answer: its head leaves with the first of its body, and what headers must not hold leaves never."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aigateway_launcher.http_answer import Answer
from typing_extensions import override

LENGTH_2 = [(b"content-length", b"2")]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Connection(asyncio.Transport):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[bytes | str] = []

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.told.append(bytes(data))

    @override
    def close(self) -> None:
        self.told.append("close")


def cycle(method: str = "GET", *, keep_alive: bool = True) -> Any:
    """uvicorn's side of a request, as far as an answer looks at it."""
    flow = SimpleNamespace(write_paused=False)
    connection = Connection()
    return SimpleNamespace(
        flow=flow,
        transport=connection,
        scope={"method": method},
        default_headers=[],
        keep_alive=keep_alive,
        disconnected=False,
        response_started=False,
        response_complete=False,
        waiting_for_100_continue=False,
        message_event=asyncio.Event(),
        on_response=lambda: connection.told.append("answered"),
    )


async def answered(request: Any, headers: list[tuple[bytes, bytes]], *pieces: bytes, status: int = 200) -> Any:
    """What the connection is told of an answer whose body has these pieces."""
    answer = Answer(request)
    await answer.send({"type": "http.response.start", "status": status, "headers": headers})
    for number, piece in enumerate(pieces, 1):
        await answer.send({"type": "http.response.body", "body": piece, "more_body": number < len(pieces)})
    return request.transport.told


async def test_a_head_leaves_with_the_first_of_its_body_and_the_rest_as_it_comes() -> None:
    assert await answered(cycle(), LENGTH_2, b"a", b"b") == [HEAD + b"a", b"b", "answered"]


async def test_a_body_without_a_length_goes_in_chunks() -> None:
    assert await answered(cycle(), [], b"a", b"", b"bc") == [
        CHUNKED + b"1\r\na\r\n",
        b"2\r\nbc\r\n0\r\n\r\n",
        "answered",
    ]


async def test_a_head_leaves_with_an_empty_first_piece_too() -> None:
    request = cycle()
    told = await answered(request, [], b"", b"")
    assert told == [CHUNKED, b"0\r\n\r\n", "answered"]


async def test_nothing_has_begun_until_the_first_of_the_body() -> None:
    request = cycle()
    answer = Answer(request)
    await answer.send({"type": "http.response.start", "status": 200, "headers": LENGTH_2})
    assert (request.transport.told, request.response_started) == ([], False)
    await answer.send({"type": "http.response.body", "body": b"a", "more_body": True})
    assert (request.response_started, request.response_complete) == (True, False)


async def test_a_large_body_is_not_copied_behind_its_head() -> None:
    body = b"x" * (64 * 1024 + 1)
    told = await answered(cycle(), [(b"content-length", b"%d" % len(body))], body)
    assert told == [HEAD.replace(b"2\r\n\r\n", b"65537\r\n\r\n"), body, "answered"]


async def test_the_answer_to_head_has_no_body() -> None:
    assert await answered(cycle("HEAD"), LENGTH_2, b"ab") == [HEAD, "answered"]
    assert await answered(cycle("HEAD"), [], b"") == [b"HTTP/1.1 200 OK\r\n\r\n", "answered"]


async def test_an_answer_that_has_no_body_by_its_status_is_not_chunked() -> None:
    assert await answered(cycle(), [], b"", status=204) == [b"HTTP/1.1 204 No Content\r\n\r\n", "answered"]


async def test_the_last_answer_of_a_connection_says_so_and_closes_it() -> None:
    close = HEAD.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    assert await answered(cycle(keep_alive=False), LENGTH_2, b"ab") == [close + b"ab", "close", "answered"]
    own = [*LENGTH_2, (b"Connection", b"Close")]
    own_close = HEAD.replace(b"\r\n\r\n", b"\r\nconnection: Close\r\n\r\n")
    assert await answered(cycle(), own, b"ab") == [own_close + b"ab", "close", "answered"]


@pytest.mark.parametrize(
    "header", [(b"x-a", b"1\r\nx-evil: 1"), (b"x-a", b"\x00"), (b"x a", b"1"), (b"x-a:", b"1"), (b"x\n", b"1")]
)
async def test_a_header_cannot_bring_another_one_with_it(header: tuple[bytes, bytes]) -> None:
    request = cycle()
    with pytest.raises(RuntimeError, match="a header holds what no"):
        await answered(request, [*LENGTH_2, header], b"ab")
    assert request.transport.told == []


@pytest.mark.parametrize("pieces", [(b"abc",), (b"a",), (b"ab", b"c")])
async def test_a_body_of_another_length_than_promised_is_refused(pieces: tuple[bytes, ...]) -> None:
    with pytest.raises(RuntimeError, match="not as long as its headers say"):
        await answered(cycle(), LENGTH_2, *pieces)


async def test_what_comes_out_of_its_place_is_refused() -> None:
    request = cycle()
    with pytest.raises(RuntimeError, match="out of its place"):
        await Answer(request).send({"type": "http.response.body", "body": b"", "more_body": False})
    await answered(request, LENGTH_2, b"ab")
    again = Answer(request)
    await again.send({"type": "http.response.start", "status": 200, "headers": LENGTH_2})
    with pytest.raises(RuntimeError, match="out of its place"):
        await again.send({"type": "http.response.start", "status": 200, "headers": LENGTH_2})


async def test_nobody_is_written_to_who_has_gone() -> None:
    request = cycle()
    request.disconnected = True
    assert await answered(request, LENGTH_2, b"ab") == []


async def test_pieces_are_written_without_waiting_until_the_connection_is_full() -> None:
    request = cycle()
    answer = Answer(request)
    await answer.send({"type": "http.response.start", "status": 200, "headers": []})
    await answer.send({"type": "http.response.body", "body": b"a", "more_body": True})
    assert answer.put(b"bc") is True
    request.flow.write_paused = True
    assert answer.put(b"d") is False
    request.flow.write_paused = False
    await answer.send({"type": "http.response.body", "body": b"", "more_body": True})
    await answer.send({"type": "http.response.body", "body": b""})
    assert request.transport.told == [
        CHUNKED + b"1\r\na\r\n",
        b"2\r\nbc\r\n",
        b"1\r\nd\r\n",
        b"0\r\n\r\n",
        "answered",
    ]


async def test_pieces_for_a_caller_that_has_gone_are_dropped() -> None:
    request = cycle()
    answer = Answer(request)
    await answer.send({"type": "http.response.start", "status": 200, "headers": []})
    request.disconnected = True
    assert answer.put(b"a") is True
    assert request.transport.told == []
