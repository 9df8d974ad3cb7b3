"""The event stream of `POST /v1/messages` to `ChatEvent`s: pure, no I/O.

Text, thinking and tool arguments pass as they come. Blocks that only Anthropic understands (server tools and their
results) are put together and passed whole when they end. https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from aigateway.v1 import chat_pb2, message_pb2

from aigateway_providers.anthropic import errors, splice
from aigateway_providers.anthropic.blocks import DIALECT
from aigateway_providers.anthropic.response import MESSAGE_FIELDS, block_extra, finish_reason, state
from aigateway_providers.anthropic.usage import token_usage

if TYPE_CHECKING:
    from aigateway_providers.anthropic.request import Request

_WITHIN: Final = frozenset({"content_block_start", "message_delta", "message_stop"})
"""Records that only a message that has begun can have."""
_NEUTRAL: Final = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    signature: str = ""


class _Event(msgspec.Struct):
    type: str
    index: int = 0
    delta: _Delta | None = None


_EVENT: Final = msgspec.json.Decoder(_Event)


class _Block:
    """A content block that is still open."""

    __slots__ = ("arguments", "fields", "kind", "part", "seen", "signature")

    def __init__(self, fields: dict[str, Any], kind: str, part: int) -> None:
        self.fields = fields
        self.kind = kind
        self.part = part
        self.arguments: list[str] = []
        """Pieces of a native block's input."""
        self.signature = ""
        self.seen = False
        """Whether anything of it was passed on."""


class StreamReader:
    """Reads one stream; feed it the data of each event in turn."""

    def __init__(self, provider: str, request: Request, *, created: int) -> None:
        self._provider = provider
        self._request = request
        self._created = created
        self._blocks: dict[int, _Block] = {}
        self._parts = 0
        self._calls = 0
        self._usage: dict[str, msgspec.Raw] = {}
        self._stop: dict[str, msgspec.Raw] = {}
        self._ends: list[bytes] = []
        """The events that tell why the model stopped."""
        self._started = False
        self.finished = False
        """Whether `message_stop` has come; a stream that ends before it was cut short."""

    def feed(self, data: bytes, events: list[chat_pb2.ChatEvent]) -> None:
        """Append to `events` what one record of the stream means.

        Raises:
            GatewayError: the record is an error.
            splice.UNREADABLE: the record is not JSON of this API.
        """
        if self.finished:
            return
        data.decode()  # what is passed on unread must be text too
        event = _EVENT.decode(data)
        if not self._started and event.type in _WITHIN:
            raise msgspec.ValidationError(f"`{event.type}` came before `message_start`")
        match event.type:
            case "content_block_delta":
                block = self._blocks.get(event.index)
                if block is not None and event.delta is not None:
                    self._delta(block, event.delta, data, events)
            case "content_block_start":
                self._open(event.index, bytes(splice.fields(data)["content_block"]), events)
            case "content_block_stop":
                self._close(event.index, events)
            case "message_start":
                self._start(splice.fields(splice.fields(data)["message"]), events)
            case "message_delta":
                record = splice.fields(data)
                self._stop |= splice.fields(record["delta"])
                self._ends.append(data)
                self._add_usage(record.get("usage"))
            case "message_stop":
                self._finish(events)
            case "error":
                raise errors.from_event(self._provider, data)
            case "ping":
                pass
            case _:  # whatever is added later; the API's versioning policy says to ignore it
                self._raw(data, events)

    def _start(self, message: dict[str, msgspec.Raw], events: list[chat_pb2.ChatEvent]) -> None:
        if self._started:
            return
        self._started = True
        self._add_usage(message.get("usage"))
        start = chat_pb2.StreamStart(
            id=splice.text(message, "id"),
            created=self._created,
            model=splice.text(message, "model"),
            translation=self._request.translation,
            dialect=DIALECT,
            extra_json=splice.rest(message, *MESSAGE_FIELDS),
            usage=token_usage(message["usage"]) if self._usage else None,
        )
        events.append(chat_pb2.ChatEvent(start=start))
        for number, raw in enumerate(msgspec.json.decode(message.get("content", b"[]"), type=list[msgspec.Raw])):
            self._open(-1 - number, bytes(raw), events)  # content that was there before: whole, outside the numbering
            self._close(-1 - number, events)

    def _open(self, index: int, raw: bytes, events: list[chat_pb2.ChatEvent]) -> None:
        fields = splice.fields(raw)
        kind = splice.text(fields, "type")
        part = self._parts
        self._parts += 1
        answer_tool = self._request.answer_tool
        if kind == "tool_use" and answer_tool and splice.text(fields, "name") == answer_tool:
            kind = "answer"
        block = self._blocks[index] = _Block(fields, kind, part)
        match kind:
            case "text":
                if extra := block_extra(fields, ("type", "text")):
                    events.append(_extra(part, extra))
                    block.seen = True
                if text := splice.text(fields, "text"):
                    self._text(block, text, events)
            case "thinking":
                block.signature = splice.text(fields, "signature")
                if text := splice.text(fields, "thinking"):
                    self._reasoning(block, text, events)
            case "redacted_thinking":
                events.append(chat_pb2.ChatEvent(part=part, redacted=chat_pb2.RedactedReasoning()))
                block.signature = splice.text(fields, "data")
            case "tool_use":
                call = chat_pb2.ToolCallStart(
                    id=splice.text(fields, "id"),
                    name=splice.text(fields, "name"),
                    index=self._calls,
                    type=message_pb2.TOOL_CALL_TYPE_FUNCTION,
                )
                extra = block_extra(fields, ("type", "id", "name", "input"))
                events.append(chat_pb2.ChatEvent(part=part, tool_call=call, delta_extra_json=extra))
                self._calls += 1
            case _:
                pass

    def _delta(self, block: _Block, delta: _Delta, data: bytes, events: list[chat_pb2.ChatEvent]) -> None:
        match delta.type:
            case "text_delta" if block.kind == "text":
                if delta.text:
                    self._text(block, delta.text, events)
            case "input_json_delta" if block.kind == "tool_use":
                if delta.partial_json:
                    block.seen = True
                    events.append(chat_pb2.ChatEvent(part=block.part, arguments=delta.partial_json))
            case "input_json_delta" if block.kind == "answer":
                if delta.partial_json:
                    block.seen = True
                    events.append(chat_pb2.ChatEvent(part=block.part, text=delta.partial_json))
            case "thinking_delta" if block.kind == "thinking":
                if delta.thinking:
                    self._reasoning(block, delta.thinking, events)
            case "signature_delta":
                block.signature += delta.signature
            case "citations_delta":
                citation = splice.fields(splice.fields(data)["delta"]).get("citation")
                if citation is not None:
                    events.append(_extra(block.part, b'{"citations":[' + bytes(citation) + b"]}"))
            case "input_json_delta":
                block.arguments.append(delta.partial_json)
            case _ if block.kind in _NEUTRAL:
                self._raw(data, events)
            case _:
                self._grow(block, splice.fields(splice.fields(data)["delta"]))

    def _grow(self, block: _Block, delta: dict[str, msgspec.Raw]) -> None:
        """A delta of a kind that no neutral block has: texts grow, anything else is set."""
        for key, value in delta.items():
            if key == "type":
                continue
            before = block.fields.get(key)
            if bytes(value).startswith(b'"') and before is not None and bytes(before).startswith(b'"'):
                grown = splice.text(block.fields, key) + splice.text(delta, key)
                block.fields[key] = msgspec.Raw(msgspec.json.encode(grown))
            else:
                block.fields[key] = value

    def _close(self, index: int, events: list[chat_pb2.ChatEvent]) -> None:
        block = self._blocks.pop(index, None)
        if block is None:
            return
        match block.kind:
            case "text":
                if not block.seen and self._request.own:
                    self._text(block, "", events)  # a block of its own, if an empty one
            case "thinking" | "redacted_thinking":
                if block.signature:
                    if block.kind == "thinking" and not block.seen:
                        self._reasoning(block, "", events)  # opens the part: its text is withheld
                    events.append(chat_pb2.ChatEvent(part=block.part, provider_state=state(block.signature)))
            case "tool_use" | "answer":
                if not block.seen:
                    given = bytes(block.fields.get("input", b"{}")).decode("utf-8", "replace")
                    event = chat_pb2.ChatEvent(part=block.part, arguments=given)
                    if block.kind == "answer":
                        event = chat_pb2.ChatEvent(part=block.part, text=given)
                    events.append(event)
            case _:
                if given := "".join(block.arguments):
                    block.fields["input"] = msgspec.Raw(given.encode())
                native = message_pb2.NativePart(dialect=DIALECT, json=msgspec.json.encode(block.fields))
                events.append(chat_pb2.ChatEvent(part=block.part, native=native))

    def _finish(self, events: list[chat_pb2.ChatEvent]) -> None:
        self.finished = True
        for index in list(self._blocks):
            self._close(index, events)
        native = splice.text(self._stop, "stop_reason")
        finish = chat_pb2.StreamFinish(
            reason=finish_reason(native, calls=self._calls > 0),
            native_reason=native,
            stop_sequence=splice.text(self._stop, "stop_sequence"),
        )
        for data in self._ends:
            self._raw(data, events)
        extra = splice.rest(self._stop, "stop_reason", "stop_sequence")
        events.append(chat_pb2.ChatEvent(finish=finish, extra_json=extra))
        if self._usage:
            events.append(chat_pb2.ChatEvent(usage=token_usage(msgspec.json.encode(self._usage))))

    def _add_usage(self, raw: msgspec.Raw | None) -> None:
        """Counts are cumulative: a later one takes the place of an earlier one, one that is absent changes nothing."""
        if raw is not None and not splice.is_null(raw):
            self._usage |= {key: value for key, value in splice.fields(raw).items() if not splice.is_null(value)}

    def _raw(self, data: bytes, events: list[chat_pb2.ChatEvent]) -> None:
        """An event as it came, for a caller who knows what it means."""
        if self._request.own:
            native = message_pb2.NativePart(dialect=DIALECT, json=data)
            events.append(chat_pb2.ChatEvent(native_event=native))

    @staticmethod
    def _text(block: _Block, text: str, events: list[chat_pb2.ChatEvent]) -> None:
        block.seen = True
        events.append(chat_pb2.ChatEvent(part=block.part, text=text))

    @staticmethod
    def _reasoning(block: _Block, text: str, events: list[chat_pb2.ChatEvent]) -> None:
        block.seen = True
        events.append(chat_pb2.ChatEvent(part=block.part, reasoning=text))


def _extra(part: int, fields: bytes) -> chat_pb2.ChatEvent:
    return chat_pb2.ChatEvent(part=part, extra=chat_pb2.StreamExtra(), delta_extra_json=fields)
