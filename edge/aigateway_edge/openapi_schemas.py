"""Schemas of the OpenAPI document: the fields that the edge reads and writes, as data.

Tests hold them against what `openai.to_proto` really takes.
"""

from __future__ import annotations

from typing import Final

from aigateway_edge.openapi_parts import Schema as _Schema
from aigateway_edge.openapi_parts import integer as _integer
from aigateway_edge.openapi_parts import list_of as _list
from aigateway_edge.openapi_parts import number as _number
from aigateway_edge.openapi_parts import object_of as _object
from aigateway_edge.openapi_parts import one_of as _one_of
from aigateway_edge.openapi_parts import ref as _ref
from aigateway_edge.openapi_parts import said as _said

_TEXT: Final[_Schema] = {"type": "string"}
_OPTIONAL_TEXT: Final[_Schema] = {"type": ["string", "null"]}
_FLAG: Final[_Schema] = {"type": ["boolean", "null"]}
_COUNT: Final[_Schema] = {"type": "integer"}
_ANY: Final[_Schema] = {"type": "object", "additionalProperties": True}
_EFFORT: Final = _one_of("none", "minimal", "low", "medium", "high", "xhigh", "max", "default")
_CACHE: Final = _said(
    _object("", type=_one_of("ephemeral"), ttl=_one_of("5m", "1h")), "The provider may cache the prompt up to here."
)
_EXTRA_CONTENT: Final = _said(_ANY, "Opaque state of a provider; send it back unchanged.")
_REASONING_DETAILS: Final = _said(
    _list(
        _object(
            "type",
            type=_one_of("reasoning.text", "reasoning.summary", "reasoning.encrypted"),
            text=_TEXT,
            provider=_TEXT,
            state=_said(_TEXT, "Opaque, base64."),
        )
    ),
    "The reasoning with its opaque state; send it back unchanged.",
)
_STOP: Final[_Schema] = {"oneOf": [_OPTIONAL_TEXT, _list(_TEXT)]}
_FUNCTION_CALL: Final = _object("name", name=_TEXT, arguments=_TEXT)

_TOOL_CALL: Final = _object(
    "id",
    id=_TEXT,
    type=_one_of("function", "custom"),
    function=_FUNCTION_CALL,
    custom=_object("name input", name=_TEXT, input=_TEXT),
    extra_content=_EXTRA_CONTENT,
)
_PART: Final = _object(
    "type",
    type=_said(_TEXT, "`text`, `image_url`, `input_audio`, `file`, `refusal`, or one that only the provider knows."),
    text=_TEXT,
    image_url=_object(
        "url",
        url=_said(_TEXT, "An http(s) address or a base64 data URL."),
        detail=_one_of("auto", "low", "high", "original"),
    ),
    input_audio=_object("data format", data=_said(_TEXT, "Base64."), format=_TEXT),
    file=_object("", file_data=_said(_TEXT, "Base64 or a data URL."), file_id=_TEXT, filename=_TEXT),
    refusal=_TEXT,
    cache_control=_CACHE,
)
_MESSAGE: Final = _object(
    "role",
    role=_one_of("system", "developer", "user", "assistant", "tool", "function"),
    content={"oneOf": [_OPTIONAL_TEXT, _list(_ref("ContentPart"))]},
    name=_TEXT,
    tool_call_id=_said(_TEXT, "With role `tool`: the id of an earlier tool call."),
    tool_calls=_list(_ref("ToolCall")),
    function_call=_said(_FUNCTION_CALL, "Legacy form of `tool_calls`."),
    refusal=_OPTIONAL_TEXT,
    audio=_object("id", id=_TEXT, data=_TEXT, transcript=_TEXT, expires_at=_COUNT),
    reasoning_content=_OPTIONAL_TEXT,
    reasoning=_said(_OPTIONAL_TEXT, "Other name of `reasoning_content`."),
    reasoning_details=_REASONING_DETAILS,
    extra_content=_EXTRA_CONTENT,
    cache_control=_CACHE,
)
_FUNCTION: Final = _object(
    "name", name=_TEXT, description=_TEXT, parameters=_said(_ANY, "A JSON Schema."), strict=_FLAG
)
_RESPONSE_FORMAT: Final = _object(
    "type",
    type=_one_of("text", "json_object", "json_schema"),
    json_schema=_object("name", name=_TEXT, description=_TEXT, schema=_ANY, strict=_FLAG),
)
_TOOL_CHOICE: Final[_Schema] = {
    "oneOf": [
        _one_of("none", "auto", "required"),
        _object("type function", type=_one_of("function"), function=_object("name", name=_TEXT)),
        _object(
            "type allowed_tools",
            type=_one_of("allowed_tools"),
            allowed_tools=_object("mode tools", mode=_one_of("auto", "required"), tools=_list(_ANY, minItems=1)),
        ),
        _object("type custom", type=_one_of("custom"), custom=_object("name", name=_TEXT)),
    ]
}
_PROVIDER_OPTIONS: Final[_Schema] = {
    "type": "object",
    "additionalProperties": _ANY,
    "description": "By provider name: fields merged into that provider's own request.",
}
_CHAT_REQUEST: Final = _object(
    "model messages",
    model=_said(_TEXT, "`provider/model`, or an alias."),
    messages=_list(_ref("Message"), minItems=1),
    stream=_FLAG,
    stream_options=_said(_object("", include_usage=_FLAG), "Only with `stream`."),
    tools=_list(_ref("Tool")),
    tool_choice=_TOOL_CHOICE,
    parallel_tool_calls=_FLAG,
    functions=_said(_list(_FUNCTION), "Legacy form of `tools`."),
    function_call={"oneOf": [_one_of("none", "auto"), _object("name", name=_TEXT)]},
    max_completion_tokens=_integer(1),
    max_tokens=_said(_integer(1), "Older name of `max_completion_tokens`, which wins."),
    temperature=_number(0, 2),
    top_p=_number(0, 1),
    top_k=_integer(0),
    stop=_STOP,
    seed={"type": ["integer", "null"]},
    presence_penalty=_number(-2, 2),
    frequency_penalty=_number(-2, 2),
    n=_integer(1, 128),
    logprobs=_FLAG,
    top_logprobs=_integer(0, 20),
    response_format=_RESPONSE_FORMAT,
    reasoning_effort=_EFFORT,
    reasoning=_object("", effort=_EFFORT, max_tokens=_integer(0), enabled=_FLAG, exclude=_FLAG, summary=_TEXT),
    thinking=_object("type", type=_one_of("enabled", "disabled", "adaptive"), budget_tokens=_integer(0), display=_TEXT),
    user=_TEXT,
    cache_control=_CACHE,
    provider_options=_PROVIDER_OPTIONS,
)
_USAGE: Final = _object(
    "prompt_tokens completion_tokens total_tokens",
    prompt_tokens=_COUNT,
    completion_tokens=_COUNT,
    total_tokens=_COUNT,
    prompt_tokens_details=_object(
        "", cached_tokens=_COUNT, cache_write_tokens=_COUNT, audio_tokens=_COUNT, image_tokens=_COUNT
    ),
    completion_tokens_details=_object("", reasoning_tokens=_COUNT, audio_tokens=_COUNT, image_tokens=_COUNT),
    estimated=_said({"type": "boolean"}, "True when the gateway guessed, because the provider was cut off."),
)
_FINISH: Final = _said(
    _OPTIONAL_TEXT,
    "`stop`, `length`, `tool_calls`, `content_filter`, `function_call`, or `error` for a broken answer. Also `length` "
    "where the provider paused a long turn: then `native_finish_reason` is its word for it (`pause_turn`), and "
    "`x-gateway-translation` says so.",
)
_SPOKEN: Final[dict[str, _Schema]] = {
    "role": _one_of("assistant"),
    "content": _OPTIONAL_TEXT,
    "refusal": _OPTIONAL_TEXT,
    "reasoning_content": _TEXT,
    "reasoning_details": _REASONING_DETAILS,
    "function_call": _FUNCTION_CALL,
    "annotations": _said(_list(_ANY), "What the text cites, as `url_citation`; in a stream, after the text."),
    "audio": _ANY,
    "extra_content": _EXTRA_CONTENT,
}
_ENDED: Final[dict[str, _Schema]] = {
    "index": _COUNT,
    "finish_reason": _FINISH,
    "native_finish_reason": _said(_TEXT, "The provider's own word, where it speaks another format."),
    "stop_sequence": _TEXT,
    "logprobs": {"type": ["object", "null"]},
}
_MODEL: Final = _object(
    "id object created owned_by",
    id=_TEXT,
    object=_one_of("model"),
    created=_COUNT,
    owned_by=_TEXT,
    provider=_TEXT,
    upstream_model=_TEXT,
    display_name=_TEXT,
    input_modalities=_list(_TEXT),
    output_modalities=_list(_TEXT),
    context_window=_COUNT,
    max_output_tokens=_COUNT,
    tools={"type": "boolean"},
    reasoning={"type": "boolean"},
    structured_output={"type": "boolean"},
    input_usd_per_mtok={"type": "number"},
    output_usd_per_mtok={"type": "number"},
    loaded=_said({"type": "boolean"}, "Whether it is in memory, when its provider was last asked; Ollama says so."),
    residency=_object(
        "",
        expires_at=_said(_COUNT, "When it is let go unless it is called; seconds since the Unix epoch."),
        memory_bytes=_COUNT,
        vram_bytes=_COUNT,
        context_window=_said(_COUNT, "Tokens it was loaded for."),
    ),
)
_EMBEDDING: Final = _object(
    "object index embedding",
    object=_one_of("embedding"),
    index=_COUNT,
    embedding={"oneOf": [_list({"type": "number"}), _said(_TEXT, "Little-endian float32 as base64.")]},
)
_INPUT: Final[_Schema] = {"oneOf": [_TEXT, _list(_TEXT, minItems=1), _list(_COUNT, minItems=1), _list(_list(_COUNT))]}

SCHEMAS: Final[dict[str, _Schema]] = {
    "ChatCompletionRequest": _CHAT_REQUEST,
    "Message": _MESSAGE,
    "ContentPart": _PART,
    "Tool": _object("type", type=_TEXT, function=_FUNCTION, custom=_ANY, cache_control=_CACHE),
    "ToolCall": _TOOL_CALL,
    "ChatCompletion": _object(
        "id object created model choices",
        id=_TEXT,
        object=_one_of("chat.completion"),
        created=_COUNT,
        model=_TEXT,
        choices=_list(
            _object(
                "index message finish_reason",
                message=_object("role content", tool_calls=_list(_ref("ToolCall")), images=_list(_ANY), **_SPOKEN),
                **_ENDED,
            )
        ),
        usage={"oneOf": [_ref("Usage"), {"type": "null"}]},
    ),
    "ChatCompletionChunk": _object(
        "id object created model choices",
        id=_TEXT,
        object=_one_of("chat.completion.chunk"),
        created=_COUNT,
        model=_TEXT,
        choices=_list(_object("index delta", delta=_object("", tool_calls=_list(_ANY), **_SPOKEN), **_ENDED)),
        usage={"oneOf": [_ref("Usage"), {"type": "null"}]},
    ),
    "Usage": _USAGE,
    "EmbeddingRequest": _object(
        "model input",
        model=_TEXT,
        input=_INPUT,
        encoding_format=_one_of("float", "base64"),
        dimensions=_integer(1),
        user=_TEXT,
        provider_options=_PROVIDER_OPTIONS,
    ),
    "EmbeddingList": _object(
        "object data model",
        object=_one_of("list"),
        data=_list(_EMBEDDING),
        model=_TEXT,
        usage={"type": ["object", "null"], "properties": {"prompt_tokens": _COUNT, "total_tokens": _COUNT}},
    ),
    "Model": _MODEL,
    "ModelList": _object(
        "object data",
        object=_one_of("list"),
        data=_list(_ref("Model")),
        unavailable=_said(
            {"type": "object", "additionalProperties": _TEXT}, "Providers that did not answer, with the reason."
        ),
    ),
    "Error": _object(
        "error",
        error=_object("message type code param", message=_TEXT, type=_TEXT, code=_OPTIONAL_TEXT, param=_OPTIONAL_TEXT),
    ),
}
