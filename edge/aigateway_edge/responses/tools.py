"""Tools and tool choice of a Responses request. Functions are neutral, custom tools native.

Built-in tools (web search, code execution, MCP…) run at OpenAI over several steps and keep state there, which this
gateway does not offer: they are refused by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from aigateway.v1 import message_pb2
from aigateway_common.errors import GatewayError, invalid

from aigateway_edge.fields import Fields, Raw
from aigateway_edge.responses.content import as_object, native

if TYPE_CHECKING:
    from collections.abc import Mapping

_MODES: Final[Mapping[str, message_pb2.ToolChoiceMode.ValueType]] = {
    "auto": message_pb2.TOOL_CHOICE_MODE_AUTO,
    "none": message_pb2.TOOL_CHOICE_MODE_NONE,
    "required": message_pb2.TOOL_CHOICE_MODE_REQUIRED,
}

_items: Final[msgspec.json.Decoder[list[Raw] | None]] = msgspec.json.Decoder(list[Raw] | None)
_choice: Final[msgspec.json.Decoder[str | dict[str, Raw] | None]] = msgspec.json.Decoder(str | dict[str, Raw] | None)


def tools(request: Fields) -> list[message_pb2.Tool]:
    """The `tools` of the request.

    Raises:
        GatewayError: UNSUPPORTED, naming the built-in tool.
    """
    items = request.take("tools", _items, "a list of objects")
    return [_tool(raw, f"tools[{index}]") for index, raw in enumerate(items or ())]


def tool_choice(request: Fields, offered: list[message_pb2.Tool]) -> message_pb2.ToolChoice | None:
    """The `tool_choice` of the request."""
    whole = request.peek("tool_choice")
    value = request.take("tool_choice", _choice, "a string or an object")
    if value is None:
        return None
    if isinstance(value, str):
        if value not in _MODES:
            words = ", ".join(f"`{word}`" for word in _MODES)
            raise invalid("tool_choice", f"`tool_choice` must be one of {words} or an object, not `{value[:40]}`")
        return message_pb2.ToolChoice(mode=_MODES[value])
    fields = Fields(value, "tool_choice")
    match fields.required_text("type"):
        case "function":
            name = _offered(fields, offered)
            return message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED, allowed_tools=[name], named=True)
        case "allowed_tools":
            return _allowed(fields, offered) or _native(whole)
        case "custom":
            return _native(whole)
        case kind:
            raise _built_in("tool_choice.type", kind)


def _offered(fields: Fields, offered: list[message_pb2.Tool]) -> str:
    name = fields.required_text("name")
    if not any(tool.function.name == name for tool in offered):
        raise invalid(fields.at("name"), f"`{fields.at('name')}` names `{name[:64]}`, which is not among the tools")
    return name


def _allowed(fields: Fields, offered: list[message_pb2.Tool]) -> message_pb2.ToolChoice | None:
    """A list of allowed functions; None when custom tools are among them."""
    mode = fields.one_of("mode", ("auto", "required")) or "auto"
    names: list[str] = []
    for tool in fields.children("tools") or ():
        kind = tool.required_text("type")
        if kind == "custom":
            return None
        if kind != "function":
            raise _built_in(tool.at("type"), kind)
        names.append(_offered(tool, offered))
    if not names:
        raise invalid(fields.at("tools"), f"`{fields.at('tools')}` must list at least one tool")
    return message_pb2.ToolChoice(mode=_MODES[mode], allowed_tools=names)


def _native(json: bytes) -> message_pb2.ToolChoice:
    return message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED, native=native(Raw(json)))


def _tool(raw: Raw, path: str) -> message_pb2.Tool:
    fields = as_object(raw, path)
    match fields.required_text("type"):
        case "function":
            function = message_pb2.FunctionTool(
                name=fields.required_text("name"),
                description=fields.text("description") or "",
                parameters_json=fields.object_json("parameters") or b"",
                strict=fields.boolean("strict"),
            )
            return message_pb2.Tool(function=function, extra_json=fields.rest())
        case "custom":
            fields.required_text("name")
            return message_pb2.Tool(native=native(raw))
        case kind:
            raise _built_in(fields.at("type"), kind)


def _built_in(path: str, kind: str) -> GatewayError:
    return GatewayError(
        "UNSUPPORTED",
        f"`{path}`: the built-in tool `{kind[:40]}` is not available here; offer tools of type `function` or `custom`",
        details={"param": path},
    )
