"""What headers say of fallbacks, limits and budgets: everything when it is known, nothing when it is not."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aigateway.v1 import gateway_service_pb2
from aigateway_common.errors import GatewayError
from aigateway_edge import errors
from aigateway_edge.anthropic import failures
from aigateway_edge.call_headers import EXPOSED, of_error, of_route
from aigateway_edge.header_values import duration
from aigateway_edge.inbound import Inbound
from hypothesis import given
from hypothesis import strategies as st

Limit = gateway_service_pb2.LimitState
LIMITS = {
    "limit_requests": "60",
    "remaining_requests": "0",
    "reset_requests_ms": "61250",
    "limit_tokens": "9000",
    "remaining_tokens": "12",
    "reset_tokens_ms": "6",
}
TOLD = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "1m1.25s",
    "x-ratelimit-limit": "60",
    "x-ratelimit-remaining": "0",
    "x-ratelimit-reset": "62",
    "x-ratelimit-limit-tokens": "9000",
    "x-ratelimit-remaining-tokens": "12",
    "x-ratelimit-reset-tokens": "6ms",
}


def route(**fields: Any) -> gateway_service_pb2.Route:
    return gateway_service_pb2.Route(provider="groq", requested_model="m", sent_model="m", **fields)


def words(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    found = {name.decode(): value.decode() for name, value in headers}
    assert len(found) == len(headers), "a header stands twice"
    return found


def test_a_plain_answer_says_nothing_more() -> None:
    assert of_route(route(attempts=1), anthropic=True) == []
    assert of_error(GatewayError("INTERNAL", "x", details={"provider": "p"}), anthropic=True) == []


def test_an_answer_says_what_stood_in_for_what() -> None:
    assert words(of_route(route(original_provider="openai", attempts=3), anthropic=False)) == {
        "x-hub-fallback": "true",
        "x-hub-original-provider": "openai",
        "x-hub-actual-provider": "groq",
        "x-gateway-attempts": "3",
    }


def test_a_failure_says_so_too() -> None:
    error = GatewayError("UPSTREAM_ERROR", "x", details={"original_provider": "a", "provider": "b", "attempts": "2"})
    assert words(errors.headers(error)) == {
        "x-hub-fallback": "true",
        "x-hub-original-provider": "a",
        "x-hub-actual-provider": "b",
        "x-gateway-attempts": "2",
        "x-provider": "b",
    }


def test_limits_are_told_in_plain_words_and_openais() -> None:
    limits = {
        "request_limit": Limit(limit=60, remaining=0, reset_ms=61250),
        "token_limit": Limit(limit=9000, remaining=12, reset_ms=6),
    }
    assert words(of_route(route(**limits), anthropic=False)) == TOLD


def test_a_refusal_tells_the_same_limits_as_an_answer() -> None:
    error = GatewayError("RATE_LIMITED", "wait", details=LIMITS, retry_after=61.25)
    assert words(errors.headers(error)) == TOLD | {"retry-after": "62"}


def test_anthropics_dialect_has_its_own_beside() -> None:
    found = words(of_route(route(token_limit=Limit(limit=9, remaining=8, reset_ms=90_000)), anthropic=True))
    moment = datetime.fromisoformat(found.pop("anthropic-ratelimit-tokens-reset"))
    assert timedelta(seconds=60) < moment - datetime.now(UTC) <= timedelta(seconds=91)
    assert found == {
        "x-ratelimit-limit-tokens": "9",
        "x-ratelimit-remaining-tokens": "8",
        "x-ratelimit-reset-tokens": "1m30s",
        "anthropic-ratelimit-tokens-limit": "9",
        "anthropic-ratelimit-tokens-remaining": "8",
    }
    assert failures.ANTHROPIC.anthropic
    assert not errors.OPENAI.anthropic


def test_low_budgets_are_told_in_one_bounded_line() -> None:
    found = words(of_route(route(low_budgets=["project a: 71 % of $5", "key b: 90 %\n"]), anthropic=False))
    assert found == {"x-gateway-budget": "project a: 71 % of $5; key b: 90 %?"}
    assert len(of_route(route(low_budgets=["x" * 100] * 100), anthropic=False)[0][1]) == 512


def test_pages_of_other_origins_may_read_them_all() -> None:
    full = route(
        original_provider="a", attempts=2, request_limit=Limit(limit=1), token_limit=Limit(limit=1), low_budgets=["x"]
    )
    assert set(EXPOSED) == set(words(of_route(full, anthropic=True)))


@given(st.dictionaries(st.sampled_from([*LIMITS, "attempts", "original_provider", "provider"]), st.text(max_size=30)))
def test_details_of_any_kind_make_headers_that_can_be_sent(details: dict[str, str]) -> None:
    for name, value in of_error(GatewayError("RATE_LIMITED", "x", details=details), anthropic=True):
        assert name.decode() in EXPOSED
        assert all(32 <= byte < 127 for byte in value)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (6, "6ms"),
        (1000, "1s"),
        (1500, "1.5s"),
        (59_999, "59.999s"),
        (60_000, "1m0s"),
        (62_500, "1m2.5s"),
        (360_000, "6m0s"),
        (3_600_000, "1h0m0s"),
        (90_061_001, "25h1m1.001s"),
    ],
)
def test_durations_are_written_as_openai_does(milliseconds: int, text: str) -> None:
    assert duration(milliseconds) == text.encode()


@given(st.integers(1, 10**10))
def test_no_duration_loses_a_millisecond(milliseconds: int) -> None:
    units = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
    parts = re.findall(r"([\d.]+)(ms|h|m|s)", duration(milliseconds).decode())
    assert round(sum(float(number) * units[unit] for number, unit in parts)) == milliseconds


SPENT = {
    "budget": "project:search:month",
    "limit": "10",
    "spent": "9.75",
    "reserved": "0.5",
    "resets_at": "2026-08-01T00:00:00Z",
}


def test_a_spent_budget_stands_in_the_body_of_each_dialect() -> None:
    error = GatewayError("BUDGET_EXCEEDED", "spent", details=SPENT)
    budget = {
        "id": "project:search:month",
        "limit": 10.0,
        "spent": 9.75,
        "reserved": 0.5,
        "resets_at": "2026-08-01T00:00:00Z",
    }
    assert error.to_openai() == {
        "error": {
            "message": "spent",
            "type": "insufficient_quota",
            "code": "budget_exceeded",
            "param": None,
            "budget": budget,
        }
    }
    assert failures.body(error, "r") == (
        b'{"type":"error","error":{"type":"rate_limit_error","message":"spent","budget":{"id":"project:search:month",'
        b'"limit":10.0,"spent":9.75,"reserved":0.5,"resets_at":"2026-08-01T00:00:00Z"}},"request_id":"r"}'
    )


def test_what_is_not_known_of_a_budget_is_null() -> None:
    error = GatewayError("BUDGET_EXCEEDED", "spent", details={"budget": "b", "limit": "nan", "spent": "much"})
    assert error.budget == {"id": "b", "limit": None, "spent": None, "reserved": None, "resets_at": None}


def test_a_failure_that_only_names_a_budget_tells_no_amounts() -> None:
    error = GatewayError("PERMISSION_DENIED", "its price is unknown", details={"budget": "b", "model": "m"})
    assert "budget" not in error.to_openai()["error"]


@pytest.mark.parametrize(
    ("value", "passed"),
    [
        (b"chat 7/a", True),
        (b"", False),
        (b"x" * 256, True),
        (b"x" * 257, False),
        (b"a\tb", False),
        (b"\xc3\xa9", False),
    ],
)
def test_a_session_goes_on_when_it_is_short_and_plain(value: bytes, passed: bool) -> None:
    found = Inbound({"headers": [(b"x-session-id", value)]}).session()
    assert found == ((("x-session-id", value.decode()),) if passed else ())
