"""How much Gemini is asked to reason, by https://ai.google.dev/gemini-api/docs/thinking."""

from __future__ import annotations

from typing import Any

import pytest
from aigateway.v1 import chat_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.gemini.thinking import config
from aigateway_providers.report import Report


def asked(model: str, **options: Any) -> tuple[dict[str, Any], list[str]]:
    report = Report()
    found = config(chat_pb2.ReasoningOptions(**options), model, report)
    return found, [
        f"{note.field} {chat_pb2.TranslationAction.Name(note.action)[19:].lower()}" for note in report.notes()
    ]


@pytest.mark.parametrize(
    ("effort", "budget"),
    [("none", 0), ("minimal", 1024), ("low", 1024), ("medium", 8192), ("high", 24576)],
)
def test_gemini_2_5_takes_a_budget(effort: str, budget: int) -> None:
    assert asked("gemini-2.5-flash", effort=effort) == ({"thinkingBudget": budget}, [])


@pytest.mark.parametrize("effort", ["minimal", "low", "medium", "high"])
@pytest.mark.parametrize(
    "model", ["gemini-3-flash-preview", "gemini-3.6-flash", "gemini-flash-latest", "gemini-4-pico"]
)
def test_gemini_3_takes_a_level(model: str, effort: str) -> None:
    assert asked(model, effort=effort) == ({"thinkingLevel": effort}, [])


@pytest.mark.parametrize(
    ("model", "effort", "level"),
    [
        ("gemini-3-pro-preview", "none", "low"),
        ("gemini-3-pro-preview", "medium", "high"),
        ("gemini-3.1-pro-preview", "minimal", "low"),
        ("gemini-3-flash-preview", "none", "minimal"),
        ("gemini-3-flash-preview", "max", "high"),
    ],
)
def test_a_level_that_the_model_lacks_is_moved_to_the_nearest_and_reported(model: str, effort: str, level: str) -> None:
    assert asked(model, effort=effort) == ({"thinkingLevel": level}, ["reasoning_effort clamped"])


@pytest.mark.parametrize(
    ("model", "budget", "sent", "report"),
    [
        ("gemini-2.5-flash", -1, -1, []),
        ("gemini-2.5-flash", 5000, 5000, []),
        ("gemini-2.5-flash", 99999, 24576, ["thinking.budget_tokens clamped"]),
        ("gemini-2.5-flash-lite", 100, 512, ["thinking.budget_tokens clamped"]),
        ("gemini-2.5-pro", 32768, 32768, []),
        ("gemini-2.5-pro", 0, 128, ["thinking.budget_tokens clamped"]),
    ],
)
def test_a_budget_stays_within_what_the_model_takes(model: str, budget: int, sent: int, report: list[str]) -> None:
    found, notes = asked(model, budget_tokens=budget, include=False)
    assert (found, notes) == ({"thinkingBudget": sent, "includeThoughts": False}, report)


def test_gemini_2_5_pro_cannot_stop_reasoning_and_says_so() -> None:
    assert asked("gemini-2.5-pro", effort="none") == ({"thinkingBudget": 128}, ["reasoning_effort clamped"])


def test_more_than_high_is_the_largest_budget() -> None:
    assert asked("gemini-2.5-pro", effort="max") == ({"thinkingBudget": 32768}, ["reasoning_effort clamped"])


@pytest.mark.parametrize(("budget", "level"), [(500, "low"), (4000, "medium"), (20000, "high")])
def test_a_budget_for_gemini_3_becomes_the_level_that_comes_near(budget: int, level: str) -> None:
    assert asked("gemini-3-flash-preview", budget_tokens=budget) == (
        {"thinkingLevel": level, "includeThoughts": True},
        ["thinking.budget_tokens emulated"],
    )


def test_no_budget_for_gemini_3_is_its_least_level() -> None:
    found, notes = asked("gemini-3-flash-preview", budget_tokens=0)
    assert (found, notes) == ({"thinkingLevel": "minimal"}, ["thinking.budget_tokens clamped"])


def test_letting_the_model_decide_is_a_dynamic_budget_or_nothing() -> None:
    assert asked("gemini-2.5-flash", adaptive=True) == ({"thinkingBudget": -1, "includeThoughts": True}, [])
    assert asked("gemini-3-pro-preview", adaptive=True) == ({"includeThoughts": True}, [])
    assert asked("gemini-3-pro-preview", budget_tokens=-1) == ({"includeThoughts": True}, [])


def test_thoughts_are_shown_when_asked_for() -> None:
    assert asked("gemini-2.5-flash", include=True) == ({"includeThoughts": True}, [])
    assert asked("gemini-3-pro-preview", summary="auto") == ({"includeThoughts": True}, [])
    assert asked("gemini-3-pro-preview", effort="low", include=False) == (
        {"thinkingLevel": "low", "includeThoughts": False},
        [],
    )


def test_a_model_that_does_not_reason_is_sent_nothing_and_the_wish_is_reported() -> None:
    assert asked("gemini-2.0-flash", effort="high") == ({}, ["reasoning_effort dropped"])
    assert asked("gemma-3-27b-it", budget_tokens=1000) == ({}, ["thinking dropped"])
    assert asked("gemini-1.5-flash", effort="none") == ({}, [])


def test_the_default_effort_leaves_the_model_alone() -> None:
    assert asked("gemini-2.5-flash", effort="default") == ({}, [])


def test_an_unknown_effort_is_refused_by_name() -> None:
    with pytest.raises(GatewayError) as caught:
        asked("gemini-2.5-flash", effort="heavy")
    assert caught.value.details == {"param": "reasoning_effort"}
