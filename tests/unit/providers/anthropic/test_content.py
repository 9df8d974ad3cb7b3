"""Images, documents, sound and native parts on their way to Anthropic."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_edge.openai.to_proto import chat_call
from aigateway_providers.anthropic.request import build
from aigateway_providers.settings import ProviderSettings

SETTINGS = ProviderSettings("anthropic", "anthropic", "http://127.0.0.1:1", "key")


def call(*parts: Any) -> chat_pb2.ChatCall:
    request = {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": parts}]}
    return chat_call(json.dumps(request).encode()).call


def blocks(of: chat_pb2.ChatCall) -> Any:
    return json.loads(build(of, SETTINGS, stream=False).body)["messages"][0]["content"]


def notes(of: chat_pb2.ChatCall) -> list[str]:
    return [note.field for note in build(of, SETTINGS, stream=False).translation]


def image(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def file(data: str, **more: Any) -> dict[str, Any]:
    return {"type": "file", "file": {"file_data": data, **more}}


def test_image_bytes_are_sent_as_base64_and_addresses_as_they_are() -> None:
    assert blocks(call(image("data:image/jpeg;base64,aGk="), image("https://x.example/a.png"))) == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "aGk="}},
        {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
    ]


def test_an_images_detail_is_reported_unless_it_is_the_default() -> None:
    url = "data:image/png;base64,aGk="
    assert notes(call(image(url, detail="auto"), image(url, detail="high"))) == [
        "messages[0].content[1].image_url.detail"
    ]


def test_a_pdf_is_a_document_with_its_name() -> None:
    assert blocks(call(file("data:application/pdf;base64,JVBERi0=", filename="a.pdf"))) == [
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
            "title": "a.pdf",
        }
    ]


def test_a_text_file_is_a_plain_text_document() -> None:
    assert blocks(call(file("data:text/markdown;base64,IyBo"))) == [
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "# h"}}
    ]


def test_documents_by_address_or_id_are_left_to_anthropic_to_fetch() -> None:
    assert blocks(call(file("https://x.example/a.pdf"), {"type": "file", "file": {"file_id": "file_1"}})) == [
        {"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
    ]


def test_a_picture_given_as_a_file_is_an_image() -> None:
    assert blocks(call(file("data:image/png;base64,aGk=")))[0]["type"] == "image"


@pytest.mark.parametrize(
    "part",
    [
        file("data:application/zip;base64,aGk="),
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
    ],
)
def test_what_claude_cannot_read_is_refused_by_name(part: Any) -> None:
    with pytest.raises(GatewayError) as caught:
        blocks(call({"type": "text", "text": "t"}, part))
    assert (caught.value.reason.name, caught.value.details) == ("UNSUPPORTED", {"param": "messages[0].content[1]"})


def test_an_earlier_spoken_answer_is_told_by_its_transcript() -> None:
    spoken = call({"type": "text", "text": "t"})
    part = message_pb2.Part(audio=message_pb2.AudioPart(id="a1", transcript="I said so."))
    spoken.messages.append(message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=[part]))
    sent = json.loads(build(spoken, SETTINGS, stream=False).body)
    assert sent["messages"][1]["content"] == [{"type": "text", "text": "I said so."}]
    assert notes(spoken) == ["messages[1].content[0]"]


def test_cache_marks_stay_on_their_parts() -> None:
    marked = {"type": "text", "text": "t", "cache_control": {"type": "ephemeral", "ttl": "5m"}}
    assert blocks(call(marked, image("https://x.example/a.png") | {"cache_control": {"type": "ephemeral"}})) == [
        marked,
        {
            "type": "image",
            "source": {"type": "url", "url": "https://x.example/a.png"},
            "cache_control": {"type": "ephemeral"},
        },
    ]


def test_native_parts_of_our_own_pass_byte_for_byte_and_others_are_reported() -> None:
    mixed = call({"type": "text", "text": "t"}, {"type": "odd_part", "x": 1})
    whole = b'{"type": "container_upload", "file_id": "file_1", "n": 12345678901234567890123}'
    native = message_pb2.NativePart(dialect=message_pb2.DIALECT_ANTHROPIC_MESSAGES, json=whole)
    mixed.messages[0].parts.append(message_pb2.Part(native=native))
    assert whole in build(mixed, SETTINGS, stream=False).body
    assert [block["type"] for block in blocks(mixed)] == ["text", "container_upload"]
    assert notes(mixed) == ["messages[0].content[1]"]


def test_a_part_without_a_kind_is_refused() -> None:
    empty = call({"type": "text", "text": "t"})
    empty.messages[0].parts.append(message_pb2.Part())
    with pytest.raises(GatewayError) as caught:
        blocks(empty)
    assert caught.value.details == {"param": "messages[0].content[1]"}
