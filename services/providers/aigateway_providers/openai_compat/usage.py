"""OpenAI's `usage` object as disjoint token classes.

`prompt_tokens` includes the cached ones and `completion_tokens` the reasoning ones
(https://platform.openai.com/docs/api-reference/chat/object); what the host left out stays absent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from aigateway.v1 import tokens_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping


def to_usage(usage: Mapping[str, Any]) -> tokens_pb2.TokenUsage:
    """The token classes of a chat or embedding answer; the host's own object is kept whole."""
    prompt = usage.get("prompt_tokens")
    completion = usage.get("completion_tokens")
    inputs = usage.get("prompt_tokens_details") or {}
    outputs = usage.get("completion_tokens_details") or {}
    cached = inputs.get("cached_tokens")
    written = inputs.get("cache_write_tokens")
    reasoning = outputs.get("reasoning_tokens")
    return tokens_pb2.TokenUsage(
        input_uncached=_rest(prompt, cached, written),
        input_cache_read=cached,
        input_cache_write_5m=written,
        output_text=_rest(completion, reasoning),
        output_reasoning=reasoning,
        input_audio=inputs.get("audio_tokens"),
        input_image=inputs.get("image_tokens"),
        output_audio=outputs.get("audio_tokens"),
        output_image=outputs.get("image_tokens"),
        native_json=orjson.dumps(usage),
    )


def _rest(total: int | None, *parts: int | None) -> int | None:
    if total is None:
        return None
    return max(0, total - sum(part or 0 for part in parts))
