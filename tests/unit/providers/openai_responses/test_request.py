"""Calls as bodies of OpenAI's Responses API, written from https://platform.openai.com/docs/api-reference/responses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.openai_compat.profiles import PROFILES, HostProfile, profile_of
from aigateway_providers.openai_responses.request import to_body

RESPONSES = message_pb2.DIALECT_OPENAI_RESPONSES
CHAT = message_pb2.DIALECT_OPENAI_CHAT
ELSEWHERE = profile_of("openai", "http://elsewhere/v1")
PNG = message_pb2.Media(data=b"abc", media_type="image/png")


def text(words: str, extra: str = "") -> message_pb2.Part:
    return message_pb2.Part(text=message_pb2.TextPart(text=words), extra_json=extra.encode())


def turn(role: str, *parts: message_pb2.Part, **more: Any) -> message_pb2.Message:
    return message_pb2.Message(role=message_pb2.Role.Value(f"ROLE_{role.upper()}"), parts=parts, **more)


def tool_call(call_id: str = "call_1", arguments: bytes = b'{"a":1}', extra: bytes = b"", **more: Any) -> Any:
    call = message_pb2.ToolCall(id=call_id, name="f", arguments=arguments, **more)
    return message_pb2.Part(tool_call=call, extra_json=extra)


def tool_result(*content: message_pb2.Part, call_id: str = "call_1", **more: Any) -> message_pb2.Part:
    return message_pb2.Part(tool_result=message_pb2.ToolResult(call_id=call_id, content=content, **more))


def reasoning(state: str, provider: str = "openai") -> message_pb2.Part:
    kept = message_pb2.ProviderState(provider=provider, state=state.encode())
    return message_pb2.Part(reasoning=message_pb2.ReasoningPart(redacted=True), provider_state=kept)


def native(json_text: str, dialect: message_pb2.Dialect.ValueType = RESPONSES) -> message_pb2.NativePart:
    return message_pb2.NativePart(dialect=dialect, json=json_text.encode())


def sent(
    *messages: message_pb2.Message, stream: bool = False, profile: HostProfile = ELSEWHERE, **fields: Any
) -> tuple[dict[str, Any], list[str]]:
    """The body, and the fields that are noted."""
    fields.setdefault("model", "gpt-4.1")
    call = chat_pb2.ChatCall(messages=messages or [turn("user", text("Hi"))], **fields)
    body, notes = to_body(call, profile, provider="openai", stream=stream)
    found: dict[str, Any] = json.loads(body)
    return found, [note.field for note in notes]


def items(*messages: message_pb2.Message, **fields: Any) -> Any:
    body, notes = sent(*messages, **fields)
    assert notes == []
    return body["input"]


def test_a_plain_call_is_stateless() -> None:
    assert sent() == (
        {"model": "gpt-4.1", "input": [{"role": "user", "content": "Hi"}], "store": False},
        [],
    )


@pytest.mark.parametrize(
    "model", ["gpt-5", "gpt-5.1-codex-max", "o3-pro", "o4-mini-deep-research", "codex-mini-latest"]
)
def test_a_model_that_reasons_is_asked_for_its_encrypted_reasoning(model: str) -> None:
    assert sent(model=model)[0]["include"] == ["reasoning.encrypted_content"]


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5-chat-latest", "gpt-5.3-chat-latest", "gpt-3.5-turbo"])
def test_a_model_that_does_not_reason_is_not(model: str) -> None:
    assert "include" not in sent(model=model)[0]


def test_what_the_caller_says_of_state_and_includes_wins() -> None:
    extra = b'{"store":true,"include":["web_search_call.results"],"n":12345678901234567890}'
    body, notes = sent(model="gpt-5", dialect=RESPONSES, extra_json=extra)
    assert (body["store"], body["include"], body["n"]) == (True, ["web_search_call.results"], 12345678901234567890)
    assert notes == []


@pytest.mark.parametrize("field", ["model", "input", "stream"])
def test_extra_fields_cannot_change_where_the_call_goes(field: str) -> None:
    with pytest.raises(GatewayError) as caught:
        sent(dialect=RESPONSES, extra_json=json.dumps({field: 1}).encode())
    assert caught.value.reason.name == "INVALID_REQUEST"


def test_instructions_go_back_to_their_own_field_and_system_messages_stay_items() -> None:
    system = turn("system", text("Be brief"), content_shape=message_pb2.CONTENT_SHAPE_STRING)
    body, _ = sent(turn("system", text("Be kind")), system, turn("user", text("Hi")), dialect=RESPONSES)
    assert body["instructions"] == "Be kind"
    assert body["input"] == [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}]
    body, _ = sent(turn("system", text("Be kind")), turn("developer", text("Be brief")), dialect=CHAT)
    assert "instructions" not in body
    assert [item["role"] for item in body["input"]] == ["system", "developer"]


def test_a_turn_becomes_its_items_in_order() -> None:
    state = '{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"e"}'
    search = '{"type":"web_search_call","id":"ws_1","status":"completed"}'
    assert items(
        turn(
            "assistant",
            reasoning(state),
            message_pb2.Part(native=native(search)),
            text("Let me", '{"id":"msg_1","status":"completed","phase":"commentary","annotations":[]}'),
            text(" look", '{"id":"msg_1","status":"completed","phase":"commentary","logprobs":[]}'),
            text("Done", '{"id":"msg_2","item":{"new":1}}'),
            tool_call(extra=b'{"id":"fc_1","status":"completed"}'),
        ),
        turn("tool", tool_result(text("42"))),
        dialect=RESPONSES,
    ) == [
        json.loads(state),
        json.loads(search),
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_1",
            "status": "completed",
            "phase": "commentary",
            "content": [
                {"type": "output_text", "text": "Let me", "annotations": []},
                {"type": "output_text", "text": " look", "logprobs": []},
            ],
        },
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_2",
            "new": 1,
            "content": [{"type": "output_text", "text": "Done"}],
        },
        {
            "type": "function_call",
            "call_id": "call_1",
            "name": "f",
            "arguments": '{"a":1}',
            "id": "fc_1",
            "status": "completed",
        },
        {"type": "function_call_output", "call_id": "call_1", "output": "42"},
    ]


def test_what_a_chat_callers_message_cites_goes_with_its_text() -> None:
    cited = {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 2}}
    flat = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 2}

    def said(*annotations: Any) -> message_pb2.Message:
        extra = json.dumps({"annotations": annotations}).encode()
        return turn("assistant", text("Hi"), extra_json=extra)

    whole = [{"type": "output_text", "text": "Hi", "annotations": [flat]}]
    assert items(said(cited), dialect=CHAT) == [{"role": "assistant", "content": whole}]
    assert items(said(), dialect=CHAT) == [{"role": "assistant", "content": "Hi"}]
    for strange in (cited | {"type": "file"}, "x", {"type": "url_citation"}):
        body, notes = sent(said(strange), dialect=CHAT)
        assert body["input"] == [{"role": "assistant", "content": "Hi"}]
        assert notes == ["messages[0].annotations"]


def test_another_providers_state_is_never_sent() -> None:
    signed = message_pb2.Part(
        text=message_pb2.TextPart(), provider_state=message_pb2.ProviderState(provider="gemini", state=b"x")
    )
    assert items(turn("assistant", reasoning("sig", "anthropic"), text("Hi"), signed)) == [
        {"role": "assistant", "content": "Hi"}
    ]


def test_reasoning_without_its_state_is_reported() -> None:
    part = message_pb2.Part(reasoning=message_pb2.ReasoningPart(text="hm"))
    body, notes = sent(turn("assistant", part, text("Hi")))
    assert (body["input"], notes) == ([{"role": "assistant", "content": "Hi"}], ["messages[0].reasoning_content"])


def test_pieces_of_all_kinds() -> None:
    pdf = message_pb2.FilePart(media=message_pb2.Media(data=b"abc", media_type="application/pdf"), filename="a.pdf")
    assert items(
        turn(
            "user",
            text("See", '{"prompt_cache_breakpoint":true}'),
            message_pb2.Part(image=message_pb2.ImagePart(media=PNG, detail="low")),
            message_pb2.Part(image=message_pb2.ImagePart(media=message_pb2.Media(url="https://a/b.png"))),
            message_pb2.Part(image=message_pb2.ImagePart(media=message_pb2.Media(file_id="file-1"))),
            message_pb2.Part(file=pdf),
            message_pb2.Part(file=message_pb2.FilePart(media=message_pb2.Media(url="https://a/b.pdf"))),
            message_pb2.Part(file=message_pb2.FilePart(media=message_pb2.Media(file_id="file-2"))),
            message_pb2.Part(native=native('{"type":"input_video","x":1}')),
        ),
        dialect=RESPONSES,
    ) == [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "See", "prompt_cache_breakpoint": True},
                {"type": "input_image", "image_url": "data:image/png;base64,YWJj", "detail": "low"},
                {"type": "input_image", "image_url": "https://a/b.png"},
                {"type": "input_image", "file_id": "file-1"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,YWJj"},
                {"type": "input_file", "file_url": "https://a/b.pdf"},
                {"type": "input_file", "file_id": "file-2"},
                {"type": "input_video", "x": 1},
            ],
        }
    ]


def test_sound_is_refused_clearly() -> None:
    sound = message_pb2.Part(audio=message_pb2.AudioPart(media=message_pb2.Media(data=b"a"), format="wav"))
    with pytest.raises(GatewayError) as caught:
        sent(turn("user", sound))
    assert caught.value.reason.name == "UNSUPPORTED"


def test_a_refusal_goes_back_as_one() -> None:
    refusal = message_pb2.Part(refusal=message_pb2.RefusalPart(text="No"))
    assert items(turn("assistant", refusal)) == [
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]}
    ]


def test_tool_results_keep_pictures_and_their_shape() -> None:
    picture = message_pb2.Part(image=message_pb2.ImagePart(media=PNG))
    listed = tool_result(text("42"), content_shape=message_pb2.CONTENT_SHAPE_LIST)
    found = items(turn("tool", tool_result(text("a"), picture)), turn("tool", listed), turn("tool", tool_result()))
    assert [item["output"] for item in found] == [
        [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:image/png;base64,YWJj"}],
        [{"type": "input_text", "text": "42"}],
        "",
    ]


def test_a_custom_tools_call_and_result_are_items_of_their_own_kind() -> None:
    call = tool_call(arguments=b"free text", type=message_pb2.TOOL_CALL_TYPE_CUSTOM)
    assert items(turn("assistant", call), turn("tool", tool_result(text("ok")))) == [
        {"type": "custom_tool_call", "call_id": "call_1", "name": "f", "input": "free text"},
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": "ok"},
    ]


def test_a_failed_tool_and_a_name_are_reported() -> None:
    _, notes = sent(turn("tool", tool_result(text("x"), is_error=True)), turn("user", text("Hi"), name="Ada"))
    assert notes == ["messages[0].is_error", "messages[1].name"]


def test_a_result_that_says_it_did_not_fail_loses_nothing() -> None:
    assert sent(turn("tool", tool_result(text("x"), is_error=False)))[1] == []


def test_functions_of_other_dialects_are_not_made_strict_by_silence() -> None:
    tool = message_pb2.Tool(function=message_pb2.FunctionTool(name="f"))
    schema = message_pb2.Tool(
        function=message_pb2.FunctionTool(name="g", description="d", parameters_json=b'{"z":1,"a":2}', strict=True)
    )
    assert sent(tools=[tool, schema], dialect=CHAT)[0]["tools"] == [
        {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": False},
        {"type": "function", "name": "g", "description": "d", "parameters": {"z": 1, "a": 2}, "strict": True},
    ]
    deferred = message_pb2.Tool(function=message_pb2.FunctionTool(name="f"), extra_json=b'{"defer_loading":true}')
    own = message_pb2.Tool(native=native('{"type":"web_search"}'))
    assert sent(tools=[deferred, own], dialect=RESPONSES)[0]["tools"] == [
        {"type": "function", "name": "f", "defer_loading": True},
        {"type": "web_search"},
    ]


def test_a_chat_callers_custom_tool_is_written_flat() -> None:
    grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: A"}}
    tool = {"type": "custom", "custom": {"name": "c", "format": grammar}}
    choice = message_pb2.ToolChoice(native=native('{"type":"custom","custom":{"name":"c"}}', CHAT))
    body, notes = sent(
        tools=[message_pb2.Tool(native=native(json.dumps(tool), CHAT))], tool_choice=choice, dialect=CHAT
    )
    form = {"type": "grammar", "syntax": "lark", "definition": "start: A"}
    assert (body["tools"], notes) == ([{"type": "custom", "name": "c", "format": form}], [])
    assert body["tool_choice"] == {"type": "custom", "name": "c"}


def test_tools_and_parts_of_another_provider_are_reported() -> None:
    foreign = native('{"type":"web_search_20250305"}', message_pb2.DIALECT_ANTHROPIC_MESSAGES)
    body, notes = sent(
        turn("assistant", message_pb2.Part(native=foreign), text("Hi")), tools=[message_pb2.Tool(native=foreign)]
    )
    assert notes == ["messages[0].content[0]", "tools[0]"]
    assert "tools" not in body


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        (message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_AUTO), "auto"),
        (message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_NONE), "none"),
        (message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED), "required"),
        (
            message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED, allowed_tools=["f"], named=True),
            {"type": "function", "name": "f"},
        ),
        (
            message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_AUTO, allowed_tools=["f"]),
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        ),
        (message_pb2.ToolChoice(native=native('{"type":"image_generation"}')), {"type": "image_generation"}),
    ],
)
def test_every_tool_choice_is_said_in_its_words(choice: message_pb2.ToolChoice, written: object) -> None:
    assert sent(tool_choice=choice)[0]["tool_choice"] == written


def test_limits_formats_and_reasoning() -> None:
    body, notes = sent(
        stream=True,
        model="gpt-5-pro",
        options=chat_pb2.GenerationOptions(
            max_output_tokens=9, temperature=0.5, top_p=0.25, logprobs=True, top_logprobs=2, n=1, stop=["x"], seed=1
        ),
        parallel_tool_calls=False,
        reasoning=chat_pb2.ReasoningOptions(effort="low", include=True),
        response_format=chat_pb2.ResponseFormat(
            type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA, name="n", schema_json=b'{"type":"object"}', strict=True
        ),
        user="u",
        dialect=CHAT,
        extra_json=b'{"metadata":{"a":"b"},"verbosity":"low","web_search_options":{}}',
    )
    assert body == {
        "model": "gpt-5-pro",
        "input": [{"role": "user", "content": "Hi"}],
        "store": False,
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "max_output_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.25,
        "top_logprobs": 2,
        "parallel_tool_calls": False,
        "text": {
            "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True},
            "verbosity": "low",
        },
        "reasoning": {"effort": "low", "summary": "auto"},
        "user": "u",
        "metadata": {"a": "b"},
        "stream": True,
    }
    assert notes == ["seed", "stop", "web_search_options"]


def test_a_model_that_does_not_reason_is_not_told_how_and_the_caller_is() -> None:
    asked = chat_pb2.ReasoningOptions(effort="high", summary="auto")
    body, notes = sent(model="gpt-4o", profile=PROFILES["openai"], reasoning=asked, dialect=RESPONSES)
    assert ("reasoning" in body, notes) == (False, ["reasoning_effort", "reasoning.summary"])
    none = chat_pb2.ReasoningOptions(effort="none")
    body, notes = sent(model="gpt-4o", profile=PROFILES["openai"], reasoning=none)
    assert ("reasoning" in body, notes) == (False, [])


@pytest.mark.parametrize(
    ("model", "effort", "kept"),
    [
        ("gpt-5-pro", "", False),
        ("o3", "low", False),
        ("gpt-5.1", "", True),
        ("gpt-5.1", "none", True),
        ("gpt-5.1", "low", False),
        ("gpt-4o", "", True),
        ("gpt-5.9", "low", True),
    ],
)
def test_sampling_that_a_reasoning_model_refuses_is_left_out_and_said(model: str, effort: str, *, kept: bool) -> None:
    options = chat_pb2.GenerationOptions(temperature=0.5, top_p=0.25, logprobs=True, top_logprobs=2)
    fields: dict[str, Any] = {"reasoning": chat_pb2.ReasoningOptions(effort=effort)} if effort else {}
    body, notes = sent(model=model, profile=PROFILES["openai"], options=options, dialect=CHAT, **fields)
    sampling = {"temperature", "top_p", "top_logprobs"}
    assert sampling & set(body) == (sampling if kept else set())
    assert ("message.output_text.logprobs" in body.get("include", [])) == kept
    assert sorted(notes) == ([] if kept else ["logprobs", "temperature", "top_logprobs", "top_p"])


def test_an_effort_that_the_family_lacks_is_the_nearest_it_has() -> None:
    body, notes = sent(
        model="gpt-5.1", profile=PROFILES["openai"], reasoning=chat_pb2.ReasoningOptions(effort="max", include=True)
    )
    assert (body["reasoning"], notes) == ({"effort": "high", "summary": "auto"}, ["reasoning_effort"])


def test_several_answers_are_refused_and_strict_callers_get_no_less_than_asked() -> None:
    with pytest.raises(GatewayError) as caught:
        sent(options=chat_pb2.GenerationOptions(n=2))
    assert caught.value.reason.name == "UNSUPPORTED"
    with pytest.raises(GatewayError) as caught:
        sent(options=chat_pb2.GenerationOptions(seed=2), translation_policy=chat_pb2.TRANSLATION_POLICY_STRICT)
    assert caught.value.reason.name == "TRANSLATION_REFUSED"


def test_provider_options_are_merged_and_other_dialects_extras_reported() -> None:
    body, notes = sent(
        provider_options={"openai": b'{"truncation":"auto"}', "groq": b'{"x":1}'},
        dialect=message_pb2.DIALECT_ANTHROPIC_MESSAGES,
        extra_json=b'{"container":"c"}',
    )
    assert (body["truncation"], notes) == ("auto", ["container"])
    assert "x" not in body
