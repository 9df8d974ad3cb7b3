"""A chat client and a model that OpenAI offers through Responses alone, in each topology."""

from __future__ import annotations

import json
from typing import Any

from support.replay import Answer
from support.whole import Whole

REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"}
CALLED = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"}
SAID = {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}
BODY = {
    "id": "resp_1",
    "object": "response",
    "created_at": 17,
    "model": "o3-pro-2025-06-10",
    "status": "completed",
    "output": [REASONING, SAID, CALLED],
    "usage": {"input_tokens": 3, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 1}},
}
HELLO: Any = {"role": "user", "content": "Hello"}


async def test_a_tool_using_conversation_keeps_the_reasoning(whole: Whole) -> None:
    whole.answer(Answer.of(BODY))
    async with whole.sdk(timeout=30) as sdk:
        first = await sdk.chat.completions.create(model="openai/o3-pro", messages=[HELLO])
        [choice] = first.choices
        assert (choice.message.content, choice.finish_reason, first.model) == ("Hi", "tool_calls", "o3-pro-2025-06-10")
        assert first.usage is not None
        assert (first.usage.prompt_tokens, first.usage.completion_tokens) == (3, 2)
        history: Any = [HELLO, choice.message.model_dump(), {"role": "tool", "tool_call_id": "call_1", "content": "42"}]
        await sdk.chat.completions.create(model="openai/o3-pro", messages=history)
    assert [sent.path for sent in whole.upstream.requests] == ["/v1/responses"] * 2
    body = whole.upstream.requests[1].json()
    assert (body["store"], body["include"]) == (False, ["reasoning.encrypted_content"])
    assert body["input"] == [
        HELLO,
        REASONING,
        {"role": "assistant", "content": "Hi"},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "42"},
    ]


async def test_a_stream_is_one_of_chat_completions(whole: Whole) -> None:
    created = {"type": "response.created", "response": BODY | {"status": "in_progress", "output": [], "usage": None}}
    delta = {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "Hi"}
    whole.answer(Answer.sse(created, delta, {"type": "response.completed", "response": BODY}))
    async with whole.sdk(timeout=30) as sdk:
        stream = await sdk.chat.completions.create(model="openai/o3-pro", messages=[HELLO], stream=True)
        choices = [choice async for chunk in stream for choice in chunk.choices]
    calls = [call for choice in choices for call in choice.delta.tool_calls or ()]
    assert "".join(choice.delta.content or "" for choice in choices) == "Hi"
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["tool_calls"]
    assert "".join(call.function.arguments or "" for call in calls if call.function) == json.dumps({})
