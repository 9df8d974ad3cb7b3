"""Provider answers gone wrong, for property tests: arbitrary bytes, and real-shaped ones with something broken."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from hypothesis import strategies as st

from support.replay import Answer

NASTY = (
    "null",
    "true",
    "0",
    "-1",
    "1e400",
    "-1e400",
    "1.5",
    "NaN",
    "Infinity",
    "123456789012345678901234567890",
    "9223372036854775808",
    "-9223372036854775809",
    "2147483648",
    '""',
    '"x"',
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\u0000"',
    '"\U0001f600"',
    "[]",
    "[null]",
    "[[]]",
    "[1,2]",
    "{}",
    '{"":null}',
    '{"error":{}}',
    '{"type":"text"}',
    '1,"index":-1,"index":{}',
    '"stop","finish_reason":"stop","choices":null',
    "[" * 600 + "]" * 600,
    "[" * 5000 + "]" * 5000,
    '{"a":' * 2000 + "1" + "}" * 2000,
    "[" * 100_000,
    "1" * 5000,
    '"' + "x" * 100_000 + '"',
)
"""JSON, and nearly JSON, that nobody expects in the place where it comes."""
_MARK = "@@nasty-%d@@"


@dataclass
class Wire:
    """What the upstream client is to an adapter, with one answer ready and no socket."""

    status: int
    headers: dict[str, str]
    pieces: Sequence[bytes]
    closed: bool = field(default=False, init=False)

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]

    async def send(self, *_: object, **__: object) -> Self:
        return self

    async def fetch(self, *_: object, **__: object) -> tuple[int, dict[str, str], bytes]:
        return self.status, self.headers, b"".join(self.pieces)

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece

    async def read(self) -> bytes:
        return b"".join(self.pieces)

    async def aclose(self) -> None:
        self.closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True


@st.composite
def wires(draw: st.DrawFn, answers: Sequence[Answer]) -> Wire:
    """One of `answers`, or its like, broken in some way and cut anywhere."""
    answer = draw(st.sampled_from(answers))
    match draw(st.sampled_from(("values", "values", "values", "bytes", "records", "arbitrary"))):
        case "values":
            body = b"".join(draw(_mangled(piece)) for piece in answer.pieces)
        case "bytes":
            body = draw(_cut_up(b"".join(answer.pieces)))
        case "records":
            body = b"".join(draw(st.lists(st.sampled_from(answer.pieces), max_size=12)))
        case _:
            body = draw(st.binary(max_size=300))
    status = draw(st.sampled_from((answer.status, answer.status, answer.status, 200, 400, 429, 500)))
    size = max(1, draw(st.sampled_from((1, 3, 16, 100, 10**9))), len(body) // 2000)
    return Wire(status, answer.headers, [body[at : at + size] for at in range(0, len(body), size)])


@st.composite
def _mangled(draw: st.DrawFn, piece: bytes) -> bytes:
    """A piece in whose JSON some values are not what they should be."""
    start = piece.find(b"{")
    if start < 0 or draw(st.integers(0, 2)) == 0:
        return piece
    value, end = json.JSONDecoder().raw_decode(piece[start:].decode())
    raw: dict[str, str] = {}
    for number in range(draw(st.integers(1, 3))):
        raw[_MARK % number] = draw(st.sampled_from(NASTY))
        value = _replaced(draw, value, _MARK % number)
    text = json.dumps(value)
    for mark, nasty in raw.items():
        text = text.replace(f'"{mark}"', nasty)
    return piece[:start] + text.encode() + piece[start:].decode()[end:].encode()


def _replaced(draw: st.DrawFn, value: Any, mark: str) -> Any:
    """`value` with `mark` in the place of something in it."""
    inner = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not inner or draw(st.integers(0, 4)) == 0:
        return mark
    key = draw(st.sampled_from(inner))
    copy = value.copy()
    copy[key] = _replaced(draw, value[key], mark)
    return copy


@st.composite
def _cut_up(draw: st.DrawFn, body: bytes) -> bytes:
    """`body` with bytes left out, put in or doubled."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        end = min(len(body), at + draw(st.integers(0, 40)))
        body = (
            body[:at]
            + draw(st.sampled_from((b"", body[at:end] * 2, b"\xff\xfe", b"\n\n", b"{", b'"', b"]")))
            + body[end:]
        )
    return body
