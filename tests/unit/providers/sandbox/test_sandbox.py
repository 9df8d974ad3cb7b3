"""The sandbox through its adapter: what each model says, whole and streamed, and how each failing one fails."""

from __future__ import annotations

import asyncio
import json
import math
import time
from contextlib import aclosing
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, embedding_pb2, message_pb2, tokens_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.adapter import CallContext, TokenCounter
from aigateway_providers.registry import create_adapter
from aigateway_providers.sandbox.models import MODELS
from aigateway_providers.settings import ProviderSettings
from support.recorded import assembled

SANDBOX = create_adapter(ProviderSettings("sandbox", "sandbox", ""))
WEATHER = json.dumps(
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
        "required": ["city", "days"],
    }
).encode()
Event = chat_pb2.ChatEvent


def text(words: str) -> message_pb2.Part:
    return message_pb2.Part(text=message_pb2.TextPart(text=words))


def said(role: message_pb2.Role.ValueType, *parts: message_pb2.Part) -> message_pb2.Message:
    return message_pb2.Message(role=role, parts=parts)


USER = said(message_pb2.ROLE_USER, text("Hello there, sandbox!"))


def call(model: str, *messages: message_pb2.Message, **more: Any) -> chat_pb2.ChatCall:
    dialect = message_pb2.DIALECT_OPENAI_CHAT
    return chat_pb2.ChatCall(model=model, messages=messages or [USER], dialect=dialect, **more)


def function(name: str, schema: bytes = b"") -> message_pb2.Tool:
    return message_pb2.Tool(function=message_pb2.FunctionTool(name=name, parameters_json=schema))


async def whole(asked: chat_pb2.ChatCall) -> chat_pb2.ChatCompletion:
    return await SANDBOX.chat(asked, CallContext())


async def events(asked: chat_pb2.ChatCall) -> list[Event]:
    async with aclosing(SANDBOX.stream_chat(asked, CallContext())) as stream:
        return [event async for some in stream for event in some]


async def refused(asked: chat_pb2.ChatCall) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await whole(asked)
    return caught.value


async def test_echo_repeats_the_last_user_message_and_is_labelled() -> None:
    history = [
        said(message_pb2.ROLE_SYSTEM, text("Be brief.")),
        said(message_pb2.ROLE_USER, text("First")),
        said(message_pb2.ROLE_ASSISTANT, text("First")),
        USER,
    ]
    completion = await whole(call("echo", *history))
    assert completion.id.startswith("sandbox-")
    assert abs(completion.created - time.time()) < 60
    completion.id, completion.created = "", 0
    assert json.loads(completion.extra_json) == {"system_fingerprint": "sandbox", "sandbox": {"usage_unit": "words"}}
    completion.extra_json = b""
    assert completion == chat_pb2.ChatCompletion(
        model="echo",
        choices=[
            chat_pb2.Choice(
                message=said(message_pb2.ROLE_ASSISTANT, text("Hello there, sandbox!")),
                finish_reason=chat_pb2.FINISH_REASON_STOP,
                native_finish_reason="stop",
            )
        ],
        usage=tokens_pb2.TokenUsage(input_uncached=7, output_text=3, output_reasoning=0),
        dialect=message_pb2.DIALECT_OPENAI_CHAT,
    )


async def test_the_same_call_has_the_same_answer() -> None:
    first, second = await whole(call("echo")), await whole(call("echo"))
    first.created = second.created = 0
    assert first == second
    assert first.id != (await whole(call("reason"))).id


async def test_echo_streams_word_by_word() -> None:
    seen = await events(call("echo"))
    assert json.loads(seen[0].start.extra_json)["system_fingerprint"] == "sandbox"
    finish = chat_pb2.StreamFinish(reason=chat_pb2.FINISH_REASON_STOP, native_reason="stop")
    assert seen[1:] == [
        Event(text="Hello "),
        Event(text="there, "),
        Event(text="sandbox!"),
        Event(finish=finish),
        Event(usage=tokens_pb2.TokenUsage(input_uncached=3, output_text=3, output_reasoning=0)),
    ]


@pytest.mark.parametrize("model", ["echo", "tools", "reason", "json"])
async def test_a_stream_tells_the_same_as_the_whole_answer(model: str) -> None:
    tools = [function("weather", WEATHER), function("now")]
    asked = call(model, tools=tools)
    streamed, at_once = assembled(await events(asked)), await whole(asked)
    streamed.created = at_once.created = 0
    assert streamed == at_once


async def test_a_pace_and_a_delay_are_kept() -> None:
    options = {"sandbox": b'{"delay": 0.1, "pace": 0.02}'}
    started = time.perf_counter()
    await events(call("echo", provider_options=options))
    assert 0.15 <= time.perf_counter() - started < 5
    started = time.perf_counter()
    await whole(call("slow", provider_options=options))
    assert 0.15 <= time.perf_counter() - started < 5


async def test_slow_takes_its_delay_from_the_configuration() -> None:
    adapter = create_adapter(ProviderSettings("sandbox", "sandbox", "", model_options={"slow": {"delay": 0.05}}))
    started = time.perf_counter()
    assert (await adapter.chat(call("slow"), CallContext())).choices[0].message.parts[0].text.text
    assert 0.04 <= time.perf_counter() - started < 5


async def test_options_that_the_sandbox_does_not_have_are_refused() -> None:
    error = await refused(call("echo", provider_options={"sandbox": b'{"speed": 1}'}))
    assert (error.reason.name, error.details["param"]) == ("INVALID_REQUEST", "provider_options.sandbox")


async def test_limits_are_obeyed() -> None:
    choice = (await whole(call("echo", options=chat_pb2.GenerationOptions(max_output_tokens=2)))).choices[0]
    assert choice.message.parts[0].text.text == "Hello there, "
    assert choice.finish_reason == chat_pb2.FINISH_REASON_LENGTH
    choice = (await whole(call("echo", options=chat_pb2.GenerationOptions(stop=[",", "there"])))).choices[0]
    assert choice.message.parts[0].text.text == "Hello "
    assert choice.finish_reason == chat_pb2.FINISH_REASON_STOP
    error = await refused(call("echo", options=chat_pb2.GenerationOptions(n=2)))
    assert (error.reason.name, error.details["param"]) == ("UNSUPPORTED", "n")


async def test_reason_reasons_before_it_speaks() -> None:
    completion = await whole(call("reason"))
    kinds = [part.WhichOneof("kind") for part in completion.choices[0].message.parts]
    assert kinds == ["reasoning", "text"]
    assert completion.usage.output_reasoning == len(completion.choices[0].message.parts[0].reasoning.text.split())


def calls_of(completion: chat_pb2.ChatCompletion) -> list[tuple[str, Any]]:
    parts = completion.choices[0].message.parts
    return [(part.tool_call.name, json.loads(part.tool_call.arguments)) for part in parts if part.HasField("tool_call")]


async def test_tools_calls_the_first_two_at_once() -> None:
    completion = await whole(call("tools", tools=[function("weather", WEATHER), function("now"), function("third")]))
    assert calls_of(completion) == [("weather", {"city": "sandbox", "days": 1}), ("now", {})]
    assert completion.choices[0].finish_reason == chat_pb2.FINISH_REASON_TOOL_CALLS
    ids = [part.tool_call.id for part in completion.choices[0].message.parts]
    assert len(set(ids)) == 2


async def test_tools_calls_one_when_told_so() -> None:
    tools = [function("weather", WEATHER), function("now")]
    assert [name for name, _ in calls_of(await whole(call("tools", tools=tools, parallel_tool_calls=False)))] == [
        "weather"
    ]
    named = message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED, allowed_tools=["now"], named=True)
    assert [name for name, _ in calls_of(await whole(call("tools", tools=tools, tool_choice=named)))] == ["now"]
    none = message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_NONE)
    assert calls_of(await whole(call("tools", tools=tools, tool_choice=none))) == []
    missing = message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED, allowed_tools=["x"], named=True)
    assert (await refused(call("tools", tools=tools, tool_choice=missing))).details["param"] == "tool_choice"


async def test_tools_tells_what_the_tools_answered() -> None:
    asked = call("tools", tools=[function("weather", WEATHER), function("now")])
    turn = (await whole(asked)).choices[0].message
    results = [
        said(
            message_pb2.ROLE_TOOL,
            message_pb2.Part(
                tool_result=message_pb2.ToolResult(call_id=part.tool_call.id, content=[text(f"{number} o'clock")])
            ),
        )
        for number, part in enumerate(turn.parts)
    ]
    again = call("tools", USER, turn, *results, tools=asked.tools)
    choice = (await whole(again)).choices[0]
    assert choice.message.parts[0].text.text == "weather answered: 0 o'clock\nnow answered: 1 o'clock"
    assert choice.finish_reason == chat_pb2.FINISH_REASON_STOP


async def test_json_fits_the_schema_it_is_given() -> None:
    schema = chat_pb2.ResponseFormat(
        type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA, name="weather", schema_json=WEATHER
    )
    completion = await whole(call("json", response_format=schema))
    assert json.loads(completion.choices[0].message.parts[0].text.text) == {"city": "sandbox", "days": 1}
    free = chat_pb2.ResponseFormat(type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT)
    completion = await whole(call("json", response_format=free))
    assert json.loads(completion.choices[0].message.parts[0].text.text) == {"echo": "Hello there, sandbox!"}


async def test_what_a_model_leaves_out_is_reported() -> None:
    free = chat_pb2.ResponseFormat(type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT)
    must = message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED)
    asked = call("echo", response_format=free, tools=[function("now")], tool_choice=must)
    assert [note.field for note in (await whole(asked)).translation] == ["response_format", "tool_choice"]
    asked.translation_policy = chat_pb2.TRANSLATION_POLICY_STRICT
    assert (await refused(asked)).reason.name == "TRANSLATION_REFUSED"


@pytest.mark.parametrize(
    ("model", "reason", "status", "retry_after"),
    [
        ("fail-400", "INVALID_REQUEST", 400, None),
        ("fail-401", "UPSTREAM_AUTH", 502, None),
        ("fail-404", "MODEL_NOT_FOUND", 404, None),
        ("fail-429", "UPSTREAM_RATE_LIMITED", 429, 2.0),
        ("fail-500", "UPSTREAM_ERROR", 502, None),
        ("fail-503", "UPSTREAM_OVERLOADED", 503, 2.0),
        ("fail-midstream", "UPSTREAM_ERROR", 502, None),
        ("fail-cut", "UPSTREAM_INVALID", 502, None),
    ],
)
async def test_a_failing_model_fails_as_a_provider_would(
    model: str, reason: str, status: int, retry_after: float | None
) -> None:
    error = await refused(call(model))
    assert (error.reason.name, error.http_status, error.retry_after) == (reason, status, retry_after)
    with pytest.raises(GatewayError) as caught:
        await events(call(model))
    assert caught.value.reason.name == reason
    with pytest.raises(GatewayError):
        await SANDBOX.embed(embed_call("a", model=model), CallContext())


@pytest.mark.parametrize(("model", "reason"), [("fail-midstream", "UPSTREAM_ERROR"), ("fail-cut", "UPSTREAM_INVALID")])
async def test_a_stream_that_breaks_has_said_something_and_not_finished(model: str, reason: str) -> None:
    seen: list[Event] = []
    stream = SANDBOX.stream_chat(call(model), CallContext())
    with pytest.raises(GatewayError) as caught:
        seen.extend([event async for some in stream for event in _kept(some, seen)])
    assert caught.value.reason.name == reason
    assert [event.WhichOneof("event") for event in seen] == ["start", "text", "text", "text"]


def _kept(some: list[Event], seen: list[Event]) -> list[Event]:
    seen.extend(some)
    return []


async def test_fail_timeout_hangs_until_it_is_cancelled() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(whole(call("fail-timeout")), 0.05)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(events(call("fail-timeout")), 0.05)


async def test_a_model_nobody_has_names_those_there_are() -> None:
    error = await refused(call("gpt-5"))
    assert error.reason.name == "MODEL_NOT_FOUND"
    assert all(name in error.message for name in MODELS)


def embed_call(*texts: str, model: str = "embed", **more: Any) -> embedding_pb2.EmbedCall:
    inputs = [embedding_pb2.EmbeddingInput(text=words) for words in texts]
    return embedding_pb2.EmbedCall(model=model, inputs=inputs, **more)


async def test_vectors_are_unit_vectors_and_the_same_for_the_same_text() -> None:
    made = await SANDBOX.embed(embed_call("one two", "three", "one two"), CallContext())
    vectors = [list(one.values) for one in made.embeddings]
    assert [one.index for one in made.embeddings] == [0, 1, 2]
    assert [len(vector) for vector in vectors] == [256] * 3
    assert all(math.isclose(math.fsum(x * x for x in vector), 1.0) for vector in vectors)
    assert vectors[0] == vectors[2] != vectors[1]
    assert made.usage == tokens_pb2.TokenUsage(input_uncached=5)
    assert json.loads(made.extra_json) == {"sandbox": {"usage_unit": "words"}}


@pytest.mark.parametrize("dimensions", [1, 7, 8, 1536, 4096])
async def test_the_length_asked_for_is_kept(dimensions: int) -> None:
    made = await SANDBOX.embed(embed_call("one", dimensions=dimensions), CallContext())
    vector = made.embeddings[0].values
    assert len(vector) == dimensions
    assert math.isclose(math.fsum(x * x for x in vector), 1.0)


async def test_a_vector_without_length_is_refused() -> None:
    with pytest.raises(GatewayError) as caught:
        await SANDBOX.embed(embed_call("one", dimensions=5000), CallContext())
    assert caught.value.details["param"] == "dimensions"


async def test_token_ids_have_vectors_too() -> None:
    tokens = embedding_pb2.EmbeddingInput(tokens=embedding_pb2.TokenIds(ids=[1, 2]))
    made = await SANDBOX.embed(embedding_pb2.EmbedCall(model="embed", inputs=[tokens]), CallContext())
    assert len(made.embeddings[0].values) == 256


async def test_each_model_does_its_own_work_only() -> None:
    assert (await refused(call("embed"))).details["param"] == "model"
    with pytest.raises(GatewayError) as caught:
        await SANDBOX.embed(embed_call("one", model="echo"), CallContext())
    assert caught.value.reason.name == "INVALID_REQUEST"


async def test_the_list_has_every_model() -> None:
    models = await SANDBOX.list_models(CallContext())
    assert [model.id for model in models] == list(MODELS)
    assert {model.owned_by for model in models} == {"sandbox"}
    assert SANDBOX.capabilities.chat
    await SANDBOX.aclose()


async def test_tokens_counted_ahead_are_those_that_the_answer_reports() -> None:
    part = message_pb2.Part(text=message_pb2.TextPart(text="one two three"))
    call = chat_pb2.ChatCall(model="echo", messages=[message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])])
    counter: object = SANDBOX
    assert isinstance(counter, TokenCounter)
    counted = await counter.count_tokens(call, CallContext())
    answered = await SANDBOX.chat(call, CallContext())
    assert counted.input_tokens == answered.usage.input_uncached == 3
