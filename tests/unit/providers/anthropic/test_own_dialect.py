"""A caller of Anthropic's own dialect is sent on as it asked, and shown what was streamed."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_edge.anthropic.to_proto import messages_call
from aigateway_providers.adapter import CallContext, TokenCounter
from aigateway_providers.anthropic.adapter import AnthropicAdapter
from aigateway_providers.anthropic.request import Request, build
from aigateway_providers.anthropic.stream import StreamReader
from aigateway_providers.settings import ProviderSettings
from support.replay import Answer, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ANTHROPIC = message_pb2.DIALECT_ANTHROPIC_MESSAGES
SETTINGS = ProviderSettings("anthropic", "anthropic", "http://127.0.0.1:1", "key")
HI = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "claude-opus-5", "max_tokens": 100, "messages": HI} | fields


def sent(**fields: Any) -> dict[str, Any]:
    found = build(messages_call(json.dumps(body(**fields)).encode()).call, SETTINGS, stream=False)
    assert found.translation == []
    made: dict[str, Any] = json.loads(found.body)
    assert made.pop("stream") is False
    return made


@asynccontextmanager
async def claude(url: str) -> AsyncIterator[AnthropicAdapter]:
    adapter = AnthropicAdapter(ProviderSettings("anthropic", "anthropic", url, "key"))
    try:
        yield adapter
    finally:
        await adapter.aclose()


@pytest.mark.parametrize(
    "fields",
    [
        {"thinking": {"type": "enabled", "budget_tokens": 50, "display": "omitted"}, "temperature": 0.5, "top_k": 3},
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}, "top_p": 0.5},
        {"thinking": {"type": "disabled"}},
        {"thinking": {"type": "between_tools"}},
        {"thinking": {"type": "adaptive", "new": 1}},
        {"max_tokens": 0},
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "minimum": 1}}}},
        {"output_config": {"effort": "low", "task_budget": {"type": "tokens", "total": 5}}},
        {"tools": [{"name": "f", "strict": True, "input_schema": {"type": "object"}, "defer_loading": True}]},
        {
            "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        },
        {
            "tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}],
            "tool_choice": {"type": "tool", "name": "web_search"},
        },
        {"metadata": {"user_id": "u", "more": 1}, "service_tier": "auto", "container": "c", "big": 2**70},
        {"mcp_servers": [{"type": "url", "url": "https://x", "name": "n"}], "context_management": {"edits": []}},
        {"cache_control": {"type": "ephemeral", "ttl": "1h", "scope": "global"}, "stop_sequences": ["a", "b"]},
        {"system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "scope": "global"}}]},
        {"messages": [*HI, {"role": "system", "content": [{"type": "text", "text": "late"}]}, *HI]},
    ],
)
def test_what_was_asked_is_what_is_sent(fields: dict[str, Any]) -> None:
    assert sent(**fields) == body(**fields)


async def test_the_version_and_beta_features_go_into_their_headers() -> None:
    call = messages_call(json.dumps(body()).encode(), "one-2026, two-2026").call
    call.provider_options["anthropic"] = b'{"anthropic_version":"2026-10-21"}'
    with Upstream(Answer.of({"input_tokens": 3, "context_management": {"original_input_tokens": 5}})) as stand_in:
        async with claude(stand_in.url) as adapter:
            assert isinstance(adapter, TokenCounter)
            count = await adapter.count_tokens(call, CallContext())
    assert count == chat_pb2.TokenCount(
        input_tokens=3, dialect=ANTHROPIC, extra_json=b'{"context_management":{"original_input_tokens": 5}}'
    )
    (request,) = stand_in.requests
    assert (request.method, request.path) == ("POST", "/v1/messages/count_tokens")
    assert request.headers["anthropic-version"] == "2026-10-21"
    assert request.headers["anthropic-beta"] == "one-2026,two-2026"
    assert request.json() == {"model": "claude-opus-5", "messages": HI}


async def test_counting_leaves_out_what_matters_to_the_answer_only() -> None:
    options = chat_pb2.GenerationOptions(max_output_tokens=5, temperature=0.5, stop=["x"])
    user = message_pb2.Message(
        role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=message_pb2.TextPart(text="Hi"))]
    )
    call = chat_pb2.ChatCall(model="claude-3-5-haiku-latest", messages=[user], options=options, user="u")
    with Upstream(Answer.of({"input_tokens": 3})) as stand_in:
        async with claude(stand_in.url) as adapter:
            await adapter.count_tokens(call, CallContext())
    assert stand_in.requests[0].json() == {"model": "claude-3-5-haiku-latest", "messages": HI}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer.of({"input_tokens": "many"}), "UPSTREAM_INVALID"),
        (
            Answer.of({"type": "error", "error": {"type": "overloaded_error"}}, 529),
            "UPSTREAM_OVERLOADED",
        ),
    ],
)
async def test_counting_may_fail(answer: Answer, reason: str) -> None:
    call = messages_call(json.dumps(body()).encode(), counting=True).call
    with Upstream(answer) as stand_in:
        async with claude(stand_in.url) as adapter:
            with pytest.raises(GatewayError) as caught:
                await adapter.count_tokens(call, CallContext())
    assert caught.value.reason.name == reason


def test_events_that_only_this_dialect_has_are_passed_on_as_they_came() -> None:
    records = [
        {"type": "message_start", "message": {"id": "m", "model": "c", "content": [], "usage": {"input_tokens": 1}}},
        {"type": "ping"},
        {"type": "news", "x": 1},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "later_delta", "y": 2}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}, "z": 3},
        {"type": "message_stop"},
    ]
    seen: dict[bool, list[str | None]] = {}
    raw: list[Any] = []
    for own in (False, True):
        reader = StreamReader("anthropic", Request(b"", "", [], own=own), created=7)
        events: list[chat_pb2.ChatEvent] = []
        for record in records:
            reader.feed(json.dumps(record).encode(), events)
        seen[own] = [event.WhichOneof("event") for event in events]
        raw += [json.loads(event.native_event.json) for event in events if event.HasField("native_event")]
    assert seen[False] == ["start", "finish", "usage"]
    assert seen[True] == ["start", "native_event", "native_event", "text", "native_event", "finish", "usage"]
    assert raw == [records[2], records[4], records[6]]
