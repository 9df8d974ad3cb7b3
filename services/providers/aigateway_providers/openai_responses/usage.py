"""The `usage` object of Responses as disjoint token classes.

`input_tokens` includes the cached ones and `output_tokens` the reasoning ones
(https://platform.openai.com/docs/api-reference/responses/object); what is left out stays absent.
"""

from __future__ import annotations

import msgspec
from aigateway.v1 import tokens_pb2


class _Inputs(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class _Outputs(msgspec.Struct):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Inputs | None = None
    output_tokens_details: _Outputs | None = None


_USAGE = msgspec.json.Decoder(_Usage)


def to_usage(raw: bytes) -> tokens_pb2.TokenUsage:
    """The token classes; the provider's own object is kept whole. Raises ValueError when it is no usage object."""
    usage = _USAGE.decode(raw)
    inputs = usage.input_tokens_details or _Inputs()
    outputs = usage.output_tokens_details or _Outputs()
    return tokens_pb2.TokenUsage(
        input_uncached=_rest(usage.input_tokens, inputs.cached_tokens, inputs.cache_write_tokens),
        input_cache_read=inputs.cached_tokens,
        input_cache_write_5m=inputs.cache_write_tokens,
        output_text=_rest(usage.output_tokens, outputs.reasoning_tokens),
        output_reasoning=outputs.reasoning_tokens,
        input_audio=inputs.audio_tokens,
        input_image=inputs.image_tokens,
        output_audio=outputs.audio_tokens,
        output_image=outputs.image_tokens,
        native_json=raw,
    )


def _rest(total: int | None, *parts: int | None) -> int | None:
    if total is None:
        return None
    return max(0, total - sum(part or 0 for part in parts))
