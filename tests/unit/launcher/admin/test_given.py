"""What options say: what is not given is not sent, `none` takes away, and a mistake names its option."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import typer
from aigateway_launcher.admin.given import moment, rights, something, span

NOW = datetime(2026, 7, 24, 12, tzinfo=UTC)
NOTHING: dict[str, Any] = {
    "rpm": None,
    "tpm": None,
    "concurrent": None,
    "allow": None,
    "model": None,
    "max_tokens": None,
}


def test_nothing_given_is_nothing_sent() -> None:
    assert rights(**NOTHING) == {}


def test_what_is_given_is_sent_and_none_takes_away() -> None:
    said = {"rpm": "60", "concurrent": "none", "allow": ["openai/*"], "model": "none", "max_tokens": "9"}
    assert rights(**NOTHING | said) == {
        "limits": {"requests_per_minute": 60, "concurrent_calls": None},
        "allowed_models": ["openai/*"],
        "defaults": {"model": None, "max_output_tokens": 9},
    }
    assert rights(**NOTHING | {"allow": ["none"]}) == {"allowed_models": []}


@pytest.mark.parametrize("text", ["", "-1", "1.5", "many", "²"])
def test_a_limit_is_a_whole_number(text: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        rights(**NOTHING | {"tpm": text})
    assert caught.value.param_hint == "--tpm"


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("90", 90), ("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000)]
)
def test_times_are_written_as_people_do(text: str, seconds: int) -> None:
    assert span("--overlap", text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1d", "1y", "1.5h", "9999999999s"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        span("--overlap", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", None),
        ("2d", "2026-07-26T12:00:00+00:00"),
        ("2026-12-31", "2026-12-31T00:00:00+00:00"),
        ("2026-12-31T08:00:00+02:00", "2026-12-31T08:00:00+02:00"),
        ("2026-12-31T08:00", "2026-12-31T08:00:00+00:00"),
    ],
)
def test_a_moment_is_a_time_ahead_a_day_or_itself(text: str, expected: str | None) -> None:
    assert moment("--expires", text, NOW) == expected


@pytest.mark.parametrize("text", ["never", "2026-13-01", "999999999w"])
def test_other_moments_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        moment("--expires", text, NOW)


def test_an_update_that_changes_nothing_is_refused() -> None:
    assert something({"name": "x"}) == {"name": "x"}
    with pytest.raises(typer.BadParameter):
        something({})
