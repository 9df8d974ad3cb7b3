"""What a provider says in one turn, text or one tool call, whole and streamed, written from its documentation."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from support.replay import Answer, Sent


@dataclass(frozen=True)
class Turn:
    """One turn of a model: words, or the wish to call one tool."""

    text: str = ""
    tool: str = ""
    arguments: dict[str, Any] | None = None

    @property
    def calls(self) -> bool:
        return bool(self.tool)


def conversation(provider: str, turns: Sequence[Turn]) -> Callable[[Sent], Answer]:
    """A script that gives the turns one after the other, streamed when the request asks for it."""
    left = list(enumerate(turns))

    def script(sent: Sent) -> Answer:
        number, turn = left.pop(0)
        return SAY[provider](turn, _streamed(provider, sent), f"call_{number}")

    return script


def _streamed(provider: str, sent: Sent) -> bool:
    return "streamGenerateContent" in sent.path if provider == "gemini" else bool(sent.json().get("stream"))


def _openai(turn: Turn, stream: bool, call_id: str) -> Answer:
    head = {"id": "chatcmpl-1", "created": 1700000000, "model": "m"}
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    function = {"name": turn.tool, "arguments": json.dumps(turn.arguments)}
    calls = [{"id": call_id, "type": "function", "function": function}]
    finish = "tool_calls" if turn.calls else "stop"
    said = {"content": None, "tool_calls": calls} if turn.calls else {"content": turn.text}
    if not stream:
        choice = {"index": 0, "message": {"role": "assistant"} | said, "finish_reason": finish, "logprobs": None}
        return Answer.of(head | {"object": "chat.completion", "choices": [choice], "usage": usage})

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return head | {"object": "chat.completion.chunk", "choices": [choice]}

    if turn.calls:
        half = len(function["arguments"]) // 2
        opened = calls[0] | {"index": 0, "function": {"name": turn.tool, "arguments": ""}}
        pieces = [function["arguments"][:half], function["arguments"][half:]]
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None, "tool_calls": [opened]}]
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces]
    else:
        deltas = [{"role": "assistant", "content": ""}, {"content": turn.text}]
    last = head | {"object": "chat.completion.chunk", "choices": [], "usage": usage}
    return Answer.sse(*(chunk(delta) for delta in deltas), chunk({}, finish), last, done=True)


def _anthropic(turn: Turn, stream: bool, call_id: str) -> Answer:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
    reason = "tool_use" if turn.calls else "end_turn"
    usage = {"input_tokens": 9, "output_tokens": 3}
    if turn.calls:
        block = {"type": "tool_use", "id": call_id, "name": turn.tool, "input": turn.arguments}
        opened, delta = block | {"input": {}}, {"type": "input_json_delta", "partial_json": json.dumps(turn.arguments)}
    else:
        block = {"type": "text", "text": turn.text}
        opened, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": turn.text}
    if not stream:
        return Answer.of(message | {"content": [block], "stop_reason": reason, "usage": usage})

    def record(kind: str, **body: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind} | body)}\n\n"

    return Answer.sse(
        record("message_start", message=message | {"content": [], "stop_reason": None, "usage": usage}),
        record("content_block_start", index=0, content_block=opened),
        record("content_block_delta", index=0, delta=delta),
        record("content_block_stop", index=0),
        record("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage={"output_tokens": 3}),
        record("message_stop"),
    )


def _gemini(turn: Turn, stream: bool, call_id: str) -> Answer:
    del call_id  # Gemini gives none
    part: dict[str, Any] = {"text": turn.text}
    if turn.calls:
        part = {"functionCall": {"name": turn.tool, "args": turn.arguments}, "thoughtSignature": "c2lnbmF0dXJl"}
    candidate = {"content": {"role": "model", "parts": [part]}, "index": 0, "finishReason": "STOP"}
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 3, "totalTokenCount": 12}
    body = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "r1"}
    return Answer.sse(body) if stream else Answer.of(body)


def _ollama(turn: Turn, stream: bool, call_id: str) -> Answer:
    del call_id  # older versions give none
    message: dict[str, Any] = {"role": "assistant", "content": turn.text}
    if turn.calls:
        message["tool_calls"] = [{"function": {"name": turn.tool, "arguments": turn.arguments}}]
    counts = {"done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 3}
    head = {"model": "m", "created_at": "2026-01-01T00:00:00Z"}
    if not stream:
        return Answer.of(head | {"message": message} | counts)
    lines = [head | {"message": message, "done": False}]
    lines.append(head | {"message": {"role": "assistant", "content": ""}} | counts)
    pieces = [json.dumps(line).encode() + b"\n" for line in lines]
    return Answer(200, {"content-type": "application/x-ndjson"}, pieces)


SAY: dict[str, Callable[[Turn, bool, str], Answer]] = {
    "openai": _openai,
    "groq": _openai,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "ollama": _ollama,
}
