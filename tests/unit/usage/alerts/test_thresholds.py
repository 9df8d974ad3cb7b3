"""Budgets: 70 and 90 per cent, exactly."""

from __future__ import annotations

from typing import Any

from aigateway_usage.alerts.signs import BUDGET_THRESHOLD, Sign
from aigateway_usage.alerts.thresholds import level, sign
from hypothesis import given
from hypothesis import strategies as st
from support.attempts import NOON

USD = 1_000_000_000


@given(st.integers(1, 10**18), st.integers(0, 10**19))
def test_a_level_is_reached_exactly_when_that_share_is_spent(limit: int, spent: int) -> None:
    reached = level(limit, spent)
    assert reached in {0, 70, 90}
    assert (spent * 10 >= limit * 9) == (reached == 90)
    assert (spent * 10 >= limit * 7) == (reached >= 70)


def test_the_message_says_which_budget_how_much_and_until_when() -> None:
    state: dict[str, Any] = {
        "id": "project:search:month",
        "period": "month",
        "limit_nano": 100 * USD,
        "spent_nano": 70 * USD,
    }
    message = (
        "70 % of the 100 US dollars of the budget `project:search:month` are spent; "
        "it begins anew at 2026-08-01T00:00:00Z"
    )
    assert sign(state, NOON) == Sign(BUDGET_THRESHOLD, "project:search:month", True, NOON, message, 70)
    assert sign(state | {"spent_nano": 69 * USD}, NOON) == Sign(BUDGET_THRESHOLD, state["id"], False, NOON)
    total = sign(state | {"period": "total", "spent_nano": 95 * USD}, NOON)
    assert (total.level, total.message[-9:]) == (90, "are spent")
