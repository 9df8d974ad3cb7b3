"""The connection of the HTTP server: a head leaves with its body's first bytes, nothing is lost, late or reordered."""

from __future__ import annotations

import asyncio

import pytest
from aigateway_launcher.http_transport import HeadWithBody
from typing_extensions import override

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Inner(asyncio.Transport):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[bytes | str] = []
        self.closing = False

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.told.append(bytes(data))

    @override
    def close(self) -> None:
        self.told.append("close")

    @override
    def is_closing(self) -> bool:
        return self.closing


@pytest.fixture(name="inner")
def _inner() -> Inner:
    return Inner()


def connection(inner: Inner) -> HeadWithBody:
    return HeadWithBody(inner, asyncio.get_running_loop())


async def test_a_head_leaves_with_the_first_of_its_body_and_the_rest_as_it_comes(inner: Inner) -> None:
    out = connection(inner)
    for piece in (HEAD, b"a", b"b", HEAD, b"c"):
        out.write(piece)
    await asyncio.sleep(0)
    assert inner.told == [HEAD + b"a", b"b", HEAD + b"c"]


async def test_a_head_without_a_body_leaves_on_the_next_turn_of_the_loop(inner: Inner) -> None:
    out = connection(inner)
    out.write(HEAD)
    assert inner.told == []
    await asyncio.sleep(0)
    assert inner.told == [HEAD]
    out.write(b"a")
    assert inner.told == [HEAD, b"a"]


async def test_two_heads_in_one_turn_keep_their_order(inner: Inner) -> None:
    out = connection(inner)
    out.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    out.write(HEAD)
    out.write(b"a")
    await asyncio.sleep(0)
    assert inner.told == [b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD, b"a"]


async def test_a_large_body_is_not_copied_behind_its_head(inner: Inner) -> None:
    out = connection(inner)
    body = b"x" * (64 * 1024 + 1)
    out.write(HEAD)
    out.write(body)
    assert inner.told == [HEAD, body]


async def test_closing_sends_what_waits_first(inner: Inner) -> None:
    out = connection(inner)
    out.write(HEAD)
    out.close()
    await asyncio.sleep(0)
    assert inner.told == [HEAD, "close"]


async def test_nothing_is_written_to_a_connection_that_was_lost_meanwhile(inner: Inner) -> None:
    out = connection(inner)
    out.write(HEAD)
    inner.closing = True
    await asyncio.sleep(0)
    assert inner.told == []
