"""OpenAI requests to calls: typed fields, the caller's own JSON, and errors that name the field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, embedding_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_edge.openai.to_proto import chat_call, embed_call
from hypothesis import given
from hypothesis import strategies as st

Part = message_pb2.Part
HELLO = {"role": "user", "content": "hi"}
CALLED: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
FUNCTION = {"type": "function", "function": {"name": "f"}}


def call(*messages: Any, **fields: Any) -> chat_pb2.ChatCall:
    body = {"model": "acme/m", "messages": list(messages) or [HELLO]} | fields
    return chat_call(json.dumps(body).encode()).call


def refused(body: bytes | dict[str, Any]) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        chat_call(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert caught.value.reason.name == "INVALID_REQUEST"
    return caught.value


def text(words: str) -> Part:
    return Part(text=message_pb2.TextPart(text=words))


def test_the_plainest_request_is_one_message() -> None:
    assert call() == chat_pb2.ChatCall(
        model="acme/m",
        messages=[
            message_pb2.Message(
                role=message_pb2.ROLE_USER, parts=[text("hi")], content_shape=message_pb2.CONTENT_SHAPE_STRING
            )
        ],
        options=chat_pb2.GenerationOptions(),
        dialect=message_pb2.DIALECT_OPENAI_CHAT,
    )


def test_limits_and_sampling_have_their_places() -> None:
    options = call(
        max_tokens=10,
        max_completion_tokens=20,
        temperature=0.5,
        top_p=1,
        top_k=3,
        stop="END",
        seed=-(2**63),
        presence_penalty=-2,
        frequency_penalty=2,
        n=2,
        logprobs=True,
        top_logprobs=20,
    ).options
    assert options == chat_pb2.GenerationOptions(
        max_output_tokens=20,
        temperature=0.5,
        top_p=1,
        top_k=3,
        stop=["END"],
        seed=-(2**63),
        presence_penalty=-2,
        frequency_penalty=2,
        n=2,
        logprobs=True,
        top_logprobs=20,
    )


def test_the_older_limit_and_a_list_of_stops_are_remembered() -> None:
    options = call(max_tokens=10, stop=["a", "b"], temperature=None).options
    assert options == chat_pb2.GenerationOptions(
        max_output_tokens=10, legacy_max_tokens=True, stop=["a", "b"], stop_is_list=True
    )


def test_fields_without_a_place_stay_as_they_were_written() -> None:
    body = (
        b'{"model":"m","store":true,"messages":[{"role":"user","mood": {"b":1, "a":2},"content":[{"type":"text",'
        b'"text":"x","weight":123456789012345678901234567890}]}],"metadata":{"k" : 1.0},"response_format":'
        b'{"type":"json_schema","hint":[1],"json_schema":{"name":"n","schema":{"z":1,  "a":1e2},"more":null}},'
        b'"tools":[{"type":"function","vendor":1,"function":{"name":"f","parameters":{"b":{},"a" : 1.50},"x":"y"}}]}'
    )
    result = chat_call(body).call
    assert result.extra_json == b'{"store":true,"metadata":{"k" : 1.0}}'
    assert result.messages[0].extra_json == b'{"mood":{"b":1, "a":2}}'
    assert result.messages[0].parts[0].extra_json == b'{"weight":123456789012345678901234567890}'
    assert result.response_format == chat_pb2.ResponseFormat(
        type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA,
        name="n",
        schema_json=b'{"z":1,  "a":1e2}',
        extra_json=b'{"hint":[1],"json_schema":{"more":null}}',
    )
    assert result.tools[0] == message_pb2.Tool(
        function=message_pb2.FunctionTool(name="f", parameters_json=b'{"b":{},"a" : 1.50}'),
        extra_json=b'{"vendor":1,"function":{"x":"y"}}',
    )


def test_media_are_decoded_or_named_by_address() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk=", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"}},
        {"type": "file", "file": {"file_data": "aGk=", "filename": "a.txt"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "video_url", "video_url": {"url": "https://a.example"}},
    ]
    message = call({"role": "user", "content": parts}).messages[0]
    media = message_pb2.Media
    assert message.content_shape == message_pb2.CONTENT_SHAPE_LIST
    assert list(message.parts) == [
        Part(image=message_pb2.ImagePart(media=media(data=b"hi", media_type="image/png"), detail="low")),
        Part(image=message_pb2.ImagePart(media=media(url="https://a.example/b.png"))),
        Part(audio=message_pb2.AudioPart(media=media(data=b"hi", media_type="audio/mpeg"), format="mp3")),
        Part(file=message_pb2.FilePart(media=media(data=b"hi", media_type="application/pdf"), filename="a.pdf")),
        Part(file=message_pb2.FilePart(media=media(data=b"hi", media_type="text/plain"), filename="a.txt")),
        Part(file=message_pb2.FilePart(media=media(file_id="file-1"))),
        Part(
            native=message_pb2.NativePart(dialect=message_pb2.DIALECT_OPENAI_CHAT, json=json.dumps(parts[-1]).encode())
        ),
    ]


def test_tool_calls_and_results_keep_text_state_and_shape() -> None:
    spoken = CALLED | {
        "content": "let me see",
        "refusal": None,
        "tool_calls": [
            CALLED["tool_calls"][0] | {"index": 0, "extra_content": {"google": {"thought_signature": "sig=="}}},
            {"id": "c2", "type": "custom", "custom": {"name": "sql", "input": "select 1"}},
        ],
    }
    result = {"role": "tool", "tool_call_id": "c1", "name": "f", "content": [{"type": "text", "text": "42"}]}
    assistant, tool = call(HELLO, spoken, result).messages[1:]
    assert list(assistant.parts) == [
        text("let me see"),
        Part(
            tool_call=message_pb2.ToolCall(
                id="c1", name="f", arguments=b"{}", type=message_pb2.TOOL_CALL_TYPE_FUNCTION
            ),
            provider_state=message_pb2.ProviderState(provider="gemini", state=b"sig=="),
        ),
        Part(
            tool_call=message_pb2.ToolCall(
                id="c2", name="sql", arguments=b"select 1", type=message_pb2.TOOL_CALL_TYPE_CUSTOM
            )
        ),
    ]
    assert tool == message_pb2.Message(
        role=message_pb2.ROLE_TOOL,
        content_shape=message_pb2.CONTENT_SHAPE_LIST,
        parts=[
            Part(
                tool_result=message_pb2.ToolResult(
                    call_id="c1", name="f", content=[text("42")], content_shape=message_pb2.CONTENT_SHAPE_LIST
                )
            )
        ],
    )


def test_reasoning_details_win_over_reasoning_content() -> None:
    message = {
        "role": "assistant",
        "content": "so",
        "reasoning_content": "ignored",
        "reasoning_details": [
            {"type": "reasoning.text", "text": "hm", "provider": "anthropic", "state": "c2ln"},
            {"type": "reasoning.encrypted", "provider": "anthropic", "state": "eA=="},
            {"type": "reasoning.summary", "summary": "short", "id": "rs_1"},
        ],
    }
    state = message_pb2.ProviderState
    assert list(call(message).messages[0].parts) == [
        Part(
            reasoning=message_pb2.ReasoningPart(text="hm"),
            provider_state=state(provider="anthropic", state=b"sig"),
        ),
        Part(
            reasoning=message_pb2.ReasoningPart(redacted=True), provider_state=state(provider="anthropic", state=b"x")
        ),
        Part(reasoning=message_pb2.ReasoningPart(text="short", summary=True), extra_json=b'{"id":"rs_1"}'),
        text("so"),
    ]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_plain_reasoning_is_one_part(key: str) -> None:
    parts = call({"role": "assistant", "content": None, key: "hm"}).messages[0].parts
    assert list(parts) == [Part(reasoning=message_pb2.ReasoningPart(text="hm"))]


def test_state_of_a_message_belongs_to_its_last_text() -> None:
    message = {"role": "assistant", "content": None, "extra_content": {"google": {"thought_signature": "s"}}}
    state = message_pb2.ProviderState(provider="gemini", state=b"s")
    assert list(call(message).messages[0].parts) == [Part(text=message_pb2.TextPart(), provider_state=state)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"reasoning_effort": "high"}, {"effort": "high"}),
        ({"reasoning": {"effort": "low", "exclude": True}}, {"effort": "low", "include": False}),
        ({"reasoning": {"max_tokens": 9}}, {"budget_tokens": 9}),
        ({"reasoning": {"enabled": False}}, {"budget_tokens": 0}),
        ({"reasoning": {"enabled": True}}, {"effort": "medium"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, {"budget_tokens": 2048}),
        ({"thinking": {"type": "disabled"}}, {"budget_tokens": 0}),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, {"adaptive": True, "summary": "omitted"}),
    ],
)
def test_every_way_to_ask_for_reasoning_is_read(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert call(**fields).reasoning == chat_pb2.ReasoningOptions(**expected)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"mode": message_pb2.TOOL_CHOICE_MODE_AUTO}),
        ("none", {"mode": message_pb2.TOOL_CHOICE_MODE_NONE}),
        ("required", {"mode": message_pb2.TOOL_CHOICE_MODE_REQUIRED}),
        (FUNCTION, {"mode": message_pb2.TOOL_CHOICE_MODE_REQUIRED, "allowed_tools": ["f"], "named": True}),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [FUNCTION]}},
            {"mode": message_pb2.TOOL_CHOICE_MODE_AUTO, "allowed_tools": ["f"]},
        ),
    ],
)
def test_every_tool_choice_has_its_form(choice: Any, expected: dict[str, Any]) -> None:
    assert call(tools=[FUNCTION], tool_choice=choice).tool_choice == message_pb2.ToolChoice(**expected)


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "custom", "custom": {"name": "sql"}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "custom", "name": "sql"}]}},
    ],
)
def test_a_tool_choice_that_only_openai_knows_stays_whole(choice: dict[str, Any]) -> None:
    custom = {"type": "custom", "custom": {"name": "sql"}, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    result = call(tools=[custom], tool_choice=choice)
    assert json.loads(result.tool_choice.native.json) == choice
    assert json.loads(result.tools[0].native.json) == custom
    assert result.tools[0].cache_control.ttl == "1h"


def test_legacy_functions_become_tools_and_their_results_find_the_call() -> None:
    body = {
        "model": "m",
        "functions": [{"name": "f", "parameters": {"type": "object"}}],
        "function_call": {"name": "f"},
        "messages": [
            HELLO,
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}},
            {"role": "function", "name": "f", "content": "42"},
        ],
    }
    parsed = chat_call(json.dumps(body).encode())
    assert parsed.legacy_functions
    made, answered = (message.parts[0] for message in parsed.call.messages[1:])
    assert made.tool_call.arguments == b'{"a":1}'
    assert answered.tool_result.call_id == made.tool_call.id != ""
    assert parsed.call.tools[0].function.parameters_json == b'{"type": "object"}'
    assert parsed.call.tool_choice.named


def test_the_rest_of_the_request_has_its_places() -> None:
    body = {
        "model": "m",
        "messages": [HELLO | {"name": "ann", "cache_control": {"type": "ephemeral"}}],
        "stream": True,
        "stream_options": {"include_usage": True, "include_obfuscation": False},
        "user": "u-1",
        "parallel_tool_calls": False,
        "cache_control": {"type": "ephemeral", "ttl": "5m"},
        "provider_options": {"gemini": {"cachedContent": "c"}, "openai": None},
    }
    parsed = chat_call(json.dumps(body).encode())
    assert parsed.stream
    assert parsed.call.include_usage
    assert parsed.call.extra_json == b'{"stream_options":{"include_obfuscation":false}}'
    assert parsed.call.user == "u-1"
    assert parsed.call.HasField("parallel_tool_calls")
    assert parsed.call.cache_control.ttl == "5m"
    assert dict(parsed.call.provider_options) == {"gemini": b'{"cachedContent": "c"}'}
    assert parsed.call.messages[0].name == "ann"
    assert parsed.call.messages[0].parts[0].HasField("cache_control")


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [HELLO]} | fields


def said(*parts: Any) -> dict[str, Any]:
    return chat(messages=[{"role": "user", "content": list(parts)}])


BAD: list[tuple[dict[str, Any], str]] = [
    ({"messages": [HELLO]}, "model"),
    (chat(model=""), "model"),
    (chat(model=7), "model"),
    ({"model": "m"}, "messages"),
    (chat(messages=[]), "messages"),
    (chat(messages="hi"), "messages"),
    (chat(messages=[HELLO, "hi"]), "messages[1]"),
    (chat(messages=[HELLO, {"content": "x"}]), "messages[1].role"),
    (chat(messages=[HELLO, {"role": "robot", "content": "x"}]), "messages[1].role"),
    (chat(messages=[{"role": 1, "content": "x"}]), "messages[0].role"),
    (chat(messages=[{"role": "user"}]), "messages[0].content"),
    (chat(messages=[{"role": "user", "content": None}]), "messages[0].content"),
    (chat(messages=[{"role": "user", "content": []}]), "messages[0].content"),
    (chat(messages=[{"role": "user", "content": 7}]), "messages[0].content"),
    (said("x"), "messages[0].content[0]"),
    (said({"text": "x"}), "messages[0].content[0].type"),
    (said({"type": "text"}), "messages[0].content[0].text"),
    (said({"type": "image_url"}), "messages[0].content[0].image_url"),
    (said({"type": "image_url", "image_url": {"url": "ftp://a"}}), "messages[0].content[0].image_url.url"),
    (said({"type": "image_url", "image_url": {"url": "data:x"}}), "messages[0].content[0].image_url.url"),
    (
        said({"type": "image_url", "image_url": {"url": "data:image/png;base64,@@@"}}),
        "messages[0].content[0].image_url.url",
    ),
    (
        said({"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}),
        "messages[0].content[0].image_url.url",
    ),
    (
        said({"type": "input_audio", "input_audio": {"data": "a", "format": "wav"}}),
        "messages[0].content[0].input_audio.data",
    ),
    (said({"type": "file", "file": {}}), "messages[0].content[0].file.file_data"),
    (said({"type": "text", "text": "x", "cache_control": {"ttl": "2d"}}), "messages[0].content[0].cache_control.ttl"),
    (chat(messages=[{"role": "tool", "tool_call_id": "c1", "content": "x"}]), "messages[0].tool_call_id"),
    (chat(messages=[CALLED, {"role": "tool", "tool_call_id": "c2", "content": "x"}]), "messages[1].tool_call_id"),
    (chat(messages=[CALLED, {"role": "tool", "content": "x"}]), "messages[1].tool_call_id"),
    (chat(messages=[CALLED, {"role": "tool", "tool_call_id": "c1"}]), "messages[1].content"),
    (chat(messages=[{"role": "function", "name": "f", "content": "x"}]), "messages[0].name"),
    (chat(messages=[{"role": "assistant", "tool_calls": [{"id": "c"}]}]), "messages[0].tool_calls[0].function"),
    (
        chat(messages=[{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {}}}]}]),
        "messages[0].tool_calls[0].function.arguments",
    ),
    (
        chat(messages=[{"role": "assistant", "reasoning_details": [{"type": "reasoning.text", "state": "!"}]}]),
        "messages[0].reasoning_details[0].state",
    ),
    (chat(temperature=2.1), "temperature"),
    (chat(temperature="hot"), "temperature"),
    (chat(temperature=True), "temperature"),
    (chat(top_p=-0.1), "top_p"),
    (chat(n=0), "n"),
    (chat(n=1.5), "n"),
    (chat(max_tokens=0), "max_tokens"),
    (chat(max_completion_tokens="9"), "max_completion_tokens"),
    (chat(top_logprobs=21), "top_logprobs"),
    (chat(presence_penalty=3), "presence_penalty"),
    (chat(seed=2**63), "seed"),
    (chat(stop=[1]), "stop[0]"),
    (chat(stream="yes"), "stream"),
    (chat(stream_options={"include_usage": True}), "stream_options"),
    (chat(tools={}), "tools"),
    (chat(tools=[1]), "tools[0]"),
    (chat(tools=[{"type": "function"}]), "tools[0].function"),
    (chat(tools=[{"type": "function", "function": {}}]), "tools[0].function.name"),
    (chat(tools=[{"type": "function", "function": {"name": "f", "parameters": []}}]), "tools[0].function.parameters"),
    (chat(tool_choice="always"), "tool_choice"),
    (chat(tool_choice=7), "tool_choice"),
    (chat(tool_choice=FUNCTION), "tool_choice.function.name"),
    (chat(tool_choice={"type": "allowed_tools", "allowed_tools": {"tools": []}}), "tool_choice.allowed_tools.tools"),
    (chat(response_format={"type": "xml"}), "response_format.type"),
    (chat(response_format={"type": "json_schema"}), "response_format.json_schema"),
    (chat(response_format={"type": "json_schema", "json_schema": {}}), "response_format.json_schema.name"),
    (chat(reasoning_effort="huge"), "reasoning_effort"),
    (chat(thinking={}), "thinking.type"),
    (chat(provider_options={"gemini": 1}), "provider_options.gemini"),
    (chat(user=7), "user"),
]


@pytest.mark.parametrize(("body", "param"), BAD, ids=[f"{param}-{index}" for index, (_, param) in enumerate(BAD)])
def test_bad_input_names_its_field(body: dict[str, Any], param: str) -> None:
    error = refused(body)
    assert error.details == {"param": param}
    assert f"`{param.split('[', maxsplit=1)[0].split('.', maxsplit=1)[0]}" in error.message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "it is empty"),
        (b"  ", "it is empty"),
        (b'{"model":', "line 1 column 10"),
        (b'{"model":"m",}', "line 1 column"),
        (b'{"model":"m","messages":NaN}', "line 1 column"),
        (b'{"model":"\\ud800"}', "surrogate"),
        (b'{"x":{"y":"\\udc00"}}', "surrogate"),
        (b'{"model":"\xff"}', "UTF-8"),
        (b"[1]", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b'{"x":' + b"[" * 200 + b"]" * 200 + b"}", "nests deeper"),
        (b'{"x":' * 100_000, "nests deeper"),
    ],
)
def test_what_is_no_json_object_says_why_and_where(body: bytes, words: str) -> None:
    assert words in refused(body).message


@pytest.mark.parametrize("words", ["[" * 5000, "{[" * 5000 + '\\"', "\\\\" * 5000])
def test_brackets_inside_strings_are_no_nesting(words: str) -> None:
    assert call({"role": "user", "content": words}, metadata={"a": [[1]] * 200}).messages[0].parts[0].text.text == words


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
unknown = st.dictionaries(st.text(min_size=1).map(lambda key: f"x-{key}"), json_values, max_size=3)


def extra(value: bytes) -> Any:
    return json.loads(value) if value else {}


@given(unknown, unknown, unknown, unknown, unknown)
def test_unknown_fields_come_through_on_every_level(
    request: Any, message: Any, part: Any, tool: Any, form: Any
) -> None:
    body = {
        **request,
        "model": "m",
        "messages": [{**message, "role": "user", "content": [{**part, "type": "text", "text": "x"}]}],
        "tools": [{**tool, **FUNCTION}],
        "response_format": {**form, "type": "json_object"},
    }
    result = chat_call(json.dumps(body).encode()).call
    seen = [
        result.extra_json,
        result.messages[0].extra_json,
        result.messages[0].parts[0].extra_json,
        result.tools[0].extra_json,
        result.response_format.extra_json,
    ]
    assert [extra(value) for value in seen] == [request, message, part, tool, form]


@given(st.binary())
def test_no_body_whatever_does_anything_but_parse_or_be_refused(body: bytes) -> None:
    with pytest.raises(GatewayError):
        chat_call(body)


@given(json_values, st.sampled_from(["messages", "tools", "tool_choice", "response_format", "reasoning", "stop", "n"]))
def test_no_value_whatever_does_anything_but_parse_or_be_refused(value: Any, key: str) -> None:
    try:
        chat_call(json.dumps(chat() | {key: value}).encode())
    except GatewayError as error:
        assert error.reason.name == "INVALID_REQUEST"  # noqa: PT017 # not raising is as good


def embed(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "input": "x"} | fields).encode()


@pytest.mark.parametrize(
    ("value", "inputs", "single"),
    [
        ("a", [{"text": "a"}], True),
        (["a", "b"], [{"text": "a"}, {"text": "b"}], False),
        ([1, 2], [{"tokens": [1, 2]}], True),
        ([[1], [2, 3]], [{"tokens": [1]}, {"tokens": [2, 3]}], False),
    ],
)
def test_embedding_inputs_are_texts_or_tokens(value: Any, inputs: list[dict[str, Any]], single: bool) -> None:
    parsed = embed_call(embed(input=value, encoding_format="base64", dimensions=8, user="u", extra=[1]))
    expected = [
        embedding_pb2.EmbeddingInput(text=item["text"])
        if "text" in item
        else embedding_pb2.EmbeddingInput(tokens=embedding_pb2.TokenIds(ids=item["tokens"]))
        for item in inputs
    ]
    assert parsed.base64
    assert parsed.call == embedding_pb2.EmbedCall(
        model="m",
        inputs=expected,
        dimensions=8,
        user="u",
        dialect=message_pb2.DIALECT_OPENAI_CHAT,
        extra_json=b'{"extra":[1]}',
        single_input=single,
    )


@pytest.mark.parametrize(
    ("form", "decimals"), [({}, True), ({"encoding_format": "float"}, True), ({"encoding_format": "base64"}, False)]
)
def test_vectors_are_decimals_unless_asked_for_in_base64(form: dict[str, str], decimals: bool) -> None:  # a parameter
    parsed = embed_call(embed(input="a", **form))
    assert (parsed.call.decimals, parsed.base64) == (decimals, not decimals)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": {}}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": [1, "a"]}, "input"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [-1]}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"model": None}, "model"),
    ],
)
def test_bad_embedding_input_names_its_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as caught:
        embed_call(embed(**fields))
    assert caught.value.details == {"param": param}
