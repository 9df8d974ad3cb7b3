"""How the OpenAI dialect carries what it has no field of its own for: reasoning, opaque state, foreign stop reasons.

The way back in is read by `parts` and `messages`. Shared by whole answers (`from_proto`) and streams (`chunks`).
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson
from aigateway.v1 import chat_pb2, message_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

_FINISH: Final[Mapping[chat_pb2.FinishReason.ValueType, str]] = {
    chat_pb2.FINISH_REASON_STOP: "stop",
    chat_pb2.FINISH_REASON_LENGTH: "length",
    chat_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
    chat_pb2.FINISH_REASON_CONTENT_FILTER: "content_filter",
    chat_pb2.FINISH_REASON_ERROR: "error",
    # The turn is not over, for which `length` is the only word that every client knows; it is reported as emulated.
    chat_pb2.FINISH_REASON_PAUSE: "length",
}


_members: Final[msgspec.json.Decoder[dict[str, msgspec.Raw]]] = msgspec.json.Decoder(dict[str, msgspec.Raw])


def finish_reason(
    reason: chat_pb2.FinishReason.ValueType, native: str, dialect: message_pb2.Dialect.ValueType, *, legacy: bool
) -> str:
    """OpenAI's word for why the model stopped; a provider that speaks OpenAI keeps its own."""
    if legacy and reason == chat_pb2.FINISH_REASON_TOOL_CALLS:
        return "function_call"
    if native and dialect == message_pb2.DIALECT_OPENAI_CHAT:
        return native
    return _FINISH.get(reason, "stop")


def extras(json: bytes, dialect: message_pb2.Dialect.ValueType) -> dict[str, Any]:
    """The provider's extra fields, each value as it was written; none in another dialect than OpenAI's."""
    if not json or dialect != message_pb2.DIALECT_OPENAI_CHAT:
        return {}
    return {key: orjson.Fragment(bytes(raw)) for key, raw in _members.decode(json).items()}


def reasoning_detail(part: message_pb2.ReasoningPart, state: message_pb2.ProviderState | None) -> dict[str, Any]:
    """One entry of `reasoning_details`."""
    kind = "encrypted" if part.redacted else "summary" if part.summary else "text"
    entry: dict[str, Any] = {"type": f"reasoning.{kind}"}
    if not part.redacted:
        entry["text"] = part.text
    if state is not None:
        entry["provider"] = state.provider
        entry["state"] = base64.b64encode(state.state).decode()
    return entry


def extra_content(state: message_pb2.ProviderState) -> dict[str, Any]:
    """The `extra_content` of a tool call, message or delta; Gemini's as Google's own OpenAI endpoint writes it."""
    if state.provider == "gemini":
        try:
            return {"google": {"thought_signature": state.state.decode()}}
        except UnicodeDecodeError:
            pass  # not a signature as Google writes them: carried like any other state
    return {state.provider: {"state": base64.b64encode(state.state).decode()}}
