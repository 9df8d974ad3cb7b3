"""Which OpenAI models want the Responses API, and which of them reason: data, and nothing else."""

from __future__ import annotations

import re
from typing import Final

_RESPONSES_ONLY: Final = re.compile(
    r"(?:ft:)?(?:"
    r"o\d+-pro"  # o1-pro, o3-pro
    r"|gpt-\d+(?:\.\d+)?-pro"  # gpt-5-pro, gpt-5.5-pro
    r"|gpt-\d+(?:\.\d+)?-codex(?:-[a-z]+)*"  # gpt-5-codex, gpt-5.1-codex-max, gpt-5.1-codex-mini
    r"|gpt-\d+(?:\.\d+)?-cyber"
    r"|gpt-daybreak-[a-z-]+"
    r"|codex-mini(?:-latest)?"
    r"|o\d+(?:-mini)?-deep-research"
    r"|computer-use-preview"
    r")(?:-\d{4}-\d{2}-\d{2})?(?::.*)?"
)
"""The models that OpenAI's published API document lists under `ResponsesOnlyModel`, by family, so that dated versions
and successors follow; chat calls to them are answered with 404. https://platform.openai.com/docs/models"""

_REASONING: Final = re.compile(r"(?:ft:)?(?:o\d|codex-|computer-use|gpt-daybreak|gpt-(?:[5-9]|\d{2})(?!\S*-chat))")
"""The o-series, and GPT from 5 on but for its `-chat` models. https://platform.openai.com/docs/guides/reasoning"""


def responses_only(model: str) -> bool:
    """Whether the model can be reached through Responses alone."""
    return _RESPONSES_ONLY.fullmatch(model) is not None


def reasons(model: str) -> bool:
    """Whether the model reasons, so that its reasoning must be asked for to be sent back next turn."""
    return _REASONING.match(model) is not None
