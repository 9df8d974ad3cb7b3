"""What each Claude model takes, as data: the one table that the request translators ask.

Not a list of models to offer (see `models.py`) and not a gate: a model that no row names gets the row of its family,
and what the provider still refuses comes back as its own error. Sources: the model pages and migration guides under
https://platform.claude.com/docs/en/about-claude/models and
https://platform.claude.com/docs/en/build-with-claude/thinking, `.../effort`, `.../structured-outputs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

Thinking = Literal["none", "budget", "both", "adaptive"]
"""How thinking is asked for: not at all, `enabled` with `budget_tokens`, `adaptive`, or either of the two."""
Off = Literal["omit", "disabled", "between_tools", "never"]
"""How thinking is turned off: it is off unless asked for, by that `thinking.type`, or it cannot be."""
Samplers = Literal["all", "one", "none"]
"""`temperature` and `top_p`: both, one of the two, or neither."""

_LOW_TO_HIGH: Final = ("low", "medium", "high")
_WITH_MAX: Final = (*_LOW_TO_HIGH, "max")
_WITH_XHIGH: Final = (*_LOW_TO_HIGH, "xhigh", "max")


@dataclass(frozen=True, slots=True)
class Claude:
    """What a family of models takes."""

    max_output: int
    """The most `max_tokens` it takes."""
    default_output: int
    """`max_tokens` when the caller sets no limit; before 4.5 prompt and limit together must fit the context window."""
    thinking: Thinking
    off: Off = "omit"
    efforts: tuple[str, ...] = ()
    """The values of `output_config.effort`; none when it has no such field."""
    structured: bool = False
    """It has `output_config.format` and strict tools."""
    samplers: Samplers = "all"
    forced_tools: bool = True
    """It takes `tool_choice` of type `any` and `tool`."""


def _adaptive(off: Off, *, forced_tools: bool = True) -> Claude:
    return Claude(128_000, 128_000, "adaptive", off, _WITH_XHIGH, True, "none", forced_tools)


_BY_PREFIX: Final[dict[str, Claude]] = {
    "": Claude(8192, 4096, "budget"),
    "claude-": _adaptive("never"),
    "claude-2": Claude(4096, 4096, "none"),
    "claude-3-": Claude(4096, 4096, "none"),
    "claude-3-5-": Claude(8192, 8192, "none"),
    "claude-3-7-": Claude(64_000, 8192, "budget"),
    "claude-sonnet-4": Claude(64_000, 8192, "budget"),
    "claude-4-sonnet": Claude(64_000, 8192, "budget"),
    "claude-opus-4": Claude(32_000, 8192, "budget"),
    "claude-4-opus": Claude(32_000, 8192, "budget"),
    "claude-opus-4-1": Claude(32_000, 8192, "budget", samplers="one"),
    "claude-sonnet-4-5": Claude(64_000, 64_000, "budget", structured=True, samplers="one"),
    "claude-haiku-4-5": Claude(64_000, 64_000, "budget", structured=True, samplers="one"),
    "claude-opus-4-5": Claude(64_000, 64_000, "budget", "omit", _LOW_TO_HIGH, True, "one"),
    "claude-sonnet-4-6": Claude(64_000, 64_000, "both", "omit", _WITH_MAX, True, "one"),
    "claude-opus-4-6": Claude(128_000, 128_000, "both", "omit", _WITH_MAX, True, "one"),
    "claude-opus-4-7": _adaptive("omit"),
    "claude-opus-4-8": _adaptive("omit"),
    "claude-sonnet-5": _adaptive("disabled"),
    "claude-opus-5": _adaptive("disabled"),
    "claude-haiku-5": _adaptive("disabled"),
    "claude-sonnet-5-5": _adaptive("between_tools"),
    "claude-opus-5-5": _adaptive("never", forced_tools=False),
    "claude-fable-5-": _adaptive("never", forced_tools=False),
    "claude-mythos-5-": _adaptive("never", forced_tools=False),
}
_LONGEST_FIRST: Final = sorted(_BY_PREFIX.items(), key=lambda row: -len(row[0]))


@lru_cache(maxsize=256)
def claude(model: str) -> Claude:
    """The row of `model`: that of the longest prefix; dated snapshots and aliases share their family's row."""
    return next(row for prefix, row in _LONGEST_FIRST if model.startswith(prefix))
