"""The official OpenAI SDK on `/v1/responses` and `/v1/completions`: the sandbox, and every provider's answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter
from support.cases import CASES, Case
from support.gateway import Gateway
from support.replay import Answer
from support.whole import KEY, Whole

EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.provider)
CHAT_CASES = [case for case in CASES if case.provider != "openai"]
"""OpenAI itself is asked through its own Responses API, and answers in this dialect."""
OTHERS = pytest.mark.parametrize("case", CHAT_CASES, ids=lambda case: case.provider)
EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
HI: Any = [{"role": "user", "content": "Hello you"}]
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}


class Event(BaseModel):
    name: str
    guests: int


@pytest.fixture
async def sdk(sandbox: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{sandbox.http}/v1", api_key="unused", max_retries=0) as client:
        yield client


async def streamed(sdk: openai.AsyncOpenAI, **request: Any) -> list[ResponseStreamEvent]:
    """A whole stream, each event held against the SDK's own type, and numbered without a gap."""
    stream = await sdk.responses.create(stream=True, **request)
    events = [event async for event in stream]
    for event in events:
        EVENT.validate_python(event.model_dump(exclude_unset=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    return events


async def test_a_whole_answer_is_the_sdks_response(sdk: openai.AsyncOpenAI) -> None:
    raw = await sdk.responses.with_raw_response.create(
        model="sandbox/echo", input="Hello you", metadata={"team": "a"}, max_output_tokens=50, store=False
    )
    answer = Response.model_validate_json(raw.text)
    assert answer.output_text == "Hello you"
    assert (answer.status, answer.metadata, answer.max_output_tokens) == ("completed", {"team": "a"}, 50)
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert "x-gateway-translation" not in raw.headers


async def test_an_answer_cut_off_is_incomplete(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.responses.create(model="sandbox/echo", input="one two three", max_output_tokens=1)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    events = await streamed(sdk, model="sandbox/echo", input="one two three", max_output_tokens=1)
    assert events[-1].type == "response.incomplete"


async def test_a_stream_tells_every_event_in_order(sdk: openai.AsyncOpenAI) -> None:
    events = await streamed(sdk, model="sandbox/echo", input=HI)
    kinds = [event.type for event in events]
    deltas = kinds.count("response.output_text.delta")
    assert deltas
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * deltas,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == "Hello you"
    assert last.response.usage is not None


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_both_ways(sdk: openai.AsyncOpenAI, stream: bool) -> None:
    request: Any = {"model": "sandbox/tools", "tools": [WEATHER]}
    answer: Any
    if stream:
        async with sdk.responses.stream(input=HI, **request) as events:
            answer = await events.get_final_response()
    else:
        answer = await sdk.responses.create(input=HI, **request)
    calls = [item for item in answer.output if item.type == "function_call"]
    assert [call.name for call in calls] == ["get_weather"]
    assert set(json.loads(calls[0].arguments)) == {"city", "days"}
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."} for call in calls]
    history = [*HI, *(item.model_dump(exclude_none=True) for item in answer.output), *results]
    raw = await sdk.responses.with_raw_response.create(
        input=history, extra_headers={"X-Gateway-Translation-Policy": "strict"}, **request
    )
    assert "Sunny." in raw.parse().output_text


async def test_parse_gives_the_callers_own_type(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.responses.parse(model="sandbox/json", input=HI, text_format=Event)
    assert isinstance(answer.output_parsed, Event)
    async with sdk.responses.stream(model="sandbox/json", input=HI, text_format=Event) as events:
        final = await events.get_final_response()
    assert isinstance(final.output_parsed, Event)


async def test_reasoning_is_an_item_before_the_answer(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.responses.create(model="sandbox/reason", input=HI, reasoning={"effort": "low"})
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    events = await streamed(sdk, model="sandbox/reason", input=HI)
    last = events[-1]
    assert last.type == "response.completed"
    assert [item.type for item in last.response.output] == ["reasoning", "message"]


@pytest.mark.parametrize(
    ("request_fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
    ],
)
async def test_what_needs_a_memory_is_refused_by_name(
    sdk: openai.AsyncOpenAI, request_fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.responses.create(**({"model": "sandbox/echo", "input": "x"} | request_fields))
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", param)


@pytest.mark.parametrize("stream", [False, True])
async def test_errors_come_in_the_sdks_classes(sdk: openai.AsyncOpenAI, stream: bool) -> None:
    with pytest.raises(openai.RateLimitError):
        await sdk.responses.create(model="sandbox/fail-429", input="x", stream=stream)
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.create(model="sandbox/nothing", input="x", stream=stream)


@EACH
async def test_each_providers_answer_is_a_legacy_completion(whole: Whole, case: Case) -> None:
    async with whole.sdk() as sdk:
        whole.answer(case.whole)
        answer = await sdk.completions.create(model=case.name, prompt="Hi", max_tokens=20)
        whole.answer(case.stream)
        stream = await sdk.completions.create(
            model=case.name, prompt=["Hi"], stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert (answer.object, answer.choices[0].text, answer.choices[0].finish_reason) == (
        "text_completion",
        "Hello there",
        "stop",
    )
    assert answer.usage is not None
    assert answer.usage.total_tokens == 12
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "Hello there"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 12


@OTHERS
async def test_each_providers_answer_is_a_response(whole: Whole, case: Case) -> None:
    whole.answer(case.whole)
    async with whole.sdk() as sdk:
        answer = await sdk.responses.create(model=case.name, input="Hi", instructions="Be kind.")
    assert answer.output_text == "Hello there"
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (9, 3)
    assert [sent.path for sent in whole.upstream.requests] == [case.path]
    assert "Be kind." in whole.upstream.requests[0].body.decode()


@OTHERS
async def test_each_providers_stream_is_told_in_events(whole: Whole, case: Case) -> None:
    whole.answer(case.stream)
    async with whole.sdk() as sdk:
        events = await streamed(sdk, model=case.name, input="Hi")
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == "Hello there"
    assert last.response.usage is not None
    assert (last.response.usage.input_tokens, last.response.usage.output_tokens) == (9, 3)


@OTHERS
async def test_a_stream_cut_short_fails_and_the_sdk_raises(whole: Whole, case: Case) -> None:
    pieces = list(case.stream.pieces)[: 1 if case.provider in {"gemini", "ollama"} else 3]
    whole.answer(Answer(200, case.stream.headers, pieces))
    async with whole.sdk() as sdk:
        stream = await sdk.responses.create(model=case.name, input="Hi", stream=True)
        with pytest.raises(openai.APIError, match="ended"):
            _ = [event async for event in stream]


RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1700000000,
    "status": "completed",
    "model": "gpt-4o-mini",
    "instructions": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "a_new_field": {"kept": 12345678901234567890},
    "output": [
        {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAA"},
        {"id": "ws_1", "type": "a_new_item", "status": "completed"},
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": "Hello", "annotations": [{"type": "url_citation", "url": "u"}]},
                {"type": "output_text", "text": " there", "annotations": [], "logprobs": []},
            ],
        },
    ],
    "usage": {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 12,
    },
}


async def test_openais_own_answer_comes_back_field_by_field(whole: Whole) -> None:
    whole.answer(Answer.of(RESPONSE))
    async with whole.sdk() as sdk:
        raw = await sdk.responses.with_raw_response.create(model="openai/gpt-4o-mini", input="Hi")
    assert json.loads(raw.text) == RESPONSE
    assert [sent.path for sent in whole.upstream.requests] == ["/v1/responses"]


async def test_openais_own_history_goes_back_as_it_came(whole: Whole) -> None:
    whole.answer(Answer.of(RESPONSE))
    history: Any = [{"role": "user", "content": "Hi"}, *RESPONSE["output"], {"role": "user", "content": "And?"}]
    async with whole.sdk() as sdk:
        await sdk.responses.create(model="openai/gpt-4o-mini", input=history)
    sent = whole.upstream.requests[0].json()["input"]
    assert sent[1:4] == RESPONSE["output"]


async def test_openais_own_events_come_back_field_by_field(whole: Whole) -> None:
    message = RESPONSE["output"][2] | {"content": [{"type": "output_text", "text": "Hey", "annotations": []}]}
    begun = RESPONSE | {"status": "in_progress", "output": [], "usage": None}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": message | {"content": []}},
        {"type": "response.content_part.added", "part": {"type": "output_text", "text": ""}} | place,
        {"type": "response.output_text.delta", "delta": "Hey", "logprobs": [], "obfuscation": "x9"} | place,
        {"type": "response.output_text.done", "text": "Hey"} | place,
        {"type": "response.content_part.done", "part": message["content"][0]} | place,
        {"type": "response.output_item.done", "output_index": 0, "item": message},
        {"type": "response.completed", "response": RESPONSE | {"output": [message]}},
    ]
    events = [event | {"sequence_number": number} for number, event in enumerate(events)]
    records = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
    whole.answer(Answer.sse(*records))
    async with httpx.AsyncClient(base_url=whole.gateway.http, headers={"x-api-key": KEY}) as client:
        body = {"model": "openai/gpt-4o-mini", "input": "Hi", "stream": True}
        answer = await client.post("/v1/responses", json=body)
    told = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert told == events


GEMINI_CALL = {
    "candidates": [
        {
            "content": {
                "role": "model",
                "parts": [
                    {
                        "functionCall": {"name": "get_weather", "args": {"city": "Oslo", "days": 1}},
                        "thoughtSignature": "c2lnbmF0dXJl",
                    }
                ],
            },
            "finishReason": "STOP",
            "index": 0,
        }
    ],
    "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3, "totalTokenCount": 12},
    "modelVersion": "gemini-2.5-flash",
    "responseId": "r1",
}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_thought_signature_survives_a_client_that_echoes_items(whole: Whole, stream: bool) -> None:
    request: Any = {"model": "gemini/gemini-2.5-flash", "tools": [WEATHER]}
    answer: Any
    async with whole.sdk() as sdk:
        if stream:
            whole.answer(Answer.sse(GEMINI_CALL))
            async with sdk.responses.stream(input=HI, **request) as events:
                answer = await events.get_final_response()
        else:
            whole.answer(Answer.of(GEMINI_CALL))
            answer = await sdk.responses.create(input=HI, **request)
        (call,) = [item for item in answer.output if item.type == "function_call"]
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}
        known = {"type", "id", "call_id", "name", "arguments", "summary", "encrypted_content"}
        echoed = [{k: v for k, v in item.model_dump(exclude_none=True).items() if k in known} for item in answer.output]
        whole.answer(CASES[3].whole)
        history: Any = [*HI, *echoed, result]
        await sdk.responses.create(input=history, **request)
    (sent,) = whole.upstream.requests
    model_turn = sent.json()["contents"][1]
    assert model_turn["parts"][0]["thoughtSignature"] == "c2lnbmF0dXJl"
