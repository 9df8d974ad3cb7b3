"""Which recorded exchanges are carried where: a table in the output, and none left out without a reason.

Three directions: the request that goes upstream, the typed answer, and the caller's own dialect.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.exchanges import Exchange, load

TESTS = Path(__file__).resolve().parents[1]
WHOLE = "integration/test_recorded.py"
CARRIED = {
    ("openai", "chat"): ("recorded/test_openai.py", "recorded/test_openai_transparency.py", WHOLE),
    ("openai", "embeddings"): ("recorded/test_openai.py", "recorded/test_openai_transparency.py", WHOLE),
    ("openai", "responses"): ("recorded/test_openai_responses.py",),
    ("groq", "chat"): ("recorded/test_openai.py", "recorded/test_openai_transparency.py", WHOLE),
    ("anthropic", "messages"): ("recorded/test_anthropic.py", "integration/test_anthropic_recorded.py", WHOLE),
    ("anthropic", "count_tokens"): ("integration/test_anthropic_recorded.py",),
    ("gemini", "generateContent"): ("recorded/test_gemini.py", WHOLE),
    ("gemini", "streamGenerateContent"): ("recorded/test_gemini.py", WHOLE),
    ("gemini", "batchEmbedContents"): ("recorded/test_gemini.py", WHOLE),
    ("gemini", "countTokens"): ("unit/providers/gemini/test_counting.py",),
    ("ollama", "chat"): ("recorded/test_ollama.py", WHOLE),
    ("ollama", "embeddings"): ("recorded/test_ollama.py", WHOLE),
}
NOT_CALLED = {
    ("openai", "completions"): "legacy prompts are asked as chat; both recordings are refusals of the old endpoint",
    ("ollama", "generate"): "`/api/chat` does all that `/api/generate` does",
    ("ollama", "v1_chat"): "Ollama's OpenAI-compatible endpoint ignores num_ctx and think, so the native one is called",
}
"""Endpoints that the gateway does not call, and why."""


def kind(exchange: Exchange) -> tuple[str, str]:
    return exchange.provider, exchange.operation


def test_every_recorded_exchange_is_carried_or_has_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    exchanges = load()
    if not exchanges:
        pytest.skip("no recorded exchanges here; set AIGATEWAY_FIXTURES")
    counts = {key: sum(kind(one) == key for one in exchanges) for key in sorted({kind(one) for one in exchanges})}
    assert set(counts) <= set(CARRIED) | set(NOT_CALLED)
    carried = sum(count for key, count in counts.items() if key in CARRIED)
    lines = [
        f"  {provider:9} {operation:22} {count:3}  {', '.join(CARRIED.get((provider, operation), ()))}"
        f"{NOT_CALLED.get((provider, operation), '')}"
        for (provider, operation), count in counts.items()
    ]
    with capsys.disabled():
        print("\nrecorded exchanges\n" + "\n".join(lines) + f"\n  {carried} of {len(exchanges)} are carried")


@pytest.mark.parametrize("files", CARRIED.values(), ids=["-".join(key) for key in CARRIED])
def test_the_tests_that_carry_them_are_there(files: tuple[str, ...]) -> None:
    for name in files:
        assert "load(" in (TESTS / name).read_text(), name
