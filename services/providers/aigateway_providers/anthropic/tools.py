"""Tools and the choice among them.

https://platform.claude.com/docs/en/agents-and-tools/tool-use/define-tools
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from aigateway.v1 import chat_pb2, message_pb2

from aigateway_providers.anthropic import splice
from aigateway_providers.anthropic.blocks import DIALECT, Blocks, cache_mark
from aigateway_providers.anthropic.schemas import enforceable

if TYPE_CHECKING:
    from aigateway_providers.anthropic.capabilities import Claude
    from aigateway_providers.report import Report

_NO_PARAMETERS: Final = b'{"type":"object","properties":{}}'
_NO_PARAMETERS_CLOSED: Final = b'{"type":"object","properties":{},"additionalProperties":false}'


def tools(call: chat_pb2.ChatCall, facts: Claude, report: Report) -> list[Any]:
    """The value of `tools`: those of the call that its tool choice allows."""
    blocks = Blocks(call.dialect, report)
    allowed = set() if call.tool_choice.named else set(call.tool_choice.allowed_tools)
    found: list[Any] = []
    for index, tool in enumerate(call.tools):
        path = f"tools[{index}]"
        if tool.WhichOneof("kind") == "native":
            if tool.native.dialect != DIALECT:
                report.dropped(path, "a tool of another provider")
            elif not allowed or _native_name(tool.native) in allowed:
                found.append(splice.fragment(tool.native.json))
        elif not allowed or tool.function.name in allowed:
            body = _function(tool.function, path, facts, report, own=call.dialect == DIALECT) | cache_mark(tool)
            blocks.extras(body, tool.extra_json, path)
            found.append(body)
    return found


def choice(call: chat_pb2.ChatCall, facts: Claude, report: Report, *, answer_tool: str, any_tools: bool) -> Any | None:
    """The value of `tool_choice`, or None to leave it out.

    Args:
        call: The call.
        facts: What its model takes.
        report: Takes notes.
        answer_tool: The tool that stands for a structured answer; empty when there is none.
        any_tools: Whether the caller has tools of its own.
    """
    wanted = call.tool_choice
    if wanted.HasField("native"):
        if wanted.native.dialect == DIALECT:
            return splice.fragment(wanted.native.json)
        report.dropped("tool_choice", "a choice of another provider")
        wanted = message_pb2.ToolChoice()
    if answer_tool:
        own = any_tools and wanted.mode != message_pb2.TOOL_CHOICE_MODE_NONE
        forced = {"type": "any"} if own else {"type": "tool", "name": answer_tool}
        return forced | {"disable_parallel_tool_use": True}
    body = _mode(wanted)
    if body is None and call.HasField("parallel_tool_calls") and not call.parallel_tool_calls and any_tools:
        body = {"type": "auto"}
    if body is None or (not any_tools and body["type"] in {"auto", "none"}):
        return None  # the API takes a choice only beside tools
    if body["type"] in {"any", "tool"} and not facts.forced_tools and call.dialect != DIALECT:
        report.clamped("tool_choice", "this model takes `auto` and `none` only")
        body = {"type": "auto"}
    if call.HasField("parallel_tool_calls") and not call.parallel_tool_calls and body["type"] != "none":
        body["disable_parallel_tool_use"] = True
    return body


def _mode(wanted: message_pb2.ToolChoice) -> dict[str, Any] | None:
    match wanted.mode:
        case message_pb2.TOOL_CHOICE_MODE_AUTO:
            return {"type": "auto"}
        case message_pb2.TOOL_CHOICE_MODE_NONE:
            return {"type": "none"}
        case message_pb2.TOOL_CHOICE_MODE_REQUIRED:
            if len(wanted.allowed_tools) == 1:
                return {"type": "tool", "name": wanted.allowed_tools[0]}
            return {"type": "any"}
        case _:
            return None


def _function(tool: message_pb2.FunctionTool, path: str, facts: Claude, report: Report, *, own: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"name": tool.name}
    if tool.description:
        body["description"] = tool.description
    schema = _schema(tool, f"{path}.function.parameters")
    body["input_schema"] = splice.fragment(schema)
    if tool.strict:
        if own or (facts.structured and enforceable(schema)):
            body["strict"] = True
        else:
            why = "this schema cannot be enforced" if facts.structured else "this model has no strict tools"
            report.dropped(f"{path}.function.strict", why)
    return body


def _schema(tool: message_pb2.FunctionTool, param: str) -> bytes:
    """The caller's JSON Schema whole; Anthropic demands a `type`, which OpenAI lets callers leave out."""
    parameters = tool.parameters_json
    schema = splice.caller_fields(parameters, param) if parameters.strip() not in {b"", b"null"} else {}
    if not schema:
        return _NO_PARAMETERS_CLOSED if tool.strict else _NO_PARAMETERS
    if "type" not in schema:
        return msgspec.json.encode({"type": msgspec.Raw(b'"object"'), **schema})
    return parameters


def _native_name(native: message_pb2.NativePart) -> str:
    return splice.text(splice.caller_fields(native.json, "tools"), "name")
