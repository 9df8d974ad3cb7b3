"""How much data a request to Gemini may hold, by https://ai.google.dev/gemini-api/docs/file-input-methods."""

from __future__ import annotations

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.adapter import CallContext
from aigateway_providers.gemini import media
from aigateway_providers.gemini.request import chat_body
from aigateway_providers.registry import create_adapter
from aigateway_providers.report import Report
from aigateway_providers.settings import ProviderSettings
from support.replay import Answer, Upstream

Part = message_pb2.Part
USER = message_pb2.ROLE_USER


def text(said: str) -> Part:
    return Part(text=message_pb2.TextPart(text=said))


def picture(size: int) -> Part:
    return Part(image=message_pb2.ImagePart(media=message_pb2.Media(data=bytes(size), media_type="image/png")))


def say(role: message_pb2.Role.ValueType, *parts: Part) -> message_pb2.Message:
    return message_pb2.Message(role=role, parts=parts)


def call(*messages: message_pb2.Message) -> chat_pb2.ChatCall:
    return chat_pb2.ChatCall(model="gemini-2.5-flash", messages=messages)


def refused(*messages: message_pb2.Message) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        chat_body(call(*messages), Report())
    return caught.value


def test_data_beyond_what_a_request_may_hold_is_refused_with_its_field_and_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(media, "MAX_REQUEST", 1000)
    assert chat_body(call(say(USER, picture(300), picture(300))), Report())  # 400 bytes each in base64
    error = refused(say(USER, picture(300), picture(300)), say(USER, picture(300)))
    assert (error.reason.name, error.http_status) == ("REQUEST_TOO_LARGE", 413)
    assert error.details == {"param": "messages[1].content[0].image_url"}
    assert "Files API" in error.message


def test_media_of_tool_results_count_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "MAX_REQUEST", 1000)
    result = message_pb2.ToolResult(call_id="a", content=[picture(800)])
    error = refused(
        say(message_pb2.ROLE_ASSISTANT, Part(tool_call=message_pb2.ToolCall(id="a", name="f"))),
        say(message_pb2.ROLE_TOOL, Part(tool_result=result)),
    )
    assert (error.reason.name, error.details) == (
        "REQUEST_TOO_LARGE",
        {"param": "messages[1].content[0].image_url"},
    )


def test_a_pdf_has_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "MAX_PDF", 500)
    pdf = Part(file=message_pb2.FilePart(media=message_pb2.Media(data=bytes(501)), filename="a.pdf"))
    assert chat_body(call(say(USER, picture(501))), Report())
    error = refused(say(USER, text("Read"), pdf))
    assert (error.reason.name, error.details) == ("REQUEST_TOO_LARGE", {"param": "messages[0].content[1].file"})


def test_a_request_that_is_too_large_as_a_whole_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "MAX_REQUEST", 1000)
    error = refused(say(USER, text("x" * 1000)))
    assert (error.reason.name, error.details) == ("REQUEST_TOO_LARGE", {"param": "messages"})


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_too_large_is_never_sent(monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    monkeypatch.setattr(media, "MAX_REQUEST", 1000)
    asked = call(say(USER, picture(2000)))
    with Upstream(Answer.of({})) as upstream:
        adapter = create_adapter(ProviderSettings("gemini", "gemini", upstream.url, api_key="k"))
        with pytest.raises(GatewayError) as caught:
            await (anext(adapter.stream_chat(asked, CallContext())) if stream else adapter.chat(asked, CallContext()))
        await adapter.aclose()
    assert (caught.value.reason.name, upstream.requests) == ("REQUEST_TOO_LARGE", [])


def test_the_limits_are_those_of_the_api_today() -> None:
    assert (media.MAX_REQUEST, media.MAX_PDF) == (100 * 2**20, 50 * 2**20)
