"""Each provider's stand-in for every scenario of the conformance cases, written from the provider's documentation.

https://platform.openai.com/docs/api-reference/chat, https://console.groq.com/docs,
https://platform.claude.com/docs/en/api/messages, https://ai.google.dev/api and https://docs.ollama.com/api.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aigateway_providers.conformance.target import RETRY_SECONDS, Scenario

from support.cases import CASES
from support.replay import Answer, Sent, Upstream

PLAIN = {case.provider: case for case in CASES}
EMBEDDING_MODELS = {"openai": "text-embedding-3-small", "gemini": "gemini-embedding-001", "ollama": "nomic-embed-text"}
_PARIS = {"city": "Paris"}
_VECTORS = [[0.6, 0.8], [0.8, -0.6]]


@dataclass(frozen=True)
class Reply:
    """What the model says, whatever the provider."""

    text: str = ""
    reasoning: str = ""
    calls: Sequence[str] = ()
    """Names of tools, each called for Paris."""


REPLIES: dict[Scenario, Reply] = {
    "tools": Reply(calls=("get_weather",)),
    "parallel_tools": Reply(text="Let me look.", calls=("get_weather", "get_time")),
    "structured": Reply(text='{"city": "Paris"}'),
    "reasoning": Reply(text="15", reasoning="Five a week, three weeks."),
}
FAILURES: dict[Scenario, int] = {"unknown_model": 404, "key_refused": 401, "rate_limited": 429, "server_error": 500}


class StandIn:
    """One provider's stand-in as the conformance cases tell it what to do."""

    def __init__(self, provider: str, upstream: Upstream) -> None:
        self.provider = provider
        self.upstream = upstream

    def play(self, scenario: Scenario) -> None:
        self.upstream.reset(script=lambda sent: answer(self.provider, scenario, sent))

    async def hung_up(self) -> bool:
        return await asyncio.to_thread(self.upstream.hung_up.wait, 5)


def answer(provider: str, scenario: Scenario, sent: Sent) -> Answer:
    """What `provider` answers."""
    streams = "stream" in sent.path or (bool(sent.body) and sent.json().get("stream") is True)
    match scenario:
        case "models":
            return Answer.of(_MODELS[provider])
        case "embeddings":
            return Answer.of(_EMBEDDINGS[provider])
        case "silent":
            return Answer(hold_before_headers=True)
        case "text" | "truncated" | "unfinished":
            plain = PLAIN[provider].stream if streams else PLAIN[provider].whole
            return plain if scenario == "text" else _broken(plain, hold=scenario == "unfinished")
        case _ if scenario in FAILURES:
            return _failure(provider, FAILURES[scenario])
        case _:
            return _RENDER[provider](REPLIES[scenario], streams)


def _broken(plain: Answer, *, hold: bool) -> Answer:
    """The first half: then nothing for ever, or the end."""
    if len(plain.pieces) > 1:
        return replace(plain, pieces=plain.pieces[: len(plain.pieces) // 2], hold=hold)
    [body] = plain.pieces
    return replace(plain, pieces=[body[: len(body) // 2]], hold=hold, cut=not hold)


def _failure(provider: str, status: int) -> Answer:
    wait = {"retry_after": f"{RETRY_SECONDS:g}"} if status == 429 else {}
    match provider:
        case "gemini":
            retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{RETRY_SECONDS:g}s"}
            details = [retry] if status == 429 else []
            return Answer.of({"error": {"code": status, "message": "no", "status": "X", "details": details}}, status)
        case "anthropic":
            kinds = {404: "not_found_error", 401: "authentication_error", 429: "rate_limit_error", 500: "api_error"}
            return Answer.of({"type": "error", "error": {"type": kinds[status], "message": "no"}}, status, **wait)
        case "ollama":
            return Answer.of({"error": "no"}, status, **wait)
        case _:
            kind = "rate_limit_error" if status == 429 else "invalid_request_error"
            code = "model_not_found" if status == 404 else None
            error = {"message": "no", "type": kind, "param": None, "code": code}
            return Answer.of({"error": error}, status, **wait)


def _openai(reply: Reply, streams: bool, field: str = "reasoning_content") -> Answer:
    head = {"id": "chatcmpl-2", "created": 1700000000, "model": "m"}
    usage = {"prompt_tokens": 9, "completion_tokens": 30, "total_tokens": 39}
    calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": json.dumps(_PARIS)}}
        for n, name in enumerate(reply.calls)
    ]
    finish = "tool_calls" if calls else "stop"
    if not streams:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
        message |= {field: reply.reasoning} if reply.reasoning else {}
        message |= {"tool_calls": calls} if calls else {}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return Answer.of(head | {"object": "chat.completion", "choices": [choice], "usage": usage})
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    deltas += [{field: reply.reasoning}] if reply.reasoning else []
    deltas += [{"content": piece} for piece in _halves(reply.text)]
    for n, call in enumerate(calls):
        function: dict[str, str] = call["function"]  # type: ignore[assignment] # as it is built above
        named = call | {"index": n, "function": function | {"arguments": ""}}
        deltas.append({"tool_calls": [named]})
        deltas += [{"tool_calls": [{"index": n, "function": {"arguments": p}}]} for p in _halves(function["arguments"])]
    chunk = head | {"object": "chat.completion.chunk"}
    records = [chunk | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    records.append(chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    return Answer.sse(*records, chunk | {"choices": [], "usage": usage}, done=True)


def _groq(reply: Reply, streams: bool) -> Answer:
    return _openai(reply, streams, "reasoning")


def _anthropic(reply: Reply, streams: bool) -> Answer:
    blocks: list[dict[str, Any]] = []
    if reply.reasoning:
        blocks.append({"type": "thinking", "thinking": reply.reasoning, "signature": "c2ln"})
    if reply.text:
        blocks.append({"type": "text", "text": reply.text})
    blocks += [{"type": "tool_use", "id": f"toolu_{n}", "name": c, "input": _PARIS} for n, c in enumerate(reply.calls)]
    head = {"id": "msg_2", "type": "message", "role": "assistant", "model": "claude-haiku-4-5"}
    stop = {"stop_reason": "tool_use" if reply.calls else "end_turn", "stop_sequence": None}
    usage = {"input_tokens": 9, "output_tokens": 30}
    if not streams:
        return Answer.of(head | stop | {"content": blocks, "usage": usage})

    def record(kind: str, **body: object) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind} | body)}\n\n"

    records = [record("message_start", message=head | {"content": [], "stop_reason": None, "usage": usage})]
    for index, block in enumerate(blocks):
        empty, deltas = _block_deltas(block)
        records.append(record("content_block_start", index=index, content_block=empty))
        records += [record("content_block_delta", index=index, delta=delta) for delta in deltas]
        records.append(record("content_block_stop", index=index))
    records += [record("message_delta", delta=stop, usage={"output_tokens": 30}), record("message_stop")]
    return Answer.sse(*records)


def _block_deltas(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    match block["type"]:
        case "text":
            return block | {"text": ""}, [{"type": "text_delta", "text": piece} for piece in _halves(block["text"])]
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _halves(block["thinking"])]
            signature = {"type": "signature_delta", "signature": block["signature"]}
            return block | {"thinking": "", "signature": ""}, [*deltas, signature]
        case _:
            pieces = _halves(json.dumps(block["input"]))
            return block | {"input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


def _gemini(reply: Reply, streams: bool) -> Answer:
    parts: list[dict[str, Any]] = [{"text": reply.reasoning, "thought": True}] if reply.reasoning else []
    parts += [{"text": reply.text}] if reply.text else []
    for n, name in enumerate(reply.calls):
        signature = {} if n else {"thoughtSignature": "c2ln"}
        parts.append({"functionCall": {"name": name, "args": _PARIS}} | signature)
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 30, "totalTokenCount": 39}

    def body(some: list[dict[str, Any]], finish: str | None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": some}, "index": 0}
        candidate |= {"finishReason": finish} if finish else {}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "r2"}

    if not streams:
        return Answer.of(body(parts, "STOP"))
    return Answer.sse(*(body([part], None) for part in parts[:-1]), body(parts[-1:], "STOP"))


def _ollama(reply: Reply, streams: bool) -> Answer:
    head = {"model": "llama3.2", "created_at": "2026-01-01T00:00:00Z"}
    counts = {"done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 30}
    calls = [{"function": {"name": name, "arguments": _PARIS}} for name in reply.calls]

    def line(**message: Any) -> dict[str, Any]:
        return head | {"message": {"role": "assistant", "content": ""} | message, "done": False}

    if not streams:
        message = {"content": reply.text, "thinking": reply.reasoning, "tool_calls": calls}
        return Answer.of(line(**{key: value for key, value in message.items() if value}) | counts)
    lines = [line(thinking=piece) for piece in _halves(reply.reasoning)]
    lines += [line(content=piece) for piece in _halves(reply.text)]
    lines += [line(tool_calls=[call]) for call in calls]
    pieces = [json.dumps(one).encode() + b"\n" for one in [*lines, line() | counts]]
    return Answer(200, {"content-type": "application/x-ndjson"}, pieces)


def _halves(text: str) -> list[str]:
    middle = len(text) // 2
    return [piece for piece in (text[:middle], text[middle:]) if piece]


_RENDER: dict[str, Callable[[Reply, bool], Answer]] = {
    "openai": _openai,
    "groq": _groq,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "ollama": _ollama,
}
_OPENAI_MODELS = {"object": "list", "data": [{"id": "gpt-4o-mini", "object": "model", "created": 1, "owned_by": "x"}]}
_MODELS: dict[str, object] = {
    "openai": _OPENAI_MODELS,
    "groq": _OPENAI_MODELS,
    "anthropic": {"data": [{"type": "model", "id": "claude-haiku-4-5", "display_name": "H"}], "has_more": False},
    "gemini": {"models": [{"name": "models/gemini-2.5-flash", "supportedGenerationMethods": ["generateContent"]}]},
    "ollama": {"models": [{"name": "llama3.2:latest", "model": "llama3.2:latest"}]},
}
_EMBEDDINGS: dict[str, object] = {
    "openai": {
        "object": "list",
        "data": [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(_VECTORS)],
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    },
    "gemini": {"embeddings": [{"values": vector} for vector in _VECTORS]},
    "ollama": {"model": "nomic-embed-text", "embeddings": _VECTORS, "prompt_eval_count": 4},
}
