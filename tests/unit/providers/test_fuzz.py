"""Whatever a provider sends, an adapter answers or fails with a `GatewayError`, and never otherwise."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, embedding_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.adapter import CallContext
from aigateway_providers.conformance import asks
from aigateway_providers.registry import create_adapter
from aigateway_providers.settings import ProviderSettings
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from support.mangled import Wire, wires
from support.replay import Answer, Sent
from support.scripts import FAILURES, PLAIN, REPLIES, answer

KINDS = tuple(PLAIN)
EXAMPLES = settings(
    max_examples=int(os.environ.get("FUZZ", "120")),
    deadline=None,
    derandomize="FUZZ" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
"""The same examples each time; `FUZZ=3000` looks for so many new ones instead."""
TEXTS = [embedding_pb2.EmbeddingInput(text="a"), embedding_pb2.EmbeddingInput(text="b")]


def answers(kind: str, *, stream: bool) -> list[Answer]:
    """What the provider may say to a chat call, well formed."""
    sent = Sent("POST", "/", {}, {}, b'{"stream":true}' if stream else b"{}")
    if stream and kind == "gemini":
        sent = Sent("POST", "/streamGenerateContent", {}, {}, b"{}")
    return [answer(kind, scenario, sent) for scenario in ("text", *REPLIES, *FAILURES)]


def listed(kind: str) -> list[Answer]:
    sent = Sent("GET", "/", {}, {}, b"")
    embeddings = [answer(kind, "embeddings", sent)] if kind in {"openai", "gemini", "ollama"} else []
    return [answer(kind, "models", sent), *embeddings]


def adapter(kind: str, wire: Wire) -> Any:
    made: Any = create_adapter(ProviderSettings(kind, kind, "http://127.0.0.1:1", api_key="k"))
    made._upstream = wire
    return made


def call(kind: str) -> chat_pb2.ChatCall:
    made = asks.with_tools(PLAIN[kind].model)
    made.response_format.type = chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT
    return made


def check(message: Message) -> None:
    """A caller of any language can read it, and what is passed on unread is JSON."""
    assert type(message).FromString(message.SerializeToString()) == message
    for field, value in message.ListFields():
        if field.name.endswith("_json"):
            json.loads(value)
        elif field.message_type and not field.message_type.GetOptions().map_entry:
            for inner in value if field.is_repeated else (value,):
                check(inner)


async def whole(kind: str, wire: Wire) -> None:
    try:
        completion = await adapter(kind, wire).chat(call(kind), CallContext())
    except GatewayError:
        return
    assert completion.choices
    check(completion)


async def streamed(kind: str, wire: Wire) -> None:
    events: list[chat_pb2.ChatEvent] = []
    complete = True
    try:
        async for batch in adapter(kind, wire).stream_chat(call(kind), CallContext()):
            assert batch
            events += batch
    except GatewayError:
        complete = False
    kinds = [event.WhichOneof("event") for event in events]
    if complete:
        assert "finish" in kinds
    if kinds and kinds != ["usage"]:
        assert kinds[0] == "start"
    assert kinds.count("start") <= 1
    assert "usage" not in kinds[:-1]
    assert wire.closed
    for event in events:
        check(event)


async def others(kind: str, wire: Wire) -> None:
    made = adapter(kind, wire)
    with suppress(GatewayError):
        check(await made.embed(embedding_pb2.EmbedCall(model="m", inputs=TEXTS), CallContext()))
    with suppress(GatewayError):
        for model in await made.list_models(CallContext()):
            check(model)


@pytest.mark.parametrize("kind", KINDS)
def test_no_answer_crashes_an_adapter(kind: str) -> None:
    @EXAMPLES
    @given(wires(answers(kind, stream=False)))
    def property_holds(wire: Wire) -> None:
        asyncio.run(whole(kind, wire))

    property_holds()


@pytest.mark.parametrize("kind", KINDS)
def test_no_stream_crashes_an_adapter(kind: str) -> None:
    @EXAMPLES
    @given(wires(answers(kind, stream=True)))
    def property_holds(wire: Wire) -> None:
        asyncio.run(streamed(kind, wire))

    property_holds()


@pytest.mark.parametrize("kind", KINDS)
def test_no_list_of_models_or_vectors_crashes_an_adapter(kind: str) -> None:
    @EXAMPLES
    @given(wires(listed(kind)))
    def property_holds(wire: Wire) -> None:
        asyncio.run(others(kind, wire))

    property_holds()
