"""When a webhook is tried again."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from aigateway_usage.alerts import retries
from hypothesis import given
from hypothesis import strategies as st
from support.attempts import NOON

HOUR = 3_600_000_000


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ((200, 201, 204, 299), "delivered"),
        ((408, 429, 500, 502, 503, 504, 599), "again"),
        ((301, 302, 307, 308, 400, 401, 403, 404, 410, 422), "never"),
    ],
)
def test_what_a_status_means(statuses: tuple[int, ...], verdict: str) -> None:
    assert {retries.verdict(status) for status in statuses} == {verdict}


@given(st.integers(1, 1000), st.floats(0, 1), st.one_of(st.none(), st.floats(0, 86_400)))
def test_a_pause_grows_up_to_an_hour_and_is_never_shorter_than_asked(
    tries: int, jitter: float, asked: float | None
) -> None:
    pause = retries.pause(tries, jitter, asked)
    usual = min(5 * 2 ** (tries - 1), 3600)
    assert pause >= (asked or 0)
    assert pause == asked or usual / 2 <= pause <= usual


def test_pauses_without_jitter_double() -> None:
    assert [retries.pause(tries, 0, None) for tries in range(1, 12)] == [
        5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600,
    ]  # fmt: skip


@given(st.integers(0, 48 * HOUR), st.floats(0, 1e6))
def test_the_last_try_is_a_day_after_the_first(passed: int, pause: float) -> None:
    at = retries.next_try_us(NOON + passed, NOON, pause)
    assert (at is None) == (passed >= 24 * HOUR)
    assert at is None or NOON + passed <= at <= NOON + 24 * HOUR


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("99999999999999", 86_400),
        ("-5", None),
        ("soon", None),
        (format_datetime(datetime.fromtimestamp(NOON / 1e6 + 90, UTC), usegmt=True), 90),
        (format_datetime(datetime.fromtimestamp(NOON / 1e6 - 90, UTC), usegmt=True), 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retries.retry_after(value, NOON) == seconds
