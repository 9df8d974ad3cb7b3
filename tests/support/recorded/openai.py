"""Recorded exchanges of OpenAI and of hosts that speak its protocol (Groq): what a caller sends and must get."""

from __future__ import annotations

import base64
import copy
import json
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from support.exchanges import Expected, ToolCallSeen

if TYPE_CHECKING:
    from support.exchanges import Exchange

SKIPPED = {
    "completions": "legacy prompts are asked as chat; the old endpoint is not called",
}
"""Operations that the adapter does not call upstream, and why."""

_FAILURES = {
    400: (400, "INVALID_REQUEST"),
    401: (502, "UPSTREAM_AUTH"),
    404: (404, "MODEL_NOT_FOUND"),
    429: (429, "UPSTREAM_RATE_LIMITED"),
}


def to_openai(exchange: Exchange) -> dict[str, Any]:
    """The body a caller of the gateway would send: the recorded one."""
    body: dict[str, Any] = copy.deepcopy(exchange.request)
    return body


def expected(exchange: Exchange) -> Expected:
    """What the caller must get."""
    if exchange.status >= 400:
        status, reason = _FAILURES[exchange.status]
        return Expected(status=status, error_reason=reason)
    if exchange.operation == "embeddings":
        return _embeddings(exchange.json())
    return _stream(exchange.body) if exchange.streamed else _whole(exchange.json())


def differences(sent: dict[str, Any], recorded: dict[str, Any]) -> list[str]:
    """Where what was sent upstream differs in meaning from what was recorded, one line each.

    Not counted: `stream: false` for absent; usage asked for in every stream; an encoding format where none is recorded
    (SDKs ask for base64 by themselves), and `float` for absent; an explicit null, an empty list of tools or an empty
    description for absent; `max_tokens` of a reasoning model as `max_completion_tokens`; empty tool arguments as `{}`;
    a file's bare base64 as a data URL.
    """
    mine, theirs = _normal(sent), _normal(recorded)
    if "encoding_format" not in theirs:
        mine.pop("encoding_format", None)
    return _compare(mine, theirs, "")


def _normal(body: dict[str, Any]) -> dict[str, Any]:
    body = {key: value for key, value in copy.deepcopy(body).items() if value is not None and value != []}
    if body.get("encoding_format") == "float":
        del body["encoding_format"]
    if not body.get("stream"):
        body.pop("stream", None)
    else:
        body["stream_options"] = body.get("stream_options", {}) | {"include_usage": True}
    if body["model"].startswith(("o1", "o3", "o4", "gpt-5")) and "max_tokens" in body:
        body["max_completion_tokens"] = body.pop("max_tokens")
    for tool in body.get("tools", ()):
        if tool.get("function", {}).get("description") == "":
            del tool["function"]["description"]
    for message in body.get("messages", ()):
        _normal_message(message)
    return body


def _normal_message(message: dict[str, Any]) -> None:
    for key in [key for key, value in message.items() if value is None and key != "content"]:
        del message[key]
    for call in message.get("tool_calls", ()):
        if "function" in call:
            call["function"]["arguments"] = call["function"]["arguments"] or "{}"
    content = message.get("content")
    for part in content if isinstance(content, list) else ():
        data = part.get("file", {}).get("file_data", "")
        if data.startswith("data:"):
            part["file"]["file_data"] = data.partition(",")[2]


def _compare(sent: Any, recorded: Any, path: str) -> list[str]:
    if isinstance(sent, dict) and isinstance(recorded, dict):
        keys = [*recorded, *(key for key in sent if key not in recorded)]
        missing = object()
        return [
            line
            for key in keys
            for line in _compare(sent.get(key, missing), recorded.get(key, missing), f"{path}.{key}".lstrip("."))
        ]
    if isinstance(sent, list) and isinstance(recorded, list) and len(sent) == len(recorded):
        return [
            line
            for index, (one, other) in enumerate(zip(sent, recorded, strict=True))
            for line in _compare(one, other, f"{path}[{index}]")
        ]
    if sent == recorded and isinstance(sent, bool) == isinstance(recorded, bool):
        return []
    return [f"{path}: sent {_show(sent)}, recorded {_show(recorded)}"]


def _show(value: Any) -> str:
    return "nothing" if type(value) is object else repr(value)[:80]


def _whole(body: dict[str, Any]) -> Expected:
    first = body["choices"][0]
    message = first["message"]
    texts = [choice["message"].get("content") or "" for choice in body["choices"]]
    answer = Expected(
        text=texts[0],
        reasoning=message.get("reasoning_content") or message.get("reasoning") or "",
        refusal=message.get("refusal") or "",
        tool_calls=tuple(
            _call(call["function"]["name"], call["function"]["arguments"], call["id"])
            for call in message.get("tool_calls") or ()
        ),
        finish_reason=first["finish_reason"],
        model=body["model"],
        extra={"texts": texts} if len(texts) > 1 else {},
    )
    return _with_tokens(answer, body.get("usage"))


def _stream(body: bytes) -> Expected:
    lines = [line[5:].strip() for line in body.decode().splitlines() if line.startswith("data:")]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    steps = [choice for chunk in chunks for choice in chunk["choices"]]
    count = 1 + max(step["index"] for step in steps)
    first = [step for step in steps if step["index"] == 0]
    calls = _streamed_calls([call for step in first for call in step["delta"].get("tool_calls") or ()])
    usage = [chunk.get("usage") or chunk.get("x_groq", {}).get("usage") for chunk in chunks]
    reasons = [step["finish_reason"] for step in first if step["finish_reason"]]
    texts = ["".join(s["delta"].get("content") or "" for s in steps if s["index"] == i) for i in range(count)]
    answer = Expected(
        text=texts[0],
        tool_calls=calls,
        # a host that says nothing but that it is done has stopped for the plainest reason
        finish_reason=reasons[0] if reasons else "tool_calls" if calls else "stop",
        model=chunks[0]["model"],
        extra={"texts": texts} if count > 1 else {},
    )
    return _with_tokens(answer, next((one for one in reversed(usage) if one), None))


def _streamed_calls(deltas: list[dict[str, Any]]) -> tuple[ToolCallSeen, ...]:
    calls: dict[int, dict[str, str]] = {}
    for delta in deltas:
        call = calls.setdefault(delta["index"], {"id": "", "name": "", "arguments": ""})
        call["id"] = call["id"] or delta.get("id") or ""
        call["name"] = call["name"] or delta["function"].get("name") or ""
        call["arguments"] += delta["function"].get("arguments") or ""
    return tuple(_call(call["name"], call["arguments"], call["id"]) for _, call in sorted(calls.items()))


def _call(name: str, arguments: str, call_id: str) -> ToolCallSeen:
    return ToolCallSeen(name, json.loads(arguments or "{}"), call_id)


def _with_tokens(answer: Expected, usage: dict[str, Any] | None) -> Expected:
    if not usage:
        return answer
    return replace(
        answer,
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        reasoning_tokens=(usage.get("completion_tokens_details") or {}).get("reasoning_tokens"),
    )


def _embeddings(body: dict[str, Any]) -> Expected:
    """`extra["vectors"]` are the vectors, in the order of the inputs."""
    rows = sorted(body["data"], key=lambda row: row["index"])
    vectors = [_vector(row["embedding"]) for row in rows]
    return Expected(model=body["model"], prompt_tokens=body["usage"]["prompt_tokens"], extra={"vectors": vectors})


def _vector(value: str | list[float]) -> list[float]:
    return value if isinstance(value, list) else array("f", base64.b64decode(value)).tolist()
