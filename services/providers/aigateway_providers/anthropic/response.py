"""The answer of `POST /v1/messages` to a `ChatCompletion`: pure, no I/O. What `stream.py` shares is here too.

https://platform.claude.com/docs/en/api/messages#response
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from aigateway.v1 import chat_pb2, message_pb2

from aigateway_providers.anthropic import splice
from aigateway_providers.anthropic.blocks import DIALECT, PROVIDER
from aigateway_providers.anthropic.usage import token_usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aigateway_providers.anthropic.request import Request

FINISH_REASONS: Final[Mapping[str, chat_pb2.FinishReason.ValueType]] = {
    "end_turn": chat_pb2.FINISH_REASON_STOP,
    "stop_sequence": chat_pb2.FINISH_REASON_STOP,
    "compaction": chat_pb2.FINISH_REASON_STOP,
    "max_tokens": chat_pb2.FINISH_REASON_LENGTH,
    "model_context_window_exceeded": chat_pb2.FINISH_REASON_LENGTH,
    "tool_use": chat_pb2.FINISH_REASON_TOOL_CALLS,
    "refusal": chat_pb2.FINISH_REASON_CONTENT_FILTER,
    "pause_turn": chat_pb2.FINISH_REASON_PAUSE,
}
"""https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons."""

MESSAGE_FIELDS: Final = ("id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage")
"""The fields of a message that have a neutral form; the others travel as `extra_json`."""


class _Message(msgspec.Struct):
    id: str
    model: str
    content: list[msgspec.Raw]
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")


class _Count(msgspec.Struct):
    input_tokens: int


_MESSAGE: Final = msgspec.json.Decoder(_Message)
_COUNT: Final = msgspec.json.Decoder(_Count)


def completion(body: bytes, request: Request, *, created: int) -> chat_pb2.ChatCompletion:
    """Translate an answer.

    Args:
        body: The answer.
        request: What was sent.
        created: When; seconds since the Unix epoch, which Anthropic does not tell.

    Raises:
        splice.UNREADABLE: the body is not a message.
    """
    body.decode()  # what is passed on unread must be text too
    answer = _MESSAGE.decode(body)
    parts = [part_of(raw, request.answer_tool) for raw in answer.content]
    calls = any(part.HasField("tool_call") for part in parts)
    return chat_pb2.ChatCompletion(
        id=answer.id,
        created=created,
        model=answer.model,
        choices=[
            chat_pb2.Choice(
                message=message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=parts),
                finish_reason=finish_reason(answer.stop_reason, calls=calls),
                native_finish_reason=answer.stop_reason or "",
                stop_sequence=answer.stop_sequence or "",
            )
        ],
        usage=token_usage(answer.usage),
        translation=request.translation,
        dialect=DIALECT,
        extra_json=splice.rest(splice.fields(body), *MESSAGE_FIELDS),
    )


def token_count(body: bytes, request: Request) -> chat_pb2.TokenCount:
    """Translate a count.

    Raises:
        splice.UNREADABLE: the body is not a count.
    """
    return chat_pb2.TokenCount(
        input_tokens=_COUNT.decode(body).input_tokens,
        translation=request.translation,
        dialect=DIALECT,
        extra_json=splice.rest(splice.fields(body), "input_tokens"),
    )


def finish_reason(native: str | None, *, calls: bool) -> chat_pb2.FinishReason.ValueType:
    """Why the model stopped; an unknown reason counts as done, its own word stays beside it.

    Args:
        native: Anthropic's `stop_reason`.
        calls: Whether the answer calls tools of the caller; a structured answer stops with `tool_use` without any.
    """
    reason = FINISH_REASONS.get(native or "", chat_pb2.FINISH_REASON_STOP)
    if reason == chat_pb2.FINISH_REASON_TOOL_CALLS and not calls:
        return chat_pb2.FINISH_REASON_STOP
    return reason


def part_of(raw: msgspec.Raw, answer_tool: str) -> message_pb2.Part:
    """The part of a whole content block; a block without a neutral form stays whole as a native part.

    Args:
        raw: The block.
        answer_tool: The tool whose input is the answer itself, if there is one.
    """
    fields = splice.fields(raw)
    match splice.text(fields, "type"):
        case "text":
            part = message_pb2.Part(text=message_pb2.TextPart(text=splice.text(fields, "text")))
            return _with_extra(part, fields, ("type", "text"))
        case "thinking":
            part = message_pb2.Part(reasoning=message_pb2.ReasoningPart(text=splice.text(fields, "thinking")))
            _keep_state(part, splice.text(fields, "signature"))
            return _with_extra(part, fields, ("type", "thinking", "signature"))
        case "redacted_thinking":
            part = message_pb2.Part(reasoning=message_pb2.ReasoningPart(redacted=True))
            _keep_state(part, splice.text(fields, "data"))
            return _with_extra(part, fields, ("type", "data"))
        case "tool_use":
            arguments = bytes(fields.get("input", b"{}"))
            name = splice.text(fields, "name")
            if answer_tool and name == answer_tool:
                return message_pb2.Part(text=message_pb2.TextPart(text=arguments.decode("utf-8", "replace")))
            call = message_pb2.ToolCall(
                id=splice.text(fields, "id"),
                name=name,
                arguments=arguments,
                type=message_pb2.TOOL_CALL_TYPE_FUNCTION,
            )
            return _with_extra(message_pb2.Part(tool_call=call), fields, ("type", "id", "name", "input"))
        case _:
            return message_pb2.Part(native=message_pb2.NativePart(dialect=DIALECT, json=bytes(raw)))


def state(opaque: str) -> message_pb2.ProviderState:
    """A signature, or the data of withheld thinking, to be handed back unchanged."""
    return message_pb2.ProviderState(provider=PROVIDER, state=opaque.encode())


def block_extra(fields: Mapping[str, msgspec.Raw], known: Iterable[str]) -> bytes:
    """The fields of a block with no neutral form."""
    return splice.rest(dict(fields), *known)


def _keep_state(part: message_pb2.Part, opaque: str) -> None:
    if opaque:
        part.provider_state.CopyFrom(state(opaque))


def _with_extra(part: message_pb2.Part, fields: Mapping[str, msgspec.Raw], known: tuple[str, ...]) -> message_pb2.Part:
    if len(fields) > len(known) and (extra := block_extra(fields, known)):
        part.extra_json = extra
    return part
