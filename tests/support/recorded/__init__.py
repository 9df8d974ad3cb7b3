"""What the recorded exchanges mean, provider by provider: `to_openai`, `expected` and `differences` in each module.

Here is what they share: a typed answer, whole or streamed, seen as an `Expected`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError

from support.exchanges import Expected, ToolCallSeen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aigateway.v1 import tokens_pb2

_FINISH = {
    chat_pb2.FINISH_REASON_UNSPECIFIED: None,
    chat_pb2.FINISH_REASON_STOP: "stop",
    chat_pb2.FINISH_REASON_LENGTH: "length",
    chat_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
    chat_pb2.FINISH_REASON_CONTENT_FILTER: "content_filter",
    chat_pb2.FINISH_REASON_ERROR: "error",
    chat_pb2.FINISH_REASON_PAUSE: "pause",
}


def seen(completion: chat_pb2.ChatCompletion) -> Expected:
    """An answer's first choice as an `Expected`; `extra["texts"]` has the text of every choice when there are more."""
    choice = completion.choices[0]
    usage = completion.usage if completion.HasField("usage") else None
    texts = [_text(one.message, "text") for one in completion.choices]
    return Expected(
        text=texts[0],
        reasoning=_text(choice.message, "reasoning"),
        refusal=_text(choice.message, "refusal"),
        tool_calls=tuple(
            ToolCallSeen(part.tool_call.name, json.loads(part.tool_call.arguments or b"{}"), part.tool_call.id)
            for part in choice.message.parts
            if part.HasField("tool_call")
        ),
        finish_reason=_FINISH[choice.finish_reason],
        prompt_tokens=usage and _prompt_tokens(usage),
        completion_tokens=usage and usage.output_text + usage.output_reasoning,
        cached_tokens=usage.input_cache_read if usage and usage.HasField("input_cache_read") else None,
        reasoning_tokens=usage.output_reasoning if usage and usage.HasField("output_reasoning") else None,
        model=completion.model,
        extra={"texts": texts} if len(texts) > 1 else {},
    )


def failed(error: GatewayError) -> Expected:
    """A failure as an `Expected`."""
    return Expected(status=error.http_status, error_reason=error.reason.name)


def assembled(events: Iterable[chat_pb2.ChatEvent]) -> chat_pb2.ChatCompletion:
    """A stream's events put together as the whole answer they tell of; the contract's order is asserted on the way."""
    whole = chat_pb2.ChatCompletion()
    parts: dict[tuple[int, int], message_pb2.Part] = {}
    for number, event in enumerate(events):
        kind = event.WhichOneof("event")
        assert (kind == "start") == (number == 0), f"event {number} is {kind}"
        assert not whole.HasField("usage"), f"{kind} after usage"
        if kind == "start":
            whole.id, whole.created, whole.model = event.start.id, event.start.created, event.start.model
            whole.dialect, whole.extra_json = event.start.dialect, event.start.extra_json
            whole.translation.extend(event.start.translation)
        elif kind == "usage":
            whole.usage.CopyFrom(event.usage)
        elif kind != "extra":
            whole.translation.extend(event.finish.translation)
            _add(_choice(whole, event.choice), event, parts)
    assert whole.choices, "a stream without an answer"
    assert all(choice.finish_reason for choice in whole.choices), "a choice without its end"
    return whole


def _choice(whole: chat_pb2.ChatCompletion, index: int) -> chat_pb2.Choice:
    for choice in whole.choices:
        if choice.index == index:
            return choice
    made = whole.choices.add(index=index)
    made.message.role = message_pb2.ROLE_ASSISTANT
    whole.choices.sort(key=lambda choice: choice.index)
    return _choice(whole, index) if made.index != index else made


def _add(choice: chat_pb2.Choice, event: chat_pb2.ChatEvent, parts: dict[tuple[int, int], message_pb2.Part]) -> None:
    kind = event.WhichOneof("event")
    if kind == "finish":
        assert not choice.finish_reason, "a choice finished twice"
        choice.finish_reason = event.finish.reason
        choice.native_finish_reason = event.finish.native_reason
        choice.stop_sequence = event.finish.stop_sequence
        return
    if kind == "native_event":
        return
    key = (event.choice, event.part)
    if key not in parts:
        parts[key] = choice.message.parts.add()
    part = parts[key]
    match kind:
        case "text":
            part.text.text += event.text
        case "reasoning":
            part.reasoning.text += event.reasoning
        case "refusal":
            part.refusal.text += event.refusal
        case "tool_call":
            assert not part.HasField("tool_call"), "a tool call began twice"
            start = event.tool_call
            part.tool_call.MergeFrom(message_pb2.ToolCall(id=start.id, name=start.name, type=start.type))
        case "arguments":
            assert part.HasField("tool_call"), "arguments before their tool call"
            part.tool_call.arguments += event.arguments.encode()
        case "redacted":
            part.reasoning.redacted = True
        case "provider_state":
            part.provider_state.CopyFrom(event.provider_state)
        case "native":
            part.native.CopyFrom(event.native)
        case "audio":
            part.audio.transcript += event.audio.transcript
            part.audio.media.data += event.audio.data
        case other:
            raise AssertionError(other)


def _text(message: message_pb2.Message, kind: str) -> str:
    return "".join(getattr(part, kind).text for part in message.parts if part.WhichOneof("kind") == kind)


def _prompt_tokens(usage: tokens_pb2.TokenUsage) -> int:
    return (
        usage.input_uncached
        + usage.input_cache_read
        + usage.input_cache_write_5m
        + usage.input_cache_write_1h
        + usage.tool_use_prompt
    )
