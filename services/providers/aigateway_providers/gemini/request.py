"""A chat call as the body of `generateContent` (https://ai.google.dev/api/generate-content).

Pure. The conversation is translated in `contents`, reasoning in `thinking`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import orjson
from aigateway.v1 import chat_pb2, message_pb2

from aigateway_providers.gemini import contents, media, schemas, thinking, wire

if TYPE_CHECKING:
    from aigateway_providers.gemini.signatures import Lookup
    from aigateway_providers.report import Report

_Sampled = Literal[
    "max_output_tokens", "temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty"
]

_JOINED: Final = frozenset({"tools"})
"""Lists of the body to which `provider_options` add, so that Google's tools stand beside the caller's functions."""


def chat_body(call: chat_pb2.ChatCall, report: Report, kept: Lookup | None = None) -> bytes:
    """The body; what it cannot carry is noted in `report`.

    Args:
        call: The call.
        report: Takes the notes.
        kept: Tells the thought signatures that were kept for tool calls which come back without theirs.

    Raises:
        GatewayError: INVALID_REQUEST, UNSUPPORTED or REQUEST_TOO_LARGE, naming the field.
    """
    system, turns = contents.translate(call, report, kept)
    unread = schemas.Unread(report)
    body: dict[str, Any] = {"contents": turns}
    if system:
        body["systemInstruction"] = {"parts": system}
    if tools := _tools(call, report, unread):
        body["tools"] = tools
    if choice := _tool_choice(call, report):
        body["toolConfig"] = choice
    if config := _generation_config(call, report, unread):
        body["generationConfig"] = config
    unread.settle()
    _leftovers(call, report)
    contents.report_or_merge(body, call.extra_json, "", own=call.dialect == wire.DIALECT, report=report)
    if options := call.provider_options.get(wire.KIND):
        wire.merge(body, options, f"provider_options.{wire.KIND}", joined=_JOINED)
    thinking.one_kind(body)
    made = orjson.dumps(body)
    if len(made) > media.MAX_REQUEST:
        raise media.too_large("messages", media.MAX_REQUEST, "a request")
    return made


def _tools(call: chat_pb2.ChatCall, report: Report, unread: schemas.Unread) -> list[Any]:
    functions: list[Any] = []
    tools: list[Any] = []
    for number, tool in enumerate(call.tools):
        path = f"tools[{number}]"
        if tool.HasField("cache_control"):
            report.dropped(f"{path}.cache_control", "Gemini caches by itself")
        if tool.WhichOneof("kind") == "function":
            functions.append(_function(tool, path, call, report, unread))
        elif tool.native.dialect == wire.DIALECT:
            tools.append(wire.callers_object(tool.native.json, path))
        else:
            report.dropped(path, "a tool of another provider")
    if functions:
        tools.append({"functionDeclarations": functions})
    return tools


def _function(
    tool: message_pb2.Tool, path: str, call: chat_pb2.ChatCall, report: Report, unread: schemas.Unread
) -> dict[str, Any]:
    function = tool.function
    declared: dict[str, Any] = {"name": function.name}
    if function.description:
        declared["description"] = function.description
    if function.parameters_json:
        where = f"{path}.function.parameters"
        declared["parametersJsonSchema"] = wire.callers_object(function.parameters_json, where)
        unread.note(function.parameters_json, where)
    if function.strict:
        report.dropped(f"{path}.function.strict", "Gemini checks arguments only in its VALIDATED mode")
    contents.report_or_merge(declared, tool.extra_json, path, own=call.dialect == wire.DIALECT, report=report)
    return declared


def _tool_choice(call: chat_pb2.ChatCall, report: Report) -> dict[str, Any] | None:
    if call.HasField("parallel_tool_calls") and not call.parallel_tool_calls:
        report.dropped("parallel_tool_calls", "Gemini cannot be held to one call a turn")
    choice = call.tool_choice
    if choice.HasField("native"):
        if choice.native.dialect != wire.DIALECT:
            report.dropped("tool_choice", "a choice only another provider understands")
            return None
        # Opened up, so that `provider_options` can still add to it.
        config: dict[str, Any] = {}
        wire.merge(config, choice.native.json, "tool_choice")
        return config
    names = list(choice.allowed_tools)
    match choice.mode:
        case message_pb2.TOOL_CHOICE_MODE_NONE:
            return _calling("NONE", []) if call.tools else None
        case message_pb2.TOOL_CHOICE_MODE_REQUIRED:
            return _calling("ANY", names)
        case message_pb2.TOOL_CHOICE_MODE_AUTO:
            # AUTO takes no names; VALIDATED leaves the choice to the model as well, and does.
            return _calling("VALIDATED" if names else "AUTO", names) if call.tools else None
        case _:
            return None


def _calling(mode: str, names: list[str]) -> dict[str, Any]:
    config: dict[str, Any] = {"mode": mode}
    if names:
        config["allowedFunctionNames"] = names
    return {"functionCallingConfig": config}


def _generation_config(call: chat_pb2.ChatCall, report: Report, unread: schemas.Unread) -> dict[str, Any]:
    config = _sampling(call.options, report)
    _answer_form(call, config, report, unread)
    if call.HasField("reasoning"):
        limit = call.options.max_output_tokens if call.options.HasField("max_output_tokens") else None
        if wanted := thinking.config(call.reasoning, call.model, report, limit):
            config["thinkingConfig"] = wanted
    return config


def _sampling(options: chat_pb2.GenerationOptions, report: Report) -> dict[str, Any]:
    config: dict[str, Any] = {
        name: getattr(options, field) for field, name in _SAMPLING.items() if options.HasField(field)
    }
    if options.stop:
        config["stopSequences"] = list(options.stop)
    if options.n > 1:  # one is what Gemini answers anyway, and some models refuse the field
        config["candidateCount"] = options.n
    if options.logprobs:
        config["responseLogprobs"] = True
        if options.top_logprobs:
            config["logprobs"] = options.top_logprobs
    elif options.top_logprobs:
        report.dropped("top_logprobs", "without `logprobs` there are none")
    return config


_SAMPLING: Final[dict[_Sampled, str]] = {
    "max_output_tokens": "maxOutputTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}


def _answer_form(call: chat_pb2.ChatCall, config: dict[str, Any], report: Report, unread: schemas.Unread) -> None:
    form = call.response_format
    match form.type:
        case chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT:
            config["responseMimeType"] = "application/json"
        case chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA:
            # The schema's name is a label and `strict` the only way Gemini works: neither is lost by leaving it out.
            config["responseMimeType"] = "application/json"
            if form.schema_json:
                where = "response_format.json_schema.schema"
                config["responseJsonSchema"] = wire.callers_object(form.schema_json, where)
                unread.note(form.schema_json, where)
            if form.description:
                report.dropped("response_format.json_schema.description", "Gemini reads the schema's own description")
        case _:
            pass
    contents.report_or_merge(
        config, form.extra_json, "response_format", own=call.dialect == wire.DIALECT, report=report
    )


def _leftovers(call: chat_pb2.ChatCall, report: Report) -> None:
    if call.user:
        report.dropped("user", "Gemini takes no id of the end user")
    if call.HasField("cache_control"):
        report.dropped("cache_control", "Gemini caches by itself")
