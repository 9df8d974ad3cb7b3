"""What is plainly one whole call, and what has to be parsed."""

from __future__ import annotations

import pytest
from aigateway_launcher import http_shed

CALL = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    "data",
    [
        CALL,
        CALL.replace(b"Content-Length: 2", b"content-length:2"),
        CALL.replace(b"Content-Length: 2", b"CONTENT-LENGTH:\t2 "),
    ],
)
def test_a_whole_call_is_known_by_its_path(data: bytes) -> None:
    assert http_shed.path_of(data) == b"/v1/chat/completions"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        CALL[:20],
        CALL[:-1],
        CALL + b"x",
        CALL * 2,
        CALL.replace(b"POST", b"GET"),
        CALL.replace(b"HTTP/1.1", b"HTTP/1.0"),
        CALL.replace(b"/v1/", b"http://x/v1/"),
        CALL.replace(b"completions ", b"completions?a=b "),
        CALL.replace(b"completions ", b"%63ompletions "),
        CALL.replace(b"Host: x", b"Transfer-Encoding: chunked"),
        CALL.replace(b"Host: x", b"Connection: close"),
        CALL.replace(b"Host: x", b"Expect: 100-continue"),
        CALL.replace(b"Host: x", b"Upgrade: websocket"),
        CALL.replace(b"Host: x", b"Content-Length: 2"),
        CALL.replace(b"Content-Length: 2\r\n", b""),
        CALL.replace(b"Length: 2", b"Length: +2"),
        CALL.replace(b"Length: 2", b"Length: 2x"),
        CALL.replace(b"Length: 2", b"Length: 9999999999"),
    ],
)  # fmt: skip
def test_anything_else_goes_the_long_way(data: bytes) -> None:
    assert http_shed.path_of(data) is None
