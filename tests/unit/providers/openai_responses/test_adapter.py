"""The openai adapter's way to the Responses API: who goes there, failures, and streams that end too early."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.adapter import CallContext
from aigateway_providers.openai_compat.adapter import create
from aigateway_providers.settings import ProviderSettings
from support.recorded import assembled, seen
from support.replay import Answer, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aigateway_providers.adapter import Adapter

RESPONSES = message_pb2.DIALECT_OPENAI_RESPONSES
CHAT = message_pb2.DIALECT_OPENAI_CHAT
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"}
CALLED = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"}
SAID = {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}
WHOLE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 17,
    "model": "o3-pro",
    "status": "completed",
    "error": None,
    "output": [REASONING, SAID, CALLED],
    "usage": {"input_tokens": 3, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 1}},
}
STREAM = (
    {"type": "response.created", "response": WHOLE | {"status": "in_progress", "output": [], "usage": None}},
    {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "Hi"},
    {"type": "response.completed", "response": WHOLE},
)


def call(model: str = "o3-pro", dialect: message_pb2.Dialect.ValueType = CHAT) -> chat_pb2.ChatCall:
    hello = message_pb2.Part(text=message_pb2.TextPart(text="Hello"))
    return chat_pb2.ChatCall(
        model=model, dialect=dialect, messages=[message_pb2.Message(role=message_pb2.ROLE_USER, parts=[hello])]
    )


@asynccontextmanager
async def adapter(stand_in: Upstream, host: str = "openai") -> AsyncIterator[Adapter]:
    made = create(ProviderSettings(host, host, stand_in.url + ("/v1" if host == "openai" else ""), "secret"))
    try:
        yield made
    finally:
        await made.aclose()


async def stream(provider: Adapter) -> list[chat_pb2.ChatEvent]:
    return [event async for batch in provider.stream_chat(call(), CallContext()) for event in batch]


async def failure(answer: Answer, *, streamed: bool = False) -> GatewayError:
    with Upstream(answer) as stand_in:
        async with adapter(stand_in) as provider:
            with pytest.raises(GatewayError) as caught:
                await (stream(provider) if streamed else provider.chat(call(), CallContext()))
    return caught.value


@pytest.mark.parametrize(
    ("host", "model", "dialect", "path"),
    [
        ("openai", "gpt-4o", RESPONSES, "/v1/responses"),
        ("openai", "o3-pro", CHAT, "/v1/responses"),
        ("openai", "gpt-5-codex", message_pb2.DIALECT_ANTHROPIC_MESSAGES, "/v1/responses"),
        ("openai", "gpt-4o", CHAT, "/v1/chat/completions"),
        ("groq", "o3-pro", RESPONSES, "/openai/v1/chat/completions"),
    ],
)
async def test_a_call_goes_to_the_api_that_can_answer_it(host: str, model: str, dialect: Any, path: str) -> None:
    with Upstream(Answer.of({}, 404)) as stand_in:
        async with adapter(stand_in, host) as provider:
            with pytest.raises(GatewayError):
                await provider.chat(call(model, dialect), CallContext())
    assert [sent.path for sent in stand_in.requests] == [path]


async def test_a_chat_caller_gets_the_answer_and_sends_its_reasoning_back() -> None:
    with Upstream(Answer.of(WHOLE), Answer.of(WHOLE)) as stand_in:
        async with adapter(stand_in) as provider:
            completion = await provider.chat(call(), CallContext())
            again = call()
            again.messages.append(completion.choices[0].message)
            await provider.chat(again, CallContext())
    got = seen(completion)
    assert (got.text, got.finish_reason, got.completion_tokens, got.reasoning_tokens) == ("Hi", "tool_calls", 2, 1)
    assert [(one.name, one.arguments, one.id) for one in got.tool_calls] == [("f", {}, "call_1")]
    _, reasoning, said, called = stand_in.requests[1].json()["input"]
    assert (reasoning, said["content"], called["call_id"]) == (REASONING, SAID["content"], "call_1")


async def test_a_chat_caller_gets_the_stream_too() -> None:
    with Upstream(Answer.sse(*STREAM)) as stand_in:
        async with adapter(stand_in) as provider:
            events = await stream(provider)
    assert stand_in.requests[0].json()["stream"] is True
    got = seen(assembled(events))
    assert (got.text, got.finish_reason, got.prompt_tokens, got.model) == ("Hi", "tool_calls", 3, "o3-pro")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer.of({"error": {"message": "bad", "type": "invalid_request_error"}}, 400), "INVALID_REQUEST"),
        (Answer.of({"error": {"message": "no", "code": "model_not_found"}}, 404), "MODEL_NOT_FOUND"),
        (Answer.of({"error": {"message": "slow", "code": "rate_limit_exceeded"}}, 429), "UPSTREAM_RATE_LIMITED"),
        (Answer(500, {"content-type": "text/html"}, (b"<html>",)), "UPSTREAM_ERROR"),
    ],
)
async def test_a_failing_status_is_mapped(answer: Answer, reason: str, streamed: bool) -> None:  # a parameter
    assert (await failure(answer, streamed=streamed)).reason.name == reason


@pytest.mark.parametrize("body", [b"[1]", b"nonsense", b'{"object":"list"}', b'{"id":1}', b'{"id":"a","output":[1]}'])
async def test_an_answer_that_is_no_response_is_the_providers_fault(body: bytes) -> None:
    error = await failure(Answer(pieces=(body,)))
    assert error.reason.name == "UPSTREAM_INVALID"


async def test_a_failure_inside_a_good_status_is_a_failure() -> None:
    failed = WHOLE | {"status": "failed", "error": {"code": "server_error", "message": "oops"}}
    assert (await failure(Answer.of(failed))).reason.name == "UPSTREAM_ERROR"


@pytest.mark.parametrize("count", [0, 1, 2])
async def test_a_stream_that_ends_before_its_last_event_was_cut_short(count: int) -> None:
    error = await failure(Answer.sse(*STREAM[:count]), streamed=True)
    assert (error.reason.name, "before the answer was complete" in error.message) == ("UPSTREAM_INVALID", True)


async def test_a_failure_as_the_first_event_comes_before_anything_else() -> None:
    refused = {"type": "error", "code": "context_length_exceeded", "message": "too long"}
    with Upstream(Answer.sse(STREAM[0], refused)) as stand_in:
        async with adapter(stand_in) as provider:
            batches = provider.stream_chat(call(), CallContext())
            with pytest.raises(GatewayError) as caught:
                await anext(batches)
    assert caught.value.reason.name == "CONTEXT_TOO_LONG"


async def test_a_record_that_is_no_event_is_the_providers_fault() -> None:
    error = await failure(Answer.sse(STREAM[0], "data: nonsense\n\n"), streamed=True)
    assert error.reason.name == "UPSTREAM_INVALID"


async def test_a_closed_stream_closes_the_upstream() -> None:
    with Upstream(Answer.sse(*STREAM[:2], hold=True)) as stand_in:
        async with adapter(stand_in) as provider:
            batches = provider.stream_chat(call(), CallContext())
            await anext(batches)
            await batches.aclose()
            await stand_in.wait_hung_up()
    assert json.loads(stand_in.requests[0].body)["model"] == "o3-pro"
