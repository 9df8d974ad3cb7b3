"""The tokens that a call may use and those that it used, for the limits on them.

By the provider's word, or guessed from what was streamed. Not for the ledger: each attempt counts for itself there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigateway_router import estimates
from aigateway_router.policy.limits import Estimate
from aigateway_router.stream_state import StreamState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aigateway.v1 import chat_pb2, embedding_pb2, gateway_service_pb2, tokens_pb2

    from aigateway_router.callers import Caller

    Write = Callable[[gateway_service_pb2.StreamChatResponse], Awaitable[None]]


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
    """Stands before `write`, and follows what a caller is given of a stream whose prompt has `prompt` tokens."""

    __slots__ = ("_began", "_prompt", "_state", "_write")

    def __init__(self, prompt: int, write: Write) -> None:
        self._prompt = prompt
        self._write = write
        self._state = StreamState()
        self._began = False

    async def write(self, response: gateway_service_pb2.StreamChatResponse) -> None:
        """Write a message, and take note of it."""
        self._began = True
        self._state.follow(response.events)
        await self._write(response)

    def tokens(self) -> int:
        """The tokens used up to now; 0 before the first message."""
        state = self._state
        if not self._began:
            return 0
        if state.has_final_usage and state.usage is not None:
            return total(state.usage)
        guess = estimates.estimated(
            state.usage, prompt=self._prompt, output_characters=state.text, reasoning_characters=state.reasoning
        )
        return total(guess)
