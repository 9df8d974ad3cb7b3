"""A provider stand-in in a process of its own that answers each request with what that very request asked for.

`python -m support.chaos.echo` prints its address and runs until its standard input ends. A prompt is `NONCE COUNT GAP`:
the answer is COUNT words made of NONCE, GAP milliseconds apart when it streams, in the dialect of the path. So whoever
asks knows what a whole, right answer is, and an answer that belongs to another call is seen at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import deque
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.replay import Answer, Sent, Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

MODELS = {
    "openai": "openai/gpt-4o-mini",
    "groq": "groq/llama-3.1-8b-instant",
    "anthropic": "anthropic/claude-haiku-4-5",
    "gemini": "gemini/gemini-2.5-flash",
    "ollama": "ollama/llama3.2",
}
EMBEDDING_MODEL = "openai/text-embedding-3-small"


def prompt(nonce: str, count: int, gap_ms: int = 0) -> str:
    """What to ask, for `expected(nonce, count)`."""
    return f"{nonce} {count} {gap_ms}"


def words(nonce: str, count: int) -> list[str]:
    return [f"{nonce}-{number} " for number in range(count)]


def expected(nonce: str, count: int) -> str:
    """The whole of the right answer."""
    return "".join(words(nonce, count))


def vector(text: str) -> list[float]:
    """The embedding of a text."""
    return [byte / 256 for byte in sha256(text.encode()).digest()[:8]]


def answer(sent: Sent) -> Answer:
    """The answer to one request, in the dialect of its path."""
    if sent.method == "GET":
        return Answer.of({"data": [], "models": []})
    body = sent.json()
    if sent.path.endswith("/embeddings"):
        return _embedding(body)
    if ":" in sent.path:
        text = body["contents"][-1]["parts"][-1]["text"]
        return _gemini(text, streams="stream" in sent.path)
    content = body["messages"][-1]["content"]
    text = content if isinstance(content, str) else content[-1]["text"]
    if sent.path == "/api/chat":
        return _ollama(text, streams=body.get("stream", True))
    if sent.path == "/v1/messages":
        return _anthropic(text, streams=body.get("stream", False))
    return _openai(text, streams=body.get("stream", False))


def _asked(text: str) -> tuple[list[str], float]:
    nonce, count, gap_ms = text.split(" ")
    return words(nonce, int(count)), int(gap_ms) / 1000


def _openai(text: str, *, streams: bool) -> Answer:
    said, gap = _asked(text)
    head = {"id": "chatcmpl-1", "created": 1700000000, "model": "echo"}
    usage = {"prompt_tokens": 3, "completion_tokens": len(said), "total_tokens": 3 + len(said)}
    if not streams:
        choice = {"index": 0, "message": {"role": "assistant", "content": "".join(said)}, "finish_reason": "stop"}
        return Answer.of(head | {"object": "chat.completion", "choices": [choice], "usage": usage})
    chunk = head | {"object": "chat.completion.chunk"}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": word} for word in said)]
    records = [chunk | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    records.append(chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return Answer.sse(*records, chunk | {"choices": [], "usage": usage}, done=True, gap=gap)


def _anthropic(text: str, *, streams: bool) -> Answer:
    said, gap = _asked(text)
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "echo"}
    usage = {"input_tokens": 3, "output_tokens": len(said)}
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    if not streams:
        return Answer.of(head | stop | {"content": [{"type": "text", "text": "".join(said)}], "usage": usage})

    def record(kind: str, **body: object) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind} | body)}\n\n"

    start: dict[str, object] = head | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    return Answer.sse(
        record("message_start", message=start),
        record("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *(record("content_block_delta", index=0, delta={"type": "text_delta", "text": word}) for word in said),
        record("content_block_stop", index=0),
        record("message_delta", delta=stop, usage={"output_tokens": len(said)}),
        record("message_stop"),
        gap=gap,
    )


def _gemini(text: str, *, streams: bool) -> Answer:
    said, gap = _asked(text)
    usage = {"promptTokenCount": 3, "candidatesTokenCount": len(said), "totalTokenCount": 3 + len(said)}

    def body(part: str, finish: str | None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": part}]}, "index": 0}
        candidate |= {"finishReason": finish} if finish else {}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "echo", "responseId": "r1"}

    if not streams:
        return Answer.of(body("".join(said), "STOP"))
    return Answer.sse(*(body(word, None) for word in said[:-1]), body(said[-1], "STOP"), gap=gap)


def _ollama(text: str, *, streams: bool) -> Answer:
    said, gap = _asked(text)
    head = {"model": "echo", "created_at": "2026-01-01T00:00:00Z"}
    counts = {"done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": len(said)}

    def line(part: str, **more: object) -> dict[str, object]:
        return head | {"message": {"role": "assistant", "content": part}, "done": False} | more

    if not streams:
        return Answer.of(line("".join(said), **counts))
    pieces = [json.dumps(one).encode() + b"\n" for one in [*map(line, said), line("", **counts)]]
    return Answer(200, {"content-type": "application/x-ndjson"}, pieces, gap=gap)


def _embedding(body: dict[str, Any]) -> Answer:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = [{"object": "embedding", "index": n, "embedding": vector(text)} for n, text in enumerate(texts)]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return Answer.of({"object": "list", "data": data, "model": "text-embedding-3-small", "usage": usage})


class _Forgetful(deque[Any]):
    """Takes requests and keeps none: hours of load must not fill the stand-in's memory."""

    def __init__(self) -> None:
        super().__init__(maxlen=0)


@contextmanager
def echo() -> Iterator[str]:
    """The stand-in in a process of its own; its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "support.chaos.echo"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().decode().strip()
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(20)


def main() -> None:
    """Serve until standard input ends."""
    with Upstream(script=answer) as upstream:
        upstream.requests = _Forgetful()  # type: ignore[assignment] # all that is asked of it is `append`
        print(upstream.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
