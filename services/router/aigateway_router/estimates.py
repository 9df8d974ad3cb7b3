"""Tokens of an answer that was cut off, guessed from its length. Pure.

Providers bill what they read and wrote also when the caller went away; a guess flagged as one is nearer to the bill
than nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aigateway.v1 import tokens_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aigateway.v1 import chat_pb2, embedding_pb2, message_pb2

CHARACTERS_PER_TOKEN: Final = 4
"""A rule of thumb for English text (https://help.openai.com/en/articles/4936856)."""


def estimated(
    known: tokens_pb2.TokenUsage | None, *, prompt: int, output_characters: int, reasoning_characters: int
) -> tokens_pb2.TokenUsage:
    """`known` completed by guesses: `prompt` tokens when it says nothing of the prompt, output at least as streamed."""
    usage = tokens_pb2.TokenUsage()
    if known is not None:
        usage.CopyFrom(known)
    usage.estimated = True
    if not _knows_prompt(usage) and prompt:
        usage.input_uncached = prompt
    # A class that nothing was streamed of stays as it is: absent is not zero.
    if text := tokens(output_characters):
        usage.output_text = max(usage.output_text, text)
    if reasoning := tokens(reasoning_characters):
        usage.output_reasoning = max(usage.output_reasoning, reasoning)
    return usage


def tokens(characters: int) -> int:
    """How many tokens `characters` are, rounded up."""
    return -(-characters // CHARACTERS_PER_TOKEN)


def chat_prompt(call: chat_pb2.ChatCall) -> int:
    """Tokens of the text in a prompt; pictures and sounds are not guessed at."""
    length = sum(_length(message.parts) for message in call.messages)
    for tool in call.tools:
        function = tool.function
        length += len(function.name) + len(function.description) + len(function.parameters_json)
    return tokens(length)


def embed_prompt(call: embedding_pb2.EmbedCall) -> int:
    """Tokens of the texts to embed."""
    return sum(len(item.tokens.ids) or tokens(len(item.text)) for item in call.inputs)


def _length(parts: Iterable[message_pb2.Part]) -> int:
    length = 0
    for part in parts:
        match part.WhichOneof("kind"):
            case "text":
                length += len(part.text.text)
            case "refusal":
                length += len(part.refusal.text)
            case "reasoning":
                length += len(part.reasoning.text)
            case "tool_call":
                length += len(part.tool_call.name) + len(part.tool_call.arguments)
            case "tool_result":
                length += _length(part.tool_result.content)
            case "native":
                length += len(part.native.json)
            case "image" | "audio" | "file" | None:
                pass
    return length


def _knows_prompt(usage: tokens_pb2.TokenUsage) -> bool:
    return usage.HasField("input_uncached") or usage.HasField("input_cache_read")
