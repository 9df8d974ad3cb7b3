"""Schemas and operations of the Responses and legacy Completions routes for the OpenAPI document, as data.

Tests hold them against what `responses.to_proto` and `completions.to_proto` really take.
"""

from __future__ import annotations

from typing import Any, Final

_Schema = dict[str, Any]

_TEXT: Final[_Schema] = {"type": "string"}
_OPTIONAL_TEXT: Final[_Schema] = {"type": ["string", "null"]}
_FLAG: Final[_Schema] = {"type": ["boolean", "null"]}
_COUNT: Final[_Schema] = {"type": "integer"}
_ANY: Final[_Schema] = {"type": "object", "additionalProperties": True}
_PROVIDER_OPTIONS: Final[_Schema] = {
    "type": "object",
    "additionalProperties": _ANY,
    "description": "By provider name: fields merged into that provider's own request.",
}


def _object(required: str, /, **properties: _Schema) -> _Schema:
    """An object that may hold more; `required` lists fields, separated by spaces."""
    found: _Schema = {"type": "object", "properties": properties, "additionalProperties": True}
    return found | ({"required": required.split()} if required else {})


def _said(schema: _Schema, about: str) -> _Schema:
    return schema | {"description": about}


def _within(kind: str, low: float, high: float | None = None) -> _Schema:
    return {"type": [kind, "null"], "minimum": low} | ({} if high is None else {"maximum": high})


def _list(items: _Schema, **more: int) -> _Schema:
    return {"type": "array", "items": items} | more


def _one_of(*words: str) -> _Schema:
    return {"type": "string", "enum": list(words)}


def _ref(name: str) -> _Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_STOP: Final[_Schema] = {"oneOf": [_OPTIONAL_TEXT, _list(_TEXT)]}
_CONTENT: Final = _said(
    {"oneOf": [_TEXT, _list(_object("type", type=_TEXT))]},
    "Text, or parts: `input_text`, `input_image`, `input_file`, `input_audio`, `output_text`, `refusal`.",
)
_ITEM: Final = _object(
    "",
    type=_said(
        _TEXT,
        "`message` (also when only `role` is given), `reasoning`, `function_call`, `function_call_output`, "
        "`custom_tool_call`, `custom_tool_call_output`, or one that only OpenAI knows. `item_reference` is refused.",
    ),
    id=_TEXT,
    role=_one_of("system", "developer", "user", "assistant"),
    content=_CONTENT,
    call_id=_TEXT,
    name=_TEXT,
    arguments=_TEXT,
    input=_TEXT,
    output=_CONTENT,
    summary=_list(_object("text", text=_TEXT)),
    encrypted_content=_said(_OPTIONAL_TEXT, "Opaque state of a provider; send it back unchanged."),
)
_TOOL: Final = _said(
    _object(
        "type",
        type=_one_of("function", "custom"),
        name=_TEXT,
        description=_OPTIONAL_TEXT,
        parameters=_said(_ANY, "A JSON Schema."),
        strict=_FLAG,
    ),
    "Built-in tools are refused: they need state that this gateway does not keep.",
)
_TOOL_CHOICE: Final[_Schema] = {
    "oneOf": [
        _one_of("none", "auto", "required"),
        _object("type name", type=_one_of("function", "custom"), name=_TEXT),
        _object("type tools", type=_one_of("allowed_tools"), mode=_one_of("auto", "required"), tools=_list(_ANY)),
    ]
}
_FORMAT: Final = _object(
    "type",
    type=_one_of("text", "json_object", "json_schema"),
    name=_TEXT,
    description=_TEXT,
    schema=_ANY,
    strict=_FLAG,
)
_EFFORT: Final = _one_of("none", "minimal", "low", "medium", "high", "xhigh", "max", "default")

_REQUEST: Final = _object(
    "model input",
    model=_said(_TEXT, "`provider/model`, or an alias."),
    input={"oneOf": [_TEXT, _list(_ref("ResponseItem"), minItems=1)]},
    instructions=_OPTIONAL_TEXT,
    stream=_FLAG,
    stream_options=_said(_ANY, "Only with `stream`; for OpenAI alone."),
    tools=_list(_TOOL),
    tool_choice=_TOOL_CHOICE,
    parallel_tool_calls=_FLAG,
    text=_object("", format=_FORMAT),
    reasoning=_object("", effort=_EFFORT, summary=_OPTIONAL_TEXT),
    include=_said(_list(_TEXT), "For OpenAI alone; `reasoning.encrypted_content` is always given."),
    max_output_tokens=_within("integer", 1),
    temperature=_within("number", 0, 2),
    top_p=_within("number", 0, 1),
    top_logprobs=_within("integer", 0, 20),
    metadata=_said({"type": "object", "additionalProperties": _TEXT}, "Repeated in the answer."),
    user=_TEXT,
    background=_said({"type": ["boolean", "null"], "enum": [False, None]}, "Refused when true: nothing is stored."),
    provider_options=_PROVIDER_OPTIONS,
)
_COMPLETION_REQUEST: Final = _object(
    "model prompt",
    model=_said(_TEXT, "`provider/model`, or an alias."),
    prompt={"oneOf": [_TEXT, _list(_TEXT, minItems=1, maxItems=1)]},
    stream=_FLAG,
    stream_options=_said(_object("", include_usage=_FLAG), "Only with `stream`."),
    echo=_said(_FLAG, "Repeat the prompt before the answer."),
    max_tokens=_said(_within("integer", 1), "The provider's own default, not 16, when left out."),
    temperature=_within("number", 0, 2),
    top_p=_within("number", 0, 1),
    stop=_STOP,
    seed={"type": ["integer", "null"]},
    presence_penalty=_within("number", -2, 2),
    frequency_penalty=_within("number", -2, 2),
    n=_within("integer", 1, 128),
    best_of=_said(_within("integer", 1, 1), "More is refused."),
    user=_TEXT,
    provider_options=_PROVIDER_OPTIONS,
)
_INCOMPLETE: Final = _said(
    _TEXT,
    "`max_output_tokens` or `content_filter`; `pause_turn` where the provider paused a long turn, to go on once the "
    "answer is sent back.",
)
_RESPONSE: Final = _object(
    "id object created_at status model output",
    id=_TEXT,
    object=_one_of("response"),
    created_at={"type": "number"},
    status=_one_of("completed", "incomplete", "failed"),
    model=_TEXT,
    output=_list(_ref("ResponseItem")),
    incomplete_details={"type": ["object", "null"], "properties": {"reason": _INCOMPLETE}},
    error={"type": ["object", "null"], "properties": {"code": _TEXT, "message": _TEXT}},
    usage={
        "type": ["object", "null"],
        "properties": {
            "input_tokens": _COUNT,
            "input_tokens_details": _object("", cached_tokens=_COUNT, cache_write_tokens=_COUNT),
            "output_tokens": _COUNT,
            "output_tokens_details": _object("", reasoning_tokens=_COUNT),
            "total_tokens": _COUNT,
        },
    },
)
_TEXT_CHOICE: Final = _object(
    "index text finish_reason",
    index=_COUNT,
    text=_TEXT,
    logprobs={"type": "null"},
    finish_reason=_said(_OPTIONAL_TEXT, "`stop`, `length` (a paused turn too) or `content_filter`."),
)

SCHEMAS: Final[dict[str, _Schema]] = {
    "ResponseRequest": _REQUEST,
    "ResponseItem": _ITEM,
    "Response": _RESPONSE,
    "CompletionRequest": _COMPLETION_REQUEST,
    "Completion": _object(
        "id object created model choices",
        id=_TEXT,
        object=_one_of("text_completion"),
        created=_COUNT,
        model=_TEXT,
        choices=_list(_TEXT_CHOICE),
        usage={"oneOf": [_ref("Usage"), {"type": "null"}]},
    ),
}
STREAMS: Final[dict[str, str]] = {
    "Response": "With `stream: true`: records `event: <type>` and `data: <event>`, numbered by `sequence_number`, from "
    "`response.created` to `response.completed` or `response.incomplete`. A failure after the first record is "
    "`response.failed`, then `error`. Lines that begin with a colon are comments and keep the connection alive.",
    "Completion": "With `stream: true`: records `data: <Completion>`, then `data: [DONE]`. A failure after the first "
    "record is one record `data: <Error>`, and no `[DONE]`. Lines that begin with a colon are comments.",
}
"""By the schema of the whole answer: what its stream looks like."""
