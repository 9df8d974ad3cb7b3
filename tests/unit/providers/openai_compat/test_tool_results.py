"""What becomes of the results of tools at an OpenAI-compatible host, whose tool messages hold text only."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.openai_compat.profiles import PROFILES
from aigateway_providers.openai_compat.request import to_body

PNG = b"\x89PNG"
STRICT = chat_pb2.TRANSLATION_POLICY_STRICT
SHOWN = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}}


def text(words: str) -> message_pb2.Part:
    return message_pb2.Part(text=message_pb2.TextPart(text=words))


def picture() -> message_pb2.Part:
    return message_pb2.Part(image=message_pb2.ImagePart(media=message_pb2.Media(data=PNG, media_type="image/png")))


def result(call_id: str, *content: message_pb2.Part, **fields: Any) -> message_pb2.Part:
    return message_pb2.Part(tool_result=message_pb2.ToolResult(call_id=call_id, content=content, **fields))


def user(*parts: message_pb2.Part) -> message_pb2.Message:
    return message_pb2.Message(role=message_pb2.ROLE_USER, parts=parts)


def assistant(*parts: message_pb2.Part) -> message_pb2.Message:
    return message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=parts)


def tool_turn(*results: message_pb2.Part) -> message_pb2.Message:
    return message_pb2.Message(role=message_pb2.ROLE_TOOL, parts=results)


def messages(*given: message_pb2.Message, host: str = "openai", **fields: Any) -> tuple[list[Any], list[str]]:
    """The messages that are sent, and the fields of the translation report, each with its action."""
    call = chat_pb2.ChatCall(model="m", messages=given, **fields)
    body, notes = to_body(call, PROFILES[host], provider=host, stream=False)
    actions = {1: "dropped", 2: "clamped", 3: "emulated"}
    return json.loads(body)["messages"], [f"{note.field} {actions[note.action]}" for note in notes]


def refused(*given: message_pb2.Message, **fields: Any) -> tuple[str, str]:
    with pytest.raises(GatewayError) as caught:
        messages(*given, **fields)
    return caught.value.reason.name, caught.value.details["param"]


def test_tool_results_inside_a_users_turn_become_messages_before_it() -> None:
    assert messages(user(result("c1", text("1"), is_error=True), text("Go on"))) == (
        [{"role": "tool", "tool_call_id": "c1", "content": "1"}, {"role": "user", "content": "Go on"}],
        ["messages[0].is_error dropped"],
    )


@pytest.mark.parametrize("host", ["openai", "groq"])
def test_a_result_that_says_it_did_not_fail_loses_nothing(host: str) -> None:
    given = tool_turn(result("c1", text("1"), is_error=False))
    written = [{"role": "tool", "tool_call_id": "c1", "content": "1"}]
    assert messages(given, host=host, translation_policy=STRICT) == (written, [])


@pytest.mark.parametrize("host", ["openai", "groq"])
def test_media_of_tool_results_follow_the_whole_run_of_them_in_a_user_message(host: str) -> None:
    given = (
        tool_turn(result("c1", text("A dot."), picture())),
        tool_turn(result("c2", text("Nothing."))),
        tool_turn(result("c3", picture(), picture())),
        assistant(text("I see.")),
    )
    assert messages(*given, host=host) == (
        [
            {"role": "tool", "tool_call_id": "c1", "content": "A dot."},
            {"role": "tool", "tool_call_id": "c2", "content": "Nothing."},
            {
                "role": "tool",
                "tool_call_id": "c3",
                "content": "The result is attached in the user message that follows.",
            },
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Attached to the result of tool call c1:"},
                    SHOWN,
                    {"type": "text", "text": "Attached to the result of tool call c3:"},
                    SHOWN,
                    SHOWN,
                ],
            },
            {"role": "assistant", "content": "I see."},
        ],
        [
            "messages[0].content[1] emulated",
            "messages[2].content[0] emulated",
            "messages[2].content[1] emulated",
        ],
    )


def test_media_of_tool_results_in_a_users_turn_come_before_what_the_user_says() -> None:
    listed = message_pb2.CONTENT_SHAPE_LIST
    written, notes = messages(user(result("c1", picture(), content_shape=listed), text("And now?")))
    assert [message["role"] for message in written] == ["tool", "user", "user"]
    assert written[0]["content"] == [
        {"type": "text", "text": "The result is attached in the user message that follows."}
    ]
    assert written[1]["content"][1:] == [SHOWN]
    assert written[2]["content"] == "And now?"
    assert notes == ["messages[0].content[0] emulated"]


def test_sound_and_documents_of_tool_results_are_moved_too_and_refused_where_the_host_reads_none() -> None:
    media = message_pb2.Media(data=b"%PDF", media_type="application/pdf")
    document = message_pb2.Part(file=message_pb2.FilePart(media=media, filename="a.pdf"))
    sound = message_pb2.Part(audio=message_pb2.AudioPart(media=message_pb2.Media(data=b"RIFF", media_type="audio/wav")))
    written, _ = messages(tool_turn(result("c1", text("Both"), document, sound)))
    assert [piece["type"] for piece in written[1]["content"]] == ["text", "file", "input_audio"]
    assert refused(tool_turn(result("c1", document)), host="groq") == ("UNSUPPORTED", "messages[0].content[0]")


def test_strict_callers_get_no_media_moved() -> None:
    given = tool_turn(result("c1", picture()))
    assert refused(given, translation_policy=STRICT) == ("TRANSLATION_REFUSED", "messages[0].content[0]")
