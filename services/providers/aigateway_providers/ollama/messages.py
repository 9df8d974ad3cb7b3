"""The conversation in Ollama's words: neutral messages to the `messages` of `/api/chat`.

A message there is one string with lists of images and tool calls beside it
(https://docs.ollama.com/api/chat), so parts are gathered by kind. What Ollama cannot take is reported, or refused where
leaving it out would change the question.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson
from aigateway.v1 import message_pb2
from aigateway_common.errors import GatewayError, invalid

from aigateway_providers.ollama.body import json_object, merge, report_members

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aigateway.v1 import chat_pb2

    from aigateway_providers.report import Report

_ROLES = {
    message_pb2.ROLE_SYSTEM: "system",
    message_pb2.ROLE_DEVELOPER: "system",
    message_pb2.ROLE_USER: "user",
    message_pb2.ROLE_ASSISTANT: "assistant",
    message_pb2.ROLE_TOOL: "tool",
}


def to_messages(call: chat_pb2.ChatCall, report: Report) -> list[dict[str, object]]:
    """The messages, oldest first.

    Raises:
        GatewayError: INVALID_REQUEST or UNSUPPORTED, naming the field.
    """
    if not call.messages:
        raise invalid("messages", "`messages` must not be empty; Ollama would only load the model")
    names: dict[str, str] = {}
    turns: list[dict[str, object]] = []
    for number, message in enumerate(call.messages):
        turns += _message(f"messages[{number}]", message, call.dialect, names, report)
    return turns


def _message(
    path: str,
    message: message_pb2.Message,
    dialect: message_pb2.Dialect.ValueType,
    names: dict[str, str],
    report: Report,
) -> list[dict[str, object]]:
    role = _ROLES.get(message.role)
    if role is None:
        raise invalid(f"{path}.role", f"`{path}.role` is missing")
    if message.name and role != "tool":
        report.dropped(f"{path}.name", "Ollama has no participants' names")
    turn = _Turn(path, names, report)
    for part in message.parts:
        turn.add(part)
    if role == "tool" and not turn.results:
        raise invalid(f"{path}.tool_call_id", f"`{path}` is a tool's message without a tool's result")
    turns = turn.results if role == "tool" else [*turn.results, turn.finish(role)]
    if message.extra_json:
        if dialect == message_pb2.DIALECT_OLLAMA:
            merge(turns[-1], message.extra_json, path)
        else:
            report_members(report, message.extra_json, f"{path}.")
    return turns


@dataclass(slots=True)
class _Turn:
    """One message being gathered."""

    path: str
    names: dict[str, str]
    """The tool's name of every call so far in the conversation, by the call's id."""
    report: Report
    texts: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    tool_calls: list[dict[str, object]] = field(default_factory=list)
    results: list[dict[str, object]] = field(default_factory=list)
    contents: int = 0
    """How many entries of the message's `content` have been seen."""

    def add(self, part: message_pb2.Part) -> None:
        match part.WhichOneof("kind"):
            case "tool_call":
                _report_marks(self.report, part, f"{self.path}.tool_calls[{len(self.tool_calls)}]")
                self._tool_call(part.tool_call)
            case "tool_result":
                _report_marks(self.report, part, self.path)
                self.results.append(self._tool_result(part.tool_result))
            case "reasoning":
                _report_marks(self.report, part, f"{self.path}.reasoning_details")
                self._reasoning(part.reasoning)
            case _:
                self._content(part)
                self.contents += 1

    def finish(self, role: str) -> dict[str, object]:
        turn: dict[str, object] = {"role": role, "content": "\n".join(self.texts)}
        if self.thinking:
            turn["thinking"] = "".join(self.thinking)
        if self.images:
            turn["images"] = self.images
        if self.tool_calls:
            turn["tool_calls"] = self.tool_calls
        return turn

    def _content(self, part: message_pb2.Part) -> None:
        where = f"{self.path}.content[{self.contents}]"
        match part.WhichOneof("kind"):
            case "text":
                self.texts.append(part.text.text)
            case "refusal":
                self.texts.append(part.refusal.text)
                self.report.emulated(f"{self.path}.refusal", "sent as text")
            case "image":
                self._image(part.image, where)
            case "native":
                self.report.dropped(where, "only its own provider understands it")
            case "audio" | "file" as kind:
                raise _unsupported(where, f"Ollama takes no {kind} in a message; send text or images")
            case _:
                raise invalid(where, f"`{where}` is empty")
        _report_marks(self.report, part, where)

    def _image(self, image: message_pb2.ImagePart, where: str) -> None:
        if image.media.WhichOneof("source") != "data":
            raise _unsupported(
                f"{where}.image_url.url", "Ollama takes the image itself and fetches no address; send a `data:` URL"
            )
        if image.detail not in {"", "auto"}:
            self.report.dropped(f"{where}.image_url.detail", "Ollama has no levels of detail")
        self.images.append(b64encode(image.media.data).decode())

    def _reasoning(self, reasoning: message_pb2.ReasoningPart) -> None:
        if reasoning.text:
            self.thinking.append(reasoning.text)
        elif reasoning.redacted:
            self.report.dropped(f"{self.path}.reasoning_details", "encrypted by another provider")

    def _tool_call(self, call: message_pb2.ToolCall) -> None:
        where = f"{self.path}.tool_calls[{len(self.tool_calls)}]"
        if call.type == message_pb2.TOOL_CALL_TYPE_CUSTOM:
            raise _unsupported(where, "Ollama has no custom tools, only functions")
        self.names[call.id] = call.name
        arguments = json_object(call.arguments.strip() or b"{}", f"{where}.function.arguments")
        function: dict[str, object] = {"name": call.name, "arguments": arguments}
        self.tool_calls.append({"id": call.id, "function": function} if call.id else {"function": function})

    def _tool_result(self, result: message_pb2.ToolResult) -> dict[str, object]:
        name = self.names.get(result.call_id) or result.name
        if not name:
            param = f"{self.path}.tool_call_id"
            raise invalid(param, f"`{param}` names no tool call of the messages before it")
        if result.is_error:
            self.report.dropped(f"{self.path}.is_error", "Ollama cannot mark a tool's result as failed")
        texts = list(self._result_texts(result.content))
        turn: dict[str, object] = {"role": "tool", "content": "\n".join(texts), "tool_name": name}
        if result.call_id:
            turn["tool_call_id"] = result.call_id
        return turn

    def _result_texts(self, content: Iterable[message_pb2.Part]) -> Iterable[str]:
        for number, part in enumerate(content):
            where = f"{self.path}.content[{number}]"
            if part.WhichOneof("kind") != "text":
                raise _unsupported(where, "Ollama takes nothing but text as a tool's result")
            _report_marks(self.report, part, where)
            yield part.text.text


def _report_marks(report: Report, part: message_pb2.Part, where: str) -> None:
    if part.HasField("cache_control"):
        report.dropped(f"{where}.cache_control", "Ollama caches prompts by itself")
    report_members(report, part.extra_json, f"{where}.")


def _unsupported(param: str, message: str) -> GatewayError:
    return GatewayError("UNSUPPORTED", message, details={"param": param})


def tool_definition(tool: message_pb2.Tool, path: str, report: Report) -> dict[str, object]:
    """One function as Ollama wants it; its schema as the caller wrote it, an empty one where there is none."""
    function = tool.function
    schema = function.parameters_json
    body: dict[str, object] = {"name": function.name}
    if function.description:
        body["description"] = function.description
    body["parameters"] = (
        json_object(schema, f"{path}.function.parameters")
        if schema
        else orjson.Fragment(b'{"type":"object","properties":{}}')
    )
    if function.strict:
        report.dropped(f"{path}.function.strict", "Ollama does not hold arguments to the schema")
    return {"type": "function", "function": body}
