"""How much the model thinks, and the limits and sampling that depend on it.

Policy, in lenient mode reported and in strict mode refused: with a forced tool, manual thinking is left out (the API
takes one or the other); with thinking, sampling away from the defaults is left out; a budget moves to where it fits
under `max_tokens`. https://platform.claude.com/docs/en/build-with-claude/thinking and `.../effort`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway.v1 import chat_pb2

    from aigateway_providers.anthropic.capabilities import Claude
    from aigateway_providers.report import Report

MIN_BUDGET: Final = 1024
"""The least `budget_tokens`."""
_ORDER: Final = ("low", "medium", "high", "xhigh", "max")
_BUDGETS: Final[Mapping[str, int]] = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 32_768,
    "max": 32_768,
}
"""Budgets that stand for efforts where the model has no effort setting; more than 32k is said to gain little."""
_FIELD: Final = "reasoning_effort"


def apply(body: dict[str, Any], call: chat_pb2.ChatCall, facts: Claude, report: Report, *, limit_is_ours: bool) -> None:
    """Set `thinking`, `output_config.effort`, `max_tokens`, `temperature`, `top_p` and `top_k` in `body`.

    Args:
        body: The request; `max_tokens` and `tool_choice` are there already.
        call: The call.
        facts: What its model takes.
        report: Takes notes.
        limit_is_ours: `max_tokens` is a default and may be raised to make room for thinking.
    """
    if call.HasField("reasoning"):
        _reasoning(body, call.reasoning, facts, report, limit_is_ours=limit_is_ours)
    _sampling(body, call.options, facts, report)


def as_asked(body: dict[str, Any], call: chat_pb2.ChatCall) -> None:
    """The same for a caller of Anthropic's own dialect: just what was asked; what to refuse is for the API to say."""
    wanted, options = call.reasoning, call.options
    if wanted.HasField("budget_tokens") and wanted.budget_tokens == 0:
        body["thinking"] = {"type": "disabled"}
    elif wanted.budget_tokens > 0:
        body["thinking"] = {"type": "enabled", "budget_tokens": wanted.budget_tokens}
    elif wanted.adaptive or wanted.budget_tokens < 0:
        body["thinking"] = {"type": "adaptive"}
    if "thinking" in body and wanted.summary:
        body["thinking"]["display"] = wanted.summary
    if wanted.effort:
        body.setdefault("output_config", {})["effort"] = wanted.effort
    if options.HasField("temperature"):
        body["temperature"] = options.temperature
    if options.HasField("top_p"):
        body["top_p"] = options.top_p
    if options.HasField("top_k"):
        body["top_k"] = options.top_k


def _reasoning(
    body: dict[str, Any], wanted: chat_pb2.ReasoningOptions, facts: Claude, report: Report, *, limit_is_ours: bool
) -> None:
    if wanted.effort == "none" or (wanted.HasField("budget_tokens") and wanted.budget_tokens == 0):
        _turn_off(body, facts, report)
        return
    budget = max(0, wanted.budget_tokens)
    asked = wanted.effort or budget or wanted.adaptive or wanted.budget_tokens < 0
    if not asked:
        if facts.thinking == "adaptive" and facts.off != "omit" and (display := _display(wanted)):
            body["thinking"] = {"type": "adaptive"} | display
        return
    if facts.thinking == "none":
        report.dropped(_FIELD, "this model does not think")
        return
    if facts.thinking == "budget" or (facts.thinking == "both" and budget):
        thinking = _manual(body, wanted, facts, report, limit_is_ours=limit_is_ours)
    else:
        thinking = {"type": "adaptive"}
        if budget and not wanted.effort:
            effort = next((name for name in _ORDER if _BUDGETS[name] >= budget), _ORDER[-1])
            report.emulated("thinking.budget_tokens", f"effort `{effort}`; this model takes no budget")
            _set_effort(body, effort, facts, report)
    if wanted.effort:
        _set_effort(body, wanted.effort, facts, report)
    if thinking is not None:
        body["thinking"] = thinking | _display(wanted)


def _turn_off(body: dict[str, Any], facts: Claude, report: Report) -> None:
    if facts.off == "never":
        report.clamped(_FIELD, "this model always thinks; effort `low`")
        _set_effort(body, "low", facts, report)
    elif facts.off != "omit":
        body["thinking"] = {"type": facts.off}


def _manual(
    body: dict[str, Any], wanted: chat_pb2.ReasoningOptions, facts: Claude, report: Report, *, limit_is_ours: bool
) -> dict[str, Any] | None:
    """`thinking` with a budget of at least 1,024 and below `max_tokens`, or None where there is no room for one."""
    forced = body.get("tool_choice")
    if isinstance(forced, dict) and forced["type"] in {"any", "tool"}:
        report.dropped(_FIELD, "this model does not think while a tool is forced")
        return None
    if wanted.budget_tokens > 0:
        budget = max(MIN_BUDGET, wanted.budget_tokens)
    else:
        budget = _BUDGETS.get(wanted.effort or "medium", _BUDGETS["medium"])
        report.emulated(_FIELD, f"a thinking budget of {budget} tokens")
    if limit_is_ours:
        body["max_tokens"] = max(body["max_tokens"], min(body["max_tokens"] + budget, facts.max_output))
    limit = body["max_tokens"]
    if limit <= MIN_BUDGET:
        report.dropped(_FIELD, f"thinking needs a limit of more than {MIN_BUDGET} tokens")
        return None
    if budget >= limit:
        budget = max(MIN_BUDGET, limit - MIN_BUDGET)
    if wanted.budget_tokens > 0 and budget != wanted.budget_tokens:
        report.clamped("thinking.budget_tokens", f"{budget}: at least {MIN_BUDGET} and below the token limit")
    return {"type": "enabled", "budget_tokens": budget}


def _set_effort(body: dict[str, Any], effort: str, facts: Claude, report: Report) -> None:
    if not facts.efforts:
        return  # a budget stands for it
    if effort in facts.efforts:
        nearest = effort
    else:
        rank = _ORDER.index(effort) if effort in _ORDER else 0
        nearest = [name for name in facts.efforts if _ORDER.index(name) <= rank][-1]
        report.clamped(_FIELD, f"`{nearest}`, the nearest that this model takes")
    body.setdefault("output_config", {})["effort"] = nearest


def _display(wanted: chat_pb2.ReasoningOptions) -> dict[str, str]:
    if wanted.summary in {"summarized", "omitted"}:
        return {"display": wanted.summary}
    if wanted.HasField("include"):
        return {"display": "summarized" if wanted.include else "omitted"}
    return {"display": "summarized"} if wanted.summary else {}


def _sampling(body: dict[str, Any], options: chat_pb2.GenerationOptions, facts: Claude, report: Report) -> None:
    active = body.get("thinking", {}).get("type") in {"enabled", "adaptive"}
    fixed = facts.samplers == "none"
    why = "this model takes the default only" if fixed else "it must be the default while the model thinks"
    if options.HasField("temperature"):
        value = options.temperature
        if (fixed or active) and value != 1:
            report.dropped("temperature", why)
        elif not fixed:
            body["temperature"] = min(value, 1.0)
            if value > 1:
                report.clamped("temperature", "1, the most that Claude takes")
    if options.HasField("top_p"):
        if fixed or (active and options.top_p < 0.95):
            if options.top_p != 1:
                report.dropped("top_p", why)
        elif facts.samplers == "one" and "temperature" in body:
            if options.top_p != 1:
                report.dropped("top_p", "this model takes either temperature or top_p")
        else:
            body["top_p"] = options.top_p
    if options.HasField("top_k"):
        if fixed or active:
            report.dropped("top_k", why)
        else:
            body["top_k"] = options.top_k
