"""A whole answer of `POST /chat/completions`, and the helpers it shares with streams; pure.

https://platform.openai.com/docs/api-reference/chat/object
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import orjson
from aigateway.v1 import chat_pb2, message_pb2

from aigateway_providers.openai_compat.messages import DIALECT
from aigateway_providers.openai_compat.usage import to_usage

if TYPE_CHECKING:
    from collections.abc import Mapping

FINISH_REASONS: Final[Mapping[str, chat_pb2.FinishReason.ValueType]] = {
    "stop": chat_pb2.FINISH_REASON_STOP,
    "length": chat_pb2.FINISH_REASON_LENGTH,
    "tool_calls": chat_pb2.FINISH_REASON_TOOL_CALLS,
    "function_call": chat_pb2.FINISH_REASON_TOOL_CALLS,
    "content_filter": chat_pb2.FINISH_REASON_CONTENT_FILTER,
    "error": chat_pb2.FINISH_REASON_ERROR,
}
REASONING_FIELDS: Final = ("reasoning_content", "reasoning")
"""Where hosts show reasoning; the first that is text counts."""


def to_completion(body: dict[str, Any], notes: list[chat_pb2.TranslationNote]) -> chat_pb2.ChatCompletion:
    """The answer; `body` is used up. Raises KeyError, TypeError or ValueError when it is not a completion."""
    choices = [_choice(choice) for choice in body.pop("choices")]
    if not choices:
        raise ValueError("no choices")
    usage = body.pop("usage", None)
    body.pop("object", None)
    completion = chat_pb2.ChatCompletion(
        id=body.pop("id", None),
        created=whole(body.pop("created", None)),
        model=body.pop("model", None),
        translation=notes,
        dialect=DIALECT,
        extra_json=dump(body),
    )
    completion.choices.extend(choices)  # given to the constructor, each of them would be written out and parsed
    if usage:
        completion.usage.CopyFrom(to_usage(usage))
    return completion


def to_finish(reason: str, *, calls: bool) -> chat_pb2.FinishReason.ValueType:
    """Why the model stopped; a word nobody knows counts as a normal stop, and no word by whether there are `calls`."""
    if not reason and calls:
        return chat_pb2.FINISH_REASON_TOOL_CALLS
    return FINISH_REASONS.get(reason, chat_pb2.FINISH_REASON_STOP)


def take_reasoning(message: dict[str, Any]) -> str:
    """The reasoning text of a message or delta; a host that shows it twice is read once.

    Only `reasoning_content`, where it is text, is taken out: callers are shown it under that name anyway, and all else
    as the host wrote it.
    """
    text: str = ""
    for field in REASONING_FIELDS:
        value = message.get(field)
        if isinstance(value, str):
            text = text or value
            if field == "reasoning_content" and value:
                del message[field]
    return text


def dump(extra: dict[str, Any]) -> bytes:
    """Extra fields as JSON; empty when there are none."""
    return orjson.dumps(extra) if extra else b""


def whole(value: float | None) -> int:
    """A time some hosts write with a fraction, in whole seconds; 0 when it is not known."""
    return int(value or 0)


def _choice(choice: dict[str, Any]) -> chat_pb2.Choice:
    native = choice.pop("finish_reason", None) or ""
    logprobs = choice.pop("logprobs", None)
    message = _message(choice.pop("message"))
    answer = chat_pb2.Choice(
        index=choice.pop("index", 0),
        finish_reason=to_finish(native, calls=any(part.HasField("tool_call") for part in message.parts)),
        native_finish_reason=native,
        logprobs_json=orjson.dumps(logprobs) if logprobs is not None else b"",
        extra_json=dump(choice),
    )
    answer.message.CopyFrom(message)
    return answer


def _message(message: dict[str, Any]) -> message_pb2.Message:
    parts: list[message_pb2.Part] = []
    message.pop("role", None)
    if reasoning := take_reasoning(message):
        parts.append(message_pb2.Part(reasoning=message_pb2.ReasoningPart(text=reasoning)))
    shape = _take_content(message, parts)
    refusal = message.pop("refusal", None)
    if refusal:
        parts.append(message_pb2.Part(refusal=message_pb2.RefusalPart(text=refusal)))
    if audio := message.pop("audio", None):
        parts.append(_audio(audio))
    parts.extend(_tool_call(call) for call in message.pop("tool_calls", None) or ())
    answer = message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, content_shape=shape, extra_json=dump(message))
    answer.parts.extend(parts)
    return answer


def _take_content(message: dict[str, Any], parts: list[message_pb2.Part]) -> message_pb2.ContentShape.ValueType:
    if "content" not in message:
        return message_pb2.CONTENT_SHAPE_ABSENT
    match message.pop("content"):
        case None:
            return message_pb2.CONTENT_SHAPE_NULL
        case str(text):
            part = message_pb2.Part()
            part.text.text = text
            parts.append(part)
            return message_pb2.CONTENT_SHAPE_STRING
        case list(pieces):
            parts.extend(_piece(piece) for piece in pieces)
            return message_pb2.CONTENT_SHAPE_LIST
        case other:
            raise TypeError(type(other).__name__)


def _piece(piece: dict[str, Any]) -> message_pb2.Part:
    if piece["type"] == "text" and isinstance(piece.get("text"), str):
        text = message_pb2.TextPart(text=piece.pop("text"))
        del piece["type"]
        return message_pb2.Part(text=text, extra_json=dump(piece))
    return message_pb2.Part(native=message_pb2.NativePart(dialect=DIALECT, json=orjson.dumps(piece)))


def _audio(audio: dict[str, Any]) -> message_pb2.Part:
    data = audio.pop("data", None)
    part = message_pb2.AudioPart(
        media=message_pb2.Media(data=base64.b64decode(data)) if data else None,
        id=audio.pop("id", None),
        transcript=audio.pop("transcript", None),
        expires_at=audio.pop("expires_at", None),
    )
    return message_pb2.Part(audio=part, extra_json=dump(audio))


def _tool_call(call: dict[str, Any]) -> message_pb2.Part:
    custom = call.pop("type", None) == "custom"
    body = call.pop("custom" if custom else "function")
    arguments = body.get("input" if custom else "arguments") or ""
    tool_call = message_pb2.ToolCall(
        id=call.pop("id", None),
        name=body.get("name"),
        arguments=arguments.encode() if isinstance(arguments, str) else orjson.dumps(arguments),
        type=message_pb2.TOOL_CALL_TYPE_CUSTOM if custom else message_pb2.TOOL_CALL_TYPE_FUNCTION,
    )
    return message_pb2.Part(tool_call=tool_call, extra_json=dump({k: v for k, v in call.items() if k != "index"}))
