"""The rules of budgets: periods in UTC and amounts in whole nano-dollars; pure.

The cheapest tokens cost some nano-dollars each, so a call that is rounded up to one is as good as exact, and sums of
whole numbers are exact where sums of doubles are not.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from aigateway.v1 import account_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

NANO: Final = 1_000_000_000
"""Nano-dollars in a US dollar."""
MAX_LIMIT_USD: Final = 1_000_000_000
MAX_CALL_NANO: Final = 1_000_000 * NANO
"""The most that one call counts. A provider's nonsense count must not overflow a sum, or the ledger could not write the
attempt at all."""
LOW: Final = 0.7
"""The part of a limit, spent or set aside, from which a budget is low."""

NEVER_US: Final = 253_402_300_799_999_999
"""The end of the year 9999, which stands for the end of a period that has none."""

DAY: Final = "day"
WEEK: Final = "week"
MONTH: Final = "month"
TOTAL: Final = "total"

_Period = account_pb2.BudgetPeriod
_Scope = account_pb2.BudgetScope
PERIODS: Final[Mapping[int, str]] = {
    _Period.BUDGET_PERIOD_DAY: DAY,
    _Period.BUDGET_PERIOD_WEEK: WEEK,
    _Period.BUDGET_PERIOD_MONTH: MONTH,
    _Period.BUDGET_PERIOD_TOTAL: TOTAL,
}
KEY: Final = "key"
PROJECT: Final = "project"
PROVIDER: Final = "provider"
SCOPES: Final[Mapping[int, str]] = {
    _Scope.BUDGET_SCOPE_KEY: KEY,
    _Scope.BUDGET_SCOPE_PROJECT: PROJECT,
    _Scope.BUDGET_SCOPE_PROVIDER: PROVIDER,
}
PERIOD_OF: Final = {word: _Period.ValueType(value) for value, word in PERIODS.items()}
SCOPE_OF: Final = {word: _Scope.ValueType(value) for value, word in SCOPES.items()}

_DAY_US: Final = 86_400_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_US: Final = NEVER_US - 32 * _DAY_US
"""The last time whose month ends within the years that there are."""


def budget_id(scope: str, subject: str, period: str) -> str:
    """The one id of a budget of that scope, subject and period."""
    return f"{scope}:{subject}:{period}"


def period_start(period: str, at_us: int) -> int:
    """When the period around `at_us` began; microseconds since the Unix epoch, 0 for what never begins anew."""
    return 0 if period == TOTAL else _start_us(period, at_us // _DAY_US)


def period_end(period: str, at_us: int) -> int | None:
    """When the period around `at_us` ends and spending begins anew; None for never."""
    if period == TOTAL:
        return None
    start = _start(period, at_us)
    match period:
        case "day":
            return _us(start + timedelta(days=1))
        case "week":
            return _us(start + timedelta(days=7))
        case _:
            return _us((start + timedelta(days=31)).replace(day=1))


def from_usd(usd: float) -> int:
    """A limit in nano-dollars, to the nearest."""
    return round(usd * NANO)


def to_usd(nano: int) -> float:
    """US dollars, as callers see them."""
    return nano / NANO


def cost_nano(usd: float) -> int:
    """The cost of an attempt, rounded up to a nano-dollar.

    A thousandth of one is forgiven: the double nearest to a whole number of nano-dollars may lie just above it.
    """
    return min(math.ceil(usd * NANO - 0.001), MAX_CALL_NANO)


def estimate_nano(usd: Decimal) -> int:
    """The estimate of an attempt's cost, rounded up to a nano-dollar."""
    return min(math.ceil(usd * NANO), MAX_CALL_NANO)


def is_low(limit: int, spent: int, reserved: int) -> bool:
    """Whether most of a limit is gone."""
    return spent + reserved >= limit * LOW


def dollars(nano: int) -> str:
    """An amount in words: `12.5`, `0.000042`."""
    return f"{nano // NANO}.{nano % NANO:09}".rstrip("0").rstrip(".")


def iso(at_us: int) -> str:
    """A time of a period in words, to the second: `2026-08-01T00:00:00Z`."""
    return f"{_EPOCH + timedelta(microseconds=at_us):%Y-%m-%dT%H:%M:%SZ}"


@lru_cache(1024)
def _start_us(period: str, day: int) -> int:
    """The beginning of the period around a day, in days since the Unix epoch: all periods begin with one."""
    return _us(_start(period, day * _DAY_US))


def _start(period: str, at_us: int) -> datetime:
    at = _EPOCH + timedelta(microseconds=min(max(at_us, 0), _LAST_US))
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    match period:
        case "day":
            return midnight
        case "week":
            return midnight - timedelta(days=midnight.weekday())
        case "month":
            return midnight.replace(day=1)
        case _:
            raise ValueError(f"`{period}` is no period")


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)
