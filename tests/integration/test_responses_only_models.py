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


TOKEN = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}
FLAT = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0, "end_index": 2}
NESTED = {"type": "url_citation", "url_citation": {key: FLAT[key] for key in FLAT if key != "type"}}
PIECE = {"type": "output_text", "text": "Hi", "annotations": [FLAT], "logprobs": [TOKEN]}
CITING = BODY | {"output": [SAID | {"content": [PIECE]}]}


async def test_citations_and_log_probabilities_reach_a_chat_client_and_go_back(whole: Whole) -> None:
    whole.answer(Answer.of(CITING))
    async with whole.sdk(timeout=30) as sdk:
        first = await sdk.chat.completions.create(model="openai/o3-pro", messages=[HELLO], logprobs=True)
        [choice] = first.choices
        assert [one.to_dict() for one in choice.message.annotations or ()] == [NESTED]
        assert choice.logprobs is not None
        assert choice.logprobs.to_dict() == {"content": [TOKEN], "refusal": None}
        history: Any = [HELLO, choice.message.model_dump(exclude_none=True), HELLO]
        again = await sdk.chat.completions.with_raw_response.create(model="openai/o3-pro", messages=history)
    assert "x-gateway-translation" not in again.headers
    first_sent, second_sent = (sent.json() for sent in whole.upstream.requests)
    assert "message.output_text.logprobs" in first_sent["include"]
    assert second_sent["input"][1]["content"] == [{"type": "output_text", "text": "Hi", "annotations": [FLAT]}]


async def test_citations_and_log_probabilities_reach_a_chat_client_in_a_stream(whole: Whole) -> None:
    place = {"item_id": "m", "output_index": 0, "content_index": 0}
    whole.answer(
        Answer.sse(
            {"type": "response.created", "response": CITING | {"status": "in_progress", "output": [], "usage": None}},
            {"type": "response.output_text.delta", "delta": "Hi", "logprobs": [TOKEN], **place},
            {"type": "response.output_text.annotation.added", "annotation": FLAT, "annotation_index": 0, **place},
            {"type": "response.completed", "response": CITING},
        )
    )
    async with whole.sdk(timeout=30) as sdk:
        stream = await sdk.chat.completions.create(model="openai/o3-pro", messages=[HELLO], stream=True, logprobs=True)
        choices = [choice async for chunk in stream for choice in chunk.choices]
    told = [choice.delta.to_dict().get("annotations") for choice in choices]
    assert [annotations for annotations in told if annotations] == [[NESTED]]
    assert [choice.logprobs.to_dict() for choice in choices if choice.logprobs] == [
        {"content": [TOKEN], "refusal": None}
    ]


async def test_citations_of_a_chat_host_reach_a_client_of_responses(whole: Whole) -> None:
    head = {"id": "c", "created": 1, "model": "llama-3.1-8b-instant"}
    message = {"role": "assistant", "content": "Hi", "annotations": [NESTED]}
    ended = {"index": 0, "finish_reason": "stop"}
    answers = (
        Answer.of(head | {"object": "chat.completion", "choices": [ended | {"message": message}]}),
        Answer.sse(
            head | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hi"}}]},
            head | {"choices": [{"index": 0, "delta": {"annotations": [NESTED]}}]},
            head | {"choices": [ended | {"delta": {}}]},
            done=True,
        ),
    )
    for answer in answers:
        whole.answer(answer)
        async with whole.sdk(timeout=30) as sdk:
            if answer is answers[0]:
                told = await sdk.responses.create(model="groq/llama-3.1-8b-instant", input="Hello")
            else:
                async with sdk.responses.stream(model="groq/llama-3.1-8b-instant", input="Hello") as stream:
                    told = await stream.get_final_response()
        (content,) = told.to_dict()["output"][0]["content"]  # type: ignore[index] # JSON
        assert content["annotations"] == [FLAT]
