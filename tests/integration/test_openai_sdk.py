"""The official OpenAI SDK on a gateway as `make run` starts it: everything an application uses."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel
from support.gateway import Gateway

HI: Any = [{"role": "user", "content": "Hello you"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


class Event(BaseModel):
    name: str
    guests: int


@pytest.fixture
async def sdk(sandbox: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{sandbox.http}/v1", api_key="unused", max_retries=0) as client:
        yield client


async def test_a_whole_answer(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(model="sandbox/echo", messages=HI)
    assert answer.object == "chat.completion"
    assert "Hello you" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_raw_headers(sdk: openai.AsyncOpenAI) -> None:
    raw = await sdk.chat.completions.with_raw_response.create(
        model="sandbox/echo", messages=HI, extra_headers={"X-Request-ID": "mine-1"}
    )
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.headers["x-provider"] == "sandbox"
    assert raw.headers["content-type"].startswith("application/json")


async def test_a_stream(sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(
        model="sandbox/echo", messages=HI, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "Hello you" in "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage is not None


async def test_the_stream_helper_gathers_the_answer(sdk: openai.AsyncOpenAI) -> None:
    async with sdk.chat.completions.stream(model="sandbox/tools", messages=HI, tools=[WEATHER]) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert calls
    assert calls[0].function.name == "get_weather"
    assert set(json.loads(calls[0].function.arguments)) == {"city", "days"}


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_both_ways(sdk: openai.AsyncOpenAI, stream: bool) -> None:
    history = list(HI)
    if stream:
        async with sdk.chat.completions.stream(model="sandbox/tools", messages=history, tools=[WEATHER]) as events:
            first = await events.get_final_completion()
        message = first.choices[0].message
    else:
        answer = await sdk.chat.completions.create(model="sandbox/tools", messages=history, tools=[WEATHER])
        assert answer.choices[0].finish_reason == "tool_calls"
        message = answer.choices[0].message  # type: ignore[assignment] # the parsed message is a kind of message
    assert message.tool_calls
    history.append(message.model_dump(exclude_none=True))
    history += [{"role": "tool", "tool_call_id": call.id, "content": "It is sunny."} for call in message.tool_calls]
    answer = await sdk.chat.completions.create(model="sandbox/tools", messages=history, tools=[WEATHER])
    assert "It is sunny." in (answer.choices[0].message.content or "")


@pytest.mark.parametrize("stream", [False, True])
async def test_legacy_functions_both_ways(sdk: openai.AsyncOpenAI, stream: bool) -> None:
    request: Any = {"model": "sandbox/tools", "functions": [WEATHER["function"]], "function_call": "auto"}
    if stream:
        chunks = [chunk async for chunk in await sdk.chat.completions.create(messages=HI, stream=True, **request)]
        pieces = [chunk.choices[0].delta.function_call for chunk in chunks]
        told = [piece for piece in pieces if piece is not None]
        name, arguments = told[0].name, "".join(piece.arguments or "" for piece in told)
        finish = chunks[-1].choices[0].finish_reason
    else:
        (choice,) = (await sdk.chat.completions.create(messages=HI, **request)).choices
        assert choice.message.function_call is not None
        assert choice.message.tool_calls is None
        name, arguments = choice.message.function_call.name, choice.message.function_call.arguments
        finish = choice.finish_reason
    assert (name, set(json.loads(arguments)), finish) == ("get_weather", {"city", "days"}, "function_call")
    called = {"role": "assistant", "content": None, "function_call": {"name": name, "arguments": arguments}}
    history: Any = [*HI, called, {"role": "function", "name": name, "content": "Sunny."}]
    last = await sdk.chat.completions.create(messages=history, **request)
    assert last.choices[0].message.content == "get_weather answered: Sunny."


async def test_parse_gives_the_callers_own_type(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.parse(model="sandbox/json", messages=HI, response_format=Event)
    assert isinstance(answer.choices[0].message.parsed, Event)


async def test_reasoning_is_beside_the_answer(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(model="sandbox/reason", messages=HI)
    message = answer.choices[0].message
    assert message.content
    assert message.model_dump()["reasoning_content"]


async def test_embeddings_are_the_same_as_floats_and_as_base64(sdk: openai.AsyncOpenAI) -> None:
    texts = ["one", "two"]
    floats = await sdk.embeddings.create(model="sandbox/embed", input=texts, encoding_format="float", dimensions=8)
    packed = await sdk.embeddings.with_raw_response.create(
        model="sandbox/embed", input=texts, encoding_format="base64", dimensions=8
    )
    assert [item.index for item in floats.data] == [0, 1]
    for item, raw in zip(floats.data, json.loads(packed.text)["data"], strict=True):
        assert struct.unpack("<8f", base64.b64decode(raw["embedding"])) == pytest.approx(item.embedding)


async def test_models(sdk: openai.AsyncOpenAI) -> None:
    names = [model.id async for model in sdk.models.list()]
    assert "sandbox/echo" in names
    assert (await sdk.models.retrieve("sandbox/echo")).id == "sandbox/echo"
    with pytest.raises(openai.NotFoundError):
        await sdk.models.retrieve("sandbox/nothing")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "error", "status"),
    [
        ("fail-400", openai.BadRequestError, 400),
        ("fail-401", openai.InternalServerError, 502),
        ("fail-404", openai.NotFoundError, 404),
        ("fail-429", openai.RateLimitError, 429),
        ("fail-500", openai.InternalServerError, 502),
        ("fail-503", openai.InternalServerError, 503),
    ],
)
async def test_each_failure_is_the_sdks_own_error(
    sdk: openai.AsyncOpenAI, model: str, error: type[openai.APIStatusError], status: int, stream: bool
) -> None:
    with pytest.raises(error) as caught:
        await sdk.chat.completions.create(model=f"sandbox/{model}", messages=HI, stream=stream)
    assert caught.value.status_code == status
    assert caught.value.response.headers["x-request-id"]
    if status == 429:
        assert float(caught.value.response.headers["retry-after"]) > 0


async def test_a_failure_in_mid_stream_is_an_error_of_the_stream(sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(model="sandbox/fail-midstream", messages=HI, stream=True)
    first = await anext(stream)
    assert first.choices
    with pytest.raises(openai.APIError):
        [chunk async for chunk in stream]


async def test_an_unknown_model_names_what_there_is(sdk: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk.chat.completions.create(model="sandbox/ecko", messages=HI)
    assert caught.value.code == "model_not_found"
    assert "echo" in caught.value.message
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk.chat.completions.create(model="gpt-4o-mini", messages=HI)
    assert "OPENAI_API_KEY" in caught.value.message
