"""Limits, sampling, thinking and the form of the answer: the rest of an Anthropic request to its neutral form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from aigateway.v1 import chat_pb2
from aigateway_common.errors import invalid

if TYPE_CHECKING:
    from aigateway_edge.fields import Fields

_MAX_TOKENS: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps."""
_FORMAT_NAME: Final = "answer"
"""Stands where other providers want a name for the schema."""
_texts: Final[msgspec.json.Decoder[list[str] | None]] = msgspec.json.Decoder(list[str] | None)


def generation(request: Fields, *, counting: bool) -> chat_pb2.GenerationOptions:
    """Limits and sampling; `max_tokens` is required, unless tokens are only counted."""
    limit = request.integer("max_tokens", 0, _MAX_TOKENS)
    if limit is None and not counting:
        raise invalid("max_tokens", "`max_tokens` is required and must be an integer")
    stop = request.take("stop_sequences", _texts, "a list of strings")
    return chat_pb2.GenerationOptions(
        max_output_tokens=limit,
        temperature=request.number("temperature", 0, 1),
        top_p=request.number("top_p", 0, 1),
        top_k=request.integer("top_k", 0, 2**31 - 1),
        stop=stop,
        stop_is_list=stop is not None,
    )


def thinking_and_form(request: Fields) -> tuple[chat_pb2.ReasoningOptions | None, chat_pb2.ResponseFormat | None]:
    """`thinking` and `output_config`, which share the effort."""
    options = _thinking(request)
    config = request.child("output_config")
    if config is None:
        return options, None
    if effort := config.text("effort"):
        options = options or chat_pb2.ReasoningOptions()
        options.effort = effort
    form = _format(config)
    request.put_back("output_config", config)
    return options, form


def _thinking(request: Fields) -> chat_pb2.ReasoningOptions | None:
    """`thinking`; a kind without a neutral form stays among the fields that nobody took."""
    if request.peek("thinking") in {b"", b"null"}:
        return None
    whole = request.peek("thinking")
    fields = request.child("thinking")
    if fields is None:
        return None
    options = chat_pb2.ReasoningOptions()
    match fields.required_text("type"):
        case "disabled":
            options.budget_tokens = 0
        case "enabled":
            budget = fields.integer("budget_tokens", 0, _MAX_TOKENS)
            if not budget:
                where = fields.at("budget_tokens")
                raise invalid(where, f"`{where}` is required and must be more than 0")
            options.budget_tokens = budget
        case "adaptive":
            options.adaptive = True
        case _:
            request.keep("thinking", whole)
            return None
    options.summary = fields.text("display") or ""
    request.put_back("thinking", fields)
    return options


def _format(config: Fields) -> chat_pb2.ResponseFormat | None:
    form = config.child("format")
    if form is None:
        return None
    form.one_of("type", ("json_schema",))
    schema = form.object_json("schema")
    if schema is None:
        raise invalid(form.at("schema"), f"`{form.at('schema')}` is required and must be an object")
    config.put_back("format", form)
    return chat_pb2.ResponseFormat(
        type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA, name=_FORMAT_NAME, schema_json=schema
    )
