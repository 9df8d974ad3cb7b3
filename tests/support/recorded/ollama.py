"""Recorded exchanges of Ollama's native API: what a caller sends and must get.

Written from Ollama's documentation and without the adapter, which it is there to judge.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from support.exchanges import Expected, ToolCallSeen

if TYPE_CHECKING:
    from support.exchanges import Exchange

SKIPPED = {
    "generate": "`/api/generate` is an endpoint that the gateway does not call: `/api/chat` does all it does",
    "v1_chat": "Ollama's OpenAI-compatible endpoint is not called: it ignores num_ctx and think",
}
"""Operations that are skipped, and why."""

_FAILURES = {
    400: (400, "INVALID_REQUEST"),
    401: (502, "UPSTREAM_AUTH"),
    404: (404, "MODEL_NOT_FOUND"),
    429: (429, "UPSTREAM_RATE_LIMITED"),
    500: (502, "UPSTREAM_ERROR"),
    502: (502, "UPSTREAM_ERROR"),
    503: (503, "UPSTREAM_OVERLOADED"),
}
_SAME_OPTIONS = ("temperature", "top_p", "top_k", "seed", "stop", "presence_penalty", "frequency_penalty")
_SIGNATURES = {"iVBOR": "image/png", "/9j/": "image/jpeg", "R0lGO": "image/gif", "UklGR": "image/webp"}


def streamed(exchange: Exchange) -> bool:
    """Whether the recorded request asked for a stream, which Ollama gives unless told otherwise."""
    return exchange.operation == "chat" and exchange.request.get("stream", True) is not False


def to_openai(exchange: Exchange) -> dict[str, Any]:
    """The body of a caller who asks for the same in OpenAI's words; the rest goes into `provider_options.ollama`."""
    recorded = _normal(exchange.request)
    if exchange.operation in {"embeddings", "embed"}:
        return _to_openai_embeddings(recorded)
    body: dict[str, Any] = {"model": recorded.pop("model"), "messages": _messages(recorded.pop("messages"))}
    if recorded.pop("stream"):
        body["stream"] = True
    for name in ("tools", "logprobs", "top_logprobs"):
        if name in recorded:
            body[name] = recorded.pop(name)
    options = recorded.pop("options", {})
    for name in _SAME_OPTIONS:
        if name in options:
            body[name] = options.pop(name)
    if options.get("num_predict", 0) > 0:
        body["max_completion_tokens"] = options.pop("num_predict")
    if "format" in recorded:
        body["response_format"] = _response_format(recorded.pop("format"))
    if "think" in recorded:
        body |= _reasoning(recorded.pop("think"))
    own = recorded | ({"options": options} if options else {})
    return body | ({"provider_options": {"ollama": own}} if own else {})


def expected(exchange: Exchange) -> Expected:
    """What the caller must get; the id of a tool call is None where Ollama gave none."""
    if exchange.status >= 400:
        status, reason = _FAILURES[exchange.status]
        return Expected(status=status, error_reason=reason)
    if exchange.operation in {"embeddings", "embed"}:
        return _vectors(exchange)
    lines = [json.loads(line) for line in exchange.body.splitlines() if line.strip()]
    if any("error" in line for line in lines):
        return Expected(status=502, error_reason="UPSTREAM_ERROR")
    messages = [line.get("message", {}) for line in lines]
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    final = lines[-1]
    assert final["done"]
    reason = {"length": "length"}.get(final.get("done_reason", "stop"), "tool_calls" if calls else "stop")
    return Expected(
        text="".join(message.get("content") or "" for message in messages),
        reasoning="".join(message.get("thinking") or "" for message in messages),
        tool_calls=tuple(
            ToolCallSeen(call["function"]["name"], call["function"].get("arguments") or {}, call.get("id"))
            for call in calls
        ),
        finish_reason=reason,
        prompt_tokens=final.get("prompt_eval_count", 0),
        completion_tokens=final.get("eval_count", 0),
        cached_tokens=final.get("prompt_eval_cached_count"),
        model=lines[0]["model"],
    )


def differences(sent: dict[str, Any], recorded: dict[str, Any]) -> list[str]:
    """Where what was sent upstream differs in meaning from what was recorded, one line each.

    Not counted:
    - an absent `stream` for true, which is Ollama's default;
    - null, an empty `format`, and empty `options`, `tools` or `images` for absent;
    - `prompt`, the old embeddings endpoint's word for `input`, and one text for a list of it;
    - ids and tool names (`tool_calls[].id`, `tool_call_id`, `tool_name`) that the recording client did not know of yet;
    - a call's `index` in the history, which Ollama does not read;
    - `content` left out of a message for an empty one.
    """
    ours, theirs = _normal(sent), _normal(recorded)
    for one, other in zip(ours.get("messages", ()), theirs.get("messages", ()), strict=False):
        _forget_unknown_ids(one, other)
    return _compare(ours, theirs, "")


def _normal(recorded: dict[str, Any]) -> dict[str, Any]:
    body = {key: value for key, value in copy.deepcopy(recorded).items() if value not in (None, "", [], {})}
    if "prompt" in body:
        body["input"] = body.pop("prompt")
    if isinstance(body.get("input"), list) and len(body["input"]) == 1:
        body["input"] = body["input"][0]
    if "messages" in body:
        body.setdefault("stream", True)
    for message in body.get("messages", ()):
        message.setdefault("content", "")
        for key in [key for key, value in message.items() if value in (None, []) or (not value and key != "content")]:
            del message[key]
        for call in message.get("tool_calls", ()):
            call["function"].pop("index", None)
            call.pop("type", None)
    return body


def _forget_unknown_ids(sent: dict[str, Any], recorded: dict[str, Any]) -> None:
    for key in ("tool_name", "tool_call_id"):
        if key not in recorded:
            sent.pop(key, None)
    for one, other in zip(sent.get("tool_calls", ()), recorded.get("tool_calls", ()), strict=False):
        if "id" not in other:
            one.pop("id", None)


def _messages(recorded: list[dict[str, Any]]) -> list[dict[str, Any]]:
    unanswered: list[tuple[str, str]] = []
    """Ids and names of the calls that wait for their results, oldest first."""
    messages = []
    for number, message in enumerate(recorded):
        made: dict[str, Any] = {"role": message["role"], "content": message["content"]}
        if images := message.get("images"):
            parts = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in images]
            made["content"] = [{"type": "text", "text": message["content"]}, *parts]
        if "thinking" in message:
            made["reasoning_content"] = message["thinking"]
        if calls := message.get("tool_calls"):
            made["tool_calls"] = [_call(call, f"call_{number}_{i}") for i, call in enumerate(calls)]
            unanswered += [(call["id"], call["function"]["name"]) for call in made["tool_calls"]]
        if message["role"] == "tool":
            made["tool_call_id"] = message.get("tool_call_id") or _answered(unanswered, message.get("tool_name"))
        messages.append(made)
    return messages


def _call(recorded: dict[str, Any], call_id: str) -> dict[str, Any]:
    function = recorded["function"]
    arguments = json.dumps(function.get("arguments") or {})
    return {
        "id": recorded.get("id") or call_id,
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }


def _answered(unanswered: list[tuple[str, str]], name: str | None) -> str:
    place = next(i for i, (_, called) in enumerate(unanswered) if name in (None, called))
    return unanswered.pop(place)[0]


def _data_url(image: str) -> str:
    kind = next((kind for start, kind in _SIGNATURES.items() if image.startswith(start)), "image/png")
    return f"data:{kind};base64,{image}"


def _response_format(recorded: Any) -> dict[str, Any]:
    if recorded == "json":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": recorded}}


def _reasoning(think: bool | str) -> dict[str, Any]:
    if think is True:
        return {"thinking": {"type": "adaptive"}}
    return {"reasoning_effort": think or "none"}


def _to_openai_embeddings(recorded: dict[str, Any]) -> dict[str, Any]:
    body = {name: recorded.pop(name) for name in ("model", "input", "dimensions") if name in recorded}
    return body | ({"provider_options": {"ollama": recorded}} if recorded else {})


def _vectors(exchange: Exchange) -> Expected:
    """`extra["vectors"]` are the vectors; the old endpoint says neither model nor tokens."""
    body = exchange.json()
    vectors = body["embeddings"] if "embeddings" in body else [body["embedding"]]
    model = body.get("model", exchange.request["model"])
    return Expected(model=model, prompt_tokens=body.get("prompt_eval_count", 0), extra={"vectors": vectors})


def _compare(sent: Any, recorded: Any, path: str) -> list[str]:
    if isinstance(sent, dict) and isinstance(recorded, dict):
        keys = dict.fromkeys([*recorded, *sent])
        return [line for key in keys for line in _compare(sent.get(key, ...), recorded.get(key, ...), f"{path}.{key}")]
    if isinstance(sent, list) and isinstance(recorded, list) and len(sent) == len(recorded):
        pairs = enumerate(zip(sent, recorded, strict=True))
        return [line for index, (one, other) in pairs for line in _compare(one, other, f"{path}[{index}]")]
    if sent == recorded and isinstance(sent, bool) == isinstance(recorded, bool):
        return []
    return [f"{path.lstrip('.')}: sent {sent!r:.80}, recorded {recorded!r:.80}"]
