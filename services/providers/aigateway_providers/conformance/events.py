"""What a stream must look like, and what it adds up to: pure, from the messages of one `StreamChat`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import orjson
from aigateway.v1 import chat_pb2, message_pb2, tokens_pb2

from aigateway_providers.conformance.verdict import Failed, require

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aigateway.v1 import provider_service_pb2

_KINDS: Final = {
    "text": "text",
    "reasoning": "reasoning",
    "redacted": "reasoning",
    "refusal": "refusal",
    "tool_call": "tool_call",
    "arguments": "tool_call",
    "native": "native",
    "audio": "audio",
}
"""Events that open or continue a part, and the kind of part that they belong to."""
_AFTER_FINISH: Final = frozenset({"usage", "extra", "native_event"})


@dataclass(slots=True)
class Streamed:
    """What the events of a stream add up to, for its first choice."""

    start: chat_pb2.StreamStart = field(default_factory=chat_pb2.StreamStart)
    text: str = ""
    reasoning: str = ""
    calls: list[message_pb2.ToolCall] = field(default_factory=list)
    parts: list[message_pb2.Part] = field(default_factory=list)
    """The parts, with the provider's state, as they would be sent back."""
    finishes: dict[int, chat_pb2.StreamFinish] = field(default_factory=dict)
    """By choice."""
    usage: tokens_pb2.TokenUsage | None = None

    @property
    def finish(self) -> chat_pb2.FinishReason.ValueType:
        """Why the first choice ended."""
        return self.finishes[0].reason if 0 in self.finishes else chat_pb2.FINISH_REASON_UNSPECIFIED

    @property
    def message(self) -> message_pb2.Message:
        """The answer as a turn of the model."""
        return message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=self.parts)


def add_up(messages: Sequence[provider_service_pb2.ProviderServiceStreamChatResponse], *, whole: bool) -> Streamed:
    """The stream's sum, once its order has been checked.

    Args:
        messages: All messages, in order.
        whole: The stream ended well, so that every choice must have finished.

    Raises:
        Failed: The order of events is not that of the contract.
    """
    for number, message in enumerate(messages):
        require(message.events, f"message {number} holds no event")
        require(not number or not message.HasField("timing"), f"message {number} has `timing`; only the first may")
    reader = _Reader()
    for event in (event for message in messages for event in message.events):
        reader.read(event)
    if whole:
        reader.ended()
    return reader.sum


class _Reader:
    """Checks each event against those before it."""

    def __init__(self) -> None:
        self.sum = Streamed()
        self._began = False
        self._parts: dict[int, dict[int, str]] = {}
        """Kinds of parts, by choice and part number."""
        self._built: dict[int, message_pb2.Part] = {}
        self._last = ""

    def read(self, event: chat_pb2.ChatEvent) -> None:
        kind = event.WhichOneof("event")
        require(kind is not None, "an event says nothing")
        require(self._began == (kind != "start"), f"`{kind}` came where the first event must be the only `start`")
        require(self._last != "usage", f"`{kind}` came after `usage`, which must be last")
        if kind not in {"start", "usage"}:
            self._open(event, str(kind))
        self._began = True
        self._last = str(kind)
        if event.choice == 0 or kind == "finish":
            self._add(event, str(kind))

    def ended(self) -> None:
        """The stream is over: what began must have finished."""
        require(self._began, "the stream ended without a single event")
        require(self.sum.finishes, "the stream ended without `finish`")
        open_ones = set(self._parts) - set(self.sum.finishes)
        require(not open_ones, f"choices without `finish`: {sorted(open_ones)}")

    def _open(self, event: chat_pb2.ChatEvent, kind: str) -> None:
        """Check the place of an event that belongs to a choice."""
        done = event.choice in self.sum.finishes
        require(not done or kind in _AFTER_FINISH, f"`{kind}` came after the `finish` of choice {event.choice}")
        if kind not in _KINDS:
            return
        parts = self._parts.setdefault(event.choice, {})
        if event.part not in parts:
            require(event.part > max(parts, default=-1), f"part {event.part} appears after a later one")
            require(kind != "arguments", f"`arguments` of part {event.part} came before its `tool_call`")
            parts[event.part] = _KINDS[kind]
            return
        require(parts[event.part] == _KINDS[kind], f"part {event.part} is {parts[event.part]} and then {kind}")
        require(kind != "tool_call", f"the `tool_call` of part {event.part} begins twice")

    def _add(self, event: chat_pb2.ChatEvent, kind: str) -> None:
        match kind:
            case "start":
                self.sum.start = event.start
            case "text":
                self.sum.text += event.text
                self._part(event).text.text += event.text
            case "reasoning":
                self.sum.reasoning += event.reasoning
                self._part(event).reasoning.text += event.reasoning
            case "redacted":
                self._part(event).reasoning.redacted = True
            case "tool_call":
                self._tool(event)
            case "arguments":
                self._part(event).tool_call.arguments += event.arguments.encode()
            case "refusal":
                self._part(event).refusal.text += event.refusal
            case "native":
                self._part(event).native.CopyFrom(event.native)
            case "provider_state" if event.part in self._built:
                self._built[event.part].provider_state.CopyFrom(event.provider_state)
            case "finish":
                self.sum.finishes[event.choice] = event.finish
            case "usage":
                self.sum.usage = event.usage
            case _:
                pass

    def _part(self, event: chat_pb2.ChatEvent) -> message_pb2.Part:
        if event.part not in self._built:
            part = self._built[event.part] = message_pb2.Part()
            self.sum.parts.append(part)
        return self._built[event.part]

    def _tool(self, event: chat_pb2.ChatEvent) -> None:
        begun = event.tool_call
        place = len(self.sum.calls)
        require(begun.index == place, f"tool call {place} says that it is number {begun.index}")
        part = self._part(event)
        part.tool_call.CopyFrom(message_pb2.ToolCall(id=begun.id, name=begun.name, type=begun.type))
        self.sum.calls.append(part.tool_call)


def check_calls(calls: Iterable[message_pb2.ToolCall], offered: frozenset[str]) -> list[message_pb2.ToolCall]:
    """The calls, which must have ids of their own, known names, and arguments that are a JSON object."""
    found = list(calls)
    for call in found:
        require(call.id, f"a call of `{call.name}` has no id")
        require(call.name in offered, f"`{call.name}` is called, which was not offered")
        check_object(call.arguments, f"the arguments of `{call.name}`")
    require(len({call.id for call in found}) == len(found), "two tool calls share an id")
    return found


def check_object(json: bytes, what: str) -> dict[str, object]:
    """The JSON object that `json` must be."""
    try:
        value = orjson.loads(json)
    except orjson.JSONDecodeError as error:
        raise Failed(f"{what} are not JSON: {json[:80]!r}") from error
    if not isinstance(value, dict):
        raise Failed(f"{what} are not a JSON object: {json[:80]!r}")
    return value
