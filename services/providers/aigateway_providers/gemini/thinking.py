"""How much a Gemini model reasons: which models take a budget, which a level, and what an effort is in either.

Gemini 2.5 takes `thinkingBudget` in tokens, Gemini 3 and later `thinkingLevel`; both in one request are refused with
HTTP 400 (https://ai.google.dev/gemini-api/docs/thinking).

`maxOutputTokens` counts the reasoning, too, as OpenAI's `max_completion_tokens` and Anthropic's `max_tokens` do
(https://github.com/googleapis/python-genai/issues/2062), so that reasoning can use the limit up and leave no answer.
The limit is the caller's and is never raised. Policy, each move reported as clamped:

- a budget that the caller set stays as it is below the limit, and is lowered to leave room where it is not;
- a budget that stands for an effort always leaves room, since its size was not the caller's wish;
- what has no size (a level, a dynamic budget) is left to the model, but under a limit of `ROOM` tokens or less, where
  the level is the model's least and the dynamic budget a small one.

Room is `ROOM` tokens, or half of a limit that is smaller than twice that. A model whose least budget does not fit stops
reasoning if it can. Who asks for nothing gets the model's default, and the finish reason tells when it hit the limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
from aigateway_common.errors import invalid

from aigateway_providers.gemini import wire

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
ROOM: Final = 1024
"""Tokens left for the answer; the budget that Google gives to the least efforts, so that a limit below holds no two."""
_EFFORTS: Final = frozenset({"none", "xhigh", "max", *_ALL_LEVELS})
_FIELD: Final = "reasoning_effort"
_BUDGET_FIELD: Final = "thinking.budget_tokens"


def family(model: str) -> Thinking:
    """What `model` takes; nothing for models that are no Gemini."""
    name = model.removeprefix("models/")
    return next((thinking for pattern, thinking in FAMILIES if pattern.match(name)), _NONE)


def config(options: chat_pb2.ReasoningOptions, model: str, report: Report, limit: int | None = None) -> dict[str, Any]:
    """The `thinkingConfig` for what the caller asked; empty when that is the model's default.

    `limit` is the caller's limit on the answer in tokens, where there is one.
    """
    effort = "" if options.effort == "default" else options.effort
    if effort and effort not in _EFFORTS:
        raise invalid(_FIELD, f"`{_FIELD}` must be none, minimal, low, medium, high, xhigh, max or default")
    thinking = family(model)
    if not thinking.levels and not thinking.most:
        return _without(options, effort, report)
    translate = _level if thinking.levels else _budget
    wanted = translate(options, effort, thinking, report, limit)
    if (show := _include(options)) is not None:
        wanted["includeThoughts"] = show
    return wanted


def one_kind(body: dict[str, Any]) -> None:
    """Keep a budget and a level from meeting in `body`: what the caller's own fields say outright wins.

    Raises:
        GatewayError: INVALID_REQUEST, when the caller's own fields say both.
    """
    config = wire.opened(body, "generationConfig")
    wanted = wire.opened(config, "thinkingConfig") if config is not None else None
    if wanted is None:
        return
    level = next((name for name in wanted if name in {"thinkingLevel", "thinking_level"}), None)
    budget = next((name for name in wanted if name in {"thinkingBudget", "thinking_budget"}), None)
    if level is None or budget is None:
        return
    if isinstance(wanted[level], orjson.Fragment) and isinstance(wanted[budget], orjson.Fragment):
        raise invalid(f"provider_options.{wire.KIND}", f"Gemini takes either `{level}` or `{budget}`, never both")
    del wanted[budget if isinstance(wanted[level], orjson.Fragment) else level]


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


def _level(
    options: chat_pb2.ReasoningOptions, effort: str, thinking: Thinking, report: Report, limit: int | None
) -> dict[str, Any]:
    field = _FIELD
    wanted = effort
    if not wanted and options.HasField("budget_tokens") and options.budget_tokens >= 0:
        field = _BUDGET_FIELD
        wanted = _nearest_effort(options.budget_tokens)
    if not wanted:
        return {}
    level = _known_level(wanted, thinking.levels)
    if limit is not None and limit <= ROOM and level != thinking.levels[0]:
        level = thinking.levels[0]
        report.clamped(field, f"`{level}`: a limit of {limit} tokens has no room for more reasoning and an answer")
    elif level != wanted:
        report.clamped(field, f"the model's nearest level is `{level}`")
    elif field == _BUDGET_FIELD:
        report.emulated(field, f"the model takes a level: `{wanted}`")
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


def _budget(
    options: chat_pb2.ReasoningOptions, effort: str, thinking: Thinking, report: Report, limit: int | None
) -> dict[str, Any]:
    field = _BUDGET_FIELD
    if options.HasField("budget_tokens"):
        wanted = options.budget_tokens
    elif effort:
        field = _FIELD
        wanted = 0 if effort == "none" else _BUDGETS.get(effort, thinking.most)
    elif options.adaptive:
        field = "thinking"
        wanted = -1
    else:
        return {}
    if wanted < -1:
        raise invalid(field, f"`{field}` must be -1 or more")
    if wanted == 0 and thinking.can_stop:
        return {"thinkingBudget": 0}
    able = wanted if wanted == -1 else min(max(wanted, thinking.least), thinking.most)
    budget = able if limit is None else _under(limit, able, thinking, own=field == _BUDGET_FIELD)
    if budget != able:
        report.clamped(field, f"{budget} tokens, to leave room for the answer under a limit of {limit}")
    elif budget != wanted:
        report.clamped(field, f"the model's nearest budget is {budget} tokens")
    elif field == _FIELD and effort not in _BUDGETS:
        report.clamped(field, f"the model's largest budget is {budget} tokens")
    return {"thinkingBudget": budget}


def _under(limit: int, budget: int, thinking: Thinking, *, own: bool) -> int:
    """The budget that leaves an answer its room under `limit`; `own` when the caller set `budget` as a number."""
    most = limit - min(ROOM, max(1, limit // 2))
    if limit > ROOM if budget == -1 else budget < limit if own else budget <= most:
        return budget
    if most >= thinking.least:
        return most
    return 0 if thinking.can_stop else thinking.least
