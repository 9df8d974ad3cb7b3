"""Tools and tool choice of an OpenAI request: the caller's JSON to `Tool`s and a `ToolChoice`.

The legacy `functions` and `function_call` become the same. Not for tool calls inside messages: see `messages`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from aigateway.v1 import message_pb2
from aigateway_common.errors import invalid

from aigateway_edge.fields import Fields, Raw
from aigateway_edge.openai.parts import cache_control

if TYPE_CHECKING:
    from collections.abc import Mapping

_MODES: Final[Mapping[str, message_pb2.ToolChoiceMode.ValueType]] = {
    "auto": message_pb2.TOOL_CHOICE_MODE_AUTO,
    "none": message_pb2.TOOL_CHOICE_MODE_NONE,
    "required": message_pb2.TOOL_CHOICE_MODE_REQUIRED,
}

_CHOICES: Final = frozenset({"tool_choice", "function_call"})

_items: Final[msgspec.json.Decoder[list[Raw] | None]] = msgspec.json.Decoder(list[Raw] | None)
_object: Final[msgspec.json.Decoder[dict[str, Raw]]] = msgspec.json.Decoder(dict[str, Raw])
_choice: Final[msgspec.json.Decoder[str | dict[str, Raw] | None]] = msgspec.json.Decoder(str | dict[str, Raw] | None)


def tools(request: Fields) -> list[message_pb2.Tool]:
    """The `tools` of the request, or its legacy `functions`."""
    items = request.take("tools", _items, "a list of objects")
    found = [_tool(raw, f"tools[{index}]") for index, raw in enumerate(items or ())]
    for fields in request.children("functions") or ():
        function, rest = _function(fields), fields.rest()
        found.append(message_pb2.Tool(function=function, extra_json=b'{"function":%b}' % rest if rest else b""))
    return found


def tool_choice(request: Fields, offered: list[message_pb2.Tool]) -> message_pb2.ToolChoice | None:
    """The `tool_choice` of the request, or its legacy `function_call`."""
    if request.lacks(_CHOICES):
        return None
    key = "function_call" if request.has("function_call") and not request.has("tool_choice") else "tool_choice"
    whole = request.peek(key)
    value = request.take(key, _choice, "a string or an object")
    if value is None:
        return None
    path = request.at(key)
    if isinstance(value, str):
        if value not in _MODES:
            words = ", ".join(f"`{word}`" for word in _MODES)
            raise invalid(path, f"`{path}` must be one of {words} or an object, not `{value[:40]}`")
        return message_pb2.ToolChoice(mode=_MODES[value])
    fields = Fields(value, path)
    choice = _named(fields, offered) if key == "function_call" else _typed(fields, offered)
    return choice or _native(whole)


def _typed(fields: Fields, offered: list[message_pb2.Tool]) -> message_pb2.ToolChoice | None:
    """A choice in one of the neutral forms; None for any other."""
    kind = fields.required_text("type")
    if kind == "function":
        body = fields.child("function")
        if body is None:
            raise invalid(fields.at("function"), f"`{fields.at('function')}` is required and must be an object")
        return _named(body, offered)
    if kind == "allowed_tools":
        return _allowed(fields)
    return None


def _named(fields: Fields, offered: list[message_pb2.Tool]) -> message_pb2.ToolChoice:
    name = fields.required_text("name")
    if not any(tool.function.name == name for tool in offered):
        raise invalid(fields.at("name"), f"`{fields.at('name')}` names `{name[:64]}`, which is not among the tools")
    return message_pb2.ToolChoice(mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED, allowed_tools=[name], named=True)


def _allowed(fields: Fields) -> message_pb2.ToolChoice | None:
    """A list of allowed functions; None when it holds another kind of tool."""
    body = fields.child("allowed_tools")
    if body is None:
        raise invalid(fields.at("allowed_tools"), f"`{fields.at('allowed_tools')}` is required and must be an object")
    mode = body.one_of("mode", ("auto", "required")) or "auto"
    names: list[str] = []
    for tool in body.children("tools") or ():
        function = tool.child("function")
        if tool.text("type") != "function" or function is None:
            return None
        names.append(function.required_text("name"))
    if not names:
        raise invalid(body.at("tools"), f"`{body.at('tools')}` must list at least one tool")
    return message_pb2.ToolChoice(mode=_MODES[mode], allowed_tools=names)


def _native(json: bytes) -> message_pb2.ToolChoice:
    return message_pb2.ToolChoice(
        mode=message_pb2.TOOL_CHOICE_MODE_REQUIRED,
        native=message_pb2.NativePart(dialect=message_pb2.DIALECT_OPENAI_CHAT, json=json),
    )


def _tool(raw: Raw, path: str) -> message_pb2.Tool:
    try:
        fields = Fields(_object.decode(raw), path)
    except msgspec.ValidationError as error:
        raise invalid(path, f"`{path}` must be an object") from error
    mark = cache_control(fields)
    if fields.required_text("type") != "function":
        native = message_pb2.NativePart(dialect=message_pb2.DIALECT_OPENAI_CHAT, json=bytes(raw))
        return message_pb2.Tool(native=native, cache_control=mark)
    body = fields.child("function")
    if body is None:
        raise invalid(fields.at("function"), f"`{fields.at('function')}` is required and must be an object")
    function = _function(body)
    fields.put_back("function", body)
    return message_pb2.Tool(function=function, cache_control=mark, extra_json=fields.rest())


def _function(fields: Fields) -> message_pb2.FunctionTool:
    return message_pb2.FunctionTool(
        name=fields.required_text("name"),
        description=fields.text("description") or "",
        parameters_json=fields.object_json("parameters") or b"",
        strict=fields.boolean("strict"),
    )
