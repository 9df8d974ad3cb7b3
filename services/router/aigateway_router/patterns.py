"""Which provider a bare model name belongs to: data, and one function over it.

Explicit names and aliases come first (see `routes`); nothing here knows which providers are enabled.
"""

from __future__ import annotations

import re
from typing import Final

FALLBACK: Final = "ollama"
"""Serves every name that no pattern knows: local models have any name."""

_PATTERNS: Final = (
    # `gpt-oss:20b` is how Ollama names OpenAI's open weights; OpenAI itself does not serve them.
    (re.compile(r"gpt-oss(:.*)?"), FALLBACK),
    (re.compile(r"(chat)?gpt-.+"), "openai"),
    (re.compile(r"o\d+(-.+)?"), "openai"),
    (re.compile(r"ft:.+"), "openai"),
    (re.compile(r"(codex|computer-use)-.+"), "openai"),
    # Google's embedding models of the Gemini API are numbered with three digits, OpenAI's are not.
    (re.compile(r"text-embedding-\d{3}"), "gemini"),
    (re.compile(r"text-embedding-.+"), "openai"),
    (re.compile(r"claude.*"), "anthropic"),
    (re.compile(r"(models/)?(gemini|learnlm).*"), "gemini"),
    # `gemma-3-27b-it` is the Gemini API's way to write it; `gemma3:27b` is Ollama's.
    (re.compile(r"gemma-\d.*-it"), "gemini"),
)

PATTERN_PROVIDERS: Final = frozenset({provider for _, provider in _PATTERNS} | {"groq", FALLBACK})

GROQ_MODELS: Final = frozenset(
    {
        "deepseek-r1-distill-llama-70b",
        "gemma2-9b-it",
        "groq/compound",
        "groq/compound-mini",
        "llama-3.1-8b-instant",
        "llama-3.3-70b-versatile",
        "meta-llama/llama-4-maverick-17b-128e-instruct",
        "meta-llama/llama-4-scout-17b-16e-instruct",
        "meta-llama/llama-guard-4-12b",
        "meta-llama/llama-prompt-guard-2-22m",
        "meta-llama/llama-prompt-guard-2-86m",
        "moonshotai/kimi-k2-instruct",
        "moonshotai/kimi-k2-instruct-0905",
        "openai/gpt-oss-120b",
        "openai/gpt-oss-20b",
        "openai/gpt-oss-safeguard-20b",
        "qwen/qwen3-32b",
    }
)
"""Groq's models by its own names (https://console.groq.com/docs/models); its names have no common pattern."""


def provider_of(model: str) -> str:
    """The provider that `model` most likely belongs to, by its name alone."""
    name = model.lower()
    for pattern, provider in _PATTERNS:
        if pattern.fullmatch(name):
            return provider
    return FALLBACK
