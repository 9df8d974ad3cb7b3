"""What is sent to Gemini: written from https://ai.google.dev/api/generate-content and the guides it links."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.gemini import media
from aigateway_providers.gemini.request import chat_body
from aigateway_providers.media_urls import wanted
from aigateway_providers.report import Report

FLASH25 = "gemini-2.5-flash"
PRO3 = "gemini-3-pro-preview"
USER = message_pb2.ROLE_USER
ASSISTANT = message_pb2.ROLE_ASSISTANT
TOOL = message_pb2.ROLE_TOOL

Part = message_pb2.Part
Media = message_pb2.Media


def text(value: str, signature: str = "", provider: str = "gemini") -> Part:
    return Part(text=message_pb2.TextPart(text=value), provider_state=state(signature, provider))


def state(signature: str, provider: str = "gemini") -> message_pb2.ProviderState | None:
    return message_pb2.ProviderState(provider=provider, state=signature.encode()) if signature else None


def tool_call(call_id: str, name: str, arguments: str = "{}", signature: str = "", provider: str = "gemini") -> Part:
    call = message_pb2.ToolCall(id=call_id, name=name, arguments=arguments.encode())
    return Part(tool_call=call, provider_state=state(signature, provider))


def result(call_id: str, *content: Part, is_error: bool | None = None) -> message_pb2.Message:
    answer = message_pb2.ToolResult(call_id=call_id, content=content, is_error=is_error)
    return message_pb2.Message(role=TOOL, parts=[Part(tool_result=answer)])


def say(role: message_pb2.Role.ValueType, *parts: Part | str) -> message_pb2.Message:
    return message_pb2.Message(role=role, parts=[text(part) if isinstance(part, str) else part for part in parts])


def call(*messages: message_pb2.Message, model: str = FLASH25, **fields: Any) -> chat_pb2.ChatCall:
    fields.setdefault("dialect", message_pb2.DIALECT_OPENAI_CHAT)
    return chat_pb2.ChatCall(model=model, messages=messages or [say(USER, "Hi")], **fields)


def sent(asked: chat_pb2.ChatCall) -> tuple[Any, dict[str, str]]:
    """The body, and the report as field to action."""
    report = Report()
    body = json.loads(chat_body(asked, report))
    actions = {note.field: chat_pb2.TranslationAction.Name(note.action)[19:].lower() for note in report.notes()}
    return body, actions


def contents(*messages: message_pb2.Message, model: str = FLASH25) -> Any:
    return sent(call(*messages, model=model))[0]["contents"]


def config(**fields: Any) -> Any:
    return sent(call(**fields))[0]["generationConfig"]


def refused(asked: chat_pb2.ChatCall) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        chat_body(asked, Report())
    return caught.value


def function(name: str, parameters: str = "", **fields: Any) -> message_pb2.Tool:
    tool = message_pb2.FunctionTool(name=name, parameters_json=parameters.encode(), **fields)
    return message_pb2.Tool(function=tool)


def test_a_plain_question_is_one_user_content() -> None:
    assert sent(call()) == ({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}, {})


def test_system_and_developer_messages_join_in_order_in_the_system_instruction() -> None:
    body, report = sent(
        call(
            say(message_pb2.ROLE_SYSTEM, "Be brief."),
            say(USER, "Hi"),
            say(message_pb2.ROLE_DEVELOPER, "Speak French.", ""),
        )
    )
    assert body == {
        "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "Speak French."}]},
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
    }
    assert report == {}


def test_a_picture_among_the_instructions_is_refused_by_name() -> None:
    image = Part(image=message_pb2.ImagePart(media=Media(data=b"x", media_type="image/png")))
    error = refused(call(say(message_pb2.ROLE_SYSTEM, image), say(USER, "Hi")))
    assert (error.reason.name, error.details["param"]) == ("UNSUPPORTED", "messages[0].content[0]")


def test_roles_are_user_and_model_and_a_history_that_opens_with_the_model_is_left_so() -> None:
    assert contents(say(ASSISTANT, "Hello"), say(USER, "Hi")) == [
        {"role": "model", "parts": [{"text": "Hello"}]},
        {"role": "user", "parts": [{"text": "Hi"}]},
    ]


def test_an_unknown_role_is_refused_by_name() -> None:
    assert refused(call(say(message_pb2.ROLE_UNSPECIFIED, "?"))).details == {"param": "messages[0].role"}


def test_empty_texts_are_left_out_but_a_turn_of_the_user_stays() -> None:
    assert contents(say(USER, "", "Hi", ""), say(ASSISTANT), say(USER, "")) == [
        {"role": "user", "parts": [{"text": "Hi"}]},
        {"role": "user", "parts": [{"text": ""}]},
    ]


def test_text_beside_tool_calls_is_kept() -> None:
    turn = contents(say(USER, "Hi"), say(ASSISTANT, "Let me see.", tool_call("a", "look")))[1]
    assert turn == {
        "role": "model",
        "parts": [{"text": "Let me see."}, {"functionCall": {"name": "look", "args": {}, "id": "a"}}],
    }


def test_argument_text_becomes_an_object_with_big_integers_and_key_order_intact() -> None:
    report = Report()
    body = chat_body(call(say(ASSISTANT, tool_call("a", "f", '{"z": 123456789012345678901234567890, "a": 1}'))), report)
    assert b'"args":{"z": 123456789012345678901234567890, "a": 1}' in body


@pytest.mark.parametrize("arguments", ["{", "[1]", "null", '"x"'])
def test_arguments_that_are_no_object_are_refused_by_path(arguments: str) -> None:
    error = refused(call(say(ASSISTANT, "x", tool_call("a", "f"), tool_call("b", "f", arguments))))
    assert (error.reason.name, error.details["param"]) == (
        "INVALID_REQUEST",
        "messages[0].tool_calls[1].function.arguments",
    )


def test_parallel_results_share_one_user_content_and_find_their_function_by_call_id() -> None:
    turns = contents(
        say(USER, "Weather?"),
        say(ASSISTANT, tool_call("a", "paris"), tool_call("b", "rome")),
        result("b", text("sunny")),
        result("a", text("rain")),
        say(USER, "And?"),
    )
    assert turns[2:] == [
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "rome", "id": "b", "response": {"result": "sunny"}}},
                {"functionResponse": {"name": "paris", "id": "a", "response": {"result": "rain"}}},
            ],
        },
        {"role": "user", "parts": [{"text": "And?"}]},
    ]


def test_results_of_later_steps_have_contents_of_their_own() -> None:
    turns = contents(
        say(ASSISTANT, tool_call("a", "f")),
        result("a", text("1")),
        say(ASSISTANT, tool_call("b", "g")),
        result("b", text("2")),
    )
    assert [turn["role"] for turn in turns] == ["model", "user", "model", "user"]


def test_a_result_without_an_earlier_call_is_refused_by_name() -> None:
    error = refused(call(say(USER, "Hi"), result("nope", text("1"))))
    assert (error.reason.name, error.details["param"]) == ("INVALID_REQUEST", "messages[1].tool_call_id")


@pytest.mark.parametrize(
    ("said", "response"),
    [
        ("sunny", {"result": "sunny"}),
        ("", {"result": ""}),
        ("[1, 2]", {"result": [1, 2]}),
        ("42", {"result": "42"}),
        ("{broken", {"result": "{broken"}),
        ('{"degrees": 20}', {"degrees": 20}),
    ],
)
def test_a_result_that_is_no_object_is_wrapped_into_one(said: str, response: object) -> None:
    turns = contents(say(ASSISTANT, tool_call("a", "f")), result("a", text(said)))
    assert turns[1]["parts"][0]["functionResponse"]["response"] == response


def test_a_failed_result_is_told_by_its_flag_and_never_guessed() -> None:
    history = say(ASSISTANT, tool_call("a", "f"))
    failed = contents(history, result("a", text("no such city"), is_error=True))
    guessed = contents(history, result("a", text('{"error": "x"}')))
    assert failed[1]["parts"][0]["functionResponse"]["response"] == {"error": "no such city"}
    assert guessed[1]["parts"][0]["functionResponse"]["response"] == {"error": "x"}


def test_media_of_a_result_go_inside_it_for_gemini_3_and_follow_it_for_older_models() -> None:
    pdf = Part(file=message_pb2.FilePart(media=Media(data=b"%PDF", media_type="application/pdf")))
    history = (say(ASSISTANT, tool_call("a", "f"), tool_call("b", "g")), result("a", pdf), result("b", text("2"), pdf))
    inline = {"inlineData": {"mimeType": "application/pdf", "data": "JVBERg=="}}

    def response(name: str, key: str, value: object, **more: object) -> object:
        return {"functionResponse": {"name": name, "id": key, "response": value, **more}}

    assert contents(*history, model=PRO3)[1:] == [
        {
            "role": "user",
            "parts": [response("f", "a", {}, parts=[inline]), response("g", "b", {"result": "2"}, parts=[inline])],
        }
    ]
    body, report = sent(call(*history))
    assert body["contents"][1:] == [
        {"role": "user", "parts": [response("f", "a", {}), response("g", "b", {"result": "2"})]},
        {"role": "user", "parts": [inline, inline]},
    ]
    assert report == {"messages[1].content": "emulated", "messages[2].content": "emulated"}


def test_tools_are_function_declarations_with_their_whole_json_schema() -> None:
    schema = (
        '{"type":"object","$defs":{"c":{"const":1}},"properties":{"a":{"$ref":"#/$defs/c"}},'
        '"additionalProperties":false}'
    )
    body, report = sent(call(tools=[function("f", schema, description="Does f."), function("g")]))
    assert body["tools"] == [
        {
            "functionDeclarations": [
                {"name": "f", "description": "Does f.", "parametersJsonSchema": json.loads(schema)},
                {"name": "g"},
            ]
        }
    ]
    assert report == {"tools[0].function.parameters.$defs.c.const": "dropped"}


def test_a_schema_that_is_no_object_is_refused_by_name() -> None:
    assert refused(call(tools=[function("f", "[]")])).details == {"param": "tools[0].function.parameters"}


def test_strict_functions_are_reported() -> None:
    assert sent(call(tools=[function("f", strict=True)]))[1] == {"tools[0].function.strict": "dropped"}


def test_tools_of_google_pass_whole_and_those_of_others_are_reported() -> None:
    google = message_pb2.NativePart(dialect=message_pb2.DIALECT_GEMINI, json=b'{"googleSearch": {}}')
    other = message_pb2.NativePart(dialect=message_pb2.DIALECT_OPENAI_CHAT, json=b'{"type": "custom"}')
    tools = [message_pb2.Tool(native=google), message_pb2.Tool(native=other), function("f")]
    body, report = sent(call(tools=tools))
    assert body["tools"] == [{"googleSearch": {}}, {"functionDeclarations": [{"name": "f"}]}]
    assert report == {"tools[1]": "dropped"}


@pytest.mark.parametrize(
    ("mode", "allowed", "expected"),
    [
        ("AUTO", [], {"mode": "AUTO"}),
        ("NONE", [], {"mode": "NONE"}),
        ("REQUIRED", [], {"mode": "ANY"}),
        ("REQUIRED", ["f"], {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        ("AUTO", ["f", "g"], {"mode": "VALIDATED", "allowedFunctionNames": ["f", "g"]}),
    ],
)
def test_tool_choice_is_the_function_calling_mode(mode: str, allowed: list[str], expected: object) -> None:
    choice = message_pb2.ToolChoice(
        mode=message_pb2.ToolChoiceMode.Value(f"TOOL_CHOICE_MODE_{mode}"), allowed_tools=allowed
    )
    body, report = sent(call(tools=[function("f"), function("g")], tool_choice=choice))
    assert body["toolConfig"] == {"functionCallingConfig": expected}
    assert report == {}


def test_no_parallel_calls_is_reported_and_strict_policy_refuses_it() -> None:
    assert sent(call(parallel_tool_calls=False))[1] == {"parallel_tool_calls": "dropped"}
    report = Report(chat_pb2.TRANSLATION_POLICY_STRICT)
    chat_body(call(parallel_tool_calls=False), report)
    with pytest.raises(GatewayError) as caught:
        report.settle()
    assert caught.value.details == {"param": "parallel_tool_calls"}


def test_a_json_schema_answer_sets_mime_type_and_the_whole_schema() -> None:
    schema = b'{"type":"object","properties":{"n":{"type":"integer","maximum":99999999999999999999}}}'
    form = chat_pb2.ResponseFormat(
        type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA, name="n", schema_json=schema, strict=True
    )
    report = Report()
    body = chat_body(call(response_format=form), report)
    assert b'"responseJsonSchema":' + schema in body
    assert json.loads(body)["generationConfig"]["responseMimeType"] == "application/json"
    assert report.notes() == []


def test_a_json_object_answer_sets_the_mime_type_only() -> None:
    form = chat_pb2.ResponseFormat(type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT)
    assert config(response_format=form) == {"responseMimeType": "application/json"}


def test_limits_and_sampling_have_their_gemini_names() -> None:
    options = chat_pb2.GenerationOptions(
        max_output_tokens=100,
        temperature=1.5,
        top_p=0.9,
        top_k=40,
        stop=["END", "STOP"],
        seed=7,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        n=2,
        logprobs=True,
        top_logprobs=3,
    )
    assert config(options=options) == {
        "maxOutputTokens": 100,
        "temperature": 1.5,
        "topP": 0.9,
        "topK": 40,
        "stopSequences": ["END", "STOP"],
        "seed": 7,
        "presencePenalty": 0.5,
        "frequencyPenalty": -0.5,
        "candidateCount": 2,
        "responseLogprobs": True,
        "logprobs": 3,
    }


def test_more_stop_texts_than_gemini_takes_are_all_sent_for_it_to_refuse() -> None:
    stops = [str(number) for number in range(7)]
    body, report = sent(call(say(USER, "Hi"), options=chat_pb2.GenerationOptions(stop=stops)))
    assert (body["generationConfig"], report) == ({"stopSequences": stops}, {})


def test_pictures_sound_and_documents_are_inline_data() -> None:
    turn = contents(
        say(
            USER,
            Part(image=message_pb2.ImagePart(media=Media(data=b"\x89PNG", media_type="image/png"), detail="auto")),
            Part(audio=message_pb2.AudioPart(media=Media(data=b"RIFF"), format="wav")),
            Part(file=message_pb2.FilePart(media=Media(data=b"%PDF"), filename="a.pdf")),
        )
    )
    assert turn[0]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}},
        {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}},
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERg=="}},
    ]


def test_the_detail_of_a_picture_is_reported() -> None:
    image = message_pb2.ImagePart(media=Media(data=b"x", media_type="image/png"), detail="low")
    assert sent(call(say(USER, Part(image=image))))[1] == {"messages[0].content[0].image_url.detail": "dropped"}


@pytest.mark.parametrize(
    "uri",
    [
        "https://generativelanguage.googleapis.com/v1beta/files/abc",
        "https://www.youtube.com/watch?v=9hE5-98ZeCg",
        "gs://bucket/cat.png",
    ],
)
def test_addresses_that_gemini_reads_are_file_data(uri: str) -> None:
    image = message_pb2.ImagePart(media=Media(url=uri))
    assert contents(say(USER, Part(image=image)))[0]["parts"] == [{"fileData": {"fileUri": uri}}]


@pytest.mark.parametrize(
    ("address", "fetched"),
    [
        ("https://example.com/cat.png", True),
        ("HTTPS://example.com/cat.png", True),
        ("http://10.0.0.7/cat.png", True),
        ("https://generativelanguage.googleapis.com/v1beta/files/abc", False),
        ("https://youtu.be/9hE5-98ZeCg", False),
        ("gs://bucket/cat.png", False),
        ("ftp://example.com/cat.png", False),
    ],
)
def test_the_gateway_itself_fetches_what_the_web_has_under_its_own_guard(address: str, *, fetched: bool) -> None:
    """No address of the web is passed on: a private one would be refused by the guard, never handed to Google."""
    image = Part(image=message_pb2.ImagePart(media=Media(url=address)))
    asked = call(say(USER, image))
    assert [item.url for item in wanted(asked, media.TAKES)] == [address] * fetched
    if fetched:
        assert refused(asked).reason.name == "UNSUPPORTED"  # had nobody fetched it


def test_other_addresses_are_refused_by_name_and_never_dropped() -> None:
    image = message_pb2.ImagePart(media=Media(url="ftp://example.com/cat.png"))
    error = refused(call(say(USER, "Look", Part(image=image))))
    assert "`https://`" in error.message
    assert (error.reason.name, error.details["param"]) == ("UNSUPPORTED", "messages[0].content[1].image_url")


@pytest.mark.parametrize("file_id", ["abc", "files/abc", "https://generativelanguage.googleapis.com/v1beta/files/abc"])
def test_stored_files_are_file_data(file_id: str) -> None:
    file = message_pb2.FilePart(media=Media(file_id=file_id), filename="a.mp3")
    uri = "https://generativelanguage.googleapis.com/v1beta/files/abc"
    assert contents(say(USER, Part(file=file)))[0]["parts"] == [
        {"fileData": {"mimeType": "audio/mpeg", "fileUri": uri}}
    ]


def test_thought_signatures_return_in_place_and_unchanged() -> None:
    thought = Part(reasoning=message_pb2.ReasoningPart(text="Hm."), provider_state=state("sig+0/="))
    turn = contents(
        say(ASSISTANT, thought, text("Yes", "sig1"), tool_call("a", "f", signature="sig2"), text("", "sig3")),
        model=PRO3,
    )
    assert turn[0]["parts"] == [
        {"text": "Hm.", "thought": True, "thoughtSignature": "sig+0/="},
        {"text": "Yes", "thoughtSignature": "sig1"},
        {"functionCall": {"name": "f", "args": {}, "id": "a"}, "thoughtSignature": "sig2"},
        {"text": "", "thoughtSignature": "sig3"},
    ]


def test_state_of_other_providers_is_never_sent() -> None:
    thought = Part(reasoning=message_pb2.ReasoningPart(text="Hm."), provider_state=state("claude", "anthropic"))
    body, report = sent(
        call(say(ASSISTANT, thought, text("Yes", "x", "openai"), tool_call("a", "f", signature="y", provider="acme")))
    )
    assert body["contents"][0]["parts"] == [
        {"text": "Yes"},
        {"functionCall": {"name": "f", "args": {}, "id": "a"}},
    ]
    assert report == {"messages[0].reasoning_content": "dropped"}


def test_foreign_tool_calls_are_marked_for_gemini_3_on_the_first_call_of_each_step() -> None:
    turns = contents(
        say(USER, "Go"),
        say(ASSISTANT, tool_call("a", "f"), tool_call("b", "f")),
        result("a", text("1")),
        result("b", text("2")),
        say(ASSISTANT, tool_call("c", "f", signature="own")),
        result("c", text("3")),
        say(ASSISTANT, tool_call("d", "f", signature="foreign", provider="anthropic")),
        model=PRO3,
    )
    signatures = [part.get("thoughtSignature") for turn in turns if turn["role"] == "model" for part in turn["parts"]]
    assert signatures == ["skip_thought_signature_validator", None, "own", "skip_thought_signature_validator"]


def test_foreign_tool_calls_are_not_marked_for_older_models() -> None:
    assert "thoughtSignature" not in json.dumps(contents(say(ASSISTANT, tool_call("a", "f"))))


def test_native_parts_go_back_whole_and_those_of_others_are_reported() -> None:
    code = b'{"executableCode":{"language":"PYTHON","code":"1+1"},"thoughtSignature":"s"}'
    own = Part(native=message_pb2.NativePart(dialect=message_pb2.DIALECT_GEMINI, json=code))
    other = Part(native=message_pb2.NativePart(dialect=message_pb2.DIALECT_ANTHROPIC_MESSAGES, json=b"{}"))
    body, report = sent(call(say(ASSISTANT, own, other, "2")))
    assert body["contents"][0]["parts"] == [json.loads(code), {"text": "2"}]
    assert report == {"messages[0].content[1]": "dropped"}


def test_what_gemini_has_no_field_for_is_reported() -> None:
    message = say(USER, "Hi")
    message.name = "bob"
    message.parts[0].cache_control.SetInParent()
    message.extra_json = b'{"x": 1, "annotations": [], "audio": null}'
    asked = call(message, user="u", extra_json=b'{"service_tier": "flex"}')
    asked.cache_control.SetInParent()
    assert sent(asked) == (
        {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
        {
            "messages[0].name": "dropped",
            "messages[0].content[0].cache_control": "dropped",
            "messages[0].x": "dropped",
            "user": "dropped",
            "cache_control": "dropped",
            "service_tier": "dropped",
        },
    )


def test_provider_options_are_merged_into_the_body_and_join_the_tools() -> None:
    options = {
        "cachedContent": "cachedContents/1",
        "safetySettings": [{"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "BLOCK_NONE"}],
        "generation_config": {"responseModalities": ["TEXT"]},
        "toolConfig": {"includeServerSideToolInvocations": True},
        "tools": [{"googleSearch": {}}],
    }
    body, report = sent(
        call(
            tools=[function("f")],
            tool_choice=message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_AUTO),
            options=chat_pb2.GenerationOptions(temperature=0),
            provider_options={"gemini": json.dumps(options).encode(), "anthropic": b'{"x": 1}'},
        )
    )
    assert body == {
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "cachedContent": "cachedContents/1",
        "safetySettings": options["safetySettings"],
        "generationConfig": {"temperature": 0.0, "responseModalities": ["TEXT"]},
        "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}, "includeServerSideToolInvocations": True},
        "tools": [{"googleSearch": {}}, {"functionDeclarations": [{"name": "f"}]}],
    }
    assert report == {}


def test_extra_fields_of_a_gemini_caller_pass_at_every_level() -> None:
    message = say(USER, "Hi")
    message.parts[0].extra_json = b'{"videoMetadata": {"fps": 1}}'
    tool = function("f")
    tool.extra_json = b'{"behavior": "BLOCKING"}'
    body, report = sent(
        call(message, tools=[tool], dialect=message_pb2.DIALECT_GEMINI, extra_json=b'{"cachedContent": "c/1"}')
    )
    assert body == {
        "contents": [{"role": "user", "parts": [{"text": "Hi", "videoMetadata": {"fps": 1}}]}],
        "tools": [{"functionDeclarations": [{"name": "f", "behavior": "BLOCKING"}]}],
        "cachedContent": "c/1",
    }
    assert report == {}


def test_provider_options_that_are_no_object_are_refused_by_name() -> None:
    assert refused(call(provider_options={"gemini": b"[]"})).details == {"param": "provider_options.gemini"}


def test_a_budget_and_a_level_never_meet_and_the_explicit_one_wins() -> None:
    asked = call(
        model=PRO3,
        reasoning=chat_pb2.ReasoningOptions(effort="high"),
        provider_options={"gemini": b'{"generationConfig": {"thinkingConfig": {"thinkingBudget": 128}}}'},
    )
    assert sent(asked)[0]["generationConfig"] == {"thinkingConfig": {"thinkingBudget": 128}}


def test_a_custom_tool_call_of_openai_is_told_as_an_argument() -> None:
    custom = message_pb2.ToolCall(id="a", name="sql", arguments=b"SELECT 1", type=message_pb2.TOOL_CALL_TYPE_CUSTOM)
    body, report = sent(call(say(ASSISTANT, Part(tool_call=custom))))
    assert body["contents"][0]["parts"] == [{"functionCall": {"name": "sql", "args": {"input": "SELECT 1"}, "id": "a"}}]
    assert report == {"messages[0].tool_calls[0]": "emulated"}


def test_earlier_audio_of_another_provider_is_told_by_its_transcript() -> None:
    told = Part(audio=message_pb2.AudioPart(id="audio_1", transcript="Hello."))
    lost = Part(audio=message_pb2.AudioPart(id="audio_2"))
    body, report = sent(call(say(ASSISTANT, told, lost)))
    assert body["contents"] == [{"role": "model", "parts": [{"text": "Hello."}]}]
    assert report == {"messages[0].content[0]": "emulated", "messages[0].content[1]": "dropped"}


def test_a_level_of_the_caller_never_meets_a_budget() -> None:
    reasoning = chat_pb2.ReasoningOptions(effort="low")
    level = {"gemini": b'{"generation_config": {"thinking_config": {"thinking_level": "high"}}}'}
    budget = {"gemini": b'{"generationConfig": {"thinkingConfig": {"thinkingBudget": 5}}}'}
    assert config(reasoning=reasoning, provider_options=level) == {"thinkingConfig": {"thinking_level": "high"}}
    assert config(model=PRO3, reasoning=reasoning, provider_options=budget) == {"thinkingConfig": {"thinkingBudget": 5}}


@pytest.mark.parametrize("reasoning", [None, chat_pb2.ReasoningOptions(effort="low")])
@pytest.mark.parametrize("temperature", [None, 0.5])
def test_a_caller_who_sets_both_a_level_and_a_budget_is_refused(
    reasoning: chat_pb2.ReasoningOptions | None, temperature: float | None
) -> None:
    options = b'{"generation_config": {"thinkingConfig": {"thinkingBudget": 5, "thinking_level": "low"}}}'
    error = refused(
        call(
            reasoning=reasoning,
            options=chat_pb2.GenerationOptions(temperature=temperature),
            provider_options={"gemini": options},
        )
    )
    assert (error.reason.name, error.details) == ("INVALID_REQUEST", {"param": "provider_options.gemini"})


def test_the_limit_of_the_answer_bounds_the_reasoning() -> None:
    asked = call(
        options=chat_pb2.GenerationOptions(max_output_tokens=4000),
        reasoning=chat_pb2.ReasoningOptions(budget_tokens=4000, include=False),
    )
    body, report = sent(asked)
    assert body["generationConfig"] == {
        "maxOutputTokens": 4000,
        "thinkingConfig": {"thinkingBudget": 2976, "includeThoughts": False},
    }
    assert report == {"thinking.budget_tokens": "clamped"}
