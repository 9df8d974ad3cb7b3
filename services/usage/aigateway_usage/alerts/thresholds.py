"""How much of a budget is spent, in the two steps that are worth an alert; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aigateway_usage import budgets as rules
from aigateway_usage.alerts.signs import BUDGET_THRESHOLD, Sign

if TYPE_CHECKING:
    from aigateway_usage.rows import Row

LEVELS: Final = (90, 70)
"""Per cent of the limit."""


def level(limit_nano: int, spent_nano: int) -> int:
    """The highest of `LEVELS` that is reached; 0 for none."""
    return next((step for step in LEVELS if spent_nano * 100 >= limit_nano * step), 0)


def sign(state: Row, now_us: int) -> Sign:
    """What a budget with its spending (`budget_queries.states`) says."""
    reached = level(state["limit_nano"], state["spent_nano"])
    ends = rules.period_end(state["period"], now_us)
    limit = rules.dollars(state["limit_nano"])
    message = f"{reached} % of the {limit} US dollars of the budget `{state['id']}` are spent"
    if ends is not None:
        message += f"; it begins anew at {rules.iso(ends)}"
    return Sign(BUDGET_THRESHOLD, state["id"], bool(reached), now_us, message if reached else "", reached)
