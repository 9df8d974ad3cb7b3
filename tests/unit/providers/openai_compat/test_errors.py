"""What OpenAI-compatible hosts say when they fail, and the reason each becomes.

OpenAI's 429 and 5xx bodies are written from https://platform.openai.com/docs/guides/error-codes; none were recorded.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from aigateway_providers.openai_compat import errors

if TYPE_CHECKING:
    from collections.abc import Iterator


def body(code: str | None = None, kind: str = "invalid_request_error", **more: Any) -> bytes:
    return json.dumps({"error": {"message": "It failed", "type": kind, "param": None, "code": code} | more}).encode()


@pytest.mark.parametrize(
    ("status", "content", "reason"),
    [
        (400, body(), "INVALID_REQUEST"),
        (400, body("context_length_exceeded"), "CONTEXT_TOO_LONG"),
        (401, body("invalid_api_key"), "UPSTREAM_AUTH"),
        (403, body("unsupported_country_region_territory", "request_forbidden"), "UPSTREAM_DENIED"),
        (404, body("model_not_found"), "MODEL_NOT_FOUND"),
        (403, body("model_not_found"), "MODEL_NOT_FOUND"),
        (404, body("unknown_url"), "UPSTREAM_INVALID"),
        (404, b"404 page not found", "UPSTREAM_INVALID"),
        (413, body("request_too_large"), "REQUEST_TOO_LARGE"),
        (422, body(), "INVALID_REQUEST"),
        (429, body("rate_limit_exceeded", "tokens"), "UPSTREAM_RATE_LIMITED"),
        (429, body("insufficient_quota", "insufficient_quota"), "UPSTREAM_QUOTA"),
        (498, body("capacity_exceeded"), "UPSTREAM_OVERLOADED"),
        (500, body(None, "server_error"), "UPSTREAM_ERROR"),
        (502, b"<html>Bad gateway</html>", "UPSTREAM_ERROR"),
        (503, body(None, "service_unavailable"), "UPSTREAM_OVERLOADED"),
        (429, b'{"error": "slow down"}', "UPSTREAM_RATE_LIMITED"),
        (400, b'{"message": "no wrapper"}', "INVALID_REQUEST"),
        (400, b"[]", "INVALID_REQUEST"),
        (500, b"", "UPSTREAM_ERROR"),
    ],
)
def test_each_failure_has_its_reason(status: int, content: bytes, reason: str) -> None:
    error = errors.from_answer("openai", status, {}, content)
    assert (error.reason.name, error.details["upstream_status"]) == (reason, str(status))


def test_the_hosts_own_words_come_along() -> None:
    error = errors.from_answer("openai", 400, {}, body("invalid_value", param="messages[3]"))
    assert error.message == "openai: It failed"
    assert error.details == {
        "provider": "openai",
        "upstream_status": "400",
        "upstream_type": "invalid_request_error",
        "upstream_code": "invalid_value",
        "param": "messages[3]",
    }


def test_a_wrong_key_is_never_shown() -> None:
    content = body("invalid_api_key", message="Incorrect API key provided: sk-abc***xyz.")
    assert "sk-" not in errors.from_answer("openai", 401, {}, content).message


def test_groqs_failed_generation_is_kept() -> None:
    error = errors.from_answer("groq", 400, {}, body("tool_use_failed", failed_generation='{"name": "f"}' + "x" * 9000))
    assert error.details["upstream_code"] == "tool_use_failed"
    assert error.details["failed_generation"].startswith('{"name": "f"}x')
    assert len(error.details["failed_generation"]) == errors.MAX_GENERATION


@pytest.mark.parametrize(
    ("headers", "kind", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "2"}, "requests", 1.5),
        ({"retry-after": "20"}, "tokens", 20),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s"}, "", 62.5),
        ({"x-ratelimit-remaining-tokens": "12", "x-ratelimit-reset-tokens": "7.66s"}, "tokens", 7.66),
        ({"x-ratelimit-reset-requests": "6h0m0s", "x-ratelimit-reset-tokens": "20ms"}, "requests", 21600),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "120ms"}, "", 0.12),
        ({"retry-after-ms": "soon", "retry-after": "2"}, "requests", 2),
        ({"x-ratelimit-remaining-tokens": "12", "x-ratelimit-reset-tokens": "7.66s"}, "requests", None),
        ({}, "requests", None),
    ],
)
def test_a_rate_limit_says_when_to_come_back(headers: dict[str, str], kind: str, seconds: float | None) -> None:
    assert errors.from_answer("openai", 429, headers, body("rate_limit_exceeded", kind)).retry_after == seconds


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_new_york")
@pytest.mark.parametrize(
    "form",
    ["%a, %d %b %Y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"],
    ids=["as-written-today", "as-written-by-c"],
)
def test_a_date_to_come_back_at_is_so_many_seconds_away(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both forms of https://www.rfc-editor.org/rfc/rfc9110#name-date-time-formats are of UTC."""
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.0)
    headers = {"retry-after": time.strftime(form, time.gmtime(1_800_000_090))}
    assert errors.from_answer("groq", 429, headers, body("rate_limit_exceeded")).retry_after == 90
    assert errors.from_answer("groq", 503, headers, body()).retry_after == 90


def test_a_date_that_has_passed_is_no_wait_and_one_that_is_none_is_no_hint() -> None:
    past = {"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}
    assert errors.from_answer("openai", 503, past, body()).retry_after == 0
    assert errors.from_answer("openai", 503, {"retry-after": "soon"}, body()).retry_after is None


@pytest.mark.parametrize("host", ["openai", "groq"])
@pytest.mark.parametrize("content", [body(), b"Payment required", b""], ids=["json", "text", "empty"])
def test_a_host_that_wants_to_be_paid_is_our_bill_and_not_the_callers_fault(host: str, content: bytes) -> None:
    error = errors.from_answer(host, 402, {}, content)
    assert (error.reason.name, error.http_status, error.details["upstream_status"]) == ("UPSTREAM_BILLING", 502, "402")


def test_waiting_does_not_bring_back_a_spent_quota() -> None:
    assert errors.from_answer("openai", 429, {"retry-after": "5"}, body("insufficient_quota")).retry_after is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"message": "m", "type": "server_error"}, "UPSTREAM_ERROR"),
        ({"message": "m", "type": "tokens", "code": "rate_limit_exceeded"}, "UPSTREAM_RATE_LIMITED"),
        ({"message": "m", "code": "insufficient_quota"}, "UPSTREAM_QUOTA"),
        ({"message": "m", "code": 503}, "UPSTREAM_OVERLOADED"),
        ({"message": "m", "code": "tool_use_failed", "status_code": 400}, "INVALID_REQUEST"),
        ({"message": "m", "type": "invalid_request_error", "code": "context_length_exceeded"}, "CONTEXT_TOO_LONG"),
        ("something", "UPSTREAM_ERROR"),
    ],
)
def test_an_error_inside_a_200_has_the_reason_it_would_have_had(error: object, reason: str) -> None:
    assert errors.from_event("openai", error).reason.name == reason
