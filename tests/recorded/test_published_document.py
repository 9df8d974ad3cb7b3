"""Requests follow OpenAI's own published document: every field it names is read, carried whole, or refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import yaml
from aigateway_common.errors import GatewayError
from aigateway_edge.completions.to_proto import completion_call
from aigateway_edge.openai.to_proto import chat_call, embed_call
from aigateway_edge.responses.to_proto import response_call
from support.exchanges import FOLDER

DOCUMENT = FOLDER.parent / "specs" / "openai.yaml"
HI = [{"role": "user", "content": "Hi"}]
SURFACES: dict[str, tuple[Callable[[bytes], Any], dict[str, Any]]] = {
    "CreateChatCompletionRequest": (chat_call, {"model": "m", "messages": HI}),
    "CreateEmbeddingRequest": (embed_call, {"model": "m", "input": "Hi"}),
    "CreateCompletionRequest": (completion_call, {"model": "m", "prompt": "Hi"}),
    "CreateResponse": (response_call, {"model": "m", "input": "Hi"}),
}
MARK = "a-value-of-no-known-kind"


@cache
def text() -> str:
    return DOCUMENT.read_text() if DOCUMENT.is_file() else ""


def fields(name: str) -> set[str]:
    """The properties of a schema and of those it is made of; read as text, since the whole document takes a minute."""
    found = re.search(rf"^    {name}:\n((?:      .*\n|\n)+)", text(), re.MULTILINE)
    assert found, name
    schema = yaml.load(f"x:\n{found[1]}", Loader=yaml.CSafeLoader)["x"]
    names = set(schema.get("properties", ()))
    for part in schema.get("allOf", ()):
        names |= fields(part["$ref"].rpartition("/")[2]) if "$ref" in part else set(part.get("properties", ()))
    return names


def cases() -> list[Any]:
    if not text():
        reason = "OpenAI's published document is not here"
        return [pytest.param("", "", id="document-absent", marks=pytest.mark.skip(reason=reason))]
    return [pytest.param(name, field, id=f"{name}-{field}") for name in SURFACES for field in sorted(fields(name))]


def outcome(name: str, field: str) -> Any:
    """The call that a body with a strange value in `field` becomes, or the error."""
    parse, plain = SURFACES[name]
    try:
        return parse(json.dumps(plain | {field: MARK}).encode()).call
    except GatewayError as error:
        return error


@pytest.mark.parametrize(("name", "field"), cases())
def test_a_published_field_is_read_carried_or_refused_by_name(name: str, field: str) -> None:
    """A typed field says by its name that the value is wrong; any other is carried whole. Silence would be a loss."""
    found = outcome(name, field)
    if isinstance(found, GatewayError):
        assert found.reason.name in {"INVALID_REQUEST", "UNSUPPORTED"}
        assert found.details["param"].startswith(field)
    else:
        assert MARK in str(found), f"`{field}` vanished"
