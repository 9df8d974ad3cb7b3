"""Every capability that an adapter claims has a case here that passes through it; what has none is not claimed."""

from __future__ import annotations

from typing import Any

import pytest
from aigateway.v1 import chat_pb2, embedding_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.adapter import CallContext
from aigateway_providers.registry import PROVIDERS, create_adapter
from aigateway_providers.settings import ProviderSettings
from support.replay import Answer, Sent, Upstream

FLAGS = (
    "chat",
    "embed",
    "list_models",
    "tools",
    "images",
    "audio",
    "files",
    "structured_output",
    "reasoning",
    "count_tokens",
)
MODELS = {
    "openai": "gpt-5",
    "groq": "openai/gpt-oss-20b",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-2.5-flash",
    "ollama": "qwen3",
}
SANDBOX = {"tools": "tools", "reasoning": "reason", "structured_output": "json", "embed": "embed"}
PNG = b"\x89PNG\r\n\x1a\n"
SCHEMA = b'{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}'

OPENAI: dict[str, Any] = {
    "chat": {
        "id": "1",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
    },
    "tools": {
        "id": "1",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "message": {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "find", "arguments": "{}"}}],
                },
            }
        ],
    },
    "embed": {"model": "m", "data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 1}},
    "list_models": {"data": [{"id": "m", "created": 1, "owned_by": "o"}]},
    "count_tokens": {"input_tokens": 3},
}
CLAUDE = {
    "id": "1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
ANSWERS: dict[str, dict[str, Any]] = {
    "openai": OPENAI,
    "groq": OPENAI,
    "anthropic": {
        "chat": CLAUDE | {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn"},
        "tools": CLAUDE
        | {"content": [{"type": "tool_use", "id": "c", "name": "find", "input": {}}], "stop_reason": "tool_use"},
        "list_models": {"data": [{"id": "m", "type": "model"}], "has_more": False},
        "count_tokens": {"input_tokens": 3},
    },
    "gemini": {
        "chat": {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}]},
        "tools": {
            "candidates": [
                {"content": {"parts": [{"functionCall": {"name": "find", "args": {}}}]}, "finishReason": "STOP"}
            ]
        },
        "embed": {"embeddings": [{"values": [0.5]}]},
        "list_models": {"models": [{"name": "models/m", "supportedGenerationMethods": ["generateContent"]}]},
        "count_tokens": {"totalTokens": 3},
    },
    "ollama": {
        "chat": {"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": True, "done_reason": "stop"},
        "tools": {
            "model": "m",
            "message": {"role": "assistant", "tool_calls": [{"function": {"name": "find", "arguments": {}}}]},
            "done": True,
        },
        "embed": {"model": "m", "embeddings": [[0.5]]},
        "list_models": {"models": [{"name": "m"}]},
    },
}
SENT = {
    ("openai", "reasoning"): b'"reasoning_effort":"low"',
    ("groq", "reasoning"): b'"reasoning_effort":"low"',
    ("anthropic", "reasoning"): b'"thinking":{',
    ("gemini", "reasoning"): b'"thinkingConfig":{',
    ("ollama", "reasoning"): b'"think":"low"',
    ("openai", "audio"): b'"input_audio"',
    ("gemini", "audio"): b'"mimeType":"audio/wav"',
    ("openai", "files"): b'"file_data"',
    ("anthropic", "files"): b'"type":"document"',
    ("gemini", "files"): b'"mimeType":"application/pdf"',
}
"""What a request must hold for a capability, where the caller's own words do not show."""
SHOWN = {"tools": b'"find"', "images": b"iVBORw0KGgo", "structured_output": b'"city"'}


def call(kind: str, flag: str) -> chat_pb2.ChatCall:
    parts = [message_pb2.Part(text=message_pb2.TextPart(text="Hello"))]
    media = message_pb2.Media(data=PNG, media_type="image/png")
    match flag:
        case "images":
            parts.append(message_pb2.Part(image=message_pb2.ImagePart(media=media)))
        case "audio":
            media = message_pb2.Media(data=b"RIFF", media_type="audio/wav")
            parts.append(message_pb2.Part(audio=message_pb2.AudioPart(media=media, format="wav")))
        case "files":
            media = message_pb2.Media(data=b"%PDF-1.7", media_type="application/pdf")
            parts.append(message_pb2.Part(file=message_pb2.FilePart(media=media, filename="a.pdf")))
    made = chat_pb2.ChatCall(
        model=SANDBOX.get(flag, "echo") if kind == "sandbox" else MODELS[kind],
        messages=[message_pb2.Message(role=message_pb2.ROLE_USER, parts=parts)],
    )
    if flag == "tools":
        made.tools.append(message_pb2.Tool(function=message_pb2.FunctionTool(name="find", parameters_json=SCHEMA)))
    if flag == "structured_output":
        made.response_format.type = chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA
        made.response_format.name = "place"
        made.response_format.schema_json = SCHEMA
    if flag == "reasoning":
        made.reasoning.effort = "low"
    return made


async def exercise(kind: str, flag: str, adapter: Any) -> None:
    """One small case of a capability, whose answer must be right."""
    match flag:
        case "embed":
            text = embedding_pb2.EmbeddingInput(text="Hello")
            model = "embed" if kind == "sandbox" else "m"
            vectors = await adapter.embed(embedding_pb2.EmbedCall(model=model, inputs=[text]), CallContext())
            assert len(vectors.embeddings) == 1
        case "list_models":
            assert await adapter.list_models(CallContext())
        case "count_tokens":
            assert (await adapter.count_tokens(call(kind, flag), CallContext())).input_tokens > 0
        case _:
            (choice,) = (await adapter.chat(call(kind, flag), CallContext())).choices
            kinds = [part.WhichOneof("kind") for part in choice.message.parts]
            assert ("tool_call" in kinds) if flag == "tools" else ("text" in kinds)


def reply(kind: str, flag: str) -> Any:
    return ANSWERS.get(kind, {}).get(flag, ANSWERS.get(kind, {}).get("chat", {}))


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("kind", PROVIDERS)
async def test_a_claimed_capability_works_and_an_unclaimed_one_is_refused_or_reported(kind: str, flag: str) -> None:
    with Upstream(Answer.of(reply(kind, flag))) as upstream:
        adapter = create_adapter(ProviderSettings(name=kind, kind=kind, base_url=upstream.url, api_key="key"))
        claimed = getattr(adapter.capabilities, flag)
        if claimed:
            await exercise(kind, flag, adapter)
        elif flag == "count_tokens":
            assert not hasattr(adapter, flag)
        elif kind != "sandbox":  # takes anything, and says what it leaves out
            with pytest.raises(GatewayError):
                await exercise(kind, flag, adapter)
        await adapter.aclose()
    if claimed and kind != "sandbox":
        shows(upstream.requests[-1], kind, flag)


def shows(sent: Sent, kind: str, flag: str) -> None:
    """The request that went out holds what the capability is about."""
    assert SENT.get((kind, flag), SHOWN.get(flag, b"")) in sent.body


def test_every_flag_of_the_contract_has_its_case() -> None:
    fields = {
        field.name
        for field in create_adapter(ProviderSettings("sandbox", "sandbox", "")).capabilities.DESCRIPTOR.fields
    }
    assert fields - {"provider", "dialect", "finish_reasons"} == set(FLAGS)
