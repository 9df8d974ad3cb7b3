"""Reading event streams: one SSE reader and one NDJSON reader for every provider.

Both are fed bytes as they arrive, split anywhere, and answer the complete records so far. SSE as the WHATWG
specification has it (https://html.spec.whatwg.org/multipage/server-sent-events.html), with CR, LF and CRLF line ends,
comments, data of several lines, a missing space after the colon, and a byte order mark. Unlike the specification a last
record without its blank line is answered by `close`, since providers do end streams that way. Not for writing streams:
see the edge's `sse_out`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from aigateway_common.errors import GatewayError

MAX_RECORD_BYTES: Final = 64 * 1024 * 1024
"""The longest record taken, the same as the largest gRPC message; a longer one is an error, not memory."""

_BOM: Final = b"\xef\xbb\xbf"
_CR: Final = 13
_LF: Final = 10
"""As numbers, which `in` finds several times faster than as bytes of length one."""


class SSEvent(NamedTuple):
    """One record of an event stream; `event` is empty when the stream did not name it."""

    event: str
    data: bytes


class _Lines:
    """Bytes into lines, without their ends. The cost of a line grows with its length alone, however it was split."""

    __slots__ = ("_after_cr", "_cr", "_pieces", "_size")

    def __init__(self, *, cr: bool) -> None:
        self._pieces: list[bytes] = []
        """What has come of a line whose end has not."""
        self._size = 0
        self._cr = cr
        """Whether a lone CR ends a line, as in SSE."""
        self._after_cr = False
        """The last chunk ended in CR: that ended its line already, and an LF that follows belongs to it."""

    @property
    def between(self) -> bool:
        """No line is open."""
        return not (self._pieces or self._after_cr)

    def feed(self, chunk: bytes) -> list[bytes]:
        if self._cr:
            chunk = self._unified(chunk)
        first, *rest = chunk.split(b"\n")
        self._hold(first)
        if not rest:
            return []
        lines = [self.close(), *rest]
        self._hold(lines.pop())
        return lines

    def close(self) -> bytes:
        line = b"".join(self._pieces) if len(self._pieces) != 1 else self._pieces[0]
        self._pieces, self._size = [], 0
        return line

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self._size += len(piece)
            if self._size > MAX_RECORD_BYTES:
                raise _too_long()

    def _unified(self, chunk: bytes) -> bytes:
        """`chunk` with LF for each of CR, LF and CRLF."""
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return chunk


class SSEReader:
    """Reads Server-Sent Events."""

    __slots__ = ("_data", "_event", "_first", "_lines", "_size")

    def __init__(self) -> None:
        self._lines = _Lines(cr=True)
        self._event = ""
        self._data: list[bytes] = []
        self._size = 0
        self._first = True

    @property
    def between(self) -> bool:
        """No record is open: the next byte begins one."""
        return not (self._data or self._event) and self._lines.between

    def feed(self, chunk: bytes) -> list[SSEvent]:
        """The records that `chunk` completes."""
        if self.between and (whole := _whole(chunk)):
            self._first = False
            return whole
        events: list[SSEvent] = []
        for line in self._lines.feed(chunk):
            self._line(line, events)
        return events

    def close(self) -> list[SSEvent]:
        """The record that the end of the stream completes, if one is open."""
        events: list[SSEvent] = []
        if rest := self._lines.close():
            self._line(rest, events)
        self._line(b"", events)
        return events

    def _line(self, line: bytes, events: list[SSEvent]) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                events.append(SSEvent(self._event, b"\n".join(self._data)))
            self._event, self._data, self._size = "", [], 0
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            value = value.removeprefix(b" ")
            self._size += len(value)
            if self._size > MAX_RECORD_BYTES:
                raise _too_long()
            self._data.append(value)
        elif name == b"event":
            self._event = value.removeprefix(b" ").decode("utf-8", "replace")


def _whole(chunk: bytes) -> list[SSEvent] | None:
    """The records of a chunk that holds whole ones with a line of data each, as most do; None of any other chunk."""
    if not (chunk.startswith(b"data: ") and chunk.endswith(b"\n\n")) or _CR in chunk or len(chunk) > MAX_RECORD_BYTES:
        return None
    if chunk.find(b"\n") == len(chunk) - 2:
        return [SSEvent("", chunk[6:-2])]
    events: list[SSEvent] = []
    for record in chunk[:-2].split(b"\n\n"):
        if not record.startswith(b"data: ") or _LF in record:
            return None
        events.append(SSEvent("", record[6:]))
    return events


class NDJSONReader:
    """Reads newline-delimited JSON; blank lines are skipped."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines = _Lines(cr=False)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The records that `chunk` completes."""
        return [line for raw in self._lines.feed(chunk) if (line := raw.strip())]

    def close(self) -> list[bytes]:
        """The last record, when the stream ends without a newline."""
        rest = self._lines.close().strip()
        return [rest] if rest else []


def _too_long() -> GatewayError:
    return GatewayError("UPSTREAM_INVALID", f"the provider sent a record of over {MAX_RECORD_BYTES} bytes")
