"""The numbered records of a streamed answer, and the items told so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

_dumps: Final = orjson.dumps


@dataclass(slots=True)
class Records:
    """Numbers and writes records."""

    number: int = 0
    output: list[Any] = field(default_factory=list)
    """The items so far; those still open as they began."""

    def write(self, kind: str, fields: Mapping[str, Any]) -> bytes:
        """One record."""
        body = _dumps({"type": kind, "sequence_number": self.number, **fields})
        self.number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), body)

    def delta(self, prefix: bytes, text: str, suffix: bytes) -> bytes:
        """One record of more text, of which all but the text and the number is written already."""
        number = self.number
        self.number += 1
        return b'%b%b,"sequence_number":%d%b}\n\n' % (prefix, _dumps(text), number, suffix)

    def added(self, item: Any) -> tuple[int, bytes]:  # JSON
        """The beginning of an item, and its place."""
        index = len(self.output)
        self.output.append(item)
        return index, self.write("response.output_item.added", {"output_index": index, "item": item})

    def done(self, index: int, item: Any) -> bytes:  # JSON
        """The end of an item."""
        self.output[index] = item
        return self.write("response.output_item.done", {"output_index": index, "item": item})
