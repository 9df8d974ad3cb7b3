"""A streamed answer in the Responses dialect: events of the contract to the bytes of `response.*` records.

Items open when their first piece comes and close when another begins; tool calls, whose arguments may interleave,
close with the answer. Events of a provider that speaks this dialect are shown as they are. Not for sockets: `sse_out`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson
from aigateway.v1 import chat_pb2, message_pb2

from aigateway_edge import citations
from aigateway_edge.native import native_type, word
from aigateway_edge.responses import envelope, items
from aigateway_edge.responses.content import DIALECT
from aigateway_edge.responses.open_items import OpenCall, OpenMessage, OpenReasoning
from aigateway_edge.responses.records import Records
from aigateway_edge.responses.state import Ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aigateway_common.errors import GatewayError

_dumps: Final = orjson.dumps


class _Typed(msgspec.Struct):
    """An event of the provider."""

    type: str = "message"


_typed: Final[msgspec.json.Decoder[_Typed]] = msgspec.json.Decoder(_Typed)


@dataclass(slots=True)
class _End:
    """What is known of the answer's end."""

    reason: chat_pb2.FinishReason.ValueType = chat_pb2.FINISH_REASON_UNSPECIFIED
    native: str = ""
    usage: Any = None
    shown: bool = False
    """The provider's own event told it."""


class Events:
    """Writes one stream. Feed it events in order; what it answers is ready to be sent."""

    def __init__(self, echo: Mapping[str, Any], ids: Ids | None = None) -> None:
        self._ids = ids or Ids()
        self._records = Records()
        self._echo = echo
        self._head = envelope.Head(self._ids.response, int(time.time()), "", echo)
        self._opened = False
        self._shown = False
        """The provider's own events are shown."""
        self._summaries = False
        """What the provider shows of its reasoning are summaries."""
        self._own = False
        self._dialect: message_pb2.Dialect.ValueType = message_pb2.DIALECT_UNSPECIFIED
        self._reported: set[str] = set()
        """The kinds of citations that a comment said were left out."""
        self._message: OpenMessage | None = None
        self._reasoning: OpenReasoning | None = None
        self._calls: dict[int, OpenCall] = {}
        self._end = _End()

    def write(self, events: Iterable[chat_pb2.ChatEvent]) -> bytes:
        """The records of some events; may be empty."""
        return b"".join([self._event(event) for event in events])

    def end(self) -> bytes:
        """The record that ends a whole stream: completed, incomplete or failed."""
        if self._end.shown:
            return b""
        status, reason = envelope.status(self._end.reason)
        closed = self._close_all("completed" if status == "completed" else "incomplete")
        error = envelope.broken(self._end.native) if status == "failed" else None
        body = self._head.response(status, self._records.output, reason=reason, error=error, usage=self._end.usage)
        return self._open() + closed + self._records.write(f"response.{status}", {"response": body})

    def fail(self, error: GatewayError) -> bytes:
        """The records of a failure in mid-stream: the answer's own end, and an error that SDKs raise."""
        opened = self._open()
        body = self._head.response("failed", self._records.output, error=envelope.failure(error))
        told = error.to_openai()["error"]
        fields = {"code": told["code"], "message": told["message"], "param": told["param"], "error": told}
        failed = self._records.write("response.failed", {"response": body})
        return opened + failed + self._records.write("error", fields)

    def _event(self, event: chat_pb2.ChatEvent) -> bytes:
        kind = event.WhichOneof("event")
        if kind == "start":
            self._begin(event.start)
            return b"" if self._own else self._open()
        if kind == "native_event":
            return self._native_event(event.native_event)
        if event.choice or kind is None:
            return b""
        if kind == "usage":
            self._end.usage = envelope.usage(event.usage, DIALECT if self._own else message_pb2.DIALECT_UNSPECIFIED)
            return b""
        if self._shown:
            return self._delta_as_it_was(kind, event) if event.extra_json else b""
        told = self._late(event) if kind == "extra" else self._open() + self._made(kind, event)
        return told + self._cite(event) if event.delta_extra_json or event.choice_extra_json else told

    def _late(self, event: chat_pb2.ChatEvent) -> bytes:
        """Log probabilities that come after their text."""
        late = event.logprobs_json and self._message is not None and self._message.part == event.part
        return self._say(event, "output_text", "") if late else b""

    def _cite(self, event: chat_pb2.ChatEvent) -> bytes:
        """What the text under way cites, where OpenAI's other dialect says so; else a comment that it is left out."""
        if self._dialect == message_pb2.DIALECT_OPENAI_CHAT:
            shown, left_out = citations.responses_of_chat(event.delta_extra_json)
        else:
            shown, left_out = [], citations.fields(event.delta_extra_json) + citations.fields(event.choice_extra_json)
        told = self._message.cite(shown, self._records) if shown and self._message is not None else None
        if shown and told is None:
            left_out.append("annotations")
        news = [name for name in dict.fromkeys(left_out) if name not in self._reported]
        self._reported.update(news)
        return (told or b"") + citations.comment(f"output[{len(self._records.output)}]", news)

    def _begin(self, start: chat_pb2.StreamStart) -> None:
        self._dialect = start.dialect
        self._own = start.dialect == DIALECT
        self._summaries = start.dialect == message_pb2.DIALECT_GEMINI  # it shows summaries of thoughts alone
        answer = start.id if self._own and start.id else self._ids.response
        self._head = envelope.Head(answer, start.created or int(time.time()), start.model, self._echo)

    def _open(self) -> bytes:
        if self._opened:
            return b""
        self._opened = True
        body = {"response": self._head.response("in_progress")}
        return self._records.write("response.created", body) + self._records.write("response.in_progress", body)

    def _native_event(self, part: message_pb2.NativePart) -> bytes:
        """An event of the provider as it was, when it began so."""
        if part.dialect != DIALECT or (self._opened and not self._shown):
            return b""
        self._shown = self._opened = True
        return self._as_it_was(part.json)

    def _as_it_was(self, json: bytes) -> bytes:
        kind = _typed.decode(json).type
        if kind in ("response.completed", "response.incomplete", "response.failed"):
            self._end.shown = True
        self._records.number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.replace(b"\n", b" ").replace(b"\r", b" "))

    def _delta_as_it_was(self, kind: str | None, event: chat_pb2.ChatEvent) -> bytes:
        text = {"text": event.text, "reasoning": event.reasoning, "refusal": event.refusal}.get(kind or "")
        delta = b'"delta":%b' % _dumps(event.arguments if text is None else text)
        rest = event.extra_json.strip()[1:]
        return self._as_it_was(b"{%b%b%b" % (delta, b"" if rest.strip() == b"}" else b",", rest))

    def _made(self, kind: str | None, event: chat_pb2.ChatEvent) -> bytes:
        match kind:
            case "text":
                return self._say(event, "output_text", event.text)
            case "refusal":
                return self._say(event, "refusal", event.refusal)
            case "reasoning":
                reasoning, closed = self._reason(event.part)
                return closed + reasoning.more(event.reasoning, self._records)
            case "redacted":
                reasoning, closed = self._reason(event.part)
                reasoning.redacted = True
                return closed
            case "tool_call":
                closed = self._close_text()
                call = self._calls[event.part] = OpenCall(event.tool_call, self._ids)
                return closed + call.open(self._records)
            case "arguments":
                call_under_way = self._calls.get(event.part)
                return call_under_way.more(event.arguments, self._records) if call_under_way is not None else b""
            case "provider_state":
                return self._state(event)
            case "finish":
                self._end.reason, self._end.native = event.finish.reason, event.finish.native_reason
                return b""
            case "native" if event.native.dialect == DIALECT:
                return self._close_text() + self._whole(items.fragment(event.native.json))
            case _:
                detail = native_type(event.native) if kind == "native" else kind or ""
                place = len(self._records.output)
                return b": x-gateway-translation: output[%d]=dropped(%b)\n\n" % (place, word(detail))

    def _say(self, event: chat_pb2.ChatEvent, kind: str, said: str) -> bytes:
        closed = b""
        if self._message is None:
            closed = self._close_text()
            self._message = OpenMessage(self._ids)
        return closed + self._message.more(event.part, kind, said, items.logprobs(event.logprobs_json), self._records)

    def _reason(self, part: int) -> tuple[OpenReasoning, bytes]:
        """The reasoning item under way, and the records of what ended as it began."""
        if self._reasoning is not None and self._reasoning.part == part:
            return self._reasoning, b""
        closed = self._close_text()
        self._reasoning = OpenReasoning(part, self._ids, summary=self._summaries)
        return self._reasoning, closed

    def _state(self, event: chat_pb2.ChatEvent) -> bytes:
        """State goes with its reasoning; with anything else, in an item of its own."""
        state = event.provider_state
        if (call := self._calls.get(event.part)) is not None:
            return self._whole(items.state_of_call(self._ids.item("rs"), state, call.id))
        if self._message is not None and self._message.part == event.part:
            return self._close_text() + self._whole(items.state_of_text(self._ids.item("rs"), state))
        reasoning, closed = self._reason(event.part)
        reasoning.state = state
        return closed

    def _whole(self, item: Any) -> bytes:  # JSON
        index, added = self._records.added(item)
        return added + self._records.done(index, item)

    def _close_text(self, status: str = "completed") -> bytes:
        """End the message or reasoning item under way."""
        message, reasoning = self._message, self._reasoning
        self._message = self._reasoning = None
        closed = b"" if message is None else message.close(self._records, status)
        return closed if reasoning is None else closed + reasoning.close(self._records)

    def _close_all(self, status: str) -> bytes:
        closed = self._close_text(status)
        calls, self._calls = self._calls, {}
        return closed + b"".join([call.close(self._records, status) for call in calls.values()])
