"""What is sent to an OpenAI-compatible host for each thing a call may ask."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.openai_compat import messages as written
from aigateway_providers.openai_compat.profiles import PROFILES
from aigateway_providers.openai_compat.request import to_body
from hypothesis import given
from hypothesis import strategies as st

OPENAI_CHAT = message_pb2.DIALECT_OPENAI_CHAT
BROKEN = message_pb2.Tool(function=message_pb2.FunctionTool(name="f", parameters_json=b"{}}"))
PNG = b"\x89PNG"


def text(words: str, **fields: Any) -> message_pb2.Part:
    return message_pb2.Part(text=message_pb2.TextPart(text=words), **fields)


def user(*parts: message_pb2.Part, **fields: Any) -> message_pb2.Message:
    return message_pb2.Message(role=message_pb2.ROLE_USER, parts=parts or [text("Hi")], **fields)


def assistant(*parts: message_pb2.Part, **fields: Any) -> message_pb2.Message:
    return message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=parts, **fields)


def sent(call: chat_pb2.ChatCall, host: str = "openai", *, stream: bool = False) -> tuple[dict[str, Any], list[str]]:
    """The body, and the fields of the translation report, each with its action."""
    body, notes = to_body(call, PROFILES[host], provider=host, stream=stream)
    actions = {1: "dropped", 2: "clamped", 3: "emulated"}
    return json.loads(body), [f"{note.field} {actions[note.action]}" for note in notes]


def messages(*given: message_pb2.Message, host: str = "openai", model: str = "m") -> tuple[list[Any], list[str]]:
    body, notes = sent(chat_pb2.ChatCall(model=model, messages=given), host)
    return body["messages"], notes


def call(**fields: Any) -> chat_pb2.ChatCall:
    return chat_pb2.ChatCall(**({"model": "gpt-4o", "messages": [user()]} | fields))


def body_of(host: str = "openai", **fields: Any) -> dict[str, Any]:
    """The body without model and messages, for a call that loses nothing."""
    body, notes = sent(call(**fields), host)
    assert notes == []
    return {key: value for key, value in body.items() if key not in {"model", "messages"}}


def refused(host: str = "openai", **fields: Any) -> tuple[str, str]:
    with pytest.raises(GatewayError) as caught:
        sent(call(**fields), host)
    return caught.value.reason.name, caught.value.details["param"]


def test_a_plain_call_is_model_and_messages() -> None:
    assert sent(call()) == ({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}, [])


def test_every_role_keeps_its_name_and_the_participant_too() -> None:
    given = [
        message_pb2.Message(role=message_pb2.ROLE_SYSTEM, parts=[text("a")]),
        message_pb2.Message(role=message_pb2.ROLE_DEVELOPER, parts=[text("b")]),
        user(text("c"), name="ann"),
        assistant(text("d")),
    ]
    assert messages(*given)[0] == [
        {"role": "system", "content": "a"},
        {"role": "developer", "content": "b"},
        {"role": "user", "content": "c", "name": "ann"},
        {"role": "assistant", "content": "d"},
    ]


@pytest.mark.parametrize(
    ("shape", "parts", "content"),
    [
        (message_pb2.CONTENT_SHAPE_LIST, [text("a")], [{"type": "text", "text": "a"}]),
        (message_pb2.CONTENT_SHAPE_STRING, [text("a")], "a"),
        (message_pb2.CONTENT_SHAPE_STRING, [], ""),
        (message_pb2.CONTENT_SHAPE_NULL, [], None),
        (message_pb2.CONTENT_SHAPE_LIST, [], []),
        (message_pb2.CONTENT_SHAPE_UNSPECIFIED, [], None),
        (
            message_pb2.CONTENT_SHAPE_UNSPECIFIED,
            [text("a"), text("b")],
            [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        ),
    ],
)
def test_content_keeps_the_shape_the_caller_wrote(
    shape: message_pb2.ContentShape.ValueType, parts: list[message_pb2.Part], content: object
) -> None:
    assert messages(assistant(*parts, content_shape=shape))[0] == [{"role": "assistant", "content": content}]


def test_absent_content_stays_absent() -> None:
    assert messages(assistant(content_shape=message_pb2.CONTENT_SHAPE_ABSENT))[0] == [{"role": "assistant"}]


def test_pictures_sound_and_documents_are_sent_as_openai_writes_them() -> None:
    media = message_pb2.Media
    parts = [
        message_pb2.Part(image=message_pb2.ImagePart(media=media(url="https://x/y.png"), detail="low")),
        message_pb2.Part(image=message_pb2.ImagePart(media=media(data=PNG, media_type="image/png"))),
        message_pb2.Part(audio=message_pb2.AudioPart(media=media(data=b"RIFF", media_type="audio/wav"))),
        message_pb2.Part(file=message_pb2.FilePart(media=media(file_id="file-1"))),
        message_pb2.Part(
            file=message_pb2.FilePart(media=media(data=b"%PDF", media_type="application/pdf"), filename="a.pdf")
        ),
    ]
    assert messages(user(*parts))[0][0]["content"] == [
        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}},
    ]


@pytest.mark.parametrize(
    "part",
    [
        message_pb2.Part(image=message_pb2.ImagePart(media=message_pb2.Media(file_id="f"))),
        message_pb2.Part(audio=message_pb2.AudioPart(media=message_pb2.Media(url="https://x"))),
        message_pb2.Part(file=message_pb2.FilePart(media=message_pb2.Media(url="https://x"))),
    ],
)
def test_media_in_a_place_openai_cannot_read_is_refused(part: message_pb2.Part) -> None:
    reason, param = refused(messages=[user(part)])
    assert reason == "UNSUPPORTED"
    assert param.startswith("messages[0].content[0].")


def test_text_and_parallel_tool_calls_of_one_turn_stay_together() -> None:
    calls = [
        message_pb2.Part(tool_call=message_pb2.ToolCall(id="c1", name="f", arguments=b'{"n": 1e999}')),
        message_pb2.Part(tool_call=message_pb2.ToolCall(id="c2", name="g")),
        message_pb2.Part(
            tool_call=message_pb2.ToolCall(
                id="c3", name="sql", arguments=b"SELECT 1", type=message_pb2.TOOL_CALL_TYPE_CUSTOM
            )
        ),
    ]
    results = [
        message_pb2.Message(
            role=message_pb2.ROLE_TOOL,
            parts=[message_pb2.Part(tool_result=message_pb2.ToolResult(call_id="c1", content=[text("1")]))],
        ),
        message_pb2.Message(
            role=message_pb2.ROLE_TOOL, parts=[message_pb2.Part(tool_result=message_pb2.ToolResult(call_id="c2"))]
        ),
    ]
    assert messages(assistant(text("Wait."), *calls), *results) == (
        [
            {
                "role": "assistant",
                "content": "Wait.",
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"n": 1e999}'},
                    },
                    {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                    {"id": "c3", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "1"},
            {"role": "tool", "tool_call_id": "c2", "content": ""},
        ],
        [],
    )


def test_refusals_and_earlier_audio_go_beside_the_content() -> None:
    refusal = message_pb2.Part(refusal=message_pb2.RefusalPart(text="No."))
    audio = message_pb2.Part(audio=message_pb2.AudioPart(id="audio_1"))
    assert messages(assistant(refusal), assistant(audio), host="openai")[0] == [
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "content": None, "audio": {"id": "audio_1"}},
    ]


def test_extra_fields_of_the_same_dialect_pass_at_every_level_as_written() -> None:
    big = b'{"x": 123456789012345678901234567890, "a": 1.10}'
    given = call(
        dialect=OPENAI_CHAT,
        messages=[user(text("Hi", extra_json=big), extra_json=b'{"weight": 0}')],
        tools=[message_pb2.Tool(function=message_pb2.FunctionTool(name="f"), extra_json=b'{"function": {"z": null}}')],
        extra_json=b'{"store": true, "metadata": {"k": "v"}}',
    )
    body, notes = to_body(given, PROFILES["openai"], provider="openai", stream=False)
    assert notes == []
    assert body == (
        b'{"model":"gpt-4o","messages":[{"role":"user","content":[{"type":"text","text":"Hi",'
        b'"x":123456789012345678901234567890,"a":1.10}],"weight":0}],'
        b'"tools":[{"type":"function","function":{"name":"f","z":null}}],"store":true,"metadata":{"k": "v"}}'
    )


def test_extra_fields_of_another_dialect_are_left_out_and_said() -> None:
    given = call(
        dialect=message_pb2.DIALECT_ANTHROPIC_MESSAGES,
        messages=[user(text("Hi", extra_json=b'{"citations": {}}'), extra_json=b'{"m": 1}')],
        tools=[message_pb2.Tool(function=message_pb2.FunctionTool(name="f"), extra_json=b'{"defer_loading": true}')],
        extra_json=b'{"container": "c", "mcp_servers": []}',
    )
    body, notes = sent(given)
    assert body["messages"] == [{"role": "user", "content": "Hi"}]
    assert notes == [
        "messages[0].content[0].citations dropped",
        "messages[0].m dropped",
        "tools[0].defer_loading dropped",
        "container dropped",
        "mcp_servers dropped",
    ]


def test_native_pieces_go_only_to_hosts_of_their_dialect() -> None:
    own = message_pb2.NativePart(dialect=OPENAI_CHAT, json=b'{"type":"custom","custom":{"name":"sql"}}')
    foreign = message_pb2.NativePart(dialect=message_pb2.DIALECT_GEMINI, json=b'{"googleSearch":{}}')
    given = call(
        tools=[message_pb2.Tool(native=own), message_pb2.Tool(native=foreign)],
        tool_choice=message_pb2.ToolChoice(native=own),
        messages=[user(text("Hi"), message_pb2.Part(native=foreign))],
    )
    body, notes = sent(given)
    assert body["tools"] == [{"type": "custom", "custom": {"name": "sql"}}]
    assert body["tool_choice"] == {"type": "custom", "custom": {"name": "sql"}}
    assert body["messages"] == [{"role": "user", "content": "Hi"}]
    assert notes == ["messages[0].content[1] dropped", "tools[1] dropped"]


def test_the_state_of_other_providers_is_left_out_silently_and_cache_marks_are_said() -> None:
    state = message_pb2.ProviderState(provider="anthropic", state=b"sig")
    thought = message_pb2.Part(reasoning=message_pb2.ReasoningPart(text="Hm"), provider_state=state)
    mark = message_pb2.CacheControl()
    given = call(
        messages=[assistant(thought, text("Hi", provider_state=state, cache_control=mark)), user()],
        tools=[message_pb2.Tool(function=message_pb2.FunctionTool(name="f"), cache_control=mark)],
        cache_control=mark,
    )
    body, notes = sent(given)
    assert body["messages"][0] == {"role": "assistant", "content": "Hi"}
    assert notes == [
        "messages[0].content[0].cache_control dropped",
        "tools[0].cache_control dropped",
        "cache_control dropped",
    ]


def test_tools_and_their_schema_are_sent_whole() -> None:
    schema = b'{"type":"object","properties":{"a":{"$ref":"#/$defs/x"}},"$defs":{"x":{"minimum":1e2}}}'
    function = message_pb2.FunctionTool(name="f", description="does", parameters_json=schema, strict=True)
    given = body_of(tools=[message_pb2.Tool(function=function)], parallel_tool_calls=False)
    assert given == {
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "description": "does", "parameters": json.loads(schema), "strict": True},
            }
        ],
        "parallel_tool_calls": False,
    }


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        (message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_AUTO), "auto"),
        (message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_NONE), "none"),
        (message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED), "required"),
        (
            message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED, allowed_tools=["f"], named=True),
            {"type": "function", "function": {"name": "f"}},
        ),
        (
            message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED, allowed_tools=["f"]),
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
        ),
    ],
)
def test_tool_choices_keep_their_form(choice: message_pb2.ToolChoice, written: object) -> None:
    assert body_of(tool_choice=choice) == {"tool_choice": written}


def test_a_list_of_allowed_tools_is_reached_by_cutting_the_tools_where_the_host_has_none() -> None:
    tools = [message_pb2.Tool(function=message_pb2.FunctionTool(name=name)) for name in "fg"]
    choice = message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED, allowed_tools=["g"])
    body, notes = sent(call(tools=tools, tool_choice=choice), "groq")
    assert body["tools"] == [{"type": "function", "function": {"name": "g"}}]
    assert body["tool_choice"] == "required"
    assert notes == ["tool_choice.allowed_tools emulated"]


def test_structured_output_is_sent_whole() -> None:
    form = chat_pb2.ResponseFormat(
        type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA,
        name="answer",
        description="d",
        schema_json=b'{"type":"object"}',
        strict=False,
    )
    assert body_of(response_format=form) == {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "description": "d", "schema": {"type": "object"}, "strict": False},
        }
    }
    plain = chat_pb2.ResponseFormat(type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT)
    assert body_of(response_format=plain) == {"response_format": {"type": "json_object"}}


def test_every_option_is_sent_under_its_name() -> None:
    options = chat_pb2.GenerationOptions(
        max_output_tokens=9,
        temperature=0,
        top_p=0.5,
        stop=["a", "b"],
        seed=-3,
        presence_penalty=-1,
        frequency_penalty=1,
        n=2,
        logprobs=True,
        top_logprobs=0,
    )
    assert body_of(options=options, user="u") == {
        "max_completion_tokens": 9,
        "temperature": 0,
        "top_p": 0.5,
        "stop": ["a", "b"],
        "seed": -3,
        "presence_penalty": -1,
        "frequency_penalty": 1,
        "n": 2,
        "logprobs": True,
        "top_logprobs": 0,
        "user": "u",
    }


@pytest.mark.parametrize(
    ("model", "field"),
    [("gpt-4o", "max_tokens"), ("o3-mini", "max_completion_tokens"), ("gpt-5", "max_completion_tokens")],
)
def test_the_older_token_limit_is_kept_but_for_models_that_refuse_it(model: str, field: str) -> None:
    options = chat_pb2.GenerationOptions(max_output_tokens=9, legacy_max_tokens=True)
    assert body_of(model=model, options=options) == {field: 9}


@pytest.mark.parametrize(
    ("options", "stop"),
    [
        (chat_pb2.GenerationOptions(stop=["a"]), "a"),
        (chat_pb2.GenerationOptions(stop=["a"], stop_is_list=True), ["a"]),
    ],
)
def test_stop_keeps_its_form(options: chat_pb2.GenerationOptions, stop: object) -> None:
    assert body_of(options=options) == {"stop": stop}


@pytest.mark.parametrize(
    ("reasoning", "body", "noted"),
    [
        (chat_pb2.ReasoningOptions(effort="xhigh"), {"reasoning_effort": "xhigh"}, []),
        (chat_pb2.ReasoningOptions(budget_tokens=0), {"reasoning_effort": "none"}, []),
        (chat_pb2.ReasoningOptions(budget_tokens=-1), {}, []),
        (
            chat_pb2.ReasoningOptions(budget_tokens=9000),
            {"reasoning_effort": "medium"},
            ["reasoning.max_tokens emulated"],
        ),
        (
            chat_pb2.ReasoningOptions(include=True, summary="auto"),
            {},
            ["reasoning.summary dropped", "reasoning.include dropped"],
        ),
    ],
)
def test_reasoning_is_asked_for_by_effort(
    reasoning: chat_pb2.ReasoningOptions, body: dict[str, Any], noted: list[str]
) -> None:
    got, notes = sent(call(model="gpt-5.5", reasoning=reasoning))
    assert ({key: value for key, value in got.items() if key not in {"model", "messages"}}, notes) == (body, noted)


def test_a_stream_always_asks_for_usage_and_keeps_the_callers_stream_options() -> None:
    plain, _ = sent(call(), stream=True)
    assert (plain["stream"], plain["stream_options"]) == (True, {"include_usage": True})
    given = call(dialect=OPENAI_CHAT, extra_json=b'{"stream_options": {"include_obfuscation": false}}')
    assert sent(given, stream=True)[0]["stream_options"] == {"include_obfuscation": False, "include_usage": True}


def test_provider_options_are_merged_into_the_body_of_that_provider_only() -> None:
    given = call(
        options=chat_pb2.GenerationOptions(temperature=1),
        response_format=chat_pb2.ResponseFormat(type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA, name="a"),
        provider_options={
            "openai": b'{"temperature": 0, "response_format": {"json_schema": {"strict": true}}}',
            "gemini": b'{"x": 1}',
        },
    )
    body, notes = sent(given)
    assert body["temperature"] == 0
    assert body["response_format"] == {"type": "json_schema", "json_schema": {"name": "a", "strict": True}}
    assert "x" not in body
    assert notes == []


@pytest.mark.parametrize("key", ["model", "messages", "stream"])
def test_provider_options_cannot_change_what_routing_rests_on(key: str) -> None:
    options = json.dumps({key: "x"}).encode()
    assert refused(provider_options={"openai": options}) == ("INVALID_REQUEST", f"provider_options.openai.{key}")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (
            {"tools": [BROKEN]},
            "tools[0].function.parameters",
        ),
        ({"provider_options": {"openai": b"[1]"}}, "provider_options.openai"),
        ({"dialect": OPENAI_CHAT, "extra_json": b"{"}, "extra_json"),
        ({"messages": [message_pb2.Message(parts=[text("a")])]}, "messages[0].role"),
        ({"messages": [user(message_pb2.Part())]}, "messages[0].content[0]"),
    ],
)
def test_what_is_no_json_or_no_message_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields) == ("INVALID_REQUEST", param)


def test_groq_is_spared_what_it_answers_with_400() -> None:
    given = call(
        dialect=OPENAI_CHAT,
        messages=[
            message_pb2.Message(role=message_pb2.ROLE_DEVELOPER, parts=[text("a")]),
            assistant(message_pb2.Part(refusal=message_pb2.RefusalPart(text="No.")), extra_json=b'{"annotations":[]}'),
            user(name="ann"),
        ],
        options=chat_pb2.GenerationOptions(n=1, logprobs=True, top_logprobs=2, top_k=1),
        extra_json=b'{"logit_bias": {"1": 2}, "service_tier": "flex"}',
    )
    body, notes = sent(given, "groq")
    assert body == {
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": "a"},
            {"role": "assistant", "content": "No."},
            {"role": "user", "content": "Hi"},
        ],
        "n": 1,
        "service_tier": "flex",
    }
    assert notes == [
        "messages[2].name dropped",
        "top_k dropped",
        "logprobs dropped",
        "top_logprobs dropped",
        "logit_bias dropped",
    ]


@pytest.mark.parametrize("host", ["openai", "groq"])
def test_what_an_earlier_answer_cites_is_left_out_with_the_reason_and_what_says_nothing_goes_unsaid(host: str) -> None:
    """OpenAI's assistant messages take no `annotations`: its API document has them in answers alone."""
    cited = b'{"id":"msg_1","annotations":[{"type":"url_citation","url":"https://x"}],"logprobs":[]}'
    plain = b'{"annotations":[],"logprobs":[],"phase":null}'
    given = call(
        dialect=message_pb2.DIALECT_OPENAI_RESPONSES,
        messages=[assistant(text("See", extra_json=cited), text("also", extra_json=plain)), user()],
    )
    body, notes = to_body(given, PROFILES[host], provider=host, stream=False)
    assert json.loads(body)["messages"][0]["content"] == [
        {"type": "text", "text": "See"},
        {"type": "text", "text": "also"},
    ]
    assert {note.field: note.detail for note in notes} == {
        "messages[0].content[0].id": "",
        "messages[0].content[0].annotations": (
            "what an earlier answer cites has no place in a chat message that is sent"
        ),
    }


def test_several_answers_are_refused_where_the_host_gives_one() -> None:
    assert refused("groq", options=chat_pb2.GenerationOptions(n=2)) == ("UNSUPPORTED", "n")


@pytest.mark.parametrize(
    ("model", "reasoning", "body", "noted"),
    [
        ("qwen/qwen3-32b", {"effort": "high"}, {"reasoning_effort": "default", "reasoning_format": "parsed"}, 1),
        ("qwen/qwen3-32b", {"effort": "none"}, {"reasoning_effort": "none"}, 0),
        ("qwen/qwen3-32b", {"include": False}, {"reasoning_format": "hidden"}, 0),
        ("openai/gpt-oss-20b", {"effort": "max"}, {"reasoning_effort": "high"}, 1),
        ("openai/gpt-oss-20b", {"include": False}, {"include_reasoning": False}, 0),
    ],
)
def test_groq_is_asked_for_reasoning_as_each_family_takes_it(
    model: str, reasoning: dict[str, Any], body: dict[str, Any], noted: int
) -> None:
    got, notes = sent(call(model=model, reasoning=chat_pb2.ReasoningOptions(**reasoning)), "groq")
    assert {key: value for key, value in got.items() if key not in {"model", "messages"}} == body
    assert len(notes) == noted


def test_earlier_reasoning_goes_to_models_that_take_it() -> None:
    thought = message_pb2.Part(reasoning=message_pb2.ReasoningPart(text="Hm"))
    turn, bare = assistant(thought, text("Hi")), {"role": "assistant", "content": "Hi"}
    assert messages(turn, host="groq", model="qwen/qwen3-32b") == ([bare | {"reasoning": "Hm"}], [])
    dropped = ["messages[0].reasoning_content dropped"]
    assert messages(turn, host="groq", model="llama-3.1-8b-instant") == ([bare], dropped)
    assert messages(turn) == ([bare], dropped)


_PARTS = st.sampled_from(
    [
        text("Hi"),
        text(""),
        text("Hi", extra_json=b'{"x":1}'),
        text("Hi", cache_control=message_pb2.CacheControl()),
        text("Hi", provider_state=message_pb2.ProviderState()),
        message_pb2.Part(refusal=message_pb2.RefusalPart(text="No")),
        message_pb2.Part(image=message_pb2.ImagePart(media=message_pb2.Media(url="https://a.example/b.png"))),
        message_pb2.Part(tool_result=message_pb2.ToolResult(call_id="c", content=[text("4")])),
        message_pb2.Part(),
    ]
)
_MESSAGES = st.builds(
    message_pb2.Message,
    role=st.sampled_from(message_pb2.Role.values()),
    parts=st.lists(_PARTS, max_size=2),
    name=st.sampled_from(["", "ada"]),
    content_shape=st.sampled_from(message_pb2.ContentShape.values()),
    extra_json=st.sampled_from([b"", b'{"annotations":[1]}']),
)


@given(st.lists(_MESSAGES, max_size=3), st.sampled_from(["openai", "groq"]))
def test_a_message_of_one_text_is_written_as_the_rules_for_all_messages_have_it(
    given_messages: list[message_pb2.Message], host: str
) -> None:
    def result() -> object:
        try:
            return messages(*given_messages, host=host)
        except GatewayError as error:
            return str(error)

    short = result()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(written, "_words", lambda _: None)
        assert result() == short
