"""Chunks that differ from an earlier one in their text alone, known by their bytes; pure.

Most chunks of a stream are the same but for a few words, and taking them apart costs more than what is done with the
words. What stands around the text of one is found once; a chunk that has the same around one JSON string is the same
chunk with that string for its text.
"""

from __future__ import annotations

import re
from typing import Final

import orjson

_TEXT: Final = re.compile(rb'"content"\s*:\s*("(?:[^"\\]|\\.)*")', re.DOTALL)
_PROBE: Final = "\x00 some text that no host sends"


class Plain:
    """What stands around the text of a chunk that tells nothing else."""

    __slots__ = ("_before", "_behind", "_start", "_stop")

    def __init__(self, before: bytes, behind: bytes) -> None:
        self._before = before
        self._behind = behind
        self._start = len(before)
        self._stop = -len(behind)

    def record(self) -> Plain:
        """The same for a whole record of an event stream, whose data is one line."""
        return Plain(b"data: " + self._before, self._behind + b"\n\n")

    def text(self, data: bytes) -> str | None:
        """The text of a chunk that is otherwise the same; None of any other."""
        if not (data.startswith(self._before) and data.endswith(self._behind)):
            return None
        try:
            text = orjson.loads(data[self._start : self._stop])
        except orjson.JSONDecodeError:
            return None
        return text if isinstance(text, str) else None


def around_text(data: bytes) -> Plain | None:
    """What stands around the text of a chunk with one choice; None where it is not found for certain."""
    chunk = orjson.loads(data)
    chunk["choices"][0]["delta"]["content"] = _PROBE
    for found in _TEXT.finditer(data):
        before, behind = data[: found.start(1)], data[found.end(1) :]
        try:
            same = orjson.loads(before + orjson.dumps(_PROBE) + behind) == chunk
        except orjson.JSONDecodeError:
            continue
        if same:
            return Plain(before, behind)
    return None
