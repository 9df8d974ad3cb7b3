"""Tools and tool choice of an Anthropic request.

A tool with a schema is the caller's own; Anthropic's own tools (`web_search_…`, `bash_…`) stay whole as native ones.
https://platform.claude.com/docs/en/agents-and-tools/tool-use/define-tools
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from aigateway.v1 import message_pb2
from aigateway_common.errors import invalid

from aigateway_edge.anthropic.blocks import DIALECT, cache_control, left, opened
from aigateway_edge.fields import Raw

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_edge.fields import Fields

_MODES: Final[Mapping[str, message_pb2.ToolChoiceMode.ValueType]] = {
    "auto": message_pb2.TOOL_CHOICE_MODE_AUTO,
    "none": message_pb2.TOOL_CHOICE_MODE_NONE,
    "any": message_pb2.TOOL_CHOICE_MODE_REQUIRED,
    "tool": message_pb2.TOOL_CHOICE_MODE_REQUIRED,
}
_items: Final[msgspec.json.Decoder[list[Raw] | None]] = msgspec.json.Decoder(list[Raw] | None)


def tools(request: Fields) -> list[message_pb2.Tool]:
    """The `tools` of the request."""
    items = request.take("tools", _items, "a list of objects")
    return [_tool(raw, f"tools[{index}]") for index, raw in enumerate(items or ())]


def tool_choice(request: Fields) -> tuple[message_pb2.ToolChoice | None, bool | None]:
    """The `tool_choice` of the request, and whether tools may be called in parallel."""
    whole = request.peek("tool_choice")
    fields = request.child("tool_choice")
    if fields is None:
        return None, None
    kind = fields.required_text("type")
    mode = _MODES.get(kind)
    if mode is None:
        native = message_pb2.NativePart(dialect=DIALECT, json=whole)
        return message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED, native=native), None
    single = fields.boolean("disable_parallel_tool_use")
    names = [fields.required_text("name")] if kind == "tool" else []
    request.put_back("tool_choice", fields)
    choice = message_pb2.ToolChoice(mode=mode, allowed_tools=names, named=bool(names))
    return choice, None if single is None else not single


def _tool(raw: Raw, path: str) -> message_pb2.Tool:
    fields = opened(raw, path)
    if (fields.text("type") or "custom") != "custom":
        return message_pb2.Tool(native=message_pb2.NativePart(dialect=DIALECT, json=bytes(raw)))
    schema = fields.object_json("input_schema")
    if schema is None:
        where = fields.at("input_schema")
        raise invalid(where, f"`{where}` is required and must be an object")
    function = message_pb2.FunctionTool(
        name=fields.required_text("name"),
        description=fields.text("description") or "",
        parameters_json=schema,
        strict=fields.boolean("strict"),
    )
    mark = cache_control(fields)
    return message_pb2.Tool(function=function, cache_control=mark, extra_json=left(fields))
