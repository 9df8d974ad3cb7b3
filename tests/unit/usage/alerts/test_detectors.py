"""What attempts say, whole: which kind of alert, of which subject, since when, and in which words."""

from __future__ import annotations

from typing import Any

import pytest
from aigateway.v1 import usage_service_pb2
from aigateway_common.reasons import REASONS
from aigateway_usage.alerts import detectors
from aigateway_usage.alerts.detectors import SEEN, Detectors
from aigateway_usage.alerts.signs import CONSECUTIVE_ERRORS, LATENCY_SPIKE, PROVIDER_DOWN, Sign
from aigateway_usage.rows import to_row
from aigateway_usage.settings import AlertSettings
from hypothesis import given
from hypothesis import strategies as st
from support.attempts import NOON, attempt

ERROR = usage_service_pb2.ATTEMPT_STATUS_ERROR
STREAM = usage_service_pb2.OPERATION_STREAM_CHAT
SECOND = 1_000_000
SETTINGS = AlertSettings(consecutive_errors=3, latency_min_calls=5, provider_down=10.0)


def made(settings: AlertSettings = SETTINGS) -> Detectors:
    return Detectors(settings, lambda: NOON + 1_000_000 * SECOND)


def see(found: Detectors, second: int, **changes: Any) -> list[Sign]:
    """What is said of an attempt that ended at that second."""
    fields = {"duration_us": SECOND, "started_at_us": NOON + (second - 1) * SECOND} | changes
    return found.see(to_row(attempt(second, **fields), 0))


def fail(found: Detectors, second: int, **changes: Any) -> list[Sign]:
    return see(found, second, **{"status": ERROR, "error_reason": "UPSTREAM_ERROR", "upstream_status": 500} | changes)


def test_calls_that_fail_one_after_the_other_are_told_since_the_first_of_them() -> None:
    found = made()
    assert fail(found, 1) == fail(found, 2) == []
    message = "3 calls to `acme/acme-1` failed one after the other; the last with UPSTREAM_ERROR"
    assert fail(found, 3) == [Sign(CONSECUTIVE_ERRORS, "acme/acme-1", True, NOON + SECOND, message)]
    over = [
        Sign(PROVIDER_DOWN, "acme", False, NOON + 4 * SECOND),
        Sign(CONSECUTIVE_ERRORS, "acme/acme-1", False, NOON + 4 * SECOND),
    ]
    assert see(found, 4) == over


def test_models_are_counted_apart() -> None:
    found = made()
    fail(found, 1)
    fail(found, 2, sent_model="acme-2")
    assert [sign.kind for sign in see(found, 3, sent_model="acme-2")] == [PROVIDER_DOWN, CONSECUTIVE_ERRORS]
    fail(found, 4)
    assert [sign.subject for sign in fail(found, 5)] == ["acme/acme-1"]


def test_callers_mistakes_rate_limits_and_our_own_faults_neither_count_nor_end_a_streak() -> None:
    found = made()
    fail(found, 1)
    fail(found, 2)
    for second, reason in enumerate(("INVALID_REQUEST", "UPSTREAM_RATE_LIMITED", "INTERNAL"), 3):
        assert not see(found, second, status=ERROR, error_reason=reason)
    assert [sign.wrong for sign in fail(found, 6)] == [True]


def test_a_provider_is_down_when_every_attempt_failed_for_long_enough() -> None:
    found = made(AlertSettings(consecutive_errors=100, provider_down=10.0))
    assert fail(found, 1) == fail(found, 2, sent_model="acme-2") == fail(found, 10) == []
    message = "every attempt at `acme` has failed for 10 seconds, 4 in all; the last with UPSTREAM_TIMEOUT"
    assert fail(found, 11, error_reason="UPSTREAM_TIMEOUT") == [
        Sign(PROVIDER_DOWN, "acme", True, NOON + SECOND, message)
    ]


def test_two_failures_are_too_few_however_far_apart() -> None:
    found = made()
    assert fail(found, 1) == fail(found, 1000) == []


def test_a_provider_that_refuses_what_a_caller_sent_is_not_down() -> None:
    found = made(AlertSettings(consecutive_errors=100, provider_down=10.0))
    fail(found, 1)
    fail(found, 2)
    said = see(found, 11, status=ERROR, error_reason="INVALID_REQUEST", upstream_status=400)
    assert said == [Sign(PROVIDER_DOWN, "acme", False, NOON + 11 * SECOND)]
    assert fail(found, 12) == []


def test_a_model_that_slows_down_is_told_in_seconds() -> None:
    found = made()
    for second in range(1, 12):
        see(found, second)
    slow = [see(found, second, duration_us=9 * SECOND)[2:] for second in range(12, 15)]
    assert [sign.wrong for signs in slow for sign in signs] == [False, False, True]
    message = "`acme/acme-1` takes 9.00 seconds for an answer; 1.00 are usual"
    assert slow[2] == [Sign(LATENCY_SPIKE, "acme/acme-1", True, NOON + 22 * SECOND, message)]


def test_streams_are_judged_by_their_first_event() -> None:
    found = made()
    for second in range(1, 12):
        see(found, second, operation=STREAM, first_event_us=300_000, duration_us=second * SECOND)
    long = see(found, 30, operation=STREAM, first_event_us=300_000, duration_us=600 * SECOND)
    assert Sign(LATENCY_SPIKE, "acme/acme-1", False, long[2].at_us) in long
    for second in range(31, 34):
        slow = see(found, second, operation=STREAM, first_event_us=3 * SECOND, duration_us=SECOND)
    assert slow[2].message == "`acme/acme-1` takes 3.00 seconds for the first event of a stream; 0.30 are usual"


def test_while_streams_are_slow_quick_answers_do_not_end_the_alert() -> None:
    found = made()
    for second in range(1, 12):
        see(found, second)
        see(found, second, operation=STREAM, first_event_us=300_000)
    for second in range(12, 17):
        see(found, second, operation=STREAM, first_event_us=3 * SECOND)
    assert [sign.kind for sign in see(found, 20)] == [PROVIDER_DOWN, CONSECUTIVE_ERRORS]


def test_a_router_whose_clock_is_ahead_cannot_hide_what_fails_afterwards() -> None:
    found = Detectors(SETTINGS, lambda: NOON)
    see(found, 1_000_000)
    later = Detectors(SETTINGS, lambda: NOON + 100 * SECOND)
    later._models, later._providers = found._models, found._providers
    fail(later, 1)
    fail(later, 2)
    assert [sign.kind for sign in fail(later, 3)] == [CONSECUTIVE_ERRORS]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors, "MAX_SUBJECTS", 10)
    found = made()
    fail(found, 1, sent_model="old")
    for second in range(2, 40):
        fail(found, second, sent_model=f"m{second}", provider=f"p{second}")
        fail(found, second, sent_model="used")
    assert (len(found._models), len(found._providers)) == (10, 10)
    assert ("acme", "used") in found._models


ROWS = st.fixed_dictionaries(
    {
        "provider": st.sampled_from(["a", "b"]),
        "sent_model": st.sampled_from([None, "m", "n"]),
        "operation": st.sampled_from(["chat", "stream_chat", "embed"]),
        "status": st.sampled_from(["ok", "error", "cancelled"]),
        "error_reason": st.sampled_from([None, "odd", *REASONS]),
        "upstream_status": st.one_of(st.none(), st.integers(0, 2**31)),
        "started_at_us": st.integers(1, 2**63 - 1),
        "duration_us": st.integers(0, 2**63 - 1),
        "first_event_us": st.one_of(st.none(), st.integers(0, 2**63 - 1)),
    }
)


@given(st.lists(ROWS, max_size=60))
def test_whatever_a_ledger_holds_can_be_looked_at(rows: list[dict[str, Any]]) -> None:
    found = made(AlertSettings(consecutive_errors=1, latency_min_calls=1, provider_down=0.001))
    assert set(SEEN) == set(rows[0]) if rows else True
    for row in rows:
        for sign in found.see(row):
            assert sign.at_us <= NOON + 1_000_000 * SECOND
            assert bool(sign.message) == sign.wrong
            assert sign.subject.startswith(row["provider"])
