"""Answers as `text_completion` objects, whole and streamed.

Only text has a place in them: reasoning and whatever else a model gave is told as notes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import orjson
from aigateway.v1 import chat_pb2, message_pb2

from aigateway_edge import citations
from aigateway_edge.native import dropped, paused, paused_comment
from aigateway_edge.openai import carriers
from aigateway_edge.openai.usage import usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aigateway_common.errors import GatewayError

_DONE: Final = b"data: [DONE]\n\n"
_FINISH: Final[Mapping[chat_pb2.FinishReason.ValueType, str]] = {
    chat_pb2.FINISH_REASON_LENGTH: "length",
    chat_pb2.FINISH_REASON_PAUSE: "length",
    chat_pb2.FINISH_REASON_CONTENT_FILTER: "content_filter",
}
"""The words that the SDKs know; for any other reason `stop`."""


def text_completion(
    answer: chat_pb2.ChatCompletion, *, request_id: str, before: str = ""
) -> tuple[bytes, list[chat_pb2.TranslationNote]]:
    """A `text_completion` object, and notes of what it could not show; `before` is repeated before each text."""
    notes: list[chat_pb2.TranslationNote] = []
    body: dict[str, Any] = {
        "id": answer.id or f"cmpl-{request_id}",
        "object": "text_completion",
        "created": answer.created or int(time.time()),
        "model": answer.model,
        "choices": [_choice(choice, before, notes) for choice in answer.choices],
        "usage": usage(answer.usage, answer.dialect) if answer.HasField("usage") else None,
    }
    return orjson.dumps(carriers.extras(answer.extra_json, answer.dialect) | body), notes


def _choice(choice: chat_pb2.Choice, before: str, notes: list[chat_pb2.TranslationNote]) -> dict[str, Any]:
    texts = [before]
    notes += citations.dropped(f"choices[{choice.index}].message", choice.message.extra_json)
    notes += citations.dropped(f"choices[{choice.index}]", choice.extra_json)
    for index, part in enumerate(choice.message.parts):
        notes += citations.dropped(f"choices[{choice.index}].parts[{index}]", part.extra_json)
        match part.WhichOneof("kind"):
            case "text":
                texts.append(part.text.text)
            case "refusal":
                texts.append(part.refusal.text)
            case _:
                notes.append(dropped(f"choices[{choice.index}].parts[{index}]", part))
    if choice.finish_reason == chat_pb2.FINISH_REASON_PAUSE:
        notes.append(paused(choice.index, choice.native_finish_reason))
    return {
        "index": choice.index,
        "text": "".join(texts),
        "logprobs": None,
        "finish_reason": _FINISH.get(choice.finish_reason, "stop"),
    }


class TextChunks:
    """Writes one stream. Feed it events in order; what it answers is ready to be sent."""

    def __init__(self, *, request_id: str, include_usage: bool, before: str = "") -> None:
        self._request_id = request_id
        self._include_usage = include_usage
        self._before = before
        self._begun: set[int] = set()
        self._reported: set[tuple[int, str]] = set()
        """Citations that a comment said were left out, by choice."""
        self._dialect: message_pb2.Dialect.ValueType = message_pb2.DIALECT_UNSPECIFIED
        self._usage = b""
        self._close = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._head = b""
        self._begin(chat_pb2.StreamStart())

    def write(self, events: Iterable[chat_pb2.ChatEvent]) -> bytes:
        """The records of some events; may be empty."""
        return b"".join([self._event(event) for event in events])

    def end(self) -> bytes:
        """The records that end a whole stream: usage, where the caller asked for it, and `[DONE]`."""
        if self._include_usage and self._usage:
            return b'%b"choices":[],"usage":%b}\n\n%b' % (self._head, self._usage, _DONE)
        return _DONE

    def fail(self, error: GatewayError) -> bytes:
        """The record of a failure in the middle of the stream."""
        return b"data: %b\n\n" % orjson.dumps(error.to_openai())

    def _begin(self, start: chat_pb2.StreamStart) -> None:
        self._dialect = start.dialect
        self._head = b'data: {"id":%b,"object":"text_completion","created":%d,"model":%b,' % (
            orjson.dumps(start.id or f"cmpl-{self._request_id}"),
            start.created or int(time.time()),
            orjson.dumps(start.model),
        )

    def _event(self, event: chat_pb2.ChatEvent) -> bytes:
        match event.WhichOneof("event"):
            case "start":
                self._begin(event.start)
            case "text":
                return self._record(event.choice, event.text)
            case "refusal":
                return self._record(event.choice, event.refusal)
            case "finish":
                reason = event.finish.reason
                pause = reason == chat_pb2.FINISH_REASON_PAUSE
                told = paused_comment(event.choice, event.finish.native_reason) if pause else b""
                return told + self._record(event.choice, "", _FINISH.get(reason, "stop"))
            case "usage":
                self._usage = orjson.dumps(usage(event.usage, self._dialect))
            case "tool_call" | "native" | "audio" | "redacted" as kind:
                return b": x-gateway-translation: choices[%d]=dropped(%b)\n\n" % (event.choice, kind.encode())
            case _:  # more of what has no place here
                return self._cited(event)
        return b""

    def _cited(self, event: chat_pb2.ChatEvent) -> bytes:
        """What was cited, which is said to be left out once."""
        names = citations.fields(event.delta_extra_json) + citations.fields(event.choice_extra_json)
        news = [name for name in names if (event.choice, name) not in self._reported]
        self._reported.update((event.choice, name) for name in news)
        return citations.comment(f"choices[{event.choice}]", news)

    def _record(self, choice: int, text: str, finish: str | None = None) -> bytes:
        if choice not in self._begun:
            self._begun.add(choice)
            text = self._before + text
        return b'%b"choices":[{"index":%d,"text":%b,"logprobs":null,"finish_reason":%b}]%b' % (
            self._head,
            choice,
            orjson.dumps(text),
            orjson.dumps(finish),
            self._close,
        )
