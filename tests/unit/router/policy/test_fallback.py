"""Failures that something else may stand in for."""

from __future__ import annotations

import pytest
from aigateway_common.errors import GatewayError
from aigateway_common.reasons import REASONS
from aigateway_router.policy.fallback import falls_back
from aigateway_router.policy.retry import is_retryable
from aigateway_router.routes import Routes


def test_failures_of_the_target_fall_back_and_nothing_else_does() -> None:
    assert {name for name in REASONS if falls_back(GatewayError(name, ""))} == {
        "UPSTREAM_RATE_LIMITED",
        "UPSTREAM_OVERLOADED",
        "UPSTREAM_ERROR",
        "UPSTREAM_INVALID",
        "UPSTREAM_UNREACHABLE",
        "UPSTREAM_TIMEOUT",
        "UNAVAILABLE",
        "UPSTREAM_AUTH",
        "UPSTREAM_BILLING",
        "UPSTREAM_DENIED",
        "UPSTREAM_QUOTA",
        "CONTEXT_TOO_LONG",
        "BUDGET_EXCEEDED",
        "PROVIDER_DISABLED",
    }


def test_what_may_be_tried_again_may_also_be_tried_elsewhere() -> None:
    for name in REASONS:
        error = GatewayError(name, "")
        assert falls_back(error) or not is_retryable(error), name


@pytest.mark.parametrize("reason", ["MODEL_NOT_FOUND", "RATE_LIMITED"])
def test_a_refusal_falls_back_when_it_is_a_providers_own(reason: str) -> None:
    assert falls_back(GatewayError(reason, "", details={"provider": "acme"}))
    assert not falls_back(GatewayError(reason, "", details={"param": "model"}))


@pytest.mark.parametrize("scope", ["provider", "key", "project"])
def test_a_spent_budget_falls_back_whoever_it_belongs_to(scope: str) -> None:
    assert falls_back(GatewayError("BUDGET_EXCEEDED", "", details={"budget_scope": scope}))


def test_the_routers_own_errors_for_names_are_told_apart() -> None:
    routes = Routes(enabled=["openai"], disabled={"groq": "set GROQ_API_KEY"}, aliases={})
    assert falls_back(routes.disabled_error("groq"))
    assert not falls_back(routes.not_found("nonsense", []))


@pytest.mark.parametrize(
    "reason",
    ["INVALID_REQUEST", "UNSUPPORTED", "UNAUTHENTICATED", "PERMISSION_DENIED", "CANCELLED", "DEADLINE_EXCEEDED"],
)
def test_what_any_target_would_refuse_does_not_fall_back_even_when_a_provider_said_it(reason: str) -> None:
    assert not falls_back(GatewayError(reason, "", details={"provider": "acme", "upstream_status": "400"}))
