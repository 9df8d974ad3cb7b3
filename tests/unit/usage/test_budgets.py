"""Periods in UTC, and amounts in nano-dollars."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from aigateway_usage import budgets as rules
from hypothesis import given
from hypothesis import strategies as st
from support.attempts import NOON

times = st.integers(0, 4_000_000_000_000_000)
periods = st.sampled_from(["day", "week", "month"])


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("day", "2026-07-24", "2026-07-25"),  # a Friday
        ("week", "2026-07-20", "2026-07-27"),
        ("month", "2026-07-01", "2026-08-01"),
    ],
)
def test_a_period_begins_and_ends_at_midnight_utc(period: str, start: str, end: str) -> None:
    assert rules.period_start(period, NOON) == _us(start)
    assert rules.period_end(period, NOON) == _us(end)


def test_a_total_neither_begins_nor_ends() -> None:
    assert (rules.period_start("total", NOON), rules.period_end("total", NOON)) == (0, None)


@given(period=periods, at=times)
def test_every_moment_is_in_one_period_and_the_next_begins_where_it_ends(period: str, at: int) -> None:
    start, end = rules.period_start(period, at), rules.period_end(period, at)
    assert end is not None
    assert start <= at < end
    assert rules.period_start(period, start) == rules.period_start(period, end - 1) == start
    assert rules.period_start(period, end) == end


@pytest.mark.parametrize("at", [2**63 - 1, rules.NEVER_US, -1])
@pytest.mark.parametrize("period", ["day", "week", "month"])
def test_a_nonsense_time_has_a_period_too(period: str, at: int) -> None:
    assert rules.period_start(period, at) < (rules.period_end(period, at) or 0)


@given(st.integers(0, 10**12))
def test_whole_nano_dollars_survive_as_doubles(nano: int) -> None:
    assert rules.cost_nano(nano / 10**9) == rules.cost_nano(float(Decimal(nano) / 10**9)) == nano


@pytest.mark.parametrize(
    ("usd", "nano"), [(0.0, 0), (0.0000000001, 1), (0.0000000011, 2), (0.00000002, 20), (1e30, 10**15)]
)
def test_a_cost_is_rounded_up_and_bounded(usd: float, nano: int) -> None:
    assert rules.cost_nano(usd) == nano
    assert rules.estimate_nano(Decimal(str(usd))) == nano


@pytest.mark.parametrize(("nano", "words"), [(0, "0"), (12_500_000_000, "12.5"), (42_000, "0.000042"), (10**10, "10")])
def test_amounts_in_words(nano: int, words: str) -> None:
    assert rules.dollars(nano) == words


def test_a_budget_is_low_from_seventy_percent() -> None:
    assert [rules.is_low(100, spent, reserved) for spent, reserved in ((69, 0), (0, 70), (40, 30), (200, 0))] == [
        False,
        True,
        True,
        True,
    ]


def _us(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 1_000_000
