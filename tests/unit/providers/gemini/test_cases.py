"""What callers do, each case whole and streamed through the adapter: tools, answers by schema, pictures, reasoning.

Written from Google's guides: function-calling, structured-output, image-understanding, thinking (ai.google.dev).
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2, tokens_pb2
from aigateway_providers.adapter import CallContext
from aigateway_providers.gemini.adapter import create
from aigateway_providers.settings import ProviderSettings
from support.recorded import assembled
from support.replay import Answer, Upstream

Part = message_pb2.Part
USER, ASSISTANT, TOOL = message_pb2.ROLE_USER, message_pb2.ROLE_ASSISTANT, message_pb2.ROLE_TOOL
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
both = pytest.mark.parametrize("stream", [False, True])


def text(value: str) -> Part:
    return Part(text=message_pb2.TextPart(text=value))


def say(role: message_pb2.Role.ValueType, *parts: Part) -> message_pb2.Message:
    return message_pb2.Message(role=role, parts=parts)


def state(signature: str) -> message_pb2.ProviderState:
    return message_pb2.ProviderState(provider="gemini", state=signature.encode())


def answer(*parts: dict[str, Any], **usage: int) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP", "index": 0}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "r"}


async def run(call: chat_pb2.ChatCall, reply: dict[str, Any], *, stream: bool) -> tuple[chat_pb2.ChatCompletion, Any]:
    """The answer, and the body that was sent."""
    with Upstream(Answer.sse(reply) if stream else Answer.of(reply)) as upstream:
        adapter = create(ProviderSettings("gemini", "gemini", upstream.url, api_key="k"))
        try:
            if stream:
                events = [e async for batch in adapter.stream_chat(call, CallContext()) for e in batch]
                return assembled(events), upstream.requests[0].json()
            return await adapter.chat(call, CallContext()), upstream.requests[0].json()
        finally:
            await adapter.aclose()


@both
async def test_parallel_tools_go_round_with_their_signature(stream: bool) -> None:
    tool = message_pb2.FunctionTool(
        name="weather", description="Weather of a city.", parameters_json=json.dumps(SCHEMA).encode()
    )
    question = say(USER, text("Weather in Paris and Rome?"))
    call = chat_pb2.ChatCall(
        model="gemini-3-pro-preview",
        messages=[question],
        tools=[message_pb2.Tool(function=tool)],
        tool_choice=message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED),
    )
    paris = {"functionCall": {"name": "weather", "args": {"city": "Paris"}, "id": "a"}, "thoughtSignature": "sig=="}
    rome = {"functionCall": {"name": "weather", "args": {"city": "Rome"}, "id": "b"}}
    found, sent = await run(call, answer(paris, rome), stream=stream)
    assert sent["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
    declared = {"name": "weather", "description": "Weather of a city.", "parametersJsonSchema": SCHEMA}
    assert sent["tools"] == [{"functionDeclarations": [declared]}]
    turn = found.choices[0].message
    assert found.choices[0].finish_reason == chat_pb2.FINISH_REASON_TOOL_CALLS
    assert [(p.tool_call.id, json.loads(p.tool_call.arguments), p.provider_state) for p in turn.parts] == [
        ("a", {"city": "Paris"}, state("sig==")),
        ("b", {"city": "Rome"}, message_pb2.ProviderState()),
    ]

    results = [
        say(TOOL, Part(tool_result=message_pb2.ToolResult(call_id=key, content=[text(value)])))
        for key, value in (("b", '{"sky": "sunny"}'), ("a", "rain"))
    ]
    again = chat_pb2.ChatCall(model="gemini-3-pro-preview", messages=[question, turn, *results])
    found, sent = await run(again, answer({"text": "Rain, and sun."}), stream=stream)
    assert sent["contents"][1:] == [
        {"role": "model", "parts": [paris, rome]},
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "weather", "id": "b", "response": {"sky": "sunny"}}},
                {"functionResponse": {"name": "weather", "id": "a", "response": {"result": "rain"}}},
            ],
        },
    ]
    assert list(found.choices[0].message.parts) == [text("Rain, and sun.")]


@both
async def test_an_answer_by_schema(stream: bool) -> None:
    form = chat_pb2.ResponseFormat(
        type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA, name="city", schema_json=json.dumps(SCHEMA).encode()
    )
    call = chat_pb2.ChatCall(
        model="gemini-2.5-flash", messages=[say(USER, text("Capital of Japan?"))], response_format=form
    )
    found, sent = await run(call, answer({"text": '{"city": "Tokyo"}'}), stream=stream)
    assert sent["generationConfig"] == {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}
    assert found.choices[0].message.parts[0].text.text == '{"city": "Tokyo"}'


@both
async def test_a_picture_in_the_question(stream: bool) -> None:
    media = message_pb2.Media(data=b"\xff\xd8", media_type="image/jpeg")
    picture = Part(image=message_pb2.ImagePart(media=media))
    call = chat_pb2.ChatCall(model="gemini-2.5-flash", messages=[say(USER, picture, text("What is it?"))])
    found, sent = await run(call, answer({"text": "A cat."}), stream=stream)
    inline = {"inlineData": {"mimeType": "image/jpeg", "data": "/9g="}}
    assert sent["contents"] == [{"role": "user", "parts": [inline, {"text": "What is it?"}]}]
    assert found.choices[0].finish_reason == chat_pb2.FINISH_REASON_STOP


@both
async def test_reasoning_is_asked_for_shown_and_counted(stream: bool) -> None:
    call = chat_pb2.ChatCall(
        model="gemini-2.5-flash",
        messages=[say(USER, text("Why?"))],
        reasoning=chat_pb2.ReasoningOptions(effort="low", include=True),
    )
    reply = answer(
        {"text": "Hm.", "thought": True},
        {"text": "So.", "thoughtSignature": "s"},
        promptTokenCount=4,
        cachedContentTokenCount=1,
        candidatesTokenCount=2,
        thoughtsTokenCount=8,
    )
    found, sent = await run(call, reply, stream=stream)
    assert sent["generationConfig"] == {"thinkingConfig": {"thinkingBudget": 1024, "includeThoughts": True}}
    thought, said = found.choices[0].message.parts
    assert thought.reasoning.text == "Hm."
    assert said == Part(text=message_pb2.TextPart(text="So."), provider_state=state("s"))
    found.usage.ClearField("native_json")
    assert found.usage == tokens_pb2.TokenUsage(input_uncached=3, input_cache_read=1, output_text=2, output_reasoning=8)
