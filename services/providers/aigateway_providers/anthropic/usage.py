"""Anthropic's usage object to token classes.

`input_tokens` leaves out what the cache served or took in; `output_tokens` includes thinking
(https://platform.claude.com/docs/en/build-with-claude/prompt-caching#tracking-cache-performance).
"""

from __future__ import annotations

from typing import Final

import msgspec
from aigateway.v1 import tokens_pb2


class _CacheCreation(msgspec.Struct):
    ephemeral_1h_input_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


_USAGE: Final = msgspec.json.Decoder(_Usage)


def token_usage(raw: bytes | msgspec.Raw) -> tokens_pb2.TokenUsage | None:
    """The token classes of a usage object; None when it is null.

    Raises:
        splice.UNREADABLE: it is no usage object.
    """
    native = bytes(raw)
    if native == b"null":
        return None
    found = _USAGE.decode(native)
    hour = found.cache_creation.ephemeral_1h_input_tokens if found.cache_creation else None
    written = found.cache_creation_input_tokens
    thinking = found.output_tokens_details.thinking_tokens if found.output_tokens_details else None
    output = found.output_tokens
    return tokens_pb2.TokenUsage(
        input_uncached=found.input_tokens,
        input_cache_read=found.cache_read_input_tokens,
        # The total is what grows over a stream; the split comes with its first event only.
        input_cache_write_5m=None if written is None else max(0, written - (hour or 0)),
        input_cache_write_1h=hour,
        output_text=None if output is None else max(0, output - (thinking or 0)),
        output_reasoning=thinking,
        native_json=native,
    )
