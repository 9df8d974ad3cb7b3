"""What whole answers and streams in Anthropic's shape have in common: stop reasons, tokens, the provider's own fields.

https://platform.claude.com/docs/en/api/messages#response
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson
from aigateway.v1 import chat_pb2, message_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway.v1 import tokens_pb2

DIALECT: Final = message_pb2.DIALECT_ANTHROPIC_MESSAGES
_STOP: Final[Mapping[chat_pb2.FinishReason.ValueType, str]] = {
    chat_pb2.FINISH_REASON_STOP: "end_turn",
    chat_pb2.FINISH_REASON_LENGTH: "max_tokens",
    chat_pb2.FINISH_REASON_TOOL_CALLS: "tool_use",
    chat_pb2.FINISH_REASON_CONTENT_FILTER: "refusal",
    # Anthropic has no word for an answer that went wrong; `end_turn` would call it whole.
    chat_pb2.FINISH_REASON_ERROR: "error",
    chat_pb2.FINISH_REASON_PAUSE: "pause_turn",
}
_members: Final[msgspec.json.Decoder[dict[str, msgspec.Raw]]] = msgspec.json.Decoder(dict[str, msgspec.Raw])


def stopped(
    reason: chat_pb2.FinishReason.ValueType,
    native: str,
    stop_sequence: str,
    *,
    own: bool,
    refused: bool,
) -> dict[str, Any]:
    """`stop_reason` and `stop_sequence`; another provider's own word stands beside them as `native_stop_reason`.

    Args:
        reason: Why the model stopped.
        native: The provider's word for it.
        stop_sequence: The stop text that was met, where the provider says so.
        own: The provider speaks this dialect.
        refused: The answer holds the words of a refusal.
    """
    if own:
        return {"stop_reason": native or None, "stop_sequence": stop_sequence or None}
    if refused:
        word = "refusal"
    elif stop_sequence and reason == chat_pb2.FINISH_REASON_STOP:
        word = "stop_sequence"
    else:
        word = _STOP.get(reason, "end_turn")
    view: dict[str, Any] = {"stop_reason": word, "stop_sequence": stop_sequence or None}
    return view | {"native_stop_reason": native} if native else view


def usage(tokens: tokens_pb2.TokenUsage | None, *, own: bool) -> dict[str, Any] | orjson.Fragment:
    """The `usage` object: the provider's own, unchanged, where it speaks this dialect.

    `input_tokens` leaves out what a cache served or took in. The dialect demands both counts, so what another provider
    did not report is 0 there, and absent elsewhere.
    """
    if tokens is None:
        return {"input_tokens": 0, "output_tokens": 0}
    if own and tokens.native_json:
        return orjson.Fragment(tokens.native_json)
    view: dict[str, Any] = {"input_tokens": tokens.input_uncached + tokens.tool_use_prompt}
    short, long = tokens.input_cache_write_5m, tokens.input_cache_write_1h
    if tokens.HasField("input_cache_write_5m") or tokens.HasField("input_cache_write_1h"):
        view["cache_creation_input_tokens"] = short + long
        view["cache_creation"] = {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long}
    if tokens.HasField("input_cache_read"):
        view["cache_read_input_tokens"] = tokens.input_cache_read
    view["output_tokens"] = tokens.output_text + tokens.output_reasoning
    if tokens.HasField("output_reasoning"):
        view["output_tokens_details"] = {"thinking_tokens": tokens.output_reasoning}
    if tokens.estimated:
        view["estimated"] = True
    return view


def extras(json: bytes, *, own: bool) -> dict[str, Any]:
    """The provider's extra fields, each value as it was written; none in another dialect than this one."""
    if not json or not own:
        return {}
    return {key: orjson.Fragment(bytes(raw)) for key, raw in _members.decode(json).items()}


def tool_input(arguments: bytes) -> orjson.Fragment | dict[str, Any]:
    """The `input` of a tool call, which is an object whatever the model wrote.

    Text that is no JSON object goes under `INVALID_JSON`, which Anthropic advises for handing such text on:
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming.
    """
    text = arguments.strip()
    if not text:
        return {}
    try:
        _members.decode(text)
        text.decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {"INVALID_JSON": arguments.decode("utf-8", "replace")}
    return orjson.Fragment(text)


def native_type(part: message_pb2.NativePart) -> str:
    """The provider's word for a part that only it understands; empty when it has none."""
    try:
        fields = _members.decode(part.json)
        return msgspec.json.decode(fields["type"], type=str) if "type" in fields else next(iter(fields), "")
    except msgspec.DecodeError:
        return ""
