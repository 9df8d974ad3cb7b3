"""Recorded exchanges of OpenAI's Responses API: the call a caller makes, and what comes back of it."""

from __future__ import annotations

import base64
import copy
import json
from typing import TYPE_CHECKING, Any

from aigateway.v1 import chat_pb2, message_pb2

from support.exchanges import Expected, ToolCallSeen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.exchanges import Exchange

DIALECT = message_pb2.DIALECT_OPENAI_RESPONSES
FAILURES = {
    400: (400, "INVALID_REQUEST"),
    401: (502, "UPSTREAM_AUTH"),
    404: (404, "MODEL_NOT_FOUND"),
    429: (429, "UPSTREAM_RATE_LIMITED"),
}
_ROLES = {
    "system": message_pb2.ROLE_SYSTEM,
    "developer": message_pb2.ROLE_DEVELOPER,
    "user": message_pb2.ROLE_USER,
    "assistant": message_pb2.ROLE_ASSISTANT,
}
_MODES = {
    "auto": message_pb2.TOOL_CHOICE_MODE_AUTO,
    "none": message_pb2.TOOL_CHOICE_MODE_NONE,
    "required": message_pb2.TOOL_CHOICE_MODE_REQUIRED,
}


def to_call(exchange: Exchange) -> chat_pb2.ChatCall:
    """The recorded request as a call, read without the edge."""
    body: dict[str, Any] = copy.deepcopy(exchange.request)
    body.pop("stream", None)
    call = chat_pb2.ChatCall(model=body.pop("model"), dialect=DIALECT)
    for item in body.pop("input"):
        _read_item(call, item)
    call.tools.extend(_tool(tool) for tool in body.pop("tools", ()))
    if choice := body.pop("tool_choice", None):
        call.tool_choice.mode = _MODES[choice]
    if reasoning := body.pop("reasoning", None):
        call.reasoning.effort, call.reasoning.summary = reasoning["effort"], reasoning.get("summary", "")
    if form := body.pop("text", {}).get("format"):
        _read_format(call.response_format, form)
    if body:
        call.extra_json = json.dumps(body).encode()
    return call


def expected(exchange: Exchange) -> Expected:
    """What the caller must get."""
    if exchange.status >= 400:
        status, reason = FAILURES[exchange.status]
        return Expected(status=status, error_reason=reason)
    body = final(exchange)
    items = body["output"]
    calls = [item for item in items if item["type"] == "function_call"]
    pieces = [piece for item in items if item["type"] == "message" for piece in item["content"]]
    usage = body["usage"]
    return Expected(
        text="".join(piece["text"] for piece in pieces if piece["type"] == "output_text"),
        reasoning="".join(
            "\n\n".join(piece["text"] for piece in item["summary"]) for item in items if item["type"] == "reasoning"
        ),
        tool_calls=tuple(ToolCallSeen(call["name"], json.loads(call["arguments"]), call["call_id"]) for call in calls),
        finish_reason="tool_calls" if calls else "stop",
        prompt_tokens=usage["input_tokens"],
        completion_tokens=usage["output_tokens"],
        cached_tokens=usage["input_tokens_details"]["cached_tokens"],
        reasoning_tokens=usage["output_tokens_details"]["reasoning_tokens"],
        model=body["model"],
    )


def final(exchange: Exchange) -> dict[str, Any]:
    """The recorded answer; of a stream, that of its last event."""
    body: dict[str, Any] = events(exchange)[-1]["response"] if exchange.streamed else exchange.json()
    return body


def events(exchange: Exchange) -> list[dict[str, Any]]:
    """The events of a recorded stream."""
    lines = exchange.body.decode().splitlines()
    return [json.loads(line[5:]) for line in lines if line.startswith("data:")]


def differences(sent: dict[str, Any], recorded: dict[str, Any]) -> list[str]:
    """Leaves of what was sent that are not recorded, and the other way round.

    Not counted: `stream: false`, an empty description or an explicit null for absent; `store: false`, and encrypted
    reasoning asked of a model that reasons, where the recorded request says nothing of them.
    """
    mine, theirs = _normal(sent), _normal(recorded)
    for field in ("store", "include"):
        if field not in recorded:
            mine.pop(field, None)
    one, other = set(leaves(mine)), set(leaves(theirs))
    return sorted(f"sent {leaf}" for leaf in one - other) + sorted(f"not sent {leaf}" for leaf in other - one)


def leaves(value: Any, path: str = "") -> Iterator[str]:
    """Every leaf of some JSON as `path=value`; empty lists and objects are leaves too."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}")
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{index}]")
    else:
        yield f"{path}={json.dumps(value)}"


def told(completion: chat_pb2.ChatCompletion) -> dict[str, Any]:
    """The answer as the provider wrote it, put together from the typed one and nothing else."""
    assert completion.dialect == DIALECT
    [choice] = completion.choices
    extra: dict[str, Any] = json.loads(completion.extra_json)
    return extra | {
        "id": completion.id,
        "object": "response",
        "created_at": completion.created,
        "model": completion.model,
        "output": _output(choice.message.parts),
        "usage": json.loads(completion.usage.native_json),
    }


def shown(seen: list[chat_pb2.ChatEvent]) -> list[dict[str, Any]]:
    """The provider's events, put together from the typed ones and nothing else."""
    found: list[dict[str, Any]] = []
    for event in seen:
        kind = event.WhichOneof("event")
        if kind == "native_event":
            assert event.native_event.dialect == DIALECT
            found.append(json.loads(event.native_event.json))
        elif event.extra_json:
            found.append(json.loads(event.extra_json) | {"delta": getattr(event, str(kind))})
    return found


def _output(parts: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for part in parts:
        extra = json.loads(part.extra_json or b"{}")
        match part.WhichOneof("kind"):
            case "native":
                items.append(json.loads(part.native.json))
            case "reasoning":
                items.append(json.loads(part.provider_state.state))
            case "tool_call":
                call = {"call_id": part.tool_call.id, "name": part.tool_call.name}
                items.append({"type": "function_call", "arguments": part.tool_call.arguments.decode()} | call | extra)
            case "text":
                item = {key: extra.pop(key) for key in ("id", "status", "phase") if key in extra}
                item |= extra.pop("item", {})
                piece = {"type": "output_text", "text": part.text.text} | extra
                if items and items[-1].get("id") == item["id"]:
                    items[-1]["content"].append(piece)
                else:
                    items.append({"type": "message", "role": "assistant", "content": [piece]} | item)
            case other:
                raise AssertionError(other)
    return items


def _read_item(call: chat_pb2.ChatCall, item: dict[str, Any]) -> None:
    kind = item.pop("type", "message")
    if kind == "message":
        message = call.messages.add(role=_ROLES[item.pop("role")])
        message.content_shape, parts = _content(item.pop("content"))
        message.parts.extend(parts)
        assert not item
        return
    if kind == "function_call_output":
        result = message_pb2.ToolResult(call_id=item.pop("call_id"))
        result.content_shape, parts = _content(item.pop("output"))
        result.content.extend(parts)
        assert not item
        call.messages.add(role=message_pb2.ROLE_TOOL, parts=[message_pb2.Part(tool_result=result)])
        return
    if not call.messages or call.messages[-1].role != message_pb2.ROLE_ASSISTANT:
        call.messages.add(role=message_pb2.ROLE_ASSISTANT)
    part = call.messages[-1].parts.add()
    if kind == "function_call":
        part.tool_call.id, part.tool_call.name = item.pop("call_id"), item.pop("name")
        part.tool_call.arguments = item.pop("arguments").encode()
        part.extra_json = json.dumps(item).encode() if item else b""
    elif kind == "reasoning":
        part.reasoning.text = "\n\n".join(piece["text"] for piece in item["summary"])
        part.provider_state.provider = "openai"
        part.provider_state.state = json.dumps({"type": kind} | item).encode()
    else:
        part.native.dialect = DIALECT
        part.native.json = json.dumps({"type": kind} | item).encode()


def _content(value: Any) -> tuple[message_pb2.ContentShape.ValueType, list[message_pb2.Part]]:
    if isinstance(value, str):
        return message_pb2.CONTENT_SHAPE_STRING, [message_pb2.Part(text=message_pb2.TextPart(text=value))]
    return message_pb2.CONTENT_SHAPE_LIST, [_piece(piece) for piece in value]


def _piece(piece: dict[str, Any]) -> message_pb2.Part:
    part = message_pb2.Part()
    match piece.pop("type"):
        case "input_text" | "output_text":
            part.text.text = piece.pop("text")
        case "input_image":
            part.image.detail = piece.pop("detail", "")
            part.image.media.file_id = piece.pop("file_id")
        case "input_file" if "file_url" in piece:
            part.file.media.url = piece.pop("file_url")
        case "input_file":
            kind, _, data = piece.pop("file_data").removeprefix("data:").partition(";base64,")
            part.file.media.media_type, part.file.media.data = kind, base64.b64decode(data)
            part.file.filename = piece.pop("filename", "")
        case other:
            raise AssertionError(other)
    assert not piece
    return part


def _tool(tool: dict[str, Any]) -> message_pb2.Tool:
    if tool["type"] != "function":
        return message_pb2.Tool(native=message_pb2.NativePart(dialect=DIALECT, json=json.dumps(tool).encode()))
    del tool["type"]
    function = message_pb2.FunctionTool(
        name=tool.pop("name"),
        description=tool.pop("description") or "",
        parameters_json=json.dumps(tool.pop("parameters")).encode(),
        strict=tool.pop("strict", None),
    )
    return message_pb2.Tool(function=function, extra_json=json.dumps(tool).encode() if tool else b"")


def _read_format(form: chat_pb2.ResponseFormat, value: dict[str, Any]) -> None:
    if value["type"] == "json_object":
        form.type = chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT
        return
    form.type = chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA
    form.name, form.strict = value["name"], value["strict"]
    form.schema_json = json.dumps(value["schema"]).encode()


def _normal(value: Any) -> Any:
    """Without explicit nulls, empty descriptions and `stream: false`."""
    if isinstance(value, list):
        return [_normal(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    absent = {("description", '""'), ("stream", "false")}
    return {
        key: _normal(inner)
        for key, inner in value.items()
        if inner is not None and (key, json.dumps(inner)) not in absent
    }
