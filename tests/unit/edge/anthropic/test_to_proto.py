"""What an Anthropic request becomes, and how it is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_edge.anthropic.to_proto import messages_call

HI: list[Any] = [{"role": "user", "content": "Hi"}]
PDF = base64.b64encode(b"%PDF-1").decode()


def call(**fields: Any) -> chat_pb2.ChatCall:
    return messages_call(json.dumps({"model": "m", "max_tokens": 9, "messages": HI} | fields).encode()).call


def parts(*blocks: Any) -> list[message_pb2.Part]:
    return list(call(messages=[{"role": "user", "content": list(blocks)}]).messages[0].parts)


def test_results_become_messages_of_their_own_before_the_rest_of_the_turn() -> None:
    result = {"type": "tool_result", "tool_use_id": "c", "content": "r", "is_error": True}
    found = call(system="s", messages=[{"role": "user", "content": [{"type": "text", "text": "t"}, result]}])
    assert [message.role for message in found.messages] == [
        message_pb2.ROLE_SYSTEM,
        message_pb2.ROLE_TOOL,
        message_pb2.ROLE_USER,
    ]
    answered = found.messages[1].parts[0].tool_result
    assert (answered.call_id, answered.is_error, answered.content[0].text.text) == ("c", True, "r")


def test_media_of_every_source() -> None:
    image, linked, stored, pdf, note, csv = parts(
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "image", "source": {"type": "url", "url": "https://x/y"}},
        {"type": "document", "source": {"type": "file", "file_id": "f"}, "title": "T"},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "n"}, "context": "c"},
        {"type": "document", "source": {"type": "content", "content": []}},
    )
    assert image.image.media == message_pb2.Media(data=b"\0\0\0", media_type="image/png")
    assert linked.image.media.url == "https://x/y"
    assert (stored.file.media.file_id, stored.file.filename) == ("f", "T")
    assert pdf.file.media == message_pb2.Media(data=b"%PDF-1", media_type="application/pdf")
    assert (note.file.media.data, note.extra_json) == (b"n", b'{"context":"c"}')
    assert csv.native.dialect == message_pb2.DIALECT_ANTHROPIC_MESSAGES


def test_nulls_that_sdks_write_say_nothing() -> None:
    (part,) = parts({"type": "text", "text": "t", "citations": None, "cache_control": None})
    assert part == message_pb2.Part(text=message_pb2.TextPart(text="t"))


def test_the_form_of_the_answer_and_the_effort_are_neutral() -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    found = call(output_config={"effort": "high", "format": form}, thinking={"type": "adaptive"})
    assert found.response_format.schema_json == b'{"type": "object"}'
    assert (found.reasoning.effort, found.reasoning.adaptive, found.extra_json) == ("high", True, b"")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [7]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "name": "f"}]}]},
            "messages[0].content[0].id",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0].source"),
        ({"system": 7}, "system"),
        ({"temperature": 1.5}, "temperature"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"cache_control": {"type": "eternal"}}, "cache_control.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as caught:
        call(**fields)
    assert (caught.value.reason.name, caught.value.details["param"]) == ("INVALID_REQUEST", param)


def test_indexes_of_content_are_the_callers_own_though_results_and_calls_are_counted_apart() -> None:
    note: Any = {"type": "text", "text": "t"}
    picture = {"type": "image", "source": {"type": "url", "url": "https://x/y"}}
    used: list[Any] = [{"type": "tool_use", "id": name, "name": "f", "input": {}} for name in "ab"]
    results: list[Any] = [{"type": "tool_result", "tool_use_id": name, "content": [note, picture]} for name in "ab"]
    said = [
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm"}, used[0], note, used[1], note]},
        {"role": "user", "content": [results[0], note, results[1], picture]},
    ]
    body = {"model": "m", "max_tokens": 9, "messages": said}
    parsed = messages_call(json.dumps(body).encode())
    assert [len(message.parts) for message in parsed.call.messages] == [5, 1, 1, 2]
    places = {
        "messages[0].content[0].x": "messages[0].content[2].x",
        "messages[0].content[1]": "messages[0].content[4]",
        "messages[0].tool_calls[1].x": "messages[0].content[3].x",
        "messages[1].content[1].x": "messages[1].content[0].content[1].x",
        "messages[2].is_error": "messages[1].content[2].is_error",
        "messages[3].content[0]": "messages[1].content[1]",
        "messages[3].content[1].image_url.url": "messages[1].content[3].image_url.url",
        "messages[3].content": "messages[1].content",
        "messages[3].contents[1]": "messages[1].contents[1]",
    }
    assert {ours: parsed.conversation.renamed(ours) for ours in places} == places


def test_paths_are_those_of_the_caller() -> None:
    body = {"model": "m", "max_tokens": 9, "system": "s", "messages": HI}
    conversation = messages_call(json.dumps(body).encode()).conversation
    assert conversation.renamed("`messages[1].content[0]` and `messages[0]`") == "`messages[0].content[0]` and `system`"
    assert conversation.renamed("messages[0].content[2].x") == "system[2].x"
    assert conversation.renamed("messages[9].content") == "messages[9].content"
