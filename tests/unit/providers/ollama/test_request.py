"""What is sent to Ollama: each field in its place, and nothing lost without a word.

The shapes are those of https://docs.ollama.com/api/chat and /api/embed.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, embedding_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.ollama.request import chat_request, embed_request
from aigateway_providers.ollama.window import Window
from aigateway_providers.settings import ProviderSettings

SETTINGS = ProviderSettings("ollama", "ollama", "http://localhost:11434")
SCHEMA = b'{"type": "object", "properties": {"n": {"type": "integer", "maximum": 123456789012345678901234567890}}}'


def text(words: str) -> message_pb2.Part:
    return message_pb2.Part(text=message_pb2.TextPart(text=words))


def said(role: message_pb2.Role.ValueType, *parts: message_pb2.Part | str, **more: Any) -> message_pb2.Message:
    made = [text(part) if isinstance(part, str) else part for part in parts]
    return message_pb2.Message(role=role, parts=made, **more)


def user(*parts: message_pb2.Part | str, **more: Any) -> message_pb2.Message:
    return said(message_pb2.ROLE_USER, *parts, **more)


def called(name: str, arguments: bytes, call_id: str = "c1") -> message_pb2.Part:
    return message_pb2.Part(tool_call=message_pb2.ToolCall(id=call_id, name=name, arguments=arguments))


def result(call_id: str, *parts: message_pb2.Part, **more: Any) -> message_pb2.Message:
    tool_result = message_pb2.ToolResult(call_id=call_id, content=parts, **more)
    return said(message_pb2.ROLE_TOOL, message_pb2.Part(tool_result=tool_result))


def function(name: str, schema: bytes = b"", **more: Any) -> message_pb2.Tool:
    return message_pb2.Tool(function=message_pb2.FunctionTool(name=name, parameters_json=schema, **more))


def chat(*messages: message_pb2.Message, **more: Any) -> chat_pb2.ChatCall:
    more.setdefault("dialect", message_pb2.DIALECT_OPENAI_CHAT)
    return chat_pb2.ChatCall(model="llama3.2", messages=messages or [user("Hi")], **more)


def sent(call: chat_pb2.ChatCall, settings: ProviderSettings = SETTINGS, *, stream: bool = False) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(chat_request(call, settings, stream=stream).body)
    return body


def notes(call: chat_pb2.ChatCall, settings: ProviderSettings = SETTINGS) -> dict[str, str]:
    made = chat_request(call, settings, stream=False).notes
    name = chat_pb2.TranslationAction.Name
    return {note.field: name(note.action).removeprefix("TRANSLATION_ACTION_").lower() for note in made}


def refused(call: chat_pb2.ChatCall) -> tuple[str, str]:
    with pytest.raises(GatewayError) as caught:
        chat_request(call, SETTINGS, stream=False)
    return caught.value.reason.name, caught.value.details["param"]


def test_a_plain_call_says_explicitly_that_it_is_not_streamed() -> None:
    assert chat_request(chat(), SETTINGS, stream=False).body == (
        b'{"model":"llama3.2","messages":[{"role":"user","content":"Hi"}],"stream":false}'
    )


def test_a_stream_says_so() -> None:
    assert sent(chat(), stream=True)["stream"] is True


def test_the_body_cannot_be_made_to_stream_against_the_callers_will() -> None:
    assert sent(chat(provider_options={"ollama": b'{"stream": true}'}))["stream"] is False


def test_empty_messages_would_only_load_the_model_and_are_refused() -> None:
    call = chat_pb2.ChatCall(model="llama3.2")
    assert refused(call) == ("INVALID_REQUEST", "messages")


def test_system_and_developer_messages_become_system_in_their_order() -> None:
    call = chat(
        said(message_pb2.ROLE_SYSTEM, "One."),
        user("Hi"),
        said(message_pb2.ROLE_DEVELOPER, "Two.", "Three."),
    )
    assert sent(call)["messages"] == [
        {"role": "system", "content": "One."},
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": "Two.\nThree."},
    ]


def test_sampling_goes_into_options() -> None:
    options = chat_pb2.GenerationOptions(
        max_output_tokens=50,
        temperature=0.0,
        top_p=0.5,
        top_k=40,
        stop=["END", "\n"],
        seed=42,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
    )
    assert sent(chat(options=options)) == {
        "model": "llama3.2",
        "messages": [{"role": "user", "content": "Hi"}],
        "options": {
            "num_predict": 50,
            "temperature": 0.0,
            "top_p": 0.5,
            "top_k": 40,
            "seed": 42,
            "presence_penalty": 0.5,
            "frequency_penalty": -0.5,
            "stop": ["END", "\n"],
        },
        "stream": False,
    }


def test_log_probabilities_stand_beside_options() -> None:
    body = sent(chat(options=chat_pb2.GenerationOptions(logprobs=True, top_logprobs=3)))
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)
    assert "options" not in body


def test_several_answers_are_refused_and_not_silently_one() -> None:
    assert refused(chat(options=chat_pb2.GenerationOptions(n=2))) == ("UNSUPPORTED", "n")
    assert "n" not in sent(chat(options=chat_pb2.GenerationOptions(n=1)))


def test_configured_fields_go_where_ollama_wants_them() -> None:
    settings = ProviderSettings(
        "ollama",
        "ollama",
        "http://localhost:11434",
        model_options={
            "llama3*": {"num_ctx": 8192, "keep_alive": "10m", "dimensions": 7},
            "*": {"num_ctx": 2048, "num_gpu": 1, "truncate": False},
            "qwen*": {"num_ctx": 1},
        },
    )
    call = chat(
        options=chat_pb2.GenerationOptions(temperature=1.0), provider_options={"ollama": b'{"options": {"num_gpu": 2}}'}
    )
    assert sent(call, settings) == {
        "model": "llama3.2",
        "messages": [{"role": "user", "content": "Hi"}],
        "options": {"num_ctx": 8192, "num_gpu": 2, "temperature": 1.0},
        "truncate": False,
        "keep_alive": "10m",
        "stream": False,
    }
    assert chat_request(call, settings, stream=False).window.num_ctx == 8192
    assert settings.model_options["*"] == {"num_ctx": 2048, "num_gpu": 1, "truncate": False}


@pytest.mark.parametrize("keep_alive", ['"5m"', "300", "-1", "0"])
def test_keep_alive_passes_as_it_is_written(keep_alive: str) -> None:
    call = chat(provider_options={"ollama": b'{"keep_alive": %s}' % keep_alive.encode()})
    assert f'"keep_alive":{keep_alive}'.encode() in chat_request(call, SETTINGS, stream=False).body


@pytest.mark.parametrize("keep_alive", ["5m", 300, -1, 0])
def test_a_configured_keep_alive_stands_beside_options(keep_alive: str | int) -> None:
    settings = ProviderSettings("ollama", "ollama", "", model_options={"*": {"keep_alive": keep_alive}})
    body = sent(chat(), settings)
    assert (body["keep_alive"], "options" in body) == (keep_alive, False)
    assert json.loads(embed_request(embed("a"), settings)[0])["keep_alive"] == keep_alive


def test_fields_for_another_provider_stay_away() -> None:
    assert sent(chat(provider_options={"gemini": b'{"keep_alive": 1}'})) == sent(chat())


def test_fields_for_ollama_must_be_an_object() -> None:
    assert refused(chat(provider_options={"ollama": b"[1]"})) == ("INVALID_REQUEST", "provider_options.ollama")


def window(call: chat_pb2.ChatCall, settings: ProviderSettings = SETTINGS) -> Window:
    return chat_request(call, settings, stream=False, loaded_num_ctx=4096).window


def test_the_window_is_the_callers_then_the_configured_then_the_loaded_one() -> None:
    configured = ProviderSettings("ollama", "ollama", "", model_options={"*": {"num_ctx": 8192, "num_keep": 24}})
    call = chat(provider_options={"ollama": b'{"options": {"num_ctx": 16384}}'})
    assert window(call, configured).num_ctx == 16_384
    assert window(chat(), configured) == Window(8192, 24, 2)
    assert window(chat()) == Window(4096, 4, 2)
    assert chat_request(chat(), SETTINGS, stream=False).window.num_ctx is None


def test_the_text_of_all_messages_has_to_fit_the_window_and_no_image() -> None:
    image = message_pb2.ImagePart(media=message_pb2.Media(data=b"x" * 1000, media_type="image/png"))
    call = chat(
        said(message_pb2.ROLE_SYSTEM, "One."),
        user("Look", message_pb2.Part(image=image)),
        said(message_pb2.ROLE_ASSISTANT, called("look", b"{}")),
        result("c1", text("seen")),
    )
    assert window(call).characters == len("One.Lookseen")


@pytest.mark.parametrize(
    ("policy", "own", "expected"),
    [
        (chat_pb2.TRANSLATION_POLICY_STRICT, b"{}", False),
        (chat_pb2.TRANSLATION_POLICY_STRICT, b'{"truncate": true}', True),
        (chat_pb2.TRANSLATION_POLICY_LENIENT, b"{}", None),
        (chat_pb2.TRANSLATION_POLICY_UNSPECIFIED, b"{}", None),
    ],
)
def test_under_the_strict_policy_ollama_is_to_refuse_what_it_would_cut(
    policy: chat_pb2.TranslationPolicy.ValueType, own: bytes, expected: bool | None
) -> None:
    more: dict[str, Any] = {"translation_policy": policy, "provider_options": {"ollama": own}}
    assert sent(chat(**more)).get("truncate") is expected
    assert json.loads(embed_request(embed("a", **more), SETTINGS)[0]).get("truncate") is expected


def test_unknown_fields_of_another_dialect_are_reported_each() -> None:
    call = chat(user("Hi", extra_json=b'{"mood": 1}'), extra_json=b'{"store": true, "metadata": {"a": 1}}')
    assert notes(call) == {"messages[0].mood": "dropped", "store": "dropped", "metadata": "dropped"}
    assert sent(call) == sent(chat())


def test_unknown_fields_of_its_own_dialect_pass_through_unchanged() -> None:
    call = chat(
        user("Hi", extra_json=b'{"mood": 12345678901234567890123}'),
        extra_json=b'{"raw": {"z": 1, "a": 2}}',
        dialect=message_pb2.DIALECT_OLLAMA,
    )
    assert chat_request(call, SETTINGS, stream=False).body == (
        b'{"model":"llama3.2","messages":[{"role":"user","content":"Hi","mood":12345678901234567890123}],'
        b'"raw":{"z": 1, "a": 2},"stream":false}'
    )
    assert notes(call) == {}


def test_strict_refuses_what_lenient_reports() -> None:
    call = chat(user="someone", translation_policy=chat_pb2.TRANSLATION_POLICY_STRICT)
    assert refused(call) == ("TRANSLATION_REFUSED", "user")


def test_an_image_is_raw_base64_without_a_prefix() -> None:
    image = message_pb2.ImagePart(media=message_pb2.Media(data=b"\x89PNG", media_type="image/png"), detail="high")
    call = chat(user("What is it?", message_pb2.Part(image=image)))
    assert sent(call)["messages"] == [{"role": "user", "content": "What is it?", "images": ["iVBORw=="]}]
    assert notes(call) == {"messages[0].content[1].image_url.detail": "dropped"}


def test_an_image_by_address_is_refused_by_name() -> None:
    image = message_pb2.ImagePart(media=message_pb2.Media(url="https://example.com/a.png"))
    call = chat(user("What is it?", message_pb2.Part(image=image)))
    assert refused(call) == ("UNSUPPORTED", "messages[0].content[1].image_url.url")


@pytest.mark.parametrize(
    "part",
    [
        message_pb2.Part(audio=message_pb2.AudioPart(media=message_pb2.Media(data=b"x"), format="wav")),
        message_pb2.Part(file=message_pb2.FilePart(media=message_pb2.Media(data=b"x"), filename="a.pdf")),
    ],
)
def test_sound_and_documents_are_refused_by_name(part: message_pb2.Part) -> None:
    assert refused(chat(user("Read:", part))) == ("UNSUPPORTED", "messages[0].content[1]")


def test_what_only_another_provider_understands_is_reported() -> None:
    native = message_pb2.NativePart(dialect=message_pb2.DIALECT_GEMINI, json=b"{}")
    call = chat(
        user("Hi", message_pb2.Part(native=native), name="ann"),
        tools=[message_pb2.Tool(native=native)],
        cache_control=message_pb2.CacheControl(),
        user="u",
    )
    assert notes(call) == {
        "messages[0].name": "dropped",
        "messages[0].content[1]": "dropped",
        "tools[0]": "dropped",
        "user": "dropped",
        "cache_control": "dropped",
    }
    assert sent(call) == sent(chat())


def test_text_reasoning_and_tool_calls_of_one_turn_stay_together() -> None:
    call = chat(
        user("2+3?"),
        said(
            message_pb2.ROLE_ASSISTANT,
            message_pb2.Part(reasoning=message_pb2.ReasoningPart(text="Use the tool.")),
            "Let me see.",
            called("add", b'{"a": 2, "b": 12345678901234567890123}'),
            called("now", b"", "c2"),
        ),
        result("c2", text("noon")),
        result("c1", text("5"), text("five")),
    )
    body = chat_request(call, SETTINGS, stream=False).body
    assert b'"arguments":{"a": 2, "b": 12345678901234567890123}' in body
    assert json.loads(body)["messages"][1:] == [
        {
            "role": "assistant",
            "content": "Let me see.",
            "thinking": "Use the tool.",
            "tool_calls": [
                {"id": "c1", "function": {"name": "add", "arguments": {"a": 2, "b": 12345678901234567890123}}},
                {"id": "c2", "function": {"name": "now", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "noon", "tool_name": "now", "tool_call_id": "c2"},
        {"role": "tool", "content": "5\nfive", "tool_name": "add", "tool_call_id": "c1"},
    ]


def test_a_result_of_an_unknown_call_is_refused_by_name() -> None:
    assert refused(chat(user("Hi"), result("c9", text("5")))) == ("INVALID_REQUEST", "messages[1].tool_call_id")


@pytest.mark.parametrize("arguments", [b'{"a": ', b"[1]", b'"a"', b'{"a": "\xff"}'])
def test_arguments_that_are_no_object_are_refused_by_path(arguments: bytes) -> None:
    call = chat(user("Hi"), said(message_pb2.ROLE_ASSISTANT, called("now", b""), called("add", arguments, "c2")))
    assert refused(call) == ("INVALID_REQUEST", "messages[1].tool_calls[1].function.arguments")


def test_a_result_with_an_image_is_refused_and_a_failed_one_reported() -> None:
    asked = said(message_pb2.ROLE_ASSISTANT, called("look", b"{}"))
    image = message_pb2.Part(image=message_pb2.ImagePart(media=message_pb2.Media(data=b"x", media_type="image/png")))
    assert refused(chat(asked, result("c1", image))) == ("UNSUPPORTED", "messages[1].content[0]")
    assert notes(chat(asked, result("c1", text("no"), is_error=True))) == {"messages[1].is_error": "dropped"}


def test_a_refusal_in_the_history_is_text() -> None:
    refusal = message_pb2.Part(refusal=message_pb2.RefusalPart(text="I won't."))
    call = chat(user("Do"), said(message_pb2.ROLE_ASSISTANT, refusal))
    assert sent(call)["messages"][1] == {"role": "assistant", "content": "I won't."}
    assert notes(call) == {"messages[1].refusal": "emulated"}


def test_tools_keep_the_whole_schema_and_get_one_where_there_is_none() -> None:
    call = chat(tools=[function("add", SCHEMA, description="Adds.", strict=True), function("now")])
    body = chat_request(call, SETTINGS, stream=False).body
    assert SCHEMA in body
    assert json.loads(body)["tools"] == [
        {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": json.loads(SCHEMA)}},
        {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
    ]
    assert notes(call) == {"tools[0].function.strict": "dropped"}


Choice = message_pb2.ToolChoice


@pytest.mark.parametrize(
    ("choice", "offered", "noted"),
    [
        (Choice(mode=message_pb2.TOOL_CHOICE_MODE_AUTO), ["add", "now"], {}),
        (Choice(mode=message_pb2.TOOL_CHOICE_MODE_NONE), [], {}),
        (Choice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED), ["add", "now"], {"tool_choice": "dropped"}),
        (
            Choice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED, allowed_tools=["now"], named=True),
            ["now"],
            {"tool_choice": "emulated"},
        ),
        (
            Choice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED, allowed_tools=["now"]),
            ["now"],
            {"tool_choice": "emulated"},
        ),
        (
            Choice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED, allowed_tools=["add", "now"]),
            ["add", "now"],
            {"tool_choice": "dropped"},
        ),
        (Choice(mode=message_pb2.TOOL_CHOICE_MODE_AUTO, allowed_tools=["now"]), ["now"], {}),
    ],
)
def test_tool_choice_is_reached_by_what_is_offered(choice: Choice, offered: list[str], noted: dict[str, str]) -> None:
    call = chat(tools=[function("add"), function("now")], tool_choice=choice)
    assert [tool["function"]["name"] for tool in sent(call).get("tools", [])] == offered
    assert notes(call) == noted


def test_a_choice_that_is_not_offered_is_refused() -> None:
    choice = Choice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED, allowed_tools=["sub"], named=True)
    assert refused(chat(tools=[function("add")], tool_choice=choice)) == ("INVALID_REQUEST", "tool_choice")


def test_one_call_at_a_time_is_reported() -> None:
    assert notes(chat(tools=[function("add")], parallel_tool_calls=False)) == {"parallel_tool_calls": "dropped"}
    assert notes(chat(tools=[function("add")], parallel_tool_calls=True)) == {}


def test_structured_output_is_format() -> None:
    json_object = chat_pb2.ResponseFormat(type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT)
    schema = chat_pb2.ResponseFormat(type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA, name="n", schema_json=SCHEMA)
    plain = chat_pb2.ResponseFormat(type=chat_pb2.RESPONSE_FORMAT_TYPE_TEXT)
    assert sent(chat(response_format=json_object))["format"] == "json"
    assert b'"format":' + SCHEMA in chat_request(chat(response_format=schema), SETTINGS, stream=False).body
    assert "format" not in sent(chat(response_format=plain))
    assert notes(chat(response_format=schema)) == {}


def test_cloud_models_do_not_follow_a_format_and_the_report_says_so() -> None:
    call = chat(response_format=chat_pb2.ResponseFormat(type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT))
    cloud = ProviderSettings("ollama", "ollama", "https://ollama.com", "key")
    assert notes(call, cloud) == {"response_format": "dropped"}
    call.model = "gpt-oss:120b-cloud"
    assert notes(call) == {"response_format": "dropped"}


Reasoning = chat_pb2.ReasoningOptions


@pytest.mark.parametrize(
    ("asked", "think", "noted"),
    [
        (Reasoning(), None, {}),
        (Reasoning(effort="default"), None, {}),
        (Reasoning(effort="none"), False, {}),
        (Reasoning(effort="minimal"), "low", {"reasoning_effort": "clamped"}),
        (Reasoning(effort="low"), "low", {}),
        (Reasoning(effort="medium"), "medium", {}),
        (Reasoning(effort="high"), "high", {}),
        (Reasoning(effort="xhigh"), "high", {"reasoning_effort": "clamped"}),
        (Reasoning(effort="max"), "max", {}),
        (Reasoning(budget_tokens=0), False, {}),
        (Reasoning(budget_tokens=-1), True, {}),
        (Reasoning(budget_tokens=2000), True, {"reasoning.max_tokens": "dropped"}),
        (Reasoning(adaptive=True), True, {}),
        (Reasoning(summary="auto"), None, {"reasoning.summary": "dropped"}),
        (Reasoning(include=False), None, {"reasoning.exclude": "emulated"}),
    ],
)
def test_reasoning_is_think(asked: Reasoning, think: bool | str | None, noted: dict[str, str]) -> None:
    call = chat(reasoning=asked)
    assert sent(call).get("think") == think
    assert notes(call) == noted


def test_an_effort_nobody_knows_is_refused() -> None:
    assert refused(chat(reasoning=Reasoning(effort="huge"))) == ("INVALID_REQUEST", "reasoning_effort")


def embed(*texts: str, **more: Any) -> embedding_pb2.EmbedCall:
    inputs = [embedding_pb2.EmbeddingInput(text=words) for words in texts]
    return embedding_pb2.EmbedCall(model="all-minilm", inputs=inputs, **more)


def test_texts_to_embed_are_sent_in_one_batch() -> None:
    call = embed("a", "b", dimensions=64, user="u", provider_options={"ollama": b'{"truncate": false}'})
    settings = ProviderSettings("ollama", "ollama", "", model_options={"*": {"num_ctx": 512, "think": False}})
    body, reported = embed_request(call, settings)
    assert json.loads(body) == {
        "model": "all-minilm",
        "input": ["a", "b"],
        "options": {"num_ctx": 512},
        "dimensions": 64,
        "truncate": False,
    }
    assert [note.field for note in reported] == ["user"]
    assert json.loads(embed_request(embed("a", single_input=True), SETTINGS)[0])["input"] == "a"


def test_token_ids_are_refused() -> None:
    tokens = embedding_pb2.EmbeddingInput(tokens=embedding_pb2.TokenIds(ids=[1, 2]))
    with pytest.raises(GatewayError) as caught:
        embed_request(embedding_pb2.EmbedCall(model="m", inputs=[tokens]), SETTINGS)
    assert (caught.value.reason.name, caught.value.details) == ("UNSUPPORTED", {"param": "input[0]"})
