"""The records of a streamed answer, in either form that the API gives it: an event stream, or one JSON array.

`streamGenerateContent` answers an array to whoever does not ask for `alt=sse`, and so do proxies that
drop the query. Each record is one JSON text; what it means is `stream`'s business.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from aigateway_common.errors import GatewayError
from aigateway_common.sse import MAX_RECORD_BYTES, SSEReader

_MARK: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["{}\[\]]', re.DOTALL)
"""A string that has arrived whole, the beginning of another, or a bracket."""
_REST: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
"""The rest of a string, up to its end, the end of what has arrived, or a backslash whose character has not."""
_BETWEEN: Final = b" \t\r\n,"


class Records(Protocol):
    """Takes bytes as they arrive, split anywhere, and answers the complete records so far."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The records that `chunk` completes."""

    def close(self) -> list[bytes]:
        """The record that the end of the answer completes, if one is open and complete."""


def reader(media_type: str) -> Records | None:
    """A reader for an answer of this type; None when it is neither an event stream, which one without is, nor JSON."""
    if media_type == "application/json":
        return ArrayRecords()
    return EventRecords() if media_type in {"", "text/event-stream"} else None


class EventRecords:
    """Records of an event stream."""

    def __init__(self) -> None:
        self._reader = SSEReader()

    def feed(self, chunk: bytes) -> list[bytes]:
        """The records that `chunk` completes."""
        return [event.data for event in self._reader.feed(chunk)]

    def close(self) -> list[bytes]:
        """The last record, when the stream ends without its blank line."""
        return [event.data for event in self._reader.close()]


class ArrayRecords:
    """The objects of a JSON array, or a single object, as each is complete."""

    __slots__ = ("_at", "_buffer", "_depth", "_in_string", "_start")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0
        """How far the buffer has been read."""
        self._start = -1
        """Where the open object begins."""
        self._depth = 0
        """Open brackets within the object, its own included."""
        self._in_string = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The objects that `chunk` completes.

        Raises:
            GatewayError: UPSTREAM_INVALID, when something other than objects stands in the array.
        """
        self._buffer += chunk
        if len(self._buffer) > MAX_RECORD_BYTES:
            raise GatewayError("UPSTREAM_INVALID", f"the provider sent a record of over {MAX_RECORD_BYTES} bytes")
        records: list[bytes] = []
        while self._at < len(self._buffer):
            if self._start < 0:
                self._between()
            elif self._in_string:
                self._string()
            else:
                self._object(records)
        self._forget()
        return records

    def close(self) -> list[bytes]:
        """Nothing: an object that is still open is not a record."""
        return []

    def _between(self) -> None:
        """Skip to the next object."""
        mark = self._buffer[self._at]
        if mark == ord("{"):
            self._start, self._depth = self._at, 1
        elif mark not in _BETWEEN and mark not in b"[]":
            raise GatewayError("UPSTREAM_INVALID", "the provider's stream is neither an event stream nor a JSON array")
        self._at += 1

    def _string(self) -> None:
        """Skip to the end of a string."""
        match = _REST.match(self._buffer, self._at)
        end = match.end() if match else self._at
        if self._buffer[end : end + 1] == b'"':
            self._in_string = False
            self._at = end + 1
        else:  # beyond the escaped character, even though that is still to come
            self._at = end + 2 if self._buffer[end : end + 1] else end

    def _object(self, records: list[bytes]) -> None:
        """Go on to the next bracket or string of the open object."""
        match = _MARK.search(self._buffer, self._at)
        if match is None:
            self._at = len(self._buffer)
            return
        self._at = match.end()
        mark = match.group()
        if mark == b'"':
            self._in_string = True
        elif mark in b"{[":
            self._depth += 1
        elif mark in b"}]":
            self._depth -= 1
            if self._depth == 0:
                records.append(bytes(self._buffer[self._start : self._at]))
                self._start = -1

    def _forget(self) -> None:
        """Drop what has been answered."""
        keep = self._start if self._start >= 0 else min(self._at, len(self._buffer))
        if keep:
            del self._buffer[:keep]
            self._at -= keep
            self._start = 0 if self._start >= 0 else -1
