"""A streamed answer of `POST /chat/completions`, chunk by chunk; pure.

https://platform.openai.com/docs/api-reference/chat-streaming. Each chunk becomes the events it stands for; fields with
no neutral form ride on the first of them. Usage is held back to the end, since hosts send it early, late or twice.
"""

from __future__ import annotations

import base64
import uuid
from typing import TYPE_CHECKING, Any, Final

import orjson
from aigateway.v1 import chat_pb2, message_pb2

from aigateway_providers import upstream_errors
from aigateway_providers.openai_compat.errors import from_event
from aigateway_providers.openai_compat.messages import DIALECT
from aigateway_providers.openai_compat.plain import Plain, around_text
from aigateway_providers.openai_compat.response import dump, take_reasoning, to_finish, whole
from aigateway_providers.openai_compat.usage import to_usage

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

DONE: Final = b"[DONE]"

_OF_ONE_CHUNK: Final = ("obfuscation", "x_groq")
"""Fields of the first chunk that are not the same in each."""
_SOUGHT: Final = 3
"""Plain chunks in which it is sought what stands around the text."""
_ABSENT: Final = object()
_NOTHING: Final[dict[str, Any]] = {}


class _ToolCall:
    """A tool call on its way: told of once its name is known."""

    __slots__ = ("id", "name", "ordinal", "part", "pending", "type")

    def __init__(self, part: int) -> None:
        self.part = part
        self.id = ""
        self.name = ""
        self.type = message_pb2.TOOL_CALL_TYPE_FUNCTION
        self.pending = ""
        self.ordinal = 0
        """Its place among the calls of the answer, once it is told of."""


class _ChoiceState:
    """What has been seen of one choice."""

    __slots__ = ("calls", "finished", "parts", "started", "usual")

    def __init__(self) -> None:
        self.usual: dict[str, Any] | None = None
        """What stands beside the delta of a chunk that tells nothing there."""
        self.parts: dict[str, int] = {}
        """Part numbers by kind, tool calls by `tool_call:<ordinal>`."""
        self.calls: dict[int, _ToolCall] = {}
        """The open tool call at each index of the host's."""
        self.started = 0
        self.finished = False

    def part(self, kind: str) -> int:
        return self.parts.setdefault(kind, len(self.parts))


class StreamTranslator:
    """Translates the chunks of one stream.

    Args:
        provider: The provider's name, for errors.
        notes: The translation report, told with the first event.
    """

    def __init__(self, provider: str, notes: list[chat_pb2.TranslationNote]) -> None:
        self.done = False
        """The host said that the answer is complete."""
        self._provider = provider
        self._notes = notes
        self._common: dict[str, Any] | None = None
        """The extra fields of `start`, once it is told."""
        self._usual: dict[str, Any] | None = None
        """What stands beside the choices of a chunk that tells nothing there; most are the same but for the choices."""
        self._early: dict[str, Any] = {}
        """Extra fields of chunks before the first that says whose they are (Azure's filter results)."""
        self._choices: dict[int, _ChoiceState] = {}
        self._usage: chat_pb2.ChatEvent | None = None
        self._plain: Plain | None = None
        """What plain chunks have around their text, those of one choice at least."""
        self._plain_record: Plain | None = None
        self._plain_choice = self._plain_part = 0
        self._sought = 0

    def plain(self, piece: bytes) -> chat_pb2.ChatEvent | None:
        """The event of a piece of the event stream that is one record, which tells a text; None of most others.

        It must begin where a record does.
        """
        if self._plain_record is None or not (text := self._plain_record.text(piece)):
            return None
        return chat_pb2.ChatEvent(choice=self._plain_choice, part=self._plain_part, text=text)

    def feed(self, data: bytes, events: list[chat_pb2.ChatEvent]) -> None:
        """Add what one record stands for to `events`.

        Raises:
            GatewayError: The record is an error of the host.
            KeyError, TypeError, ValueError: The record is not a chunk.
        """
        if self.done:
            return
        if self._plain is not None and (text := self._plain.text(data)) is not None:
            if text:
                events.append(chat_pb2.ChatEvent(choice=self._plain_choice, part=self._plain_part, text=text))
            return
        if data.strip() == DONE:
            self._finish(events)
            return
        chunk: dict[str, Any] = orjson.loads(data)
        if chunk.get("error"):
            raise from_event(self._provider, chunk["error"])
        choices = chunk.pop("choices", None) or ()
        begun = len(events)
        usual = chunk == self._usual
        usage, extra = (None, _NOTHING) if usual else self._beside(chunk, choices, events)
        for choice in choices:
            plain = self._choice(choice, events)
            if plain and usual and len(choices) == 1 and self._plain is None:
                self._seek(data, events[-1])
        if usage:
            self._usage = chat_pb2.ChatEvent(usage=to_usage(usage))
        if len(events) > begun:
            if extra:
                events[begun].extra_json = dump(extra)
        elif extra or usage:
            self._leftover(extra, events, usage_only=bool(usage))

    def _beside(
        self, chunk: dict[str, Any], choices: Collection[Any], events: list[chat_pb2.ChatEvent]
    ) -> tuple[Mapping[str, Any] | None, dict[str, Any]]:
        """The usage of a chunk, and the extra fields that it has beside its choices; its start, if it is the first."""
        before = chunk.copy()
        usage = _take_usage(chunk)
        if self._common is not None:
            extra = self._differing(chunk)
            if not (usage or extra):
                self._usual = before
            return usage, extra
        if choices or chunk.get("id"):
            return usage, self._start(chunk, events)
        self._early |= _without_head(chunk)
        return None, _NOTHING

    def close(self) -> list[chat_pb2.ChatEvent]:
        """What is still to be told when the connection ends: usage, of a stream that was cut off after it."""
        return [] if self.done or self._usage is None else [self._usage]

    def _leftover(self, extra: dict[str, Any], events: list[chat_pb2.ChatEvent], *, usage_only: bool) -> None:
        """Extra fields of a chunk that tells nothing else but usage; padding is not worth an event of its own."""
        if usage_only and self._usage is not None:
            self._usage.extra_json = dump(extra)
            return
        extra.pop("obfuscation", None)
        if extra:
            events.append(chat_pb2.ChatEvent(extra=chat_pb2.StreamExtra(), extra_json=dump(extra)))

    def _start(self, chunk: dict[str, Any], events: list[chat_pb2.ChatEvent]) -> dict[str, Any]:
        start = chat_pb2.StreamStart(
            id=chunk.pop("id", None) or "",
            created=whole(chunk.pop("created", None)),
            model=chunk.pop("model", None) or "",
            translation=self._notes,
            dialect=DIALECT,
        )
        chunk.pop("object", None)
        own = self._early | {key: chunk.pop(key) for key in _OF_ONE_CHUNK if key in chunk}
        start.extra_json = dump(chunk)
        self._common = chunk
        events.append(chat_pb2.ChatEvent(start=start))
        return own

    def _differing(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """The chunk's extra fields that `start` has not told."""
        _without_head(chunk)
        if chunk and self._common:
            for key, value in self._common.items():
                if chunk.get(key, _ABSENT) == value:
                    del chunk[key]
        return chunk

    def _seek(self, data: bytes, event: chat_pb2.ChatEvent) -> None:
        """Find what `data`, a plain chunk that became `event`, has around its text."""
        if self._sought < _SOUGHT:
            self._sought += 1
            self._plain = around_text(data)
            self._plain_record = self._plain and self._plain.record()
            self._plain_choice, self._plain_part = event.choice, event.part

    def _choice(self, choice: dict[str, Any], events: list[chat_pb2.ChatEvent]) -> bool:
        """Add the events of a choice; whether they are a text and nothing else, as in most chunks."""
        index = choice.get("index", 0)
        delta = choice.pop("delta", None) or {}
        state = self._choices.get(index)
        new = state is None
        if state is None:
            state = self._choices[index] = _ChoiceState()
        elif choice == state.usual and len(delta) == 1 and isinstance(text := delta.get("content"), str):
            if text:
                events.append(chat_pb2.ChatEvent(choice=index, part=state.part("text"), text=text))
            return bool(text)
        begun = len(events)
        before = choice.copy()
        choice.pop("index", None)
        self._delta(index, state, delta, events)
        native = choice.pop("finish_reason", None)
        if native and not state.finished:
            self._close(index, state, events)
            state.finished = True
            finish = chat_pb2.StreamFinish(reason=to_finish(native, calls=bool(state.calls)), native_reason=native)
            events.append(chat_pb2.ChatEvent(choice=index, finish=finish))
        logprobs = choice.pop("logprobs", None)
        if logprobs is None and not choice:
            if native is None:
                state.usual = before
            if not delta:
                return False
        if len(events) == begun:
            if logprobs is None and not new and not any(choice.values()) and not any(delta.values()):
                return False
            if not index and begun and events[begun - 1].HasField("start"):
                begun -= 1  # the first chunk, which tells no more than that the answer begins
            else:
                events.append(chat_pb2.ChatEvent(choice=index, extra=chat_pb2.StreamExtra()))
        first = events[begun]
        if logprobs is not None:
            first.logprobs_json = orjson.dumps(logprobs)
        if choice:
            first.choice_extra_json = dump(choice)
        if delta:
            first.delta_extra_json = dump(delta)
        return False

    def _delta(self, index: int, state: _ChoiceState, delta: dict[str, Any], events: list[chat_pb2.ChatEvent]) -> None:
        """Add the events of a delta and take what they tell out of it; explicit nulls stay, as the host wrote them."""
        content = delta.get("content")
        delta.pop("role", None)
        if reasoning := take_reasoning(delta):
            events.append(chat_pb2.ChatEvent(choice=index, part=state.part("reasoning"), reasoning=reasoning))
        if isinstance(content, str):
            del delta["content"]
            if content:
                events.append(chat_pb2.ChatEvent(choice=index, part=state.part("text"), text=content))
        if refusal := delta.get("refusal"):
            del delta["refusal"]
            events.append(chat_pb2.ChatEvent(choice=index, part=state.part("refusal"), refusal=refusal))
        if audio := delta.pop("audio", None):
            events.append(chat_pb2.ChatEvent(choice=index, part=state.part("audio"), audio=_audio(audio)))
        for call in delta.pop("tool_calls", None) or ():
            self._tool_call(index, state, call, events)

    def _tool_call(
        self, index: int, state: _ChoiceState, delta: dict[str, Any], events: list[chat_pb2.ChatEvent]
    ) -> None:
        """Add the events of a tool call's delta; its extra fields follow in one of their own."""
        call_id = delta.pop("id", None) or ""
        custom = delta.pop("type", None) == "custom" or "custom" in delta
        body = delta.pop("custom" if custom else "function", None) or {}
        name = body.get("name") or ""
        call = self._call_at(state, delta.pop("index", None), call_id, name)
        if custom:
            call.type = message_pb2.TOOL_CALL_TYPE_CUSTOM
        call.id = call.id or call_id
        text = body.get("input" if custom else "arguments") or ""
        if not isinstance(text, str):
            text = orjson.dumps(text).decode()
        if call.name:
            if text:
                events.append(chat_pb2.ChatEvent(choice=index, part=call.part, arguments=text))
        else:
            call.pending += text
            if name:
                call.name = name
                _tell(index, state, call, events)
        if delta:
            rest = dump({"tool_calls": [{"index": call.ordinal} | delta]})
            events.append(chat_pb2.ChatEvent(choice=index, extra=chat_pb2.StreamExtra(), delta_extra_json=rest))

    def _call_at(self, state: _ChoiceState, place: int | None, call_id: str, name: str) -> _ToolCall:
        """The call a delta belongs to: by the host's index, and a new one where another id and name come."""
        if place is None:
            place = max(state.calls, default=-1)
            if place < 0 or (call_id and name):
                place += 1
        call = state.calls.get(place)
        if call is None or (call.name and name and call_id and call_id != call.id):
            call = state.calls[place] = _ToolCall(state.part(f"tool_call:{len(state.parts)}"))
        return call

    def _close(self, index: int, state: _ChoiceState, events: list[chat_pb2.ChatEvent]) -> None:
        """Tell of calls whose name never came, so that nothing vanishes."""
        for call in state.calls.values():
            if not call.name and (call.pending or call.id):
                _tell(index, state, call, events)

    def _finish(self, events: list[chat_pb2.ChatEvent]) -> None:
        """End what is open: some hosts say that the answer is complete and never why."""
        if not self._choices:
            raise upstream_errors.cut_short(self._provider)
        for index, state in self._choices.items():
            if not state.finished:
                self._close(index, state, events)
                reason = to_finish("", calls=bool(state.calls))
                events.append(chat_pb2.ChatEvent(choice=index, finish=chat_pb2.StreamFinish(reason=reason)))
        if self._usage is not None:
            events.append(self._usage)
        self.done = True
        self._plain = self._plain_record = None


def _tell(index: int, state: _ChoiceState, call: _ToolCall, events: list[chat_pb2.ChatEvent]) -> None:
    call.id = call.id or f"call_{uuid.uuid4().hex[:24]}"
    call.ordinal = state.started
    state.started += 1
    start = chat_pb2.ToolCallStart(id=call.id, name=call.name, index=call.ordinal, type=call.type)
    events.append(chat_pb2.ChatEvent(choice=index, part=call.part, tool_call=start))
    if call.pending:
        events.append(chat_pb2.ChatEvent(choice=index, part=call.part, arguments=call.pending))
        call.pending = ""


def _without_head(chunk: dict[str, Any]) -> dict[str, Any]:
    chunk.pop("id", None)
    chunk.pop("object", None)
    chunk.pop("created", None)
    chunk.pop("model", None)
    return chunk


def _take_usage(chunk: dict[str, Any]) -> Mapping[str, Any] | None:
    """The usage of a chunk; Groq puts it into `x_groq` (https://console.groq.com/docs/api-reference#chat-create)."""
    usage: Mapping[str, Any] | None = chunk.pop("usage", None)
    if usage is None and (groq := chunk.get("x_groq")):
        usage = groq.get("usage")
    return usage


def _audio(audio: dict[str, Any]) -> chat_pb2.AudioDelta:
    data = audio.get("data")
    return chat_pb2.AudioDelta(
        id=audio.get("id") or "",
        data=base64.b64decode(data) if data else b"",
        transcript=audio.get("transcript") or "",
        expires_at=audio.get("expires_at") or 0,
    )
