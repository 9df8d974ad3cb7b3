"""Any conversation in Anthropic's own dialect is sent to Anthropic as it was written.

Not counted as a difference: a string for the same words as one text block, an explicit `stream: false`, and an explicit
null for an absent field.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from aigateway_edge.anthropic.to_proto import messages_call
from aigateway_providers.anthropic.request import build
from aigateway_providers.settings import ProviderSettings
from hypothesis import given, settings
from hypothesis import strategies as st

SETTINGS = ProviderSettings("anthropic", "anthropic", "http://127.0.0.1:1", "key")
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(
    lambda text: text.strip() == text
)
NAMES = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
BYTES = st.binary(min_size=1, max_size=12).map(lambda data: base64.b64encode(data).decode())
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(WORDS, JSON_VALUES, max_size=3)
CACHE = st.sampled_from([{"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}])


def block(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.just(kind), **fields}, optional={"cache_control": CACHE})


def source(*types: str) -> st.SearchStrategy[dict[str, Any]]:
    inline = st.fixed_dictionaries({"type": st.just("base64"), "media_type": st.sampled_from(types), "data": BYTES})
    return inline | st.just({"type": "url", "url": "https://example.com/it"})


TEXT = block("text", text=WORDS)
IMAGE = block("image", source=source("image/png", "image/jpeg"))
DOCUMENT = block("document", source=source("application/pdf"))
SAID = st.lists(TEXT | IMAGE | DOCUMENT, min_size=1, max_size=3)
THINKING = st.fixed_dictionaries({"type": st.just("thinking"), "thinking": WORDS, "signature": BYTES})
REDACTED = st.fixed_dictionaries({"type": st.just("redacted_thinking"), "data": BYTES})
SERVER_TOOL = st.fixed_dictionaries(
    {"type": st.just("server_tool_use"), "id": NAMES, "name": st.just("web_search"), "input": OBJECTS}
)


@st.composite
def exchanges(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A question, and an answer that may call tools, with their results and a last answer."""
    calls = [
        {"type": "tool_use", "id": f"toolu_{number}", "name": draw(NAMES), "input": draw(OBJECTS)}
        for number in range(draw(st.integers(0, 2)))
    ]
    thought = draw(st.lists(THINKING | REDACTED, max_size=2))
    said = draw(st.lists(TEXT | SERVER_TOOL, max_size=2))
    turns: list[dict[str, Any]] = [{"role": "user", "content": draw(SAID)}]
    if not (calls or said):
        return turns
    turns.append({"role": "assistant", "content": [*thought, *said, *calls]})
    if calls:
        results = [
            {
                "type": "tool_result",
                "tool_use_id": call["id"],
                "content": draw(WORDS | st.lists(TEXT | IMAGE, min_size=1)),
            }
            | draw(st.sampled_from([{}, {"is_error": True}, {"is_error": False}]))
            for call in calls
        ]
        turns.append({"role": "user", "content": [*results, *draw(st.lists(TEXT, max_size=1))]})
    else:
        turns.append({"role": "user", "content": draw(WORDS)})
    return turns


TOOLS = st.lists(
    st.fixed_dictionaries(
        {"name": NAMES, "input_schema": OBJECTS.map(lambda schema: {"type": "object"} | schema)},
        optional={"description": WORDS, "cache_control": CACHE, "some_new_field": JSON_VALUES},
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda tool: str(tool["name"]),
)
BODIES = st.fixed_dictionaries(
    {"model": st.just("claude-opus-5"), "max_tokens": st.integers(1, 9999), "messages": exchanges()},
    optional={
        "system": WORDS | st.lists(TEXT, min_size=1, max_size=2),
        "tools": TOOLS,
        "stop_sequences": st.lists(WORDS, min_size=1, max_size=2),
        "metadata": st.fixed_dictionaries({"user_id": WORDS}),
        "service_tier": st.sampled_from(["auto", "standard_only"]),
        "some_new_field": JSON_VALUES,
    },
)


def plain(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def normal(body: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {key: value for key, value in json.loads(json.dumps(body)).items() if value is not None}
    made.pop("stream", None)
    for tool in made.get("tools", ()):
        if tool.get("some_new_field", ...) is None:
            del tool["some_new_field"]
    if "system" in made:
        made["system"] = plain(made["system"])
    for turn in made["messages"]:
        turn["content"] = plain(turn["content"])
        for piece in turn["content"]:
            if piece["type"] == "tool_result":
                piece["content"] = plain(piece["content"])
    return made


@settings(max_examples=150, deadline=None)
@given(BODIES)
def test_any_conversation_reaches_anthropic_as_it_was_written(body: dict[str, Any]) -> None:
    found = build(messages_call(json.dumps(body).encode()).call, SETTINGS, stream=False)
    assert list(found.translation) == []
    assert normal(json.loads(found.body)) == normal(body)
