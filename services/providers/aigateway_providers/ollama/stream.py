"""Lines of Ollama's NDJSON stream to neutral events.

Pure: one `ChatStream` per answer, fed the lines of each read. Tool calls come whole, parallel ones often in lines of
their own; the last line has `done: true` and the token counts (https://docs.ollama.com/api/streaming).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError

from aigateway_providers.ollama.response import (
    DIALECT,
    created,
    extra_fields,
    finish_reason,
    logprobs_json,
    new_id,
    read_answer,
    read_fields,
    tool_call,
    usage,
)
from aigateway_providers.ollama.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import msgspec

    from aigateway_providers.ollama import wire


_UNKNOWN: Final = Window()


class ChatStream:
    """One streamed answer.

    Args:
        provider: The provider's name, for errors.
        notes: The translation report.
        hide_thinking: Leave the reasoning out.
        window: What the prompt had to fit in; a prompt that was likely cut is told with the end.
    """

    __slots__ = (
        "_calls",
        "_hide",
        "_notes",
        "_parts",
        "_provider",
        "_reasoning",
        "_start_extra",
        "_text",
        "_window",
        "error",
        "last",
    )

    def __init__(
        self,
        provider: str,
        notes: Sequence[chat_pb2.TranslationNote],
        *,
        hide_thinking: bool = False,
        window: Window = _UNKNOWN,
    ) -> None:
        self._provider = provider
        self._notes = notes
        self._hide = hide_thinking
        self._window = window
        self._start_extra: Mapping[str, msgspec.Raw] | None = None
        """The first line's fields without neutral form; None until it has come."""
        self._parts = 0
        self._calls = 0
        self._reasoning = -1
        self._text = -1
        self.last: wire.Answer | None = None
        """The last line, once it has come; the answer is complete then and not before."""
        self.error: GatewayError | None = None
        """What went wrong after the events answered so far; to be raised once they are passed on."""

    def feed(self, lines: Iterable[bytes]) -> list[chat_pb2.ChatEvent]:
        """The events of some lines, up to an error: what an error line stands for, or UPSTREAM_INVALID for no JSON."""
        events: list[chat_pb2.ChatEvent] = []
        try:
            for line in lines:
                if self.last is None:
                    self._line(line, events)
        except GatewayError as error:
            self.error = error
        return events

    def _line(self, line: bytes, events: list[chat_pb2.ChatEvent]) -> None:
        answer = read_answer(self._provider, line)
        if self._start_extra is None:
            events.append(self._start(answer, line))
        message = answer.message
        logprobs = logprobs_json(answer.logprobs) if answer.logprobs else b""
        if message is not None:
            first = len(events)
            if message.thinking and not self._hide:
                events.append(chat_pb2.ChatEvent(part=self._reasoning_part(), reasoning=message.thinking))
            if message.content:
                events.append(chat_pb2.ChatEvent(part=self._text_part(), text=message.content))
            for call in message.tool_calls or ():
                self._tool_call(call, events)
            if logprobs and len(events) > first:
                events[first].logprobs_json = logprobs
                logprobs = b""
        if logprobs:
            events.append(chat_pb2.ChatEvent(extra=chat_pb2.StreamExtra(), logprobs_json=logprobs))
        if answer.done:
            self._end(answer, line, events)

    def _start(self, answer: wire.Answer, line: bytes) -> chat_pb2.ChatEvent:
        self._start_extra = {} if answer.done else extra_fields(read_fields(line), metrics=False)
        start = chat_pb2.StreamStart(
            id=new_id(),
            created=created(answer.created_at),
            model=answer.model,
            translation=self._notes,
            dialect=DIALECT,
            extra_json=_object(self._start_extra),
        )
        return chat_pb2.ChatEvent(start=start)

    def _tool_call(self, wired: wire.Call, events: list[chat_pb2.ChatEvent]) -> None:
        call = tool_call(wired)
        start = chat_pb2.ToolCallStart(
            id=call.id, name=call.name, index=self._calls, type=message_pb2.TOOL_CALL_TYPE_FUNCTION
        )
        part = self._next_part()
        self._calls += 1
        events.append(chat_pb2.ChatEvent(part=part, tool_call=start))
        events.append(chat_pb2.ChatEvent(part=part, arguments=call.arguments.decode()))

    def _end(self, answer: wire.Answer, line: bytes, events: list[chat_pb2.ChatEvent]) -> None:
        self.last = answer
        fields = read_fields(line)
        used = usage(answer, fields)
        extra = extra_fields(fields, metrics=used is None)
        same = self._start_extra or {}
        news = {name: raw for name, raw in extra.items() if name not in same or bytes(same[name]) != bytes(raw)}
        finish = chat_pb2.StreamFinish(
            reason=finish_reason(answer.done_reason, called=self._calls > 0),
            native_reason=answer.done_reason or "",
            translation=self._window.notes(answer.prompt_eval_count),
        )
        events.append(chat_pb2.ChatEvent(finish=finish, extra_json=_object(news)))
        if used is not None:
            events.append(chat_pb2.ChatEvent(usage=used))

    def _next_part(self) -> int:
        self._parts += 1
        return self._parts - 1

    def _reasoning_part(self) -> int:
        if self._reasoning < 0:
            self._reasoning = self._next_part()
        return self._reasoning

    def _text_part(self) -> int:
        if self._text < 0:
            self._text = self._next_part()
        return self._text


def _object(fields: Mapping[str, msgspec.Raw]) -> bytes:
    if not fields:
        return b""
    return orjson.dumps({name: orjson.Fragment(bytes(raw)) for name, raw in fields.items()})
