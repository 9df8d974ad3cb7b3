"""Anthropic's failures: by status, type and code, with the time to come back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aigateway_providers.anthropic.errors import from_answer, from_event


def error(kind: str, message: str = "m", **more: Any) -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message, **more}}).encode()


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (400, "invalid_request_error", "INVALID_REQUEST"),
        (401, "authentication_error", "UPSTREAM_AUTH"),
        (402, "billing_error", "UPSTREAM_BILLING"),
        (403, "permission_error", "UPSTREAM_DENIED"),
        (404, "not_found_error", "MODEL_NOT_FOUND"),
        (413, "request_too_large", "REQUEST_TOO_LARGE"),
        (429, "rate_limit_error", "UPSTREAM_RATE_LIMITED"),
        (500, "api_error", "UPSTREAM_ERROR"),
        (504, "timeout_error", "UPSTREAM_TIMEOUT"),
        (529, "overloaded_error", "UPSTREAM_OVERLOADED"),
        (503, "overloaded_error", "UPSTREAM_OVERLOADED"),
        (400, "billing_error", "UPSTREAM_BILLING"),
        (418, "brand_new_error", "INVALID_REQUEST"),
    ],
)
def test_each_documented_error_has_its_reason(status: int, kind: str, reason: str) -> None:
    found = from_answer("anthropic", status, {}, error(kind))
    assert found.reason.name == reason
    assert found.details["upstream_status"] == str(status)
    assert found.details["upstream_type"] == kind


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("overloaded_error", "UPSTREAM_OVERLOADED"),
        ("rate_limit_error", "UPSTREAM_RATE_LIMITED"),
        ("api_error", "UPSTREAM_ERROR"),
        ("invalid_request_error", "INVALID_REQUEST"),
        ("brand_new_error", "UPSTREAM_ERROR"),
    ],
)
def test_an_error_inside_a_stream_is_told_by_its_type(kind: str, reason: str) -> None:
    assert from_event("anthropic", error(kind)).reason.name == reason


def test_a_spent_limit_is_told_by_its_code_and_is_no_matter_of_waiting() -> None:
    body = error("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"})
    found = from_answer("anthropic", 429, {}, body)
    assert (found.reason.name, found.details["upstream_code"]) == ("UPSTREAM_QUOTA", "enforced_spend_limit_reached")


def test_words_decide_nothing() -> None:
    body = error("invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum")
    assert from_answer("anthropic", 400, {}, body).reason.name == "INVALID_REQUEST"


def test_the_gateways_own_key_is_never_shown() -> None:
    found = from_answer("anthropic", 401, {}, error("authentication_error", "invalid x-api-key sk-ant-abc123456"))
    assert "sk-ant" not in found.message
    assert found.http_status == 502


def test_retry_after_wins() -> None:
    headers = {"retry-after": "12", **limit("requests", "0", 90)}
    assert from_answer("anthropic", 429, headers, error("rate_limit_error")).retry_after == 12


def limit(bucket: str, remaining: str, seconds: float) -> dict[str, str]:
    reset = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    name = f"anthropic-ratelimit-{bucket}"
    return {f"{name}-remaining": remaining, f"{name}-reset": reset}


def test_without_it_the_exhausted_limit_that_fills_last_says_when() -> None:
    headers = limit("requests", "0", 20) | limit("input-tokens", "0", 40) | limit("output-tokens", "5", 900)
    retry_after = from_answer("anthropic", 429, headers, error("rate_limit_error")).retry_after
    assert retry_after == pytest.approx(40, abs=5)


def test_a_limit_that_is_not_exhausted_or_readable_says_nothing() -> None:
    headers = limit("requests", "5", 20) | {
        "anthropic-ratelimit-tokens-remaining": "0",
        "anthropic-ratelimit-tokens-reset": "soon",
    }
    assert from_answer("anthropic", 429, headers, error("rate_limit_error")).retry_after is None
    assert from_answer("anthropic", 400, limit("requests", "0", 20), error("x")).retry_after is None


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b"[]", b'{"error": "text"}'])
def test_a_body_that_is_no_error_object_keeps_the_meaning_of_its_status(body: bytes) -> None:
    assert from_answer("anthropic", 503, {}, body).reason.name == "UPSTREAM_OVERLOADED"
    assert from_event("anthropic", body).reason.name == "UPSTREAM_INVALID"
