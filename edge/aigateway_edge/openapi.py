"""The OpenAPI document: FastAPI's own for the health routes and `/admin`, and ours for the plain ASGI callables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi.openapi.utils import get_openapi

from aigateway_edge.anthropic import openapi as anthropic
from aigateway_edge.openapi_responses import SCHEMAS as RESPONSES_SCHEMAS
from aigateway_edge.openapi_responses import STREAMS
from aigateway_edge.openapi_schemas import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

    from aigateway_edge.admin.late import LateAdmin

_DESCRIPTION: Final = (
    "One gateway in front of several providers, in OpenAI's format. Models are named `provider/model`, or by an "
    "alias. Fields not listed here are passed on to providers that speak OpenAI's format; what a provider cannot "
    "carry is told in the header `x-gateway-translation`."
)
_HEADERS: Final[dict[str, tuple[str, str]]] = {
    "X-Request-ID": ("string", "The id of the call: the caller's own where it is sane, else one made here."),
    "X-Provider": ("string", "The provider that answered."),
    "X-Model": ("string", "The model's name as it was sent to the provider."),
    "Server-Timing": ("string", "Milliseconds spent in `edge`, `router`, `adapter` and `upstream`."),
    "x-gateway-translation": (
        "string",
        (
            "What the provider could not carry: `field=action (detail); …`. What turns out only at the end of a stream "
            "is a comment in it, in the same words."
        ),
    ),
    "X-Hub-Fallback": ("string", "`true` when another provider than the one named answered."),
    "X-Hub-Original-Provider": ("string", "The provider that the name led to, when another one stood in."),
    "X-Hub-Actual-Provider": ("string", "The provider that stood in."),
    "X-Gateway-Attempts": ("integer", "How many attempts it took, when more than one."),
    "X-Gateway-Budget": ("string", "Budgets of which 70 % or more are spent or set aside."),
    "X-RateLimit-Limit": ("integer", "The limit on calls a minute, where there is one; OpenAI's names stand beside."),
    "X-RateLimit-Remaining": ("integer", "What is left of it."),
    "X-RateLimit-Reset": ("integer", "Seconds until all of it is there again."),
    "Retry-After": ("integer", "Seconds to wait before another attempt."),
}
_OF_ANSWERS: Final = frozenset({"X-Model", "Server-Timing", "x-gateway-translation", "X-Gateway-Budget"})
"""Headers that no failure has."""
_ERRORS: Final[dict[str, str]] = {
    "400": "A field of the request is missing, malformed, out of range, or beyond what the provider can do.",
    "401": "The gateway key is missing or wrong.",
    "403": "The key may not do this.",
    "404": "There is no such model.",
    "408": "The request came too slowly.",
    "413": "The request is larger than the gateway or the provider takes.",
    "415": "The body is compressed, or comes from a web page as something else than JSON.",
    "429": "A limit, quota or budget is reached.",
    "500": "A fault of the gateway.",
    "502": "The provider failed, or refused the gateway's own key.",
    "503": "The provider or the gateway is overloaded or cannot be reached.",
    "504": "The deadline passed.",
}
_HELLO: Final[dict[str, Any]] = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "Hello"}]}
_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "ChatCompletionRequest": _HELLO,
    "ResponseRequest": {"model": "sandbox/echo", "input": "Hello"},
    "CompletionRequest": {"model": "sandbox/echo", "prompt": "Hello"},
    "EmbeddingRequest": {"model": "sandbox/embed", "input": "Hello"},
    "AnthropicMessageRequest": _HELLO | {"max_tokens": 100},
    "AnthropicCountRequest": _HELLO,
}
"""By the request's schema: a short body that a fresh gateway answers. Without it pages such as `/docs` make up one that
has every optional field, which no provider takes."""
_POLICY: Final = "X-Gateway-Translation-Policy"
_PARAMETERS: Final[list[dict[str, Any]]] = [
    {
        "name": "X-Gateway-Timeout",
        "in": "header",
        "description": "Seconds that the call may take.",
        "schema": {"type": "number", "exclusiveMinimum": 0},
    },
    {
        "name": _POLICY,
        "in": "header",
        "description": "`lenient` leaves out what the provider cannot carry and says so; `strict` refuses the call.",
        "schema": {"type": "string", "enum": ["lenient", "strict"], "default": "lenient"},
    },
    {
        "name": "X-Session-ID",
        "in": "header",
        "description": "A name for calls that belong together, at most 256 characters: a sticky pool asks the same "
        "upstream for all of them.",
        "schema": {"type": "string"},
    },
    {
        "name": "X-Request-ID",
        "in": "header",
        "description": "An id for the call: up to 128 letters, digits and `._:/+=@-`.",
        "schema": {"type": "string"},
    },
]


def cached(app: FastAPI, admin: LateAdmin) -> Callable[[], dict[str, Any]]:
    """The maker of the document, which makes it once."""
    made: list[dict[str, Any]] = []

    def openapi() -> dict[str, Any]:
        if not made:
            made.append(document(app, admin))
        return made[0]

    return openapi


def document(app: FastAPI, admin: LateAdmin) -> dict[str, Any]:
    """The whole document."""
    routes = [*app.routes, *admin.app.routes]
    whole = get_openapi(title=app.title, version="1", description=_DESCRIPTION, routes=routes)
    whole["paths"] |= _paths()
    components = whole.setdefault("components", {})
    components.setdefault("schemas", {}).update(SCHEMAS | RESPONSES_SCHEMAS | anthropic.SCHEMAS)
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "The gateway key."},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
    }
    return whole


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = {
        "/v1/chat/completions": {"post": _chat()},
        "/v1/responses": {"post": _streamed("Create a response", "createResponse", "Response")},
        "/v1/completions": {"post": _streamed("Create a legacy completion", "createCompletion", "Completion")},
        "/v1/embeddings": {"post": _embeddings()},
        "/v1/models": {"get": _read("List models", "listModels", "ModelList")},
        "/v1/models/{id}": {"get": _model()},
    }
    paths |= {path.removeprefix("/v1"): _alias(methods) for path, methods in paths.items()}
    return paths | _messages()


def _messages() -> dict[str, Any]:
    answer = {
        "application/json": {"schema": _ref("AnthropicMessage")},
        "text/event-stream": {"schema": {"type": "string", "description": anthropic.STREAM}},
    }
    count = {"application/json": {"schema": _ref("AnthropicCount")}}
    return {
        "/v1/messages": {
            "post": _anthropic(_operation("Create a message", "createMessage", answer, "AnthropicMessageRequest"))
        },
        "/v1/messages/count_tokens": {
            "post": _anthropic(_operation("Count a prompt's tokens", "countTokens", count, "AnthropicCountRequest"))
        },
    }


def _anthropic(operation: dict[str, Any]) -> dict[str, Any]:
    """An operation with the headers, and the failures, of Anthropic's dialect."""
    failures = _ERRORS | {"529": "The provider or the gateway is overloaded."}
    failures["503"] = "The provider, or a service of the gateway, cannot be reached."
    responses = {status: _error(text, "AnthropicError") for status, text in failures.items()}
    return operation | {
        "tags": ["anthropic"],
        "parameters": [*anthropic.VERSION_PARAMETERS, *operation["parameters"]],
        "responses": operation["responses"] | responses,
    }


def _chat() -> dict[str, Any]:
    content = {
        "application/json": {"schema": _ref("ChatCompletion")},
        "text/event-stream": {
            "schema": {
                "type": "string",
                "description": "With `stream: true`: records `data: <ChatCompletionChunk>`, then `data: [DONE]`. "
                "A failure after the first record is one record `data: <Error>`, and no `[DONE]`. Lines that begin "
                "with a colon are comments and keep the connection alive.",
            }
        },
    }
    return _operation("Create a chat completion", "createChatCompletion", content, "ChatCompletionRequest")


def _streamed(summary: str, name: str, schema: str) -> dict[str, Any]:
    """An operation that answers whole, or as a stream."""
    content = {
        "application/json": {"schema": _ref(schema)},
        "text/event-stream": {"schema": {"type": "string", "description": STREAMS[schema]}},
    }
    return _operation(summary, name, content, f"{schema}Request")


def _embeddings() -> dict[str, Any]:
    content = {"application/json": {"schema": _ref("EmbeddingList")}}
    return _operation("Create embeddings", "createEmbedding", content, "EmbeddingRequest")


def _model() -> dict[str, Any]:
    operation = _read("Retrieve a model", "retrieveModel", "Model")
    name = {"name": "id", "in": "path", "required": True, "description": "The name, slashes and all."}
    name["example"] = _HELLO["model"]
    operation["parameters"] = [name | {"schema": {"type": "string"}}, *operation["parameters"]]
    return operation


def _read(summary: str, name: str, schema: str) -> dict[str, Any]:
    return _operation(summary, name, {"application/json": {"schema": _ref(schema)}})


def _operation(summary: str, name: str, content: dict[str, Any], request: str | None = None) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "tags": ["openai"],
        "summary": summary,
        "operationId": name,
        "security": [{"bearer": []}, {"x-api-key": []}, {"api-key": []}, {}],
        "parameters": _PARAMETERS
        if request
        else [p for p in _PARAMETERS if p["name"] not in (_POLICY, "X-Session-ID")],
        "responses": {"200": {"description": "The answer.", "headers": _headers(), "content": content}}
        | {status: _error(text) for status, text in _ERRORS.items()},
    }
    if request:
        body = {"schema": _ref(request), "example": _EXAMPLES[request]}
        operation["requestBody"] = {"required": True, "content": {"application/json": body}}
    return operation


def _error(text: str, schema: str = "Error") -> dict[str, Any]:
    return {
        "description": text,
        "headers": _headers(*(name for name in _HEADERS if name not in _OF_ANSWERS)),
        "content": {"application/json": {"schema": _ref(schema)}},
    }


def _headers(*names: str) -> dict[str, Any]:
    chosen = names or tuple(name for name in _HEADERS if name != "Retry-After")
    return {name: {"description": _HEADERS[name][1], "schema": {"type": _HEADERS[name][0]}} for name in chosen}


def _alias(methods: dict[str, Any]) -> dict[str, Any]:
    """The same operations under a name of their own."""
    return {
        method: operation
        | {"operationId": operation["operationId"] + "Short", "summary": operation["summary"] + " (alias)"}
        for method, operation in methods.items()
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
