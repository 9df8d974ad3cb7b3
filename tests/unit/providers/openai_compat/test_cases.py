"""The cases that every provider has, for OpenAI and Groq: a call through the adapter, whole and streamed.

Requests and answers are written from https://platform.openai.com/docs/api-reference/chat and
https://console.groq.com/docs. Failures and cancelled calls are in `test_adapter`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_providers.adapter import CallContext
from aigateway_providers.openai_compat.adapter import create
from aigateway_providers.settings import ProviderSettings
from support.exchanges import Expected, ToolCallSeen
from support.recorded import assembled, seen
from support.replay import Answer, Upstream

HEAD = {"id": "c1", "created": 17, "model": "m-1"}
USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 12,
    "total_tokens": 32,
    "prompt_tokens_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
TOKENS: dict[str, Any] = {
    "prompt_tokens": 20,
    "completion_tokens": 12,
    "cached_tokens": 8,
    "reasoning_tokens": 5,
    "model": "m-1",
}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def user(*parts: message_pb2.Part) -> message_pb2.Message:
    return message_pb2.Message(role=message_pb2.ROLE_USER, parts=parts or [text("Hi")])


def text(words: str) -> message_pb2.Part:
    return message_pb2.Part(text=message_pb2.TextPart(text=words))


def tool(name: str) -> message_pb2.Tool:
    function = message_pb2.FunctionTool(name=name, parameters_json=json.dumps(SCHEMA).encode())
    return message_pb2.Tool(function=function)


def calls(*names: str) -> list[dict[str, Any]]:
    return [
        {"id": f"t{n}", "type": "function", "function": {"name": name, "arguments": '{"city": "Paris"}'}}
        for n, name in enumerate(names)
    ]


def seen_calls(*names: str) -> tuple[ToolCallSeen, ...]:
    return tuple(ToolCallSeen(name, {"city": "Paris"}, f"t{n}") for n, name in enumerate(names))


@dataclass(frozen=True)
class Case:
    """What is asked, what of it is sent, the message the host answers, and what the caller gets."""

    name: str
    call: dict[str, Any]
    sent: dict[str, Any]
    message: dict[str, Any]
    got: Expected
    host: str = "openai"
    model: str = "m"


PICTURE = message_pb2.ImagePart(media=message_pb2.Media(data=b"\x89PNG", media_type="image/png"))
FORM = chat_pb2.ResponseFormat(
    type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA, name="place", schema_json=json.dumps(SCHEMA).encode(), strict=True
)
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}

CASES = (
    Case("basic", {}, {}, {"content": "Hello"}, Expected(text="Hello", finish_reason="stop", **TOKENS)),
    Case(
        "tools",
        {"tools": [tool("weather")], "tool_choice": message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED)},
        {"tools": [TOOL], "tool_choice": "required"},
        {"content": None, "tool_calls": calls("weather")},
        Expected(tool_calls=seen_calls("weather"), finish_reason="tool_calls", **TOKENS),
    ),
    Case(
        "parallel tools",
        {"tools": [tool("weather")], "parallel_tool_calls": True},
        {"tools": [TOOL], "parallel_tool_calls": True},
        {"content": "Let me look.", "tool_calls": calls("weather", "weather")},
        Expected(
            text="Let me look.", tool_calls=seen_calls("weather", "weather"), finish_reason="tool_calls", **TOKENS
        ),
    ),
    Case(
        "structured output",
        {"response_format": FORM},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "place", "schema": SCHEMA, "strict": True},
            }
        },
        {"content": '{"city": "Paris"}'},
        Expected(text='{"city": "Paris"}', finish_reason="stop", **TOKENS),
    ),
    Case(
        "image",
        {"messages": [user(text("What is it?"), message_pb2.Part(image=PICTURE))]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is it?"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
                    ],
                }
            ]
        },
        {"content": "A dot."},
        Expected(text="A dot.", finish_reason="stop", **TOKENS),
    ),
    Case(
        "reasoning effort",
        {"reasoning": chat_pb2.ReasoningOptions(effort="high")},
        {"reasoning_effort": "high"},
        {"content": "4"},
        Expected(text="4", finish_reason="stop", **TOKENS),
        model="o3-mini",
    ),
    Case(
        "reasoning shown",
        {"reasoning": chat_pb2.ReasoningOptions(include=True)},
        {"reasoning_format": "parsed"},
        {"reasoning": "2 and 2.", "content": "4"},
        Expected(text="4", reasoning="2 and 2.", finish_reason="stop", **TOKENS),
        host="groq",
        model="qwen/qwen3-32b",
    ),
    Case(
        "reasoning unasked",
        {},
        {"reasoning_format": "parsed"},
        {"reasoning": "2 and 2.", "content": "4"},
        Expected(text="4", reasoning="2 and 2.", finish_reason="stop", **TOKENS),
        host="groq",
        model="qwen/qwen3-32b",
    ),
    Case(
        "refusal", {}, {}, {"content": None, "refusal": "No."}, Expected(refusal="No.", finish_reason="stop", **TOKENS)
    ),
)


def whole(case: Case) -> Answer:
    message = {"role": "assistant"} | case.message
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": case.got.finish_reason}
    return Answer.of(HEAD | {"object": "chat.completion", "choices": [choice], "usage": USAGE})


def stream(case: Case) -> Answer:
    """The same message letter by letter, as chunks."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    for field in ("reasoning", "content", "refusal"):
        deltas += [{field: letter} for letter in case.message.get(field) or ""]
    for index, call in enumerate(case.message.get("tool_calls", ())):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        deltas.append({"tool_calls": [call | {"index": index, "function": {"name": name, "arguments": ""}}]})
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": letter}}]} for letter in arguments]
    steps: list[tuple[dict[str, Any], str | None]] = [(delta, None) for delta in deltas]
    steps.append(({}, case.got.finish_reason))
    chunks = [HEAD | {"choices": [{"index": 0, "delta": d, "finish_reason": f}], "usage": None} for d, f in steps]
    return Answer.sse(*chunks, HEAD | {"choices": [], "usage": USAGE}, done=True)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_the_case_is_carried_both_ways(case: Case, streamed: bool) -> None:
    asked = chat_pb2.ChatCall(**({"model": case.model, "messages": [user()]} | case.call))
    with Upstream(stream(case) if streamed else whole(case)) as stand_in:
        base = stand_in.url + ("/v1" if case.host == "openai" else "")
        adapter = create(ProviderSettings(case.host, case.host, base, "key"))
        if streamed:
            batches = [batch async for batch in adapter.stream_chat(asked, CallContext())]
            answer = assembled([event for batch in batches for event in batch])
        else:
            answer = await adapter.chat(asked, CallContext())
        await adapter.aclose()
    assert seen(answer) == case.got
    assert list(answer.translation) == []
    expected = {"model": case.model, "messages": [{"role": "user", "content": "Hi"}]} | case.sent
    assert stand_in.requests[0].json() == expected | (
        {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
    )
