"""How the answer is made to be JSON: natively, by a forced tool whose input is the answer, or by an instruction.

https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aigateway.v1 import chat_pb2, message_pb2

from aigateway_providers.anthropic import splice
from aigateway_providers.anthropic.blocks import DIALECT
from aigateway_providers.anthropic.schemas import enforceable

if TYPE_CHECKING:
    from aigateway_providers.anthropic.capabilities import Claude
    from aigateway_providers.report import Report

TOOL: Final = "structured_answer"
"""The name of the tool that stands for the answer."""
_JSON_OBJECT: Final = "Answer with one JSON object and nothing else: no words around it and no code fence."
_SCHEMA: Final = "Answer by calling this tool; its input is the answer."


@dataclass(frozen=True, slots=True)
class Structure:
    """What makes the answer JSON; at most one of the three is set."""

    format: dict[str, Any] | None = None
    """`output_config.format`."""
    tool: dict[str, Any] | None = None
    """A tool to force; its input is the answer."""
    instruction: str = ""
    """A block of the system prompt."""


def structure(call: chat_pb2.ChatCall, facts: Claude, report: Report) -> Structure:
    """How `call.response_format` is reached with a model of these `facts`."""
    wanted = call.response_format
    match wanted.type:
        case chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT:
            report.emulated("response_format", "an instruction in the system prompt")
            return Structure(instruction=_JSON_OBJECT)
        case chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA:
            splice.caller_fields(wanted.schema_json, "response_format.json_schema.schema")
            return _by_schema(call, facts, report)
        case _:
            return Structure()


def _by_schema(call: chat_pb2.ChatCall, facts: Claude, report: Report) -> Structure:
    schema = call.response_format.schema_json
    if call.dialect == DIALECT or (facts.structured and (not facts.forced_tools or enforceable(schema))):
        return Structure(format={"type": "json_schema", "schema": splice.fragment(schema)})
    choice = call.tool_choice
    if call.tools and (choice.mode == message_pb2.TOOL_CHOICE_MODE_REQUIRED or choice.HasField("native")):
        report.dropped("response_format", "the tool choice forces a tool")
        return Structure()
    report.emulated("response_format", "a forced tool whose input is the answer")
    tool = {
        "name": _free_name(call),
        "description": call.response_format.description or _SCHEMA,
        "input_schema": splice.fragment(schema),
    }
    return Structure(tool=tool)


def _free_name(call: chat_pb2.ChatCall) -> str:
    taken = {tool.function.name for tool in call.tools if tool.HasField("function")}
    name = TOOL
    while name in taken:
        name += "_"
    return name
