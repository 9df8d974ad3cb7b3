"""Gemini's errors: https://ai.google.dev/gemini-api/docs/troubleshooting, https://google.aip.dev/193."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway_providers.gemini.errors import from_body


def status(code: int, word: str, *details: dict[str, Any], message: str = "It failed.") -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "status": word, "details": details}}).encode()


def detail(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/google.rpc.{kind}", **fields}


@pytest.mark.parametrize(
    ("code", "word", "reason", "retryable"),
    [
        (400, "INVALID_ARGUMENT", "INVALID_REQUEST", False),
        (400, "FAILED_PRECONDITION", "INVALID_REQUEST", False),
        (401, "UNAUTHENTICATED", "UPSTREAM_AUTH", False),
        (403, "PERMISSION_DENIED", "UPSTREAM_DENIED", False),
        (404, "NOT_FOUND", "MODEL_NOT_FOUND", False),
        (413, "INVALID_ARGUMENT", "REQUEST_TOO_LARGE", False),
        (429, "RESOURCE_EXHAUSTED", "UPSTREAM_RATE_LIMITED", True),
        (500, "INTERNAL", "UPSTREAM_ERROR", True),
        (503, "UNAVAILABLE", "UPSTREAM_OVERLOADED", True),
        (504, "DEADLINE_EXCEEDED", "UPSTREAM_TIMEOUT", True),
    ],
)
def test_statuses_have_their_reason(code: int, word: str, reason: str, retryable: bool) -> None:
    error = from_body("gemini", code, status(code, word))
    assert (error.reason.name, error.reason.retryable) == (reason, retryable)
    assert error.details == {"provider": "gemini", "upstream_status": str(code), "upstream_code": word}


@pytest.mark.parametrize("reason", ["API_KEY_INVALID", "API_KEY_EXPIRED"])
def test_our_wrong_key_is_a_400_there_and_ours_here(reason: str) -> None:
    body = status(400, "INVALID_ARGUMENT", detail("ErrorInfo", reason=reason, domain="googleapis.com"))
    error = from_body("gemini", 400, body)
    assert (error.reason.name, error.http_status) == ("UPSTREAM_AUTH", 502)
    assert error.message == "gemini refused the gateway's own key; set a valid one for this provider"


def test_a_project_without_billing_is_ours_too() -> None:
    body = status(403, "PERMISSION_DENIED", detail("ErrorInfo", reason="BILLING_DISABLED"))
    assert from_body("gemini", 403, body).reason.name == "UPSTREAM_BILLING"


def test_the_delay_to_retry_is_in_the_body() -> None:
    body = status(
        429,
        "RESOURCE_EXHAUSTED",
        detail("QuotaFailure", violations=[{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}]),
        detail("RetryInfo", retryDelay="58.93s"),
    )
    error = from_body("gemini", 429, body)
    assert (error.reason.name, error.retry_after) == ("UPSTREAM_RATE_LIMITED", 58.93)


def test_a_header_tells_the_delay_where_the_body_does_not() -> None:
    assert from_body("gemini", 503, status(503, "UNAVAILABLE"), {"retry-after": "7"}).retry_after == 7


def test_a_quota_of_the_day_is_not_worth_retrying() -> None:
    body = status(
        429,
        "RESOURCE_EXHAUSTED",
        detail("QuotaFailure", violations=[{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]),
        detail("RetryInfo", retryDelay="12s"),
    )
    error = from_body("gemini", 429, body)
    assert (error.reason.name, error.reason.retryable, error.retry_after) == ("UPSTREAM_QUOTA", False, None)


def test_the_field_that_gemini_names_is_passed_on() -> None:
    violations = [{"field": "generation_config.top_k", "description": "too large"}]
    error = from_body("gemini", 400, status(400, "INVALID_ARGUMENT", detail("BadRequest", fieldViolations=violations)))
    assert error.details["param"] == "generation_config.top_k"


def test_an_error_may_be_wrapped_in_a_list_or_be_a_string() -> None:
    wrapped = b"[" + status(404, "NOT_FOUND", message="No such model.") + b"]"
    assert from_body("gemini", 404, wrapped).message == "gemini: No such model."
    assert from_body("gemini", 503, b'{"error": "busy"}').message == "gemini: busy"


def test_an_error_inside_a_stream_tells_its_own_status() -> None:
    assert from_body("gemini", 0, status(503, "UNAVAILABLE")).reason.name == "UPSTREAM_OVERLOADED"
    assert from_body("gemini", 0, b'{"error": {"message": "x"}}').reason.name == "UPSTREAM_ERROR"


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b"{}", b"[]", b'"x"'])
def test_an_error_page_that_is_not_json_keeps_the_status(body: bytes) -> None:
    assert from_body("gemini", 502, body).reason.name == "UPSTREAM_ERROR"
    assert "<html>" not in from_body("gemini", 502, body).message


def test_odd_details_do_no_harm() -> None:
    odd = json.dumps({"error": {"code": "x", "message": None, "details": [1, {"@type": 2}, detail("BadRequest")]}})
    assert from_body("gemini", 400, odd.encode()).reason.name == "INVALID_REQUEST"
