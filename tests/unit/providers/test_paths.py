"""Every adapter calls a message's parts by the same names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_providers import paths
from aigateway_providers.anthropic.request import build
from aigateway_providers.gemini.request import chat_body
from aigateway_providers.ollama.request import chat_request
from aigateway_providers.openai_compat.profiles import PROFILES
from aigateway_providers.openai_compat.request import to_body as to_chat
from aigateway_providers.openai_responses.request import to_body as to_responses
from aigateway_providers.report import Report
from aigateway_providers.settings import ProviderSettings

Part = message_pb2.Part
Notes = Iterable[chat_pb2.TranslationNote]


def settings(kind: str) -> ProviderSettings:
    return ProviderSettings(kind, kind, "http://127.0.0.1:1", "key")


def by_gemini(call: chat_pb2.ChatCall) -> Notes:
    report = Report()
    chat_body(call, report)
    return report.notes()


NOTES: dict[str, Callable[[chat_pb2.ChatCall], Notes]] = {
    "chat": lambda call: to_chat(call, PROFILES["openai"], provider="openai", stream=False)[1],
    "responses": lambda call: to_responses(call, PROFILES["openai"], provider="openai", stream=False)[1],
    "anthropic": lambda call: build(call, settings("anthropic"), stream=False).translation,
    "gemini": by_gemini,
    "ollama": lambda call: chat_request(call, settings("ollama"), stream=False).notes,
}


def test_what_stands_beside_the_content_is_not_counted_in_it() -> None:
    message = message_pb2.Message(
        parts=[
            Part(reasoning=message_pb2.ReasoningPart(text="Hm")),
            Part(text=message_pb2.TextPart(text="a")),
            Part(tool_call=message_pb2.ToolCall(id="1")),
            Part(native=message_pb2.NativePart()),
            Part(tool_call=message_pb2.ToolCall(id="2")),
            Part(tool_result=message_pb2.ToolResult(call_id="1")),
        ]
    )
    assert [path for _, path in paths.of_parts(message, "m[3]")] == [
        "m[3].reasoning_content",
        "m[3].content[0]",
        "m[3].tool_calls[0]",
        "m[3].content[1]",
        "m[3].tool_calls[1]",
        "m[3]",
    ]


@pytest.mark.parametrize("adapter", NOTES)
def test_every_adapter_names_what_it_leaves_out_by_its_place_in_the_content(adapter: str) -> None:
    foreign = Part(native=message_pb2.NativePart(json=b"{}"))
    said = [
        Part(reasoning=message_pb2.ReasoningPart(text="Hm"), provider_state=message_pb2.ProviderState(provider="x")),
        foreign,
        Part(text=message_pb2.TextPart(text="a")),
        Part(tool_call=message_pb2.ToolCall(id="1", name="f")),
        foreign,
    ]
    call = chat_pb2.ChatCall(model="m", messages=[message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=said)])
    found = [note.field for note in NOTES[adapter](call) if "content[" in note.field]
    assert found == ["messages[0].content[0]", "messages[0].content[2]"]
