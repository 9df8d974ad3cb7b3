"""A streamed answer in OpenAI's shape: events to the bytes of `chat.completion.chunk` records.

Most events are a piece of text, and cost one JSON string: all around it is written once per stream. Reasoning that
needs to come back (signatures, withheld text) is told whole with the end of its choice. Not for sockets: `sse_out`.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson
from aigateway.v1 import chat_pb2, message_pb2

from aigateway_edge import citations
from aigateway_edge.native import native_type, paused_comment, word
from aigateway_edge.openai import carriers
from aigateway_edge.openai.usage import usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aigateway_common.errors import GatewayError

DONE: Final = b"data: [DONE]\n\n"
_ROLE: Final = b'{"role":"assistant","content":""}'

_dumps: Final = orjson.dumps
_members: Final[msgspec.json.Decoder[dict[str, msgspec.Raw]]] = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(slots=True)
class _Reasoning:
    """A reasoning part so far."""

    texts: list[str] = field(default_factory=list)
    redacted: bool = False
    state: message_pb2.ProviderState | None = None


@dataclass(slots=True)
class _Choice:
    """What is known of one of the answers so far."""

    open: bytes
    """The record up to its delta."""
    reasoning: dict[int, _Reasoning] = field(default_factory=dict)
    """By part."""
    calls: dict[int, tuple[int, bool]] = field(default_factory=dict)
    """By part: the index among the tool calls, and whether it is a custom tool's."""
    said: dict[int, int] = field(default_factory=dict)
    """How many characters of each text were told, where its citations need to know."""
    reported: set[str] = field(default_factory=set)
    """The kinds of citations that a comment said were left out."""


class Chunks:
    """Writes one stream. Feed it events in order; what it answers is ready to be sent."""

    def __init__(self, *, request_id: str, include_usage: bool, legacy_functions: bool = False) -> None:
        self._request_id = request_id
        self._include_usage = include_usage
        self._legacy = legacy_functions
        self._choices: dict[int, _Choice] = {}
        self._head = b""
        self._start_extras: dict[str, bytes] = {}
        self._dialect: message_pb2.Dialect.ValueType = message_pb2.DIALECT_UNSPECIFIED
        self._usage: bytes = b""
        self._usage_extra: bytes = b""
        """Extra fields of the provider's chunk that had the usage: one JSON object."""
        self._close = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._begin(chat_pb2.StreamStart())

    def write(self, events: Sequence[chat_pb2.ChatEvent]) -> bytes:
        """The records of some events; may be empty."""
        if len(events) == 1:
            return self._event(events[0])
        return b"".join([self._event(event) for event in events])

    def end(self) -> bytes:
        """The records that end a whole stream: usage, where the caller asked for it, and `[DONE]`."""
        if self._include_usage and self._usage:
            record = b'%b"choices":[],"usage":%b' % (self._head, self._usage)
            return self._joined(record, self._usage_extra) + b"}\n\n" + DONE
        return DONE

    def fail(self, error: GatewayError) -> bytes:
        """The record of a failure in the middle of the stream."""
        return error_record(error)

    def _event(self, event: chat_pb2.ChatEvent) -> bytes:
        kind = event.WhichOneof("event")
        if (
            kind == "text"
            and self._dialect != message_pb2.DIALECT_OPENAI_RESPONSES
            and (plain := self._choices.get(event.choice)) is not None
            and not event.delta_extra_json
            and not event.choice_extra_json
            and not event.extra_json
            and not event.logprobs_json
        ):  # nothing but a piece of text, as almost always
            return b'%b{"content":%b},"logprobs":null,"finish_reason":null}]%b' % (
                plain.open,
                _dumps(event.text),
                self._close,
            )
        if kind == "start":
            self._begin(event.start)
            return self._record(self._choice(event.choice), _opening(event), event)
        if kind == "usage":
            self._usage = _dumps(usage(event.usage, self._dialect))
            self._usage_extra = event.extra_json
            return b""
        if kind == "extra" and self._dialect == message_pb2.DIALECT_OPENAI_CHAT:
            return self._extra(event)
        first = b"" if event.choice in self._choices else self._role(event.choice)
        choice = self._choices[event.choice]
        if kind == "extra":
            return first + self._foreign_extra(choice, event)
        delta = self._delta(kind, event, choice)
        if kind == "finish":
            return first + self._finish(choice, event)
        return first + (self._record(choice, delta, event) if delta else self._note(event))

    def _begin(self, start: chat_pb2.StreamStart) -> None:
        self._dialect = start.dialect
        own = start.extra_json if start.dialect == message_pb2.DIALECT_OPENAI_CHAT else b""
        self._start_extras = {key: bytes(raw) for key, raw in _members.decode(own).items()} if own else {}
        self._head = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,' % (
            _dumps(start.id or f"chatcmpl-{self._request_id}"),
            start.created or int(time.time()),
            _dumps(start.model),
        )
        self._head += b"".join(b"%b:%b," % (_dumps(key), value) for key, value in self._start_extras.items())
        self._choices.clear()

    def _choice(self, index: int) -> _Choice:
        choice = self._choices[index] = _Choice(b'%b"choices":[{"index":%d,"delta":' % (self._head, index))
        return choice

    def _role(self, index: int) -> bytes:
        choice = self._choice(index)
        return choice.open + _ROLE + b',"logprobs":null,"finish_reason":null}]' + self._close

    def _record(self, choice: _Choice, delta: bytes, event: chat_pb2.ChatEvent, finish: bytes = b"null") -> bytes:
        """One record with one delta, and with the event's extra fields where it has any."""
        if event.delta_extra_json:
            delta = b"%b%b}" % (delta[:-1], self._spliced(event.delta_extra_json, delta != b"{}"))
        more = self._spliced(event.choice_extra_json, True) if event.choice_extra_json else b""
        logprobs = event.logprobs_json or b"null"
        head = b'%b%b,"logprobs":%b,"finish_reason":%b%b}]' % (choice.open, delta, logprobs, finish, more)
        if not event.extra_json:
            return head + self._close
        return self._with_extras(head, event.extra_json)

    def _spliced(self, json: bytes, comma: bool) -> bytes:  # noqa: FBT001 # private, and read in its two uses
        if self._dialect != message_pb2.DIALECT_OPENAI_CHAT:
            return b""
        inner = json.strip()[1:-1].strip()
        return (b"," if comma and inner else b"") + inner

    def _with_extras(self, head: bytes, json: bytes) -> bytes:
        """`head` with more fields, and the end of the record."""
        return self._joined(head, json) + self._close

    def _joined(self, head: bytes, json: bytes) -> bytes:
        """`head` with more fields; those that differ from the start's replace them."""
        if not json or self._dialect != message_pb2.DIALECT_OPENAI_CHAT:
            return head
        members = _members.decode(json)
        for key in self._start_extras.keys() & members.keys():
            head = head.replace(b"%b:%b," % (_dumps(key), self._start_extras[key]), b"", 1)
        return head + b"".join(b",%b:%b" % (_dumps(key), bytes(raw)) for key, raw in members.items())

    def _foreign_extra(self, choice: _Choice, event: chat_pb2.ChatEvent) -> bytes:
        """Extra fields of another dialect: what they cite, as far as OpenAI made it, and log probabilities."""
        shown: list[dict[str, Any]] = []
        if self._dialect == message_pb2.DIALECT_OPENAI_RESPONSES:
            before = sum(length for part, length in choice.said.items() if part < event.part)
            shown, left_out = citations.chat_of_responses(event.delta_extra_json, before)
        else:
            left_out = citations.fields(event.delta_extra_json) + citations.fields(event.choice_extra_json)
        news = [name for name in dict.fromkeys(left_out) if name not in choice.reported]
        choice.reported.update(news)
        told = citations.comment(f"choices[{event.choice}]", news)
        if shown or event.logprobs_json:
            told += self._record(choice, _dumps({"annotations": shown} if shown else {}), event)
        return told

    def _extra(self, event: chat_pb2.ChatEvent) -> bytes:
        if event.choice_extra_json or event.delta_extra_json or event.logprobs_json:
            if event.choice not in self._choices:
                return self._record(self._choice(event.choice), _opening(event), event)
            return self._record(self._choices[event.choice], b"{}", event)
        return self._with_extras(self._head + b'"choices":[]', event.extra_json or b"{}")

    def _delta(self, kind: str | None, event: chat_pb2.ChatEvent, choice: _Choice) -> bytes:
        """The delta object; empty when the event shows nothing by itself."""
        match kind:
            case "text":
                if self._dialect == message_pb2.DIALECT_OPENAI_RESPONSES:
                    choice.said[event.part] = choice.said.get(event.part, 0) + len(event.text)
                return b'{"content":%b}' % _dumps(event.text)
            case "reasoning":
                choice.reasoning.setdefault(event.part, _Reasoning()).texts.append(event.reasoning)
                return b'{"reasoning_content":%b}' % _dumps(event.reasoning)
            case "refusal":
                return b'{"refusal":%b}' % _dumps(event.refusal)
            case "tool_call":
                return self._tool_call(event, choice)
            case "arguments":
                return self._arguments(event, choice)
            case "redacted":
                choice.reasoning.setdefault(event.part, _Reasoning()).redacted = True
                return b""
            case "provider_state":
                if self._legacy and event.part in choice.calls:
                    return b""  # `function_call` has no place for state
                return _state(event, choice)
            case "audio":
                return _dumps({"audio": _audio(event.audio)})
            case _:
                return b""

    def _tool_call(self, event: chat_pb2.ChatEvent, choice: _Choice) -> bytes:
        call = event.tool_call
        custom = call.type == message_pb2.TOOL_CALL_TYPE_CUSTOM
        choice.calls[event.part] = (call.index, custom)
        if self._legacy:
            first = len(choice.calls) == 1
            return _dumps({"function_call": {"name": call.name, "arguments": ""}}) if first else b""
        entry: dict[str, Any] = {"index": call.index, "id": call.id}
        if custom:
            entry |= {"type": "custom", "custom": {"name": call.name, "input": ""}}
        else:
            entry |= {"type": "function", "function": {"name": call.name, "arguments": ""}}
        return _dumps({"tool_calls": [entry]})

    def _arguments(self, event: chat_pb2.ChatEvent, choice: _Choice) -> bytes:
        text = _dumps(event.arguments)
        if self._legacy:
            first = next(iter(choice.calls), event.part)
            return b'{"function_call":{"arguments":%b}}' % text if event.part == first else b""
        index, custom = choice.calls.get(event.part, (0, False))
        if custom:
            return b'{"tool_calls":[{"index":%d,"custom":{"input":%b}}]}' % (index, text)
        return b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (index, text)

    def _finish(self, choice: _Choice, event: chat_pb2.ChatEvent) -> bytes:
        finish = event.finish
        native = finish.native_reason
        word = _dumps(carriers.finish_reason(finish.reason, native, self._dialect, legacy=self._legacy))
        if native and self._dialect != message_pb2.DIALECT_OPENAI_CHAT:
            word += b',"native_finish_reason":%b' % _dumps(native)
        if finish.stop_sequence:
            word += b',"stop_sequence":%b' % _dumps(finish.stop_sequence)
        told = paused_comment(event.choice, native) if finish.reason == chat_pb2.FINISH_REASON_PAUSE else b""
        return told + self._record(choice, _details(choice), event, word)

    def _note(self, event: chat_pb2.ChatEvent) -> bytes:
        """An event that shows nothing: its extra fields, or a comment that says what was left out."""
        more = event.extra_json or event.choice_extra_json or event.delta_extra_json or event.logprobs_json
        if more and self._dialect == message_pb2.DIALECT_OPENAI_CHAT:
            return self._extra(event)
        match event.WhichOneof("event"):
            case "tool_call":  # a second one, which `function_call` has no room for
                return b": x-gateway-translation: choices[%d]=dropped(tool_call)\n\n" % event.choice
            case "native" if event.native.dialect != message_pb2.DIALECT_OPENAI_CHAT:
                kind = native_type(event.native)
                return b": x-gateway-translation: choices[%d]=dropped(%b)\n\n" % (event.choice, word(kind))
            case "native" | "native_event" as kind:
                part = event.native if kind == "native" else event.native_event
                if part.dialect == message_pb2.DIALECT_OPENAI_CHAT:
                    return b"data: %b\n\n" % part.json.replace(b"\n", b" ").replace(b"\r", b" ")
        return b""


def _opening(event: chat_pb2.ChatEvent) -> bytes:
    """The first delta of a choice: its content is empty unless the provider wrote something else there."""
    told = event.delta_extra_json and "content" in _members.decode(event.delta_extra_json)
    return b'{"role":"assistant"}' if told else _ROLE


def error_record(error: GatewayError) -> bytes:
    """The record of a failure in the middle of a stream; nothing follows it, not even `[DONE]`."""
    return b"data: %b\n\n" % _dumps(error.to_openai())


def _details(choice: _Choice) -> bytes:
    """The last delta: all reasoning once more, when some of it must come back with state."""
    parts = [choice.reasoning[part] for part in sorted(choice.reasoning)]
    if not any(part.redacted or part.state is not None for part in parts):
        return b"{}"
    details = [
        carriers.reasoning_detail(
            message_pb2.ReasoningPart(text="".join(part.texts), redacted=part.redacted), part.state
        )
        for part in parts
    ]
    return _dumps({"reasoning_details": details})


def _state(event: chat_pb2.ChatEvent, choice: _Choice) -> bytes:
    state = event.provider_state
    if (reasoning := choice.reasoning.get(event.part)) is not None:
        reasoning.state = state
        return b""
    content = carriers.extra_content(state)
    if (call := choice.calls.get(event.part)) is not None:
        index, custom = call
        # Clients read the arguments of every delta without asking whether they are there.
        body = {"custom": {"input": ""}} if custom else {"function": {"arguments": ""}}
        return _dumps({"tool_calls": [{"index": index, **body, "extra_content": content}]})
    return _dumps({"extra_content": content})


def _audio(audio: chat_pb2.AudioDelta) -> dict[str, Any]:
    view: dict[str, Any] = {}
    if audio.id:
        view["id"] = audio.id
    if audio.data:
        view["data"] = base64.b64encode(audio.data).decode()
    if audio.transcript:
        view["transcript"] = audio.transcript
    if audio.expires_at:
        view["expires_at"] = audio.expires_at
    return view
