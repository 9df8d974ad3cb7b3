"""Limits, sampling, reasoning and the form of the answer: the rest of an OpenAI request to its neutral form.

`thinking` (as Anthropic writes it) and `reasoning` (as OpenRouter does) are read beside OpenAI's `reasoning_effort`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from aigateway.v1 import chat_pb2
from aigateway_common.errors import invalid

if TYPE_CHECKING:
    from aigateway_edge.fields import Fields

MAX_TOKENS: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps."""
EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max", "default")
_DEFAULT_EFFORT: Final = "medium"
"""What OpenRouter makes of `reasoning: {"enabled": true}`: https://openrouter.ai/docs/use-cases/reasoning-tokens."""

_GENERATION: Final = frozenset(
    {
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "top_k",
        "stop",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "n",
        "logprobs",
        "top_logprobs",
    }
)
_REASONING: Final = frozenset({"reasoning_effort", "reasoning", "thinking"})
_stop: Final[msgspec.json.Decoder[str | list[str] | None]] = msgspec.json.Decoder(str | list[str] | None)


def generation(request: Fields) -> chat_pb2.GenerationOptions:
    """Limits and sampling."""
    if request.lacks(_GENERATION):
        return chat_pb2.GenerationOptions()
    legacy = request.integer("max_tokens", 1, MAX_TOKENS)
    limit = request.integer("max_completion_tokens", 1, MAX_TOKENS)
    stop = request.take("stop", _stop, "a string or a list of strings")
    return chat_pb2.GenerationOptions(
        max_output_tokens=legacy if limit is None else limit,
        legacy_max_tokens=limit is None and legacy is not None,
        temperature=request.number("temperature", 0, 2),
        top_p=request.number("top_p", 0, 1),
        top_k=request.integer("top_k", 0, 2**31 - 1),
        stop=[stop] if isinstance(stop, str) else stop,
        stop_is_list=isinstance(stop, list),
        seed=request.integer("seed", -(2**63), 2**63 - 1),
        presence_penalty=request.number("presence_penalty", -2, 2),
        frequency_penalty=request.number("frequency_penalty", -2, 2),
        n=request.integer("n", 1, 128),
        logprobs=request.boolean("logprobs"),
        top_logprobs=request.integer("top_logprobs", 0, 20),
    )


def response_format(request: Fields) -> chat_pb2.ResponseFormat | None:
    """The form of the answer."""
    fields = request.child("response_format")
    if fields is None:
        return None
    kind = fields.one_of("type", ("text", "json_object", "json_schema"))
    if kind is None:
        raise invalid(fields.at("type"), f"`{fields.at('type')}` is required")
    if kind == "text":
        return chat_pb2.ResponseFormat(type=chat_pb2.RESPONSE_FORMAT_TYPE_TEXT, extra_json=fields.rest())
    if kind == "json_object":
        return chat_pb2.ResponseFormat(type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT, extra_json=fields.rest())
    return _json_schema(fields)


def _json_schema(fields: Fields) -> chat_pb2.ResponseFormat:
    schema = fields.child("json_schema")
    if schema is None:
        raise invalid(fields.at("json_schema"), f"`{fields.at('json_schema')}` is required and must be an object")
    name = schema.required_text("name")
    description = schema.text("description") or ""
    json = schema.object_json("schema") or b""
    strict = schema.boolean("strict")
    fields.put_back("json_schema", schema)
    return chat_pb2.ResponseFormat(
        type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA,
        name=name,
        description=description,
        schema_json=json,
        strict=strict,
        extra_json=fields.rest(),
    )


def reasoning(request: Fields) -> chat_pb2.ReasoningOptions | None:
    """How much the model may reason; None when the caller did not say."""
    if request.lacks(_REASONING):
        return None
    effort = request.one_of("reasoning_effort", EFFORTS)
    options = chat_pb2.ReasoningOptions(effort=effort or "")
    router = request.child("reasoning")
    if router is not None:
        _from_reasoning(router, options)
        request.put_back("reasoning", router)
    thinking = request.child("thinking")
    if thinking is not None:
        _from_thinking(thinking, options)
        request.put_back("thinking", thinking)
    return options if effort or router or thinking else None


def _from_reasoning(fields: Fields, options: chat_pb2.ReasoningOptions) -> None:
    options.effort = options.effort or fields.one_of("effort", EFFORTS) or ""
    budget = fields.integer("max_tokens", 0, MAX_TOKENS)
    if budget is not None:
        options.budget_tokens = budget
    match fields.boolean("enabled"):
        case False:
            options.budget_tokens = 0
        case True if not options.effort and budget is None:
            options.effort = _DEFAULT_EFFORT
    exclude = fields.boolean("exclude")
    if exclude is not None:
        options.include = not exclude
    options.summary = fields.text("summary") or ""


def _from_thinking(fields: Fields, options: chat_pb2.ReasoningOptions) -> None:
    kind = fields.one_of("type", ("enabled", "disabled", "adaptive"))
    budget = fields.integer("budget_tokens", 0, MAX_TOKENS)
    if kind == "disabled":
        options.budget_tokens = 0
    elif budget is not None:
        options.budget_tokens = budget
    elif kind is not None:  # also `enabled` without a budget, as some hosts take it
        options.adaptive = True
    else:
        raise invalid(fields.at("type"), f"`{fields.at('type')}` is required")
    options.summary = fields.text("display") or options.summary
