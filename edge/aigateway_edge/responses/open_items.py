"""Items of a streamed answer while they are open: a message, a reasoning item, a tool call.

Each writes its own records. What surrounds a delta is written once per piece, so that more text costs one JSON string.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson
from aigateway.v1 import chat_pb2, message_pb2

from aigateway_edge.responses import items

if TYPE_CHECKING:
    from aigateway_edge.responses.records import Records
    from aigateway_edge.responses.state import Ids

_KEYS: Final = {"output_text": "text", "refusal": "refusal", "reasoning_text": "text", "summary_text": "text"}
"""Where the words of a piece are."""


def _prefix(kind: str, fields: dict[str, Any]) -> bytes:
    body = orjson.dumps({"type": kind, **fields})
    return b'event: %b\ndata: %b,"delta":' % (kind.encode(), body[:-1])


class _Piece:
    """One text under way inside an item: a content part, or a part of a summary."""

    def __init__(self, kind: str, place: dict[str, Any]) -> None:
        self.kind = kind
        self.place = place
        """The ids and indexes that all its records have."""
        self.texts: list[str] = []
        self.tokens: list[Any] = []
        self.annotations: list[items.Json] = []
        if kind == "summary_text":
            self._part, self._text = "response.reasoning_summary_part", "response.reasoning_summary_text"
        else:
            self._part, self._text = "response.content_part", f"response.{kind}"
        self._prefix = _prefix(f"{self._text}.delta", place)

    def open(self, records: Records) -> bytes:
        """The records that begin it."""
        return records.write(f"{self._part}.added", {**self.place, "part": self.view()})

    def more(self, said: str, tokens: list[Any], records: Records) -> bytes:
        """More text."""
        self.texts.append(said)
        self.tokens += tokens
        suffix = b""
        if self.kind == "output_text":
            suffix = b',"logprobs":%b' % (orjson.dumps(tokens) if tokens else b"[]")
        return records.delta(self._prefix, said, suffix)

    def cite(self, annotation: items.Json, records: Records) -> bytes:
        """The record of something it cites."""
        self.annotations.append(annotation)
        place = {**self.place, "annotation_index": len(self.annotations) - 1}
        return records.write("response.output_text.annotation.added", {**place, "annotation": annotation})

    def close(self, records: Records) -> bytes:
        """The records that end it."""
        part = self.view()
        whole: dict[str, Any] = {**self.place, _KEYS[self.kind]: part[_KEYS[self.kind]]}
        if self.kind == "output_text":
            whole["logprobs"] = part["logprobs"]
        done = records.write(f"{self._text}.done", whole)
        return done + records.write(f"{self._part}.done", {**self.place, "part": part})

    def view(self) -> dict[str, Any]:
        """The piece so far."""
        said = "".join(self.texts)
        if self.kind == "output_text":
            return items.text(said, self.tokens, self.annotations)
        return {"type": self.kind, _KEYS[self.kind]: said}


class OpenMessage:
    """What the model says."""

    def __init__(self, ids: Ids) -> None:
        self.part = -1
        """The part that is being told."""
        self._id = ids.item("msg")
        self._index = -1
        self._pieces: list[_Piece] = []

    def more(self, part: int, kind: str, said: str, tokens: list[Any], records: Records) -> bytes:
        """More of a text or refusal."""
        if self._index >= 0 and part == self.part and self._pieces[-1].kind == kind:
            return self._pieces[-1].more(said, tokens, records)
        opened = b""
        if self._index < 0:
            self._index, opened = records.added(items.message(self._id, [], "in_progress"))
        else:
            opened = self._pieces[-1].close(records)
        self.part = part
        place = {"item_id": self._id, "output_index": self._index, "content_index": len(self._pieces)}
        piece = _Piece(kind, place)
        self._pieces.append(piece)
        return opened + piece.open(records) + piece.more(said, tokens, records)

    def cite(self, annotations: list[items.Json], records: Records) -> bytes | None:
        """The records of what the text under way cites; None when it is no text."""
        piece = self._pieces[-1]
        if piece.kind != "output_text":
            return None
        return b"".join([piece.cite(annotation, records) for annotation in annotations])

    def close(self, records: Records, status: str) -> bytes:
        """The records that end it."""
        closed = self._pieces[-1].close(records)
        item = items.message(self._id, [piece.view() for piece in self._pieces], status)
        return closed + records.done(self._index, item)


class OpenReasoning:
    """The model's reasoning; `summary` says that what is shown of it is one."""

    def __init__(self, part: int, ids: Ids, *, summary: bool) -> None:
        self.part = part
        self.redacted = False
        self.state: message_pb2.ProviderState | None = None
        self._id = ids.item("rs")
        self._index = -1
        self._summary = summary
        self._piece: _Piece | None = None

    def more(self, said: str, records: Records) -> bytes:
        """More of the reasoning."""
        opened = self._open(records)
        if self._piece is None:
            kind, key = ("summary_text", "summary_index") if self._summary else ("reasoning_text", "content_index")
            self._piece = _Piece(kind, {"item_id": self._id, "output_index": self._index, key: 0})
            opened += self._piece.open(records)
        return opened + self._piece.more(said, [], records)

    def close(self, records: Records) -> bytes:
        """The records that end it, with the state that came meanwhile."""
        opened = self._open(records)
        said = "" if self._piece is None else "".join(self._piece.texts)
        closed = b"" if self._piece is None else self._piece.close(records)
        part = message_pb2.ReasoningPart(text=said, summary=self._summary, redacted=self.redacted)
        return opened + closed + records.done(self._index, items.reasoning(self._id, part, self.state))

    def _open(self, records: Records) -> bytes:
        if self._index >= 0:
            return b""
        self._index, added = records.added({"id": self._id, "type": "reasoning", "summary": []})
        return added


class OpenCall:
    """The model's wish to call a tool."""

    def __init__(self, start: chat_pb2.ToolCallStart, ids: Ids) -> None:
        self.id = start.id
        self._wish = message_pb2.ToolCall(id=start.id, name=start.name, type=start.type)
        self._custom = start.type == message_pb2.TOOL_CALL_TYPE_CUSTOM
        self._item_id = ids.item(items.call_prefix(start.type))
        self._index = -1
        self._arguments: list[str] = []
        self._prefix = b""
        self._kind = "response.custom_tool_call_input" if self._custom else "response.function_call_arguments"

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item_id, "output_index": self._index}

    def open(self, records: Records) -> bytes:
        """The record that begins it."""
        self._index, added = records.added(items.call(self._item_id, self._wish, "", "in_progress"))
        self._prefix = _prefix(f"{self._kind}.delta", self._place)
        return added

    def more(self, arguments: str, records: Records) -> bytes:
        """More of the arguments."""
        self._arguments.append(arguments)
        return records.delta(self._prefix, arguments, b"")

    def close(self, records: Records, status: str) -> bytes:
        """The records that end it; a function called without arguments is called with none."""
        last = b"" if self._custom or any(self._arguments) else self.more("{}", records)
        arguments = "".join(self._arguments)
        key = "input" if self._custom else "arguments"
        done = records.write(f"{self._kind}.done", {**self._place, key: arguments})
        return last + done + records.done(self._index, items.call(self._item_id, self._wish, arguments, status))
