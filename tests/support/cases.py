"""One plain call per provider, whole and streamed, written from each provider's documentation."""

from __future__ import annotations

import json
from dataclasses import dataclass

from support.replay import Answer


@dataclass(frozen=True)
class Case:
    """A provider's plain answer: it says `Hello there`, with 9 prompt and 3 completion tokens."""

    provider: str
    model: str
    path: str
    stream_path: str
    whole: Answer
    stream: Answer

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


def _openai(model: str) -> tuple[Answer, Answer]:
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    head = {"id": "chatcmpl-1", "created": 1700000000, "model": model}
    message = {"role": "assistant", "content": "Hello there"}
    whole = head | {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": usage,
    }
    chunk = head | {"object": "chat.completion.chunk"}

    def choice(delta: dict[str, str], finish: str | None = None) -> dict[str, object]:
        return chunk | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    stream = Answer.sse(
        choice({"role": "assistant", "content": ""}),
        choice({"content": "Hello"}),
        choice({"content": " there"}),
        choice({}, "stop"),
        chunk | {"choices": [], "usage": usage},
        done=True,
    )
    return Answer.of(whole), stream


def _anthropic(model: str) -> tuple[Answer, Answer]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": model}
    whole = message | {
        "content": [{"type": "text", "text": "Hello there"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 3},
    }

    def record(kind: str, **body: object) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind} | body)}\n\n"

    start: dict[str, object] = message | {
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 9, "output_tokens": 1},
    }
    stream = Answer.sse(
        record("message_start", message=start),
        record("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        record("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello"}),
        record("content_block_delta", index=0, delta={"type": "text_delta", "text": " there"}),
        record("content_block_stop", index=0),
        record("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3}),
        record("message_stop"),
    )
    return Answer.of(whole), stream


def _gemini(model: str) -> tuple[Answer, Answer]:
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 3, "totalTokenCount": 12}

    def body(text: str, finish: str | None) -> dict[str, object]:
        candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
        candidate |= {"finishReason": finish} if finish else {}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": "r1"}

    return Answer.of(body("Hello there", "STOP")), Answer.sse(body("Hello", None), body(" there", "STOP"))


def _ollama(model: str) -> tuple[Answer, Answer]:
    head = {"model": model, "created_at": "2026-01-01T00:00:00Z"}
    counts = {"done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 3, "total_duration": 5_000_000}

    def line(text: str, **more: object) -> dict[str, object]:
        return head | {"message": {"role": "assistant", "content": text}, "done": False} | more

    lines = [line("Hello"), line(" there"), line("", **counts)]
    pieces = [json.dumps(one).encode() + b"\n" for one in lines]
    return Answer.of(line("Hello there", **counts)), Answer(200, {"content-type": "application/x-ndjson"}, pieces)


def _case(provider: str, model: str, path: str, stream_path: str, answers: tuple[Answer, Answer]) -> Case:
    return Case(provider, model, path, stream_path, *answers)


_GROQ = "/openai/v1/chat/completions"
_GEMINI = "/v1beta/models/gemini-2.5-flash"
CASES = (
    _case("openai", "gpt-4o-mini", "/v1/chat/completions", "/v1/chat/completions", _openai("gpt-4o-mini")),
    _case("groq", "llama-3.1-8b-instant", _GROQ, _GROQ, _openai("llama-3.1-8b-instant")),
    _case("anthropic", "claude-haiku-4-5", "/v1/messages", "/v1/messages", _anthropic("claude-haiku-4-5")),
    _case(
        "gemini",
        "gemini-2.5-flash",
        f"{_GEMINI}:generateContent",
        f"{_GEMINI}:streamGenerateContent",
        _gemini("gemini-2.5-flash"),
    ),
    _case("ollama", "llama3.2", "/api/chat", "/api/chat", _ollama("llama3.2")),
)
