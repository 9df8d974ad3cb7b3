"""The tokens that a call may use and those that it used, for the limits on them.

By the provider's word, or guessed from what was streamed. Not for the ledger: each attempt counts for itself there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigateway_router import estimates
from aigateway_router.policy.limits import Estimate

if TYPE_CHECKING:
    from aigateway.v1 import chat_pb2, embedding_pb2, tokens_pb2

    from aigateway_router.callers import Caller
    from aigateway_router.stream_state import StreamState


def of_chat(caller: Caller, call: chat_pb2.ChatCall) -> Estimate | None:
    """What a chat call may use; None when nobody counts the tokens of `caller`."""
    if not caller.counts_tokens:
        return None
    options = call.options
    answers = max(1, options.n)
    most = options.max_output_tokens * answers if options.HasField("max_output_tokens") else None
    return Estimate(estimates.chat_prompt(call), most)


def of_embed(caller: Caller, call: embedding_pb2.EmbedCall) -> Estimate | None:
    """What a call for embeddings may use; None when nobody counts the tokens of `caller`."""
    return Estimate(estimates.embed_prompt(call), 0) if caller.counts_tokens else None


def total(usage: tokens_pb2.TokenUsage) -> int:
    """All tokens of an answer; the classes are disjoint."""
    return (
        usage.input_uncached
        + usage.input_cache_read
        + usage.input_cache_write_5m
        + usage.input_cache_write_1h
        + usage.output_text
        + usage.output_reasoning
        + usage.tool_use_prompt
    )


class StreamMeter:
    """The tokens of one stream whose prompt has `prompt` of them."""

    __slots__ = ("_prompt", "state")

    def __init__(self, prompt: int) -> None:
        self._prompt = prompt
        self.state: StreamState | None = None
        """What has come of the stream; to be set once it has begun."""

    def tokens(self) -> int:
        """The tokens used up to now; 0 before the beginning."""
        state = self.state
        if state is None:
            return 0
        if state.has_final_usage and state.usage is not None:
            return total(state.usage)
        guess = estimates.estimated(
            state.usage, prompt=self._prompt, output_characters=state.text, reasoning_characters=state.reasoning
        )
        return total(guess)
