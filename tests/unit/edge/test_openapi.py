"""The OpenAPI document: valid, complete, and true of what the edge reads."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from aigateway_common.errors import GatewayError
from aigateway_common.inprocess import InProcessChannel, InProcessServer
from aigateway_common.reasons import REASONS
from aigateway_edge.anthropic.to_proto import messages_call
from aigateway_edge.app import create_app
from aigateway_edge.completions.to_proto import completion_call
from aigateway_edge.openai.to_proto import chat_call, embed_call
from aigateway_edge.responses.to_proto import response_call
from aigateway_edge.settings import EdgeSettings
from starlette.routing import Route

HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
OBJECTS = {
    "metadata",
    "output_config",
    "response_format",
    "tool_choice",
    "cache_control",
    "thinking",
    "reasoning",
    "provider_options",
    "stream_options",
    "text",
}
NEEDS: dict[str, dict[str, Any]] = {"stream_options": {"stream": True}}
"""What some fields need beside them."""


@pytest.fixture(scope="module")
def app() -> Any:
    return create_app(EdgeSettings(), gateway=InProcessChannel(InProcessServer()))


@pytest.fixture(scope="module")
def document(app: Any) -> dict[str, Any]:
    result: dict[str, Any] = app.openapi()
    assert json.loads(json.dumps(result)) == result
    return result


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_every_route_is_documented(app: Any, document: dict[str, Any]) -> None:
    served = {
        (route.path.replace(":path", ""), method.lower())
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    own = {("/docs", "get"), ("/openapi.json", "get")}
    health = {(path, "get") for path in ("/health", "/live", "/ready")}
    documented = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert (served - own) | health == documented


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert {name.rsplit("/", 1)[1] for name in references(document)} <= set(schemas)


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids))


def test_every_status_a_caller_can_get_is_documented(document: dict[str, Any]) -> None:
    statuses = set(document["paths"]["/v1/chat/completions"]["post"]["responses"])
    wrong_place = {405, 499}  # another method is another operation; nobody is left to read 499
    assert {str(reason.http_status) for reason in REASONS.values() if reason.http_status not in wrong_place} <= statuses


PLAIN: dict[str, tuple[Any, dict[str, Any]]] = {
    "ChatCompletionRequest": (chat_call, HELLO),
    "EmbeddingRequest": (embed_call, {"model": "m", "input": "x"}),
    "ResponseRequest": (response_call, {"model": "m", "input": "x"}),
    "CompletionRequest": (completion_call, {"model": "m", "prompt": "x"}),
    "AnthropicMessageRequest": (messages_call, HELLO | {"max_tokens": 1}),
    "AnthropicCountRequest": (partial(messages_call, counting=True), HELLO),
}


@pytest.mark.parametrize("schema", PLAIN)
def test_each_documented_field_is_really_read(document: dict[str, Any], schema: str) -> None:
    parse, plain = PLAIN[schema]
    for name in document["components"]["schemas"][schema]["properties"]:
        wrong: Any = 7 if name in OBJECTS else {"type": []}
        with pytest.raises(GatewayError) as caught:
            parse(json.dumps(plain | NEEDS.get(name, {}) | {name: wrong}).encode())
        assert caught.value.details["param"].startswith(name)


def test_no_field_that_is_read_is_undocumented(document: dict[str, Any]) -> None:
    """A field unknown to the edge is passed on; so what is not passed on must be documented."""
    documented = set(document["components"]["schemas"]["ChatCompletionRequest"]["properties"])
    for name in ("store", "metadata", "service_tier", "logit_bias", "modalities", "audio", "prediction", "verbosity"):
        assert name not in documented
        passed = chat_call(json.dumps(HELLO | {name: {"a": 1}}).encode()).call.extra_json
        assert json.loads(passed) == {name: {"a": 1}}
