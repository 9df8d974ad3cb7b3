"""Patterns of models: what they let through, and that no name makes them slow."""

from __future__ import annotations

import pytest
from aigateway_router.allowed import ANY_MODEL, ModelPatterns
from aigateway_router.lru import Lru


@pytest.mark.parametrize(
    ("pattern", "name", "allowed"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4o", "openai/gpt-4o", False),
        ("openai/*", "openai/gpt-4o", True),
        ("openai/*", "OpenAI/gpt-4o", False),
        ("*", "a/b:c", True),
        ("*mini*", "gpt-4o-mini-2024", True),
        ("gpt-?", "gpt-5", True),
        ("gpt-?", "gpt-55", False),
        ("a[bc]d", "abd", False),
        ("a[bc]d", "a[bc]d", True),
        ("a.c", "abc", False),
        ("a*", "a\nb", True),
        ("(x)|y", "y", False),
    ],
)
def test_stars_and_question_marks_stand_for_text_and_all_else_for_itself(
    pattern: str, name: str, allowed: bool
) -> None:
    assert ModelPatterns([pattern]).allow(name) is allowed
    assert ModelPatterns(["other", pattern]).allow("no", name) is allowed


def test_no_patterns_allow_everything_unless_nothing_is_meant() -> None:
    assert ANY_MODEL.everything
    assert ModelPatterns([]).allow("anything")
    assert not ModelPatterns([], nothing=True).allow("anything", "")


def test_a_long_name_against_many_stars_is_answered_at_once() -> None:
    assert not ModelPatterns(["*a" * 30 + "b"]).allow("a" * 512)


def test_many_patterns_are_not_all_shown() -> None:
    words = ModelPatterns([f"m{number}" for number in range(12)]).words()
    assert words.startswith("`m0`, `m1`")
    assert words.endswith("`m9` and 2 more")


def test_what_was_not_used_for_longest_is_forgotten_first() -> None:
    kept: Lru[str, int] = Lru(2)
    assert kept.put("a", 1) is None
    assert kept.put("b", 2) is None
    assert kept.get("a") == 1
    assert kept.put("c", 3) == 2
    assert (kept.get("b"), kept.get("b", 9), len(kept)) == (None, 9, 2)
    kept.drop("a")
    kept.drop("never")
    assert len(kept) == 1
    kept.clear()
    assert kept.get("c") is None
