"""Recorded Anthropic exchanges: the call of a caller who wants the same, and what must come back.

Written from the Messages API's documentation, not from the adapter, so that the two check each other. Covers the
`messages` exchanges.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aigateway.v1 import chat_pb2, message_pb2

from support.exchanges import Expected, ToolCallSeen

if TYPE_CHECKING:
    from support.exchanges import Exchange

ANTHROPIC = message_pb2.DIALECT_ANTHROPIC_MESSAGES
ROLES = {"user": message_pb2.ROLE_USER, "assistant": message_pb2.ROLE_ASSISTANT}
FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
ERRORS = {400: (400, "INVALID_REQUEST"), 401: (502, "UPSTREAM_AUTH"), 404: (404, "MODEL_NOT_FOUND")}


# The OpenAI-format body.


def to_openai(exchange: Exchange) -> dict[str, Any]:
    """The chat completions body; what that format cannot say stands in `provider_options`."""
    recorded = exchange.request
    body: dict[str, Any] = {"model": recorded["model"], "messages": []}
    own: dict[str, Any] = {}
    for key in ("max_tokens", "stream", "temperature", "cache_control", "thinking"):
        if key in recorded:
            body[key] = recorded[key]
    if "stop_sequences" in recorded:
        body["stop"] = recorded["stop_sequences"]
    if "output_config" in recorded:
        schema = recorded["output_config"]["format"]["schema"]
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        }
    if "system" in recorded:
        body["messages"].append({"role": "system", "content": recorded["system"]})
    if all(_sayable(message) for message in recorded["messages"]):
        body["messages"] += [said for message in recorded["messages"] for said in _messages(message)]
    else:
        body["messages"].append({"role": "user", "content": "stands in the provider's own form below"})
        own["messages"] = recorded["messages"]
    target = body if all("type" not in tool for tool in recorded.get("tools", [])) else own
    if "tools" in recorded:
        target["tools"] = recorded["tools"] if target is own else [_tool(tool) for tool in recorded["tools"]]
    if "tool_choice" in recorded:
        target["tool_choice"] = recorded["tool_choice"] if target is own else recorded["tool_choice"]["type"]
    if own:
        body["provider_options"] = {"anthropic": own}
    return body


def _sayable(message: Any) -> bool:
    if not isinstance(message, dict) or isinstance(message["content"], str):
        return True
    return all(block["type"] in {"text", "tool_use"} for block in message["content"])


def _messages(message: Any) -> list[Any]:
    if not isinstance(message, dict) or isinstance(message["content"], str):
        return [message]
    texts = [block for block in message["content"] if block["type"] == "text"]
    calls = [_call(block) for block in message["content"] if block["type"] == "tool_use"]
    return [{"role": message["role"], "content": texts} | ({"tool_calls": calls} if calls else {})]


def _call(block: dict[str, Any]) -> dict[str, Any]:
    function = {"name": block["name"], "arguments": json.dumps(block["input"])}
    return {"id": block["id"], "type": "function", "function": function}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = {"name": tool["name"], "description": tool.get("description", ""), "parameters": tool["input_schema"]}
    return {"type": "function", "function": function | ({"strict": True} if tool.get("strict") else {})}


# The typed call, native parts and all.


def to_call(exchange: Exchange) -> chat_pb2.ChatCall:
    """The call of a gRPC caller who speaks Anthropic's dialect."""
    recorded = exchange.request
    thinking = recorded.get("thinking", {})
    call = chat_pb2.ChatCall(
        model=recorded["model"],
        dialect=ANTHROPIC,
        messages=[*_system(recorded.get("system")), *(_typed_message(message) for message in recorded["messages"])],
        tools=[_typed_tool(tool) for tool in recorded.get("tools", [])],
        options=chat_pb2.GenerationOptions(
            max_output_tokens=recorded["max_tokens"],
            temperature=recorded.get("temperature"),
            stop=recorded.get("stop_sequences"),
        ),
        cache_control=_cache(recorded),
    )
    if thinking:
        call.reasoning.budget_tokens = thinking["budget_tokens"]
        call.reasoning.summary = thinking.get("display", "")
    if "tool_choice" in recorded:
        assert recorded["tool_choice"] == {"type": "auto"}
        call.tool_choice.mode = message_pb2.TOOL_CHOICE_MODE_AUTO
    if "output_config" in recorded:
        call.extra_json = json.dumps({"output_config": recorded["output_config"]}).encode()
    return call


def _system(system: Any) -> list[message_pb2.Message]:
    if not system:
        return []
    texts = [system] if isinstance(system, str) else [block["text"] for block in system]
    return [message_pb2.Message(role=message_pb2.ROLE_SYSTEM, parts=[_text(text) for text in texts])]


def _typed_message(message: dict[str, Any]) -> message_pb2.Message:
    content = message["content"]
    parts = [_text(content)] if isinstance(content, str) else [_part(block) for block in content]
    return message_pb2.Message(role=ROLES[message["role"]], parts=parts)


def _text(text: str) -> message_pb2.Part:
    return message_pb2.Part(text=message_pb2.TextPart(text=text))


def _part(block: dict[str, Any]) -> message_pb2.Part:
    match block["type"]:
        case "text":
            part = _text(block["text"])
        case "tool_use":
            arguments = json.dumps(block["input"]).encode()
            part = message_pb2.Part(
                tool_call=message_pb2.ToolCall(id=block["id"], name=block["name"], arguments=arguments)
            )
        case "tool_result":
            content = [_part(inner) for inner in block["content"]]
            result = message_pb2.ToolResult(
                call_id=block["tool_use_id"], content=content, is_error=block.get("is_error")
            )
            part = message_pb2.Part(tool_result=result)
        case "thinking":
            part = message_pb2.Part(reasoning=message_pb2.ReasoningPart(text=block["thinking"]))
            state = message_pb2.ProviderState(provider="anthropic", state=block["signature"].encode())
            part.provider_state.CopyFrom(state)
        case "image":
            media = message_pb2.Media(file_id=block["source"]["file_id"])
            part = message_pb2.Part(image=message_pb2.ImagePart(media=media))
        case _:
            return message_pb2.Part(native=message_pb2.NativePart(dialect=ANTHROPIC, json=json.dumps(block).encode()))
    mark = _cache(block)
    if mark is not None:
        part.cache_control.CopyFrom(mark)
    return part


def _cache(owner: dict[str, Any]) -> message_pb2.CacheControl | None:
    mark = owner.get("cache_control")
    return None if mark is None else message_pb2.CacheControl(ttl=mark["ttl"])


def _typed_tool(tool: dict[str, Any]) -> message_pb2.Tool:
    if "type" in tool:
        return message_pb2.Tool(native=message_pb2.NativePart(dialect=ANTHROPIC, json=json.dumps(tool).encode()))
    known = ("name", "description", "input_schema", "strict")
    rest = {key: value for key, value in tool.items() if key not in known}
    function = message_pb2.FunctionTool(
        name=tool["name"],
        description=tool.get("description", ""),
        parameters_json=json.dumps(tool["input_schema"]).encode(),
        strict=tool.get("strict"),
    )
    return message_pb2.Tool(function=function, extra_json=json.dumps(rest).encode() if rest else b"")


# What must come back.


def expected(exchange: Exchange) -> Expected:
    """What a caller must get, read off the recorded answer."""
    if exchange.status != 200:
        status, reason = ERRORS[exchange.status]
        return Expected(status=status, error_reason=reason)
    message = _assembled(exchange.body) if exchange.streamed else exchange.json()
    blocks = message["content"]
    usage = message["usage"]
    return Expected(
        text="".join(block["text"] for block in blocks if block["type"] == "text"),
        reasoning="".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
        tool_calls=tuple(
            ToolCallSeen(block["name"], block["input"], block["id"]) for block in blocks if block["type"] == "tool_use"
        ),
        finish_reason=FINISH[message["stop_reason"]],
        prompt_tokens=usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"],
        completion_tokens=usage["output_tokens"],
        cached_tokens=usage["cache_read_input_tokens"],
        reasoning_tokens=usage.get("output_tokens_details", {}).get("thinking_tokens"),
        model=message["model"],
        extra={
            "id": message["id"],
            "kinds": [block["type"] for block in blocks],
            "states": [block.get("signature") or block["data"] for block in blocks if "thinking" in block["type"]],
            "native": [block for block in blocks if "tool_" in block["type"] and block["type"] != "tool_use"],
            "stop_sequence": message["stop_sequence"],
            "container": message.get("container"),
            "cache_write": usage["cache_creation_input_tokens"],
        },
    )


def _assembled(body: bytes) -> dict[str, Any]:
    """The message that a recorded stream adds up to."""
    message: dict[str, Any] = {}
    inputs: dict[int, str] = {}
    for line in body.decode().splitlines():
        if not line.startswith("data:"):
            continue
        event = json.loads(line[5:])
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                message["content"].append(event["content_block"])
            case "content_block_delta":
                block, delta = message["content"][event["index"]], event["delta"]
                if delta["type"] == "input_json_delta":
                    inputs[event["index"]] = inputs.get(event["index"], "") + delta["partial_json"]
                else:
                    key = delta["type"].removesuffix("_delta")
                    block[key] += delta[key]
            case "message_delta":
                message |= event["delta"]
                message["usage"] |= event["usage"]
            case _:
                pass
    for index, text in inputs.items():
        if text:
            message["content"][index]["input"] = json.loads(text)
    return message


# Comparing what was sent with what was recorded.


def differences(sent: Any, recorded: Any) -> list[str]:
    """Where two request bodies differ in meaning, by path."""
    return _differences(_canonical(sent), _canonical(recorded), "")


def _canonical(value: Any, key: str = "") -> Any:
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if key in {"content", "system"} and isinstance(value, str):
        return [{"type": "text", "text": value}] if value else ""  # a string is short for one text block
    if not isinstance(value, dict):
        return value
    if key == "input_schema":
        return value
    return {
        name: _canonical(item, name)
        for name, item in value.items()
        if not (name in {"stream", "is_error"} and item is False)  # false is the default of both
        and not (name == "description" and item == "")  # an empty description says nothing
    }


def _differences(ours: Any, theirs: Any, path: str) -> list[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            found
            for key in sorted({*ours, *theirs})
            for found in _differences(ours.get(key, "(absent)"), theirs.get(key, "(absent)"), f"{path}.{key}")
        ]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [
            found
            for index, (a, b) in enumerate(zip(ours, theirs, strict=True))
            for found in _differences(a, b, f"{path}[{index}]")
        ]
    return [] if ours == theirs else [f"{path}: sent {str(ours)[:200]}, recorded {str(theirs)[:200]}"]
