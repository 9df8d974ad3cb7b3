"""A streamed answer in Anthropic's shape: events to the bytes of its event stream.

Blocks follow each other, each closed before the next begins. A provider of this dialect is shown as it streamed, but
for how a text is cut into pieces. Not for sockets: `sse_out`. https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson
from aigateway.v1 import chat_pb2, message_pb2, tokens_pb2

from aigateway_edge import citations
from aigateway_edge.anthropic import answers, carriers, failures

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aigateway_common.errors import GatewayError

_PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'
_STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

_dumps: Final = orjson.dumps
_members: Final[msgspec.json.Decoder[dict[str, msgspec.Raw]]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list: Final[msgspec.json.Decoder[list[msgspec.Raw] | None]] = msgspec.json.Decoder(list[msgspec.Raw] | None)
_type: Final[msgspec.json.Decoder[str]] = msgspec.json.Decoder(str)


class Events:
    """Writes one stream. Feed it events in order; what it answers is ready to be sent."""

    def __init__(self, *, request_id: str) -> None:
        self._request_id = request_id
        self._own = False
        self._index = -1
        """Of the newest block."""
        self._kind = ""
        """Of the block that is open; empty when none is."""
        self._part = -1
        """The part that the open block shows."""
        self._signed = False
        """The open block of thinking has its signature."""
        self._tools: dict[int, int] = {}
        """The blocks of tool calls, by part."""
        self._told: set[int] = set()
        """Tool calls whose state went before them."""
        self._redacted: set[int] = set()
        self._ahead: dict[int, message_pb2.ProviderState] = {}
        """State of parts that comes later in the events being written, by part."""
        self._refused = False
        self._reported: set[str] = set()
        """What comments said was left out."""
        self._finish = chat_pb2.ChatEvent()
        self._usage: tokens_pb2.TokenUsage | None = None
        self._deltas: list[bytes] = []
        """The provider's own `message_delta` events."""

    def write(self, events: Iterable[chat_pb2.ChatEvent]) -> bytes:
        """The records of some events; may be empty."""
        shown = [event for event in events if event.choice == 0]  # one answer is all there is room for
        self._ahead = {event.part: event.provider_state for event in shown if event.HasField("provider_state")}
        told = b"".join([self._event(event) for event in shown])
        return told if self._own else told + self._unshown(shown)

    def end(self) -> bytes:
        """The records that end a whole stream."""
        deltas = [_record("message_delta", json) for json in self._deltas] or [self._delta()]
        return b"".join([self._close(), *deltas, _STOP])

    def fail(self, error: GatewayError) -> bytes:
        """The record of a failure in the middle of the stream; nothing follows it."""
        return failures.record(error, self._request_id)

    def _unshown(self, events: Iterable[chat_pb2.ChatEvent]) -> bytes:
        """Comments that say once what of another dialect is left out: citations and log probabilities."""
        names: list[str] = []
        for event in events:
            if event.logprobs_json:
                names.append("logprobs")
            if event.delta_extra_json or event.choice_extra_json:
                names += citations.fields(event.delta_extra_json) + citations.fields(event.choice_extra_json)
        news = [name for name in dict.fromkeys(names) if name not in self._reported]
        self._reported.update(news)
        return citations.comment("content", news)

    def _event(self, event: chat_pb2.ChatEvent) -> bytes:
        match event.WhichOneof("event"):
            case "text":
                return self._text(event)
            case "reasoning":
                opened = self._switch("thinking", event.part, b'{"type":"thinking","thinking":"","signature":""}')
                return opened + self._piece(b"thinking_delta", b"thinking", event.reasoning)
            case "arguments":
                if self._own and event.arguments == "{}":
                    return b""  # what the beginning of the block said already
                index = self._tools.get(event.part, self._index)
                return _delta(index, b'{"type":"input_json_delta","partial_json":%b}' % _dumps(event.arguments))
            case "tool_call":
                return self._tool_call(event)
            case "provider_state":
                return self._state(event)
            case "redacted":
                self._redacted.add(event.part)
            case "refusal":
                self._refused = True
                return self._say(event.part, event.refusal)
            case "audio":
                return self._say(event.part, event.audio.transcript) if event.audio.transcript else b""
            case other:
                return self._rarely(other, event)
        return b""

    def _rarely(self, kind: str | None, event: chat_pb2.ChatEvent) -> bytes:
        """What comes once in a stream, or from Anthropic only."""
        match kind:
            case "start":
                return self._start(event.start)
            case "finish":
                self._finish = event
                return self._close()
            case "usage":
                self._usage = event.usage
            case "native":
                return self._native(event.native)
            case "native_event":
                return self._native_event(event.native_event)
            case "extra" if self._own and event.delta_extra_json:
                return self._extra(event)
            case _:
                pass
        return b""

    def _start(self, start: chat_pb2.StreamStart) -> bytes:
        self._own = start.dialect == answers.DIALECT
        if start.HasField("usage"):
            self._usage = start.usage
        message: dict[str, Any] = {
            "id": start.id or f"msg_{self._request_id}",
            "type": "message",
            "role": "assistant",
            "model": start.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": answers.usage(self._usage, own=self._own),
        }
        message |= answers.extras(start.extra_json, own=self._own)
        return _record("message_start", b'{"type":"message_start","message":%b}' % _dumps(message)) + _PING

    def _text(self, event: chat_pb2.ChatEvent) -> bytes:
        if not event.text and event.part != self._part and not self._own:
            return b""  # says nothing by itself; its state, if it has any, is told without it
        return self._say(event.part, event.text)

    def _say(self, part: int, text: str) -> bytes:
        opened = b""
        if part != self._part or self._kind != "text":
            opened = self._switch("text", part, b'{"type":"text","text":""}')
        return opened + self._piece(b"text_delta", b"text", text)

    def _piece(self, kind: bytes, key: bytes, text: str) -> bytes:
        if not text:
            return b""
        return _delta(self._index, b'{"type":"%b","%b":%b}' % (kind, key, _dumps(text)))

    def _tool_call(self, event: chat_pb2.ChatEvent) -> bytes:
        signed = b""
        state = self._ahead.get(event.part)
        if state is not None:
            signed = self._sign(carriers.pack(state, "next"))
            self._told.add(event.part)
        call = event.tool_call
        block: dict[str, Any] = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        block |= answers.extras(event.delta_extra_json, own=self._own)
        opened = self._switch("tool_use", event.part, _dumps(block))
        self._tools[event.part] = self._index
        return signed + opened

    def _state(self, event: chat_pb2.ChatEvent) -> bytes:
        state, part = event.provider_state, event.part
        if part in self._redacted:
            data = _dumps(carriers.pack(state))
            return self._switch("redacted", part, b'{"type":"redacted_thinking","data":%b}' % data) + self._close()
        if part == self._part and self._kind == "thinking":
            return self._sign(carriers.pack(state))
        if part in self._told:
            return b""
        return self._carry(state, "last" if part == self._part else "text")

    def _carry(self, state: message_pb2.ProviderState, place: carriers.Place) -> bytes:
        """State in a block of its own."""
        return self._close() + self._sign(carriers.pack(state, place)) + self._close()

    def _sign(self, signature: str) -> bytes:
        """A signature for the thinking that is open, or for an empty one made for it."""
        opened = b""
        if self._kind != "thinking" or self._signed:
            opened = self._switch("thinking", -1, b'{"type":"thinking","thinking":"","signature":""}')
        self._signed = True
        return opened + _delta(self._index, b'{"type":"signature_delta","signature":%b}' % _dumps(signature))

    def _native(self, native: message_pb2.NativePart) -> bytes:
        """A block that only this dialect has, whole; the input of a tool as a delta, where clients look for it."""
        if native.dialect != answers.DIALECT:
            kind = "".join(letter for letter in answers.native_type(native)[:64] if letter.isalnum() or letter in "_-")
            return b": x-gateway-translation: content=dropped(%b)\n\n" % kind.encode("ascii", "ignore")
        fields = _members.decode(native.json)
        given = bytes(fields.get("input", b""))
        if given in {b"", b"{}"}:
            return self._switch("native", -1, native.json) + self._close()
        opened = self._switch("native", -1, msgspec.json.encode({**fields, "input": msgspec.Raw(b"{}")}))
        piece = b'{"type":"input_json_delta","partial_json":%b}' % _dumps(given.decode())
        return opened + _delta(self._index, piece) + self._close()

    def _native_event(self, native: message_pb2.NativePart) -> bytes:
        if native.dialect != answers.DIALECT:
            return b""
        kind = _type.decode(_members.decode(native.json)["type"])
        if kind == "message_delta":
            self._deltas.append(native.json)
            return b""
        return _record(kind, native.json)

    def _extra(self, event: chat_pb2.ChatEvent) -> bytes:
        """Fields of a text block: those it begins with, or the citations that come while it is open."""
        fields = _members.decode(event.delta_extra_json)
        if event.part != self._part:
            start = {"type": "text", "text": ""} | answers.extras(event.delta_extra_json, own=True)
            return self._switch("text", event.part, _dumps(start))
        citations = _list.decode(fields.get("citations", b"null")) or []
        return b"".join(
            _delta(self._index, b'{"type":"citations_delta","citation":%b}' % bytes(citation)) for citation in citations
        )

    def _switch(self, kind: str, part: int, block: bytes) -> bytes:
        """Open a block, unless that of `part` is open already."""
        if part == self._part and kind == self._kind:
            return b""
        closed = self._close()
        self._index += 1
        self._kind, self._part, self._signed = kind, part, False
        start = b'{"type":"content_block_start","index":%d,"content_block":%b}' % (self._index, block)
        return closed + _record("content_block_start", start)

    def _close(self) -> bytes:
        """Close the block that is open; what comes later still knows the part that it showed."""
        if not self._kind:
            return b""
        self._kind = ""
        return _record("content_block_stop", b'{"type":"content_block_stop","index":%d}' % self._index)

    def _delta(self) -> bytes:
        finish = self._finish.finish
        delta = answers.stopped(
            finish.reason, finish.native_reason, finish.stop_sequence, own=self._own, refused=self._refused
        )
        delta |= answers.extras(self._finish.extra_json, own=self._own)
        body = {"type": "message_delta", "delta": delta, "usage": answers.usage(self._usage, own=self._own)}
        return _record("message_delta", _dumps(body))


def _record(kind: str, json: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.replace(b"\n", b" ").replace(b"\r", b" "))


def _delta(index: int, delta: bytes) -> bytes:
    return b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b}\n\n' % (
        index,
        delta,
    )
