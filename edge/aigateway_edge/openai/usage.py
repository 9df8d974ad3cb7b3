"""Tokens as OpenAI counts them, from the gateway's disjoint classes.

Prompt tokens include cached ones and completion tokens include reasoning; what no provider reported stays away, since
absent is not zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson
from aigateway.v1 import message_pb2

if TYPE_CHECKING:
    from aigateway.v1 import tokens_pb2

_PROMPT_DETAILS: Final = {
    "input_cache_read": "cached_tokens",
    "input_audio": "audio_tokens",
    "input_image": "image_tokens",
}
_COMPLETION_DETAILS: Final = {
    "output_reasoning": "reasoning_tokens",
    "output_audio": "audio_tokens",
    "output_image": "image_tokens",
}


def usage(tokens: tokens_pb2.TokenUsage, dialect: message_pb2.Dialect.ValueType) -> dict[str, Any] | orjson.Fragment:
    """The `usage` object; the provider's own, unchanged, where it already speaks OpenAI."""
    if tokens.native_json and dialect == message_pb2.DIALECT_OPENAI_CHAT:
        return orjson.Fragment(tokens.native_json)
    prompt = prompt_tokens(tokens)
    completion = tokens.output_text + tokens.output_reasoning
    view: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    prompt_details = _details(tokens, _PROMPT_DETAILS)
    if tokens.HasField("input_cache_write_5m") or tokens.HasField("input_cache_write_1h"):
        prompt_details["cache_write_tokens"] = tokens.input_cache_write_5m + tokens.input_cache_write_1h
    if prompt_details:
        view["prompt_tokens_details"] = prompt_details
    if completion_details := _details(tokens, _COMPLETION_DETAILS):
        view["completion_tokens_details"] = completion_details
    if tokens.estimated:
        view["estimated"] = True
    return view


def embedding_usage(
    tokens: tokens_pb2.TokenUsage, dialect: message_pb2.Dialect.ValueType
) -> dict[str, Any] | orjson.Fragment:
    """The `usage` object of embeddings, which have no completion."""
    if tokens.native_json and dialect == message_pb2.DIALECT_OPENAI_CHAT:
        return orjson.Fragment(tokens.native_json)
    prompt = prompt_tokens(tokens)
    return {"prompt_tokens": prompt, "total_tokens": prompt}


def prompt_tokens(tokens: tokens_pb2.TokenUsage) -> int:
    """All tokens of the prompt, cached or not."""
    return (
        tokens.input_uncached
        + tokens.input_cache_read
        + tokens.input_cache_write_5m
        + tokens.input_cache_write_1h
        + tokens.tool_use_prompt
    )


def _details(tokens: tokens_pb2.TokenUsage, names: dict[str, str]) -> dict[str, int]:
    return {name: getattr(tokens, field) for field, name in names.items() if tokens.HasField(field)}  # type: ignore[arg-type] # the fields are those of the message
