"""Every recorded exchange through the whole path, in each topology: what the SDK gets, what the provider was sent."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import openai
import pytest
from aigateway_common.reasons import REASONS
from support.exchanges import Exchange, Expected, ToolCallSeen, load, params
from support.recorded import anthropic, gemini, ollama
from support.recorded import openai as openai_recorded
from support.replay import Answer
from support.whole import Whole

ORACLES: dict[str, Any] = {
    "openai": openai_recorded,
    "groq": openai_recorded,
    "anthropic": anthropic,
    "gemini": gemini,
    "ollama": ollama,
}
CHATS = {"chat", "messages", "generateContent", "streamGenerateContent"}
VECTORS = {"embeddings", "batchEmbedContents"}
CARRIED = [one for one in load() if one.operation in CHATS | VECTORS]


@dataclass
class Seen:
    """What an SDK user sees of an answer, piece by piece."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    finish: list[str] = field(default_factory=list)
    model: str = ""
    usage: dict[str, Any] | None = None

    def add(self, piece: dict[str, Any], finish: str | None) -> None:
        self.text += piece.get("content") or ""
        self.reasoning += piece.get("reasoning_content") or piece.get("reasoning") or ""
        self.refusal += piece.get("refusal") or ""
        for index, call in enumerate(piece.get("tool_calls") or ()):
            kept = self.calls.setdefault(call.get("index", index), {"id": "", "name": "", "arguments": ""})
            kept["id"] += call.get("id") or ""
            kept["name"] += call["function"].get("name") or ""
            kept["arguments"] += call["function"].get("arguments") or ""
        if finish:
            self.finish.append(finish)

    def expected(self) -> Expected:
        usage = self.usage or {}
        assert len(self.finish) == 1
        return Expected(
            text=self.text,
            reasoning=self.reasoning,
            refusal=self.refusal,
            tool_calls=tuple(
                ToolCallSeen(call["name"], json.loads(call["arguments"] or "{}"), call["id"])
                for _, call in sorted(self.calls.items())
            ),
            finish_reason=self.finish[0],
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
            cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
            reasoning_tokens=(usage.get("completion_tokens_details") or {}).get("reasoning_tokens"),
            model=self.model,
        )


async def ask(sdk: openai.AsyncOpenAI, body: dict[str, Any]) -> Expected:
    """The first choice, whole or streamed, by the SDK's own types."""
    if "input" in body:
        answer = await sdk.embeddings.create(model=body["model"], input=body["input"], extra_body=body)
        vectors = [item.embedding for item in answer.data]
        tokens = getattr(answer.usage, "prompt_tokens", None)
        return Expected(model=answer.model, prompt_tokens=tokens, extra={"vectors": vectors})
    seen = Seen()
    if not body.get("stream"):
        whole = await sdk.chat.completions.create(model=body["model"], messages=[], extra_body=body)
        first = whole.choices[0]
        seen.add(first.message.model_dump(), first.finish_reason)
        seen.model, seen.usage = whole.model, whole.usage.model_dump() if whole.usage else None
        return seen.expected()
    body["stream_options"] = {"include_usage": True}
    stream = await sdk.chat.completions.create(model=body["model"], messages=[], stream=True, extra_body=body)
    async for chunk in stream:
        seen.model = chunk.model or seen.model
        for choice in chunk.choices:
            if choice.index == 0:
                seen.add(choice.delta.model_dump(), choice.finish_reason)
        seen.usage = chunk.usage.model_dump() if chunk.usage else seen.usage
    return seen.expected()


def comparable(got: Expected, wanted: Expected) -> tuple[Expected, Expected]:
    """Both sides with what only one of them can know taken out: ids the provider did not give, absent token classes."""
    calls = tuple(
        replace(mine, id=None) if other.id is None else mine
        for mine, other in zip(got.tool_calls, wanted.tool_calls, strict=True)
    )
    assert all(call.id for call in got.tool_calls)
    got = replace(got, tool_calls=calls)
    optional = ("prompt_tokens",) if "vectors" in wanted.extra else ("cached_tokens", "reasoning_tokens")
    for name in optional:  # zero and absent are one to the SDK's types
        if not getattr(got, name) and not getattr(wanted, name):
            blank: dict[str, Any] = {name: None}
            got, wanted = replace(got, **blank), replace(wanted, **blank)
    vectors = {"vectors": wanted.extra["vectors"]} if "vectors" in wanted.extra else {}
    return got, replace(wanted, extra=vectors)


def same(got: Expected, wanted: Expected) -> None:
    left, right = comparable(got, wanted)
    if "vectors" in wanted.extra:
        for mine, theirs in zip(left.extra["vectors"], right.extra["vectors"], strict=True):
            assert mine == pytest.approx(theirs, rel=1e-6)
        left, right = replace(left, extra={}), replace(right, extra={})
    assert left == right


@pytest.mark.parametrize("exchange", params(*CARRIED))
async def test_a_recorded_exchange_through_the_whole_path(whole: Whole, exchange: Exchange) -> None:
    oracle = ORACLES[exchange.provider]
    wanted: Expected = oracle.expected(exchange)
    body = oracle.to_openai(exchange)
    body["model"] = f"{exchange.provider}/{body['model']}"
    whole.answer(as_called(exchange))
    async with whole.sdk(timeout=30) as sdk:
        try:
            got: Expected | openai.APIStatusError = await ask(sdk, body)
        except openai.APIStatusError as error:
            got = error
    if isinstance(got, openai.APIStatusError):
        assert wanted.error_reason is not None, got
        assert (got.status_code, got.code) == (wanted.status, REASONS[wanted.error_reason].openai_code)
    else:
        same(got, wanted)
    if wanted.error_reason != "INVALID_REQUEST":
        assert len(whole.upstream.requests) == 1
    for sent in whole.upstream.requests:
        assert oracle.differences(sent.json(), exchange.request) == []


def as_called(exchange: Exchange) -> Answer:
    """The recorded answer; that of Ollama's old embeddings endpoint in the shape of the one that is called."""
    if exchange.path == "/api/embeddings" and exchange.status == 200:
        return Answer.of({"model": exchange.request["model"], "embeddings": [exchange.json()["embedding"]]})
    return Answer.recorded(exchange)
