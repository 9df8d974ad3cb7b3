"""How much Gemini is asked to reason, by https://ai.google.dev/gemini-api/docs/thinking."""

from __future__ import annotations

from typing import Any

import pytest
from aigateway.v1 import chat_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.gemini.thinking import config
from aigateway_providers.report import Report


def asked(model: str, limit: int | None = None, **options: Any) -> tuple[dict[str, Any], list[str]]:
    report = Report()
    found = config(chat_pb2.ReasoningOptions(**options), model, report, limit)
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


@pytest.mark.parametrize(
    ("model", "limit", "budget", "sent"),
    [
        ("gemini-2.5-flash", 8000, 8000, 6976),
        ("gemini-2.5-flash", 8000, 20000, 6976),
        ("gemini-2.5-flash", 2000, 4000, 1000),
        ("gemini-2.5-flash", 100, 4000, 50),
        ("gemini-2.5-flash", 1, 4000, 0),
        ("gemini-2.5-flash-lite", 600, 600, 0),
        ("gemini-2.5-pro", 600, 600, 300),
        ("gemini-2.5-pro", 200, 600, 128),
        ("gemini-2.5-flash", 500, -1, 250),
    ],
)
def test_a_budget_that_would_eat_the_answer_is_lowered_below_the_limit_and_reported(
    model: str, limit: int, budget: int, sent: int
) -> None:
    assert asked(model, limit, budget_tokens=budget, include=False) == (
        {"thinkingBudget": sent, "includeThoughts": False},
        ["thinking.budget_tokens clamped"],
    )


@pytest.mark.parametrize(("limit", "budget"), [(8000, 7999), (1025, 1024), (5, 0), (1025, -1), (65536, -1)])
def test_a_budget_below_the_limit_is_left_as_the_caller_set_it(limit: int, budget: int) -> None:
    found, notes = asked("gemini-2.5-flash", limit, budget_tokens=budget, include=False)
    assert (found, notes) == ({"thinkingBudget": budget, "includeThoughts": False}, [])


@pytest.mark.parametrize(
    ("effort", "limit", "sent", "notes"),
    [
        ("low", 2048, 1024, []),
        ("low", 2047, 1024, []),
        ("low", 1100, 550, ["reasoning_effort clamped"]),
        ("medium", 8192, 7168, ["reasoning_effort clamped"]),
        ("medium", 9216, 8192, []),
        ("none", 100, 0, []),
    ],
)
def test_a_budget_that_stands_for_an_effort_always_leaves_room(
    effort: str, limit: int, sent: int, notes: list[str]
) -> None:
    assert asked("gemini-2.5-flash", limit, effort=effort) == ({"thinkingBudget": sent}, notes)


def test_under_a_limit_with_no_room_for_both_the_level_is_the_least_and_reported() -> None:
    flash = "gemini-3-flash-preview"
    assert asked(flash, 1024, effort="high") == ({"thinkingLevel": "minimal"}, ["reasoning_effort clamped"])
    assert asked(flash, 1024, effort="minimal") == ({"thinkingLevel": "minimal"}, [])
    assert asked(flash, 1025, effort="high") == ({"thinkingLevel": "high"}, [])
    assert asked("gemini-3-pro-preview", 300, budget_tokens=4000, include=False) == (
        {"thinkingLevel": "low", "includeThoughts": False},
        ["thinking.budget_tokens clamped"],
    )


def test_who_asks_for_no_reasoning_gets_the_default_whatever_the_limit() -> None:
    assert asked("gemini-2.5-flash", 10) == ({}, [])
    assert asked("gemini-3-flash-preview", 10) == ({}, [])
