"""Any conversation that OpenAI takes survives the way through the contract: what the caller wrote is what is sent."""

from __future__ import annotations

import base64
import json
from typing import Any

from aigateway.v1 import chat_pb2
from aigateway_edge.openai.to_proto import chat_call
from aigateway_providers.openai_compat.profiles import PROFILES
from aigateway_providers.openai_compat.request import to_body
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["é\u2028", "😀", "\x00", '"\\']
)
said = words.filter(bool)
names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_-]{0,12}", fullmatch=True)
numbers = st.integers(-(10**40), 10**40) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(words, json_values, max_size=3)
unknown = st.dictionaries(names.map(lambda name: f"x_{name}"), json_values, max_size=2)
"""Fields that nobody has heard of."""
blobs = st.binary(min_size=1, max_size=20).map(lambda data: base64.b64encode(data).decode())


def known(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with these fields and perhaps unknown ones."""
    return st.tuples(unknown, st.fixed_dictionaries(fields)).map(lambda pair: pair[0] | pair[1])


def maybe(
    needed: dict[str, st.SearchStrategy[Any]], **optional: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, Any]]:
    made = st.fixed_dictionaries(needed, optional=optional)
    return st.tuples(unknown, made).map(lambda pair: pair[0] | pair[1])


texts = known(type=st.just("text"), text=words)
addresses = st.sampled_from(["https://example.com/a.png", "http://example.com/é?x=1&y=%20"])
pictures = known(
    type=st.just("image_url"),
    image_url=maybe(
        {"url": addresses | blobs.map("data:image/png;base64,{}".format)},
        detail=st.sampled_from(["auto", "low", "high"]),
    ),
)
sounds = known(type=st.just("input_audio"), input_audio=known(data=blobs, format=st.sampled_from(["wav", "mp3"])))
files = known(type=st.just("file"), file=known(file_id=said)) | known(
    type=st.just("file"), file=known(filename=said, file_data=blobs.map("data:application/pdf;base64,{}".format))
)
natives = known(type=st.just("x_new_kind"), payload=json_values)
refusals = known(type=st.just("refusal"), refusal=words)


def content(*parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return words | st.lists(st.one_of(*parts), min_size=1, max_size=3)


instructions = maybe(
    {"role": st.sampled_from(["system", "developer"]), "content": content(texts)},
    name=said,
)
questions = maybe(
    {"role": st.just("user"), "content": content(texts, pictures, sounds, files, natives)},
    name=said,
)
arguments = words.filter(bool) | objects.map(json.dumps)
functions = known(id=st.uuids().map(str), type=st.just("function"), function=known(name=names, arguments=arguments))
customs = known(id=st.uuids().map(str), type=st.just("custom"), custom=known(name=names, input=said))


@st.composite
def turns(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A turn of the model, and the results of the tools that it called."""
    optional = st.fixed_dictionaries(
        {}, optional={"name": said, "refusal": said, "audio": st.fixed_dictionaries({"id": said})}
    )
    answer: dict[str, Any] = draw(unknown) | draw(optional) | {"role": "assistant"}
    calls = draw(st.lists(functions | customs, max_size=2))
    if calls:
        answer["tool_calls"] = calls
    answer["content"] = draw((st.none() | content(texts, refusals, natives)) if calls else content(texts, natives))
    if isinstance(answer["content"], list):
        answer.pop("refusal", None)
    results = [
        draw(unknown) | {"role": "tool", "tool_call_id": call["id"], "content": draw(content(texts))} for call in calls
    ]
    return [answer, *results]


tools = known(
    type=st.just("function"),
    function=maybe({"name": names}, description=said, parameters=objects, strict=st.booleans()),
) | known(type=st.just("custom"), custom=known(name=names))
formats = (
    known(type=st.just("text"))
    | known(type=st.just("json_object"))
    | known(
        type=st.just("json_schema"),
        json_schema=maybe({"name": names}, description=said, schema=objects, strict=st.booleans()),
    )
)
options = {
    "max_completion_tokens": st.integers(1, 2**53 - 1),
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1),
    "stop": said | st.lists(said, min_size=1, max_size=4),
    "seed": st.integers(-(2**63), 2**63 - 1),
    "presence_penalty": st.floats(-2, 2),
    "frequency_penalty": st.floats(-2, 2),
    "n": st.integers(1, 128),
    "logprobs": st.booleans(),
    "top_logprobs": st.integers(0, 20),
    "parallel_tool_calls": st.booleans(),
    "reasoning_effort": st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh"]),
    "user": said,
    "response_format": formats,
    "metadata": st.dictionaries(words, words, max_size=2),
    "logit_bias": st.dictionaries(st.integers(0, 10**6).map(str), st.integers(-100, 100), max_size=2),
}


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """A request that OpenAI's document allows, and more that it does not forbid."""
    body: dict[str, Any] = draw(unknown) | draw(st.fixed_dictionaries({}, optional=options))
    body["model"] = draw(said)
    some = st.one_of(instructions.map(lambda one: [one]), questions.map(lambda one: [one]), turns())
    body["messages"] = [message for group in draw(st.lists(some, min_size=1, max_size=4)) for message in group]
    offered: list[dict[str, Any]] = draw(st.lists(tools, max_size=3))
    if offered:
        body["tools"] = offered
        named = [tool["function"]["name"] for tool in offered if tool["type"] == "function"]
        if named:
            one = {"type": "function", "function": {"name": draw(st.sampled_from(named))}}
            several = {"mode": draw(st.sampled_from(["auto", "required"])), "tools": [one]}
            choices: list[Any] = [one, {"type": "allowed_tools", "allowed_tools": several}, "auto", "none", "required"]
            body["tool_choice"] = draw(st.sampled_from(choices))
    return body


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(requests(), st.booleans())
def test_a_request_is_sent_as_it_was_written(body: dict[str, Any], stream: bool) -> None:
    parsed = chat_call(json.dumps(body | ({"stream": True} if stream else {})).encode())
    carried = chat_pb2.ChatCall.FromString(parsed.call.SerializeToString())
    sent, notes = to_body(carried, PROFILES["openai"], provider="openai", stream=parsed.stream)

    streaming = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    assert json.loads(sent) == body | streaming
    assert notes == []
