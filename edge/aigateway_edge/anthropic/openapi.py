"""Anthropic's dialect in the OpenAPI document: the fields that this surface reads and writes, as data.

Tests hold them against what `to_proto` really takes.
"""

from __future__ import annotations

from typing import Final

from aigateway_edge.openapi_parts import Schema as _Schema
from aigateway_edge.openapi_parts import list_of as _list
from aigateway_edge.openapi_parts import object_of as _object
from aigateway_edge.openapi_parts import one_of as _one_of
from aigateway_edge.openapi_parts import ref as _ref
from aigateway_edge.openapi_parts import said as _said

_TEXT: Final[_Schema] = {"type": "string"}
_COUNT: Final[_Schema] = {"type": "integer"}
_ANY: Final[_Schema] = {"type": "object", "additionalProperties": True}
_MAX: Final = 2**53 - 1


def _integer(low: int, high: int = _MAX) -> _Schema:
    return {"type": ["integer", "null"], "minimum": low, "maximum": high}


_CACHE: Final = _object("", type=_one_of("ephemeral"), ttl=_one_of("5m", "1h"))
_CONTENT: Final[_Schema] = {"oneOf": [_TEXT, _list(_ref("AnthropicBlock"))]}
_BLOCK: Final = _object(
    "type",
    type=_said(
        _TEXT,
        "`text`, `image`, `document`, `thinking`, `redacted_thinking`, `tool_use`, `tool_result`, or one that only "
        "Anthropic knows.",
    ),
    text=_TEXT,
    source=_said(_ANY, "Of an image or document: `base64`, `url`, `file`, or `text`."),
    thinking=_TEXT,
    signature=_said(_TEXT, "Opaque, of whichever provider; send it back unchanged."),
    data=_said(_TEXT, "Opaque; send it back unchanged."),
    id=_TEXT,
    name=_TEXT,
    input=_ANY,
    tool_use_id=_TEXT,
    content=_said({}, "Of a tool result: a string or a list of blocks."),
    is_error={"type": ["boolean", "null"]},
    cache_control=_CACHE,
)
_PROMPT: Final[dict[str, _Schema]] = {
    "model": _said(_TEXT, "`provider/model`, or an alias."),
    "messages": _list(
        _object("role content", role=_one_of("user", "assistant", "system"), content=_CONTENT), minItems=1
    ),
    "system": _CONTENT,
    "tools": _list(_ref("AnthropicTool")),
    "tool_choice": _object(
        "type",
        type=_said(_TEXT, "`auto`, `any`, `tool` or `none`."),
        name=_TEXT,
        disable_parallel_tool_use={"type": ["boolean", "null"]},
    ),
    "thinking": _object(
        "type",
        type=_said(_TEXT, "`enabled`, `disabled`, `adaptive`, or one that only Anthropic knows."),
        budget_tokens=_integer(1),
        display=_TEXT,
    ),
    "output_config": _object("", effort=_TEXT, format=_object("type schema", type=_one_of("json_schema"), schema=_ANY)),
    "cache_control": _CACHE,
}
_SAMPLING: Final[dict[str, _Schema]] = {
    "max_tokens": _COUNT | {"minimum": 0, "maximum": _MAX},
    "stream": {"type": ["boolean", "null"]},
    "stop_sequences": _list(_TEXT),
    "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
    "top_p": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
    "top_k": _integer(0, 2**31 - 1),
    "metadata": _object("", user_id={"type": ["string", "null"]}),
}
_USAGE: Final = _object(
    "input_tokens output_tokens",
    input_tokens=_said(_COUNT, "Without what a cache served or took in."),
    output_tokens=_COUNT,
    cache_creation_input_tokens={"type": ["integer", "null"]},
    cache_read_input_tokens={"type": ["integer", "null"]},
)

SCHEMAS: Final[dict[str, _Schema]] = {
    "AnthropicMessageRequest": _object("model messages max_tokens", **_PROMPT, **_SAMPLING),
    "AnthropicCountRequest": _object("model messages", **_PROMPT),
    "AnthropicTurn": _object("role content", role=_one_of("user", "assistant", "system"), content=_CONTENT),
    "AnthropicBlock": _BLOCK,
    "AnthropicTool": _object(
        "name",
        name=_TEXT,
        type=_said(_TEXT, "`custom`, or the name of a tool of Anthropic's own."),
        description=_TEXT,
        input_schema=_said(_ANY, "A JSON Schema; required but for Anthropic's own tools."),
        strict={"type": ["boolean", "null"]},
        cache_control=_CACHE,
    ),
    "AnthropicMessage": _object(
        "id type role model content stop_reason usage",
        id=_TEXT,
        type=_one_of("message"),
        role=_one_of("assistant"),
        model=_TEXT,
        content=_list(_ref("AnthropicBlock")),
        stop_reason=_said(
            {"type": ["string", "null"]},
            "`end_turn`, `max_tokens`, `stop_sequence`, `tool_use`, `refusal`, `pause_turn`, a word of "
            "Anthropic's own, or `error` for a broken answer.",
        ),
        stop_sequence={"type": ["string", "null"]},
        native_stop_reason=_said(_TEXT, "The provider's own word, where it speaks another format."),
        usage=_USAGE,
    ),
    "AnthropicCount": _object("input_tokens", input_tokens=_COUNT),
    "AnthropicError": _object(
        "type error request_id",
        type=_one_of("error"),
        error=_object("type message", type=_TEXT, message=_TEXT),
        request_id=_TEXT,
    ),
}

VERSION_PARAMETERS: Final[list[_Schema]] = [
    {
        "name": "anthropic-version",
        "in": "header",
        "required": True,
        "description": "The version of the API; it goes on to Anthropic.",
        "schema": _one_of("2023-06-01", "2026-10-21"),
        "example": "2023-06-01",
    },
    {
        "name": "anthropic-beta",
        "in": "header",
        "description": "Beta features, separated by commas; they go on to Anthropic.",
        "schema": _TEXT,
    },
]
STREAM: Final = (
    "With `stream: true`: Anthropic's events, each `event: <type>` and `data: <json>`, from `message_start` to "
    "`message_stop`. A failure after the first is one `error` event, and nothing after it. `ping` keeps the connection "
    "alive."
)
