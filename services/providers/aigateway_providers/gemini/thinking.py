"""How much a Gemini model reasons: which models take a budget, which a level, and what an effort is in either.

Gemini 2.5 takes `thinkingBudget` in tokens, Gemini 3 and later `thinkingLevel`; both in one request are refused with
HTTP 400 (https://ai.google.dev/gemini-api/docs/thinking).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aigateway_common.errors import invalid

if TYPE_CHECKING:
    from aigateway.v1 import chat_pb2

    from aigateway_providers.report import Report


@dataclass(frozen=True, slots=True)
class Thinking:
    """What one family of models takes."""

    levels: tuple[str, ...] = ()
    """The levels it knows, least first; empty where it takes a budget."""
    least: int = 0
    """The smallest budget in tokens."""
    most: int = 0
    """The largest budget in tokens; 0 where the family does not reason."""
    can_stop: bool = False
    """A budget of 0 turns reasoning off."""


_ALL_LEVELS: Final = ("minimal", "low", "medium", "high")
_NONE: Final = Thinking()

FAMILIES: Final[tuple[tuple[re.Pattern[str], Thinking], ...]] = tuple(
    (re.compile(pattern), thinking)
    for pattern, thinking in (
        (r"gemini-2\.5-flash-image", _NONE),
        (r"gemini-2\.5-pro", Thinking(least=128, most=32768)),
        (r"gemini-2\.5-flash-lite", Thinking(least=512, most=24576, can_stop=True)),
        (r"gemini-(2\.5|robotics)", Thinking(least=1, most=24576, can_stop=True)),
        (r"gemini-[12](\.|-)", _NONE),
        (r"gemini-3-pro", Thinking(levels=("low", "high"))),
        (r"gemini-(\d+(\.\d+)?-)?pro", Thinking(levels=("low", "medium", "high"))),
        (r"gemini-", Thinking(levels=_ALL_LEVELS)),
    )
)
"""Model names by their beginning, first match wins. Newer Gemini models count as level models."""

_BUDGETS: Final = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
"""Google's own OpenAI-compatible endpoint maps efforts so (https://ai.google.dev/gemini-api/docs/openai)."""
_EFFORTS: Final = frozenset({"none", "xhigh", "max", *_ALL_LEVELS})
_FIELD: Final = "reasoning_effort"
_BUDGET_FIELD: Final = "thinking.budget_tokens"


def family(model: str) -> Thinking:
    """What `model` takes; nothing for models that are no Gemini."""
    name = model.removeprefix("models/")
    return next((thinking for pattern, thinking in FAMILIES if pattern.match(name)), _NONE)


def config(options: chat_pb2.ReasoningOptions, model: str, report: Report) -> dict[str, Any]:
    """The `thinkingConfig` for what the caller asked; empty when that is the model's default."""
    effort = "" if options.effort == "default" else options.effort
    if effort and effort not in _EFFORTS:
        raise invalid(_FIELD, f"`{_FIELD}` must be none, minimal, low, medium, high, xhigh, max or default")
    thinking = family(model)
    if not thinking.levels and not thinking.most:
        return _without(options, effort, report)
    translate = _level if thinking.levels else _budget
    wanted = translate(options, effort, thinking, report)
    if (show := _include(options)) is not None:
        wanted["includeThoughts"] = show
    return wanted


def _without(options: chat_pb2.ReasoningOptions, effort: str, report: Report) -> dict[str, Any]:
    detail = "the model does not reason"
    if effort not in {"", "none"}:
        report.dropped(_FIELD, detail)
    if options.budget_tokens or options.adaptive:
        report.dropped("thinking", detail)
    return {}


def _include(options: chat_pb2.ReasoningOptions) -> bool | None:
    """Whether to show the reasoning: as asked, or as the dialect of a caller who sets a budget does by itself."""
    if options.HasField("include"):
        return options.include
    if options.summary:
        return options.summary not in {"omitted", "none"}
    return True if options.budget_tokens or options.adaptive else None


def _level(options: chat_pb2.ReasoningOptions, effort: str, thinking: Thinking, report: Report) -> dict[str, Any]:
    field = _FIELD
    wanted = effort
    if not wanted and options.HasField("budget_tokens") and options.budget_tokens >= 0:
        field = _BUDGET_FIELD
        wanted = _nearest_effort(options.budget_tokens)
        if wanted != "none":
            report.emulated(field, f"the model takes a level: `{wanted}`")
    if not wanted:
        return {}
    level = _known_level(wanted, thinking.levels)
    if level != wanted:
        report.clamped(field, f"the model's nearest level is `{level}`")
    return {"thinkingLevel": level}


def _nearest_effort(budget: int) -> str:
    if budget == 0:
        return "none"
    return next((effort for effort in ("low", "medium") if budget <= _BUDGETS[effort]), "high")


def _known_level(wanted: str, levels: tuple[str, ...]) -> str:
    if wanted in levels:
        return wanted
    if wanted in {"none", "minimal"}:
        return levels[0]
    return levels[-1]


def _budget(options: chat_pb2.ReasoningOptions, effort: str, thinking: Thinking, report: Report) -> dict[str, Any]:
    field = _BUDGET_FIELD
    if options.HasField("budget_tokens"):
        wanted = options.budget_tokens
    elif effort:
        field = _FIELD
        wanted = 0 if effort == "none" else _BUDGETS.get(effort, thinking.most)
    elif options.adaptive:
        wanted = -1
    else:
        return {}
    if wanted < -1:
        raise invalid(field, f"`{field}` must be -1 or more")
    if wanted == -1 or (wanted == 0 and thinking.can_stop):
        return {"thinkingBudget": wanted}
    budget = min(max(wanted, thinking.least), thinking.most)
    if budget != wanted:
        report.clamped(field, f"the model's nearest budget is {budget} tokens")
    elif field == _FIELD and effort not in _BUDGETS:
        report.clamped(field, f"the model's largest budget is {budget} tokens")
    return {"thinkingBudget": budget}
