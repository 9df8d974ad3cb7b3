"""How providers are."""

from __future__ import annotations

from aigateway_common.errors import GatewayError
from aigateway_common.reasons import REASONS
from aigateway_router.policy.health import ProviderHealth
from hypothesis import given
from hypothesis import strategies as st
from support.clock import Clock

DOWN = GatewayError("UPSTREAM_UNREACHABLE", "acme cannot be reached", details={"provider": "acme"})


def failing(clock: Clock | None = None) -> ProviderHealth:
    health = ProviderHealth(clock or Clock())
    for _ in range(5):
        health.failed(DOWN)
    assert health.state() == "unhealthy"
    return health


def test_a_provider_that_nothing_was_asked_of_is_unknown() -> None:
    health = ProviderHealth(Clock())
    assert (health.state(), health.answered_at, health.last_error) == ("unknown", None, "")


def test_a_provider_that_answers_is_healthy_for_as_long_as_it_is_asked() -> None:
    clock = Clock()
    health = ProviderHealth(clock)
    health.succeeded()
    assert (health.state(), health.answered_at) == ("healthy", clock.now)
    answered = clock.now
    clock.sleep(60)
    assert (health.state(), health.answered_at) == ("unknown", answered)


def test_some_failures_make_it_degraded_until_they_are_past() -> None:
    clock = Clock()
    health = ProviderHealth(clock)
    for _ in range(19):
        health.succeeded()
    health.failed(DOWN)
    assert (health.state(), health.last_error) == ("degraded", "acme cannot be reached")
    health.succeeded()
    assert health.state() == "healthy"
    health.failed(DOWN)
    assert health.state() == "degraded"
    clock.sleep(60)
    health.succeeded()
    assert (health.state(), health.last_error) == ("healthy", "acme cannot be reached")


def test_five_failures_in_a_row_make_it_unhealthy_until_it_answers() -> None:
    clock = Clock()
    health = ProviderHealth(clock)
    for _ in range(100):
        health.succeeded()
    for _ in range(4):
        health.failed(DOWN)
    assert health.state() == "healthy"
    health.failed(DOWN)
    assert health.state() == "unhealthy"
    clock.sleep(3600)
    assert health.state() == "unhealthy"
    health.failed(DOWN)
    assert health.state() == "unhealthy"
    health.succeeded()
    assert health.state() == "degraded"


def test_failures_with_a_success_between_them_are_no_row() -> None:
    health = ProviderHealth(Clock())
    for _ in range(20):
        for _ in range(4):
            health.failed(DOWN)
        health.succeeded()
    assert health.state() == "degraded"


def test_failures_far_apart_are_no_row() -> None:
    clock = Clock()
    health = ProviderHealth(clock)
    for _ in range(20):
        health.failed(DOWN)
        assert health.state() == "degraded"
        clock.sleep(60)
    assert health.state() == "unknown"


def test_only_what_says_something_of_the_provider_counts() -> None:
    counted = set()
    for name in REASONS:
        health = ProviderHealth(Clock())
        for _ in range(5):
            health.failed(GatewayError(name, "why"))
        if health.state() == "unhealthy":
            counted.add(name)
        else:
            assert (health.state(), health.last_error) == ("unknown", "")
    assert counted == {
        "UPSTREAM_OVERLOADED",
        "UPSTREAM_ERROR",
        "UPSTREAM_INVALID",
        "UPSTREAM_UNREACHABLE",
        "UPSTREAM_TIMEOUT",
        "UNAVAILABLE",
        "UPSTREAM_AUTH",
        "UPSTREAM_BILLING",
        "UPSTREAM_QUOTA",
    }


@given(st.lists(st.sampled_from(["ok", "down", "limited", "wait"]), max_size=60))
def test_unhealthy_means_that_the_last_five_that_counted_all_failed(steps: list[str]) -> None:
    clock = Clock()
    health = ProviderHealth(clock)
    row = 0
    for step in steps:
        match step:
            case "ok":
                health.succeeded()
                row = 0
            case "down":
                health.failed(DOWN)
                row += 1
            case "limited":
                health.failed(GatewayError("UPSTREAM_RATE_LIMITED", "slow down"))
            case _:
                clock.sleep(1)  # never as long as the window without a step
        assert (health.state() == "unhealthy") == (row >= 5)
