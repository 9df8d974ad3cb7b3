"""How the hosts that speak OpenAI's protocol differ from OpenAI: one row each, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class HostProfile:
    """One host's differences; the defaults are OpenAI's own API."""

    prefix: str = ""
    """What stands between the base URL and `/chat/completions`."""
    unsupported: tuple[str, ...] = ()
    """Request fields that the host refuses."""
    message_unsupported: tuple[str, ...] = ()
    """Fields of a message that the host refuses."""
    refusals: bool = True
    """It takes an earlier turn's refusal; elsewhere that is text."""
    several: bool = True
    """It takes `n` above 1."""
    developer: bool = True
    """It knows the role `developer`; elsewhere that is `system`."""
    allowed_tools: bool = True
    """It takes the tool choice `allowed_tools`; elsewhere the list of tools is cut down to those."""
    responses: bool = False
    """It offers the Responses API as the gateway uses it: without state, reasoning encrypted."""
    embeddings: bool = True
    """It embeds."""
    files: bool = True
    """It reads documents and sound."""
    completion_tokens_only: tuple[str, ...] = ()
    """Beginnings of model names that refuse `max_tokens` and want `max_completion_tokens`."""
    reasoning_field: str = ""
    """Where an earlier turn's reasoning goes in an assistant message; nowhere when empty."""
    reasoning_models: tuple[str, ...] = ()
    """Parts of the names of the models that take it there."""
    reasoning_format: bool = False
    """It tells reasoning from the answer only when asked to, by `reasoning_format`."""
    efforts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By a part of the model's name: reasoning efforts that the model lacks, and the nearest it has."""


_OPENAI: Final = HostProfile(
    responses=True,
    # https://platform.openai.com/docs/api-reference/chat/create: `max_tokens` is not compatible with o-series models.
    completion_tokens_only=("o1", "o3", "o4", "gpt-5"),
)

_GROQ: Final = HostProfile(
    prefix="/openai/v1",
    # https://console.groq.com/docs/openai: these, `messages[].name` and `n` above 1 are answered with 400.
    unsupported=("logprobs", "top_logprobs", "logit_bias"),
    # Its assistant messages have no annotations, which histories of other hosts bring along.
    message_unsupported=("name", "annotations"),
    refusals=False,
    several=False,
    developer=False,
    allowed_tools=False,
    embeddings=False,
    files=False,
    # https://console.groq.com/docs/api-reference#chat-create: only on models that reason.
    reasoning_field="reasoning",
    reasoning_models=("gpt-oss", "qwen3", "deepseek-r1"),
    # https://console.groq.com/docs/reasoning: raw by default; efforts by family.
    reasoning_format=True,
    efforts={
        "gpt-oss": {"none": "low", "minimal": "low", "xhigh": "high", "max": "high"},
        "qwen3": dict.fromkeys(("minimal", "low", "medium", "high", "xhigh", "max"), "default"),
    },
)

PROFILES: Final[Mapping[str, HostProfile]] = {"openai": _OPENAI, "groq": _GROQ}
"""By the provider's kind."""
