"""Messages as the JSON of `/admin`: nothing is lost, times and words are for people, changes touch what they name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from aigateway.v1 import account_pb2, alert_service_pb2, tokens_pb2, usage_service_pb2
from aigateway_edge.admin.json_form import merge, microseconds, moment, number, to_json, word, words
from hypothesis import given
from hypothesis import strategies as st

NOON = 1_784_894_400_000_000
LIMITS = {"requests_per_minute": None, "tokens_per_minute": None, "concurrent_calls": None}
DEFAULTS = {"model": "", "max_output_tokens": None}


def key(**fields: Any) -> account_pb2.Key:
    return account_pb2.Key(id="key-1", project="a", created_at_us=NOON, **fields)


def test_what_is_not_set_is_null_and_times_are_rfc_3339() -> None:
    assert to_json(key(expires_at_us=NOON + 1_500_000)) == {
        "id": "key-1",
        "project": "a",
        "name": "",
        "prefix": "",
        "limits": LIMITS,
        "allowed_models": [],
        "defaults": DEFAULTS,
        "created_at": "2026-07-24T12:00:00.000Z",
        "expires_at": "2026-07-24T12:00:01.500Z",
        "revoked_at": None,
    }


def test_a_time_that_was_never_set_is_null_and_not_1970() -> None:
    assert to_json(account_pb2.Project(id="a"))["created_at"] is None


def test_words_lose_their_prefix_and_embedded_json_is_json() -> None:
    budget = account_pb2.Budget(scope=account_pb2.BUDGET_SCOPE_KEY, overridden_until_us=NOON)
    assert to_json(budget)["scope"] == "key"
    assert to_json(budget)["period"] is None
    assert to_json(budget)["overridden_until"] == "2026-07-24T12:00:00.000Z"
    event = account_pb2.AuditEvent(at_us=NOON, detail_json='{"revert": true}')
    assert to_json(event)["at"] == "2026-07-24T12:00:00.000Z"
    assert to_json(event)["detail"] == {"revert": True}
    assert to_json(account_pb2.AuditEvent(detail_json="{broken"))["detail"] == "{broken"


def test_an_attempt_without_usage_has_none_and_one_with_it_keeps_unknown_classes_unknown() -> None:
    assert to_json(usage_service_pb2.Attempt())["usage"] is None
    usage = tokens_pb2.TokenUsage(input_uncached=0, native_json=b'{"a": 1}')
    found = to_json(usage_service_pb2.Attempt(usage=usage, duration_us=7))
    assert (found["usage"]["input_uncached"], found["usage"]["output_text"]) == (0, None)
    assert found["usage"]["native"] == {"a": 1}
    assert (found["duration_us"], found["first_event_us"]) == (7, None)


def test_a_value_of_a_later_contract_is_shown_as_its_number() -> None:
    assert word(alert_service_pb2.AlertKind.DESCRIPTOR, 77) == "77"


@pytest.mark.parametrize("enum", [account_pb2.BudgetScope, account_pb2.BudgetPeriod, usage_service_pb2.SummaryKey])
def test_every_word_is_read_back(enum: Any) -> None:
    assert [word(enum.DESCRIPTOR, number(enum.DESCRIPTOR, text)) for text in words(enum.DESCRIPTOR)] == words(
        enum.DESCRIPTOR
    )


def test_a_change_touches_what_it_names_and_nothing_else() -> None:
    changed = key(name="old", limits=account_pb2.Limits(requests_per_minute=1, tokens_per_minute=2))
    changed.allowed_models.extend(["a", "b"])
    merge(changed, {"limits": {"tokens_per_minute": None, "concurrent_calls": 3}, "allowed_models": ["c"]})
    expected = key(name="old", limits=account_pb2.Limits(requests_per_minute=1, concurrent_calls=3))
    expected.allowed_models.append("c")
    assert changed == expected


def test_null_clears() -> None:
    changed = key(name="old", expires_at_us=NOON, limits=account_pb2.Limits(requests_per_minute=1))
    merge(changed, {"name": None, "expires_at": None, "limits": None})
    assert changed == key()


def test_times_and_words_are_set_as_the_contract_has_them() -> None:
    budget = account_pb2.Budget()
    merge(budget, {"scope": "provider", "period": "total", "resets_at": datetime(2026, 7, 24, 12, tzinfo=UTC)})
    assert budget == account_pb2.Budget(
        scope=account_pb2.BUDGET_SCOPE_PROVIDER, period=account_pb2.BUDGET_PERIOD_TOTAL, resets_at_us=NOON
    )


@given(st.datetimes(timezones=st.just(UTC)))
def test_no_moment_is_rounded_on_its_way_in(when: datetime) -> None:
    assert abs(datetime.fromisoformat(moment(microseconds(when))) - when).total_seconds() < 0.001


def test_moments_beyond_the_calendar_are_its_end() -> None:
    assert moment(2**62) == "9999-12-31T23:59:59.999Z"
    assert moment(-(2**62)) == "0001-01-01T00:00:00.000Z"
