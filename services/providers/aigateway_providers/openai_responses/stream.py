"""A streamed answer of `POST /responses`, event by event; pure.

https://platform.openai.com/docs/api-reference/responses-streaming. For a caller who speaks Responses every event of the
provider is told once and in order: deltas as neutral events whose `extra_json` is the event less its delta, any other
whole as `native_event`. What those say is told again in neutral events without `extra_json` (tool calls, state, native
items, the end, usage), which are all that callers of other dialects get, with log probabilities and citations beside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import orjson
from aigateway.v1 import chat_pb2, message_pb2

from aigateway_providers import splice
from aigateway_providers.openai_compat.errors import from_event
from aigateway_providers.openai_responses import response
from aigateway_providers.openai_responses.response import CALLS, DIALECT, NULL, PIECES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PENDING: Final = frozenset({"response.created", "response.queued", "response.in_progress"})
"""Events before the answer has begun; held back, since what fails now can still be tried elsewhere."""
_TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_DELTAS: Final[Mapping[str, str]] = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.reasoning_text.delta": "reasoning",
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "arguments",
}
"""Deltas with a neutral form."""


class _Event(msgspec.Struct):
    type: str
    delta: msgspec.Raw = msgspec.Raw(NULL)
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    item: msgspec.Raw = msgspec.Raw(NULL)
    annotation: msgspec.Raw = msgspec.Raw(NULL)
    logprobs: list[response.Raw] | None = None
    response: msgspec.Raw = msgspec.Raw(NULL)


_EVENT: Final = msgspec.json.Decoder(_Event)
_STRING: Final = msgspec.json.Decoder(str)
_PIECE: Final = msgspec.json.Decoder(response.Text)


class _Item:
    """An output item under way."""

    __slots__ = ("done", "early", "paragraph", "part", "seen", "started")

    def __init__(self) -> None:
        self.part = -1
        """The part of a reasoning item or a tool call."""
        self.seen = False
        """Whether any of its text was told."""
        self.paragraph: tuple[str, int] | None = None
        """Which paragraph of a reasoning item came last."""
        self.started = False
        """Whether its tool call was told."""
        self.early = ""
        """Arguments that came before their tool call."""
        self.done = False


class StreamTranslator:
    """Translates the events of one stream.

    Args:
        provider: The provider's name, for errors and states.
        notes: The translation report, told with the first event.
        own: The caller speaks Responses and gets the provider's own events too.
    """

    def __init__(self, provider: str, notes: list[chat_pb2.TranslationNote], *, own: bool) -> None:
        self.done = False
        """The provider said that the answer is complete."""
        self._provider = provider
        self._notes = notes
        self._own = own
        self._started = False
        self._held: list[chat_pb2.ChatEvent] = []
        self._items: dict[int, _Item] = {}
        self._pieces: dict[tuple[int, int], int] = {}
        """The parts of the pieces of messages, by item and place."""
        self._cited: dict[tuple[int, int], int] = {}
        """How many annotations of each piece were told."""
        self._parts = 0
        self._calls = 0

    def feed(self, data: bytes, events: list[chat_pb2.ChatEvent]) -> None:
        """Add what one record stands for to `events`.

        Raises:
            GatewayError: the record tells of a failure.
            ValueError: the record is not an event.
        """
        if self.done or data.strip() == b"[DONE]":
            return
        event = _EVENT.decode(data)
        kind = _DELTAS.get(event.type)
        if not self._started and bytes(event.response) == NULL and event.type != "error":
            if event.type.startswith("response."):
                raise ValueError("a stream without its beginning")
        elif kind is not None:
            events += self._release()
            self._delta(kind, event, data, events)
        elif event.type == "error":
            raise from_event(self._provider, _error(data))
        elif event.type in _PENDING:
            self._begin(event, data)
        else:
            if event.type in _TERMINAL:
                response.check(response.read_answer(bytes(event.response)), self._provider)
            self._begin(event)
            events += self._release()
            if self._own:
                events.append(_native(data))
            self._other(event, events)

    def close(self) -> list[chat_pb2.ChatEvent]:
        """What is still to be told when the connection ends before the answer did."""
        return self._release()

    def _release(self) -> list[chat_pb2.ChatEvent]:
        held, self._held = self._held, []
        return held

    def _begin(self, event: _Event, data: bytes = b"") -> None:
        """Hold back the beginning: `start`, and the event itself for those who speak this dialect."""
        if not self._started and bytes(event.response) != NULL:
            self._started = True
            raw = bytes(event.response)
            answer = response.read_answer(raw)
            start = chat_pb2.StreamStart(
                id=answer.id,
                created=int(answer.created_at),
                model=answer.model,
                translation=self._notes,
                dialect=DIALECT,
                extra_json=response.answer_extra(raw),
            )
            self._held.append(chat_pb2.ChatEvent(start=start))
        if data and self._own:
            self._held.append(_native(data))

    def _other(self, event: _Event, events: list[chat_pb2.ChatEvent]) -> None:
        match event.type:
            case "response.output_item.added":
                self._added(event.output_index, bytes(event.item), events)
            case "response.output_text.annotation.added" if bytes(event.annotation) != NULL:
                self._cite(event.output_index, event.content_index, [event.annotation], events)
            case "response.output_item.done":
                self._ended(event.output_index, bytes(event.item), events)
            case kind if kind in _TERMINAL:
                self._finish(bytes(event.response), events)
            case _:
                pass

    def _delta(self, kind: str, event: _Event, data: bytes, events: list[chat_pb2.ChatEvent]) -> None:
        text = _STRING.decode(event.delta)
        item = self._item(event.output_index)
        if kind == "arguments" and not item.started:  # of a tool call that is still to be told of
            item.early += text
            if self._own:
                events.append(_native(data))
            return
        item.seen = True
        extra = _less_delta(data) if self._own else b""
        match kind:
            case "text":
                part = self._piece(event.output_index, event.content_index)
                tokens = b"" if self._own else response.logprobs(event.logprobs)
                told = chat_pb2.ChatEvent(part=part, text=text, extra_json=extra, logprobs_json=tokens)
            case "refusal":
                part = self._piece(event.output_index, event.content_index)
                told = chat_pb2.ChatEvent(part=part, refusal=text, extra_json=extra)
            case "reasoning":
                self._paragraph(item, event, events)
                told = chat_pb2.ChatEvent(part=self._part(item), reasoning=text, extra_json=extra)
            case _:
                told = chat_pb2.ChatEvent(part=self._part(item), arguments=text, extra_json=extra)
        events.append(told)

    def _paragraph(self, item: _Item, event: _Event, events: list[chat_pb2.ChatEvent]) -> None:
        """A blank line between the paragraphs of a reasoning item, as in a whole answer."""
        here = (event.type, event.summary_index or event.content_index)
        if item.paragraph not in {None, here}:
            events.append(chat_pb2.ChatEvent(part=self._part(item), reasoning="\n\n"))
        item.paragraph = here

    def _item(self, index: int) -> _Item:
        item = self._items.get(index)
        if item is None:
            item = self._items[index] = _Item()
        return item

    def _part(self, item: _Item) -> int:
        if item.part < 0:
            item.part = self._next()
        return item.part

    def _piece(self, index: int, place: int) -> int:
        part = self._pieces.get((index, place))
        if part is None:
            part = self._pieces[index, place] = self._next()
        return part

    def _next(self) -> int:
        self._parts += 1
        return self._parts - 1

    def _added(self, index: int, raw: bytes, events: list[chat_pb2.ChatEvent]) -> None:
        item = response.read_item(raw)
        if item.type in CALLS:
            self._call(self._item(index), item, events)

    def _call(self, state: _Item, item: response.Item, events: list[chat_pb2.ChatEvent]) -> None:
        if state.started:
            return
        state.started = True
        start = chat_pb2.ToolCallStart(
            id=item.call_id or item.id or "", name=item.name or "", index=self._calls, type=CALLS[item.type][1]
        )
        self._calls += 1
        events.append(chat_pb2.ChatEvent(part=self._part(state), tool_call=start))
        if given := response.call_arguments(item) or state.early:
            state.seen = True
            events.append(chat_pb2.ChatEvent(part=state.part, arguments=given))

    def _ended(self, index: int, raw: bytes, events: list[chat_pb2.ChatEvent]) -> None:
        """Tell what only the whole item says, and what no delta has said."""
        state = self._item(index)
        if state.done:
            return
        state.done = True
        item = response.read_item(raw)
        if item.type in CALLS:
            self._call(state, item, events)
            if not state.seen and (given := response.call_arguments(item)):
                events.append(chat_pb2.ChatEvent(part=state.part, arguments=given))
        elif item.type == "reasoning":
            self._reasoning(state, item, raw, events)
        elif item.type == "message":
            for place, piece in enumerate(item.content or ()):
                self._whole_piece(index, place, bytes(piece), events)
        else:
            native = message_pb2.NativePart(dialect=DIALECT, json=raw)
            events.append(chat_pb2.ChatEvent(part=self._part(state), native=native))

    def _reasoning(self, state: _Item, item: response.Item, raw: bytes, events: list[chat_pb2.ChatEvent]) -> None:
        part = self._part(state)
        if not state.seen:
            text = response.reasoning_text(item)
            if text or not item.encrypted_content:
                events.append(chat_pb2.ChatEvent(part=part, reasoning=text))
            else:
                events.append(chat_pb2.ChatEvent(part=part, redacted=chat_pb2.RedactedReasoning()))
        events.append(chat_pb2.ChatEvent(part=part, provider_state=response.item_state(raw, self._provider)))

    def _cite(
        self, index: int, place: int, annotations: Sequence[msgspec.Raw], events: list[chat_pb2.ChatEvent]
    ) -> None:
        """What a text cites, in this dialect's own JSON; those who speak it have been told by the event itself."""
        self._cited[index, place] = self._cited.get((index, place), 0) + len(annotations)
        if self._own or not annotations:
            return
        fields = b'{"annotations":[%b]}' % b",".join(bytes(raw) for raw in annotations)
        part = self._piece(index, place)
        events.append(chat_pb2.ChatEvent(part=part, extra=chat_pb2.StreamExtra(), delta_extra_json=fields))

    def _whole_piece(self, index: int, place: int, raw: bytes, events: list[chat_pb2.ChatEvent]) -> None:
        piece = _PIECE.decode(raw)
        if (index, place) not in self._pieces:
            self._untold_piece(index, place, piece, raw, events)
        self._cite(index, place, (piece.annotations or [])[self._cited.get((index, place), 0) :], events)

    def _untold_piece(
        self, index: int, place: int, piece: response.Text, raw: bytes, events: list[chat_pb2.ChatEvent]
    ) -> None:
        if piece.type not in PIECES:
            native = message_pb2.NativePart(dialect=DIALECT, json=raw)
            events.append(chat_pb2.ChatEvent(part=self._piece(index, place), native=native))
        elif piece.type == "refusal":
            events.append(chat_pb2.ChatEvent(part=self._piece(index, place), refusal=piece.refusal or ""))
        else:
            tokens = b"" if self._own else response.logprobs(piece.logprobs)
            part = self._piece(index, place)
            events.append(chat_pb2.ChatEvent(part=part, text=piece.text or "", logprobs_json=tokens))

    def _finish(self, raw: bytes, events: list[chat_pb2.ChatEvent]) -> None:
        answer = response.read_answer(raw)
        for index, item in enumerate(answer.output):
            self._ended(index, bytes(item), events)
        finish = chat_pb2.StreamFinish(
            reason=response.finish_reason(answer, calls=self._calls > 0), native_reason=response.native_reason(answer)
        )
        events.append(chat_pb2.ChatEvent(finish=finish))
        if (usage := response.usage_of(answer)) is not None:
            events.append(chat_pb2.ChatEvent(usage=usage))
        self.done = True


def _native(data: bytes) -> chat_pb2.ChatEvent:
    return chat_pb2.ChatEvent(native_event=message_pb2.NativePart(dialect=DIALECT, json=data))


def _less_delta(data: bytes) -> bytes:
    return response.rest(splice.members(data, "event"), ("delta",))


def _error(data: bytes) -> object:
    """The error of an `error` event, which has its fields beside its type or, seen too, in an object of their own."""
    event = orjson.loads(data)
    return event.get("error") or {key: event[key] for key in ("code", "message", "param") if key in event}
