"""Projects, keys and budgets: what is refused, and that nothing is lost on the way to a row and back."""

from __future__ import annotations

from typing import Any

import pytest
from aigateway.v1 import account_pb2
from aigateway_common.errors import GatewayError
from aigateway_usage.account_rows import budget_row, key_row, project_row, to_budget, to_key, to_project
from support.accounts import budget
from support.attempts import NOON

_RIGHTS: dict[str, Any] = {
    "limits": account_pb2.Limits(requests_per_minute=60, tokens_per_minute=2**40, concurrent_calls=4),
    "allowed_models": ["smart", "openai/*", "größe"],
    "defaults": account_pb2.CallDefaults(model="smart", max_output_tokens=1000),
}
_SET_BY_SERVICE = {"created_at_us": NOON}


def test_every_field_of_a_project_survives() -> None:
    project = account_pb2.Project(id="search", name="Search", disabled=True, created_at_us=NOON, **_RIGHTS)
    assert {name.name for name, _ in project.ListFields()} == set(project.DESCRIPTOR.fields_by_name)
    assert to_project(project_row(project) | _SET_BY_SERVICE) == project


def test_every_field_of_a_key_survives() -> None:
    key = account_pb2.Key(
        id="key-0000abcd",
        project="search",
        name="CI",
        prefix="gw-1234567",
        created_at_us=NOON,
        expires_at_us=NOON + 2,
        revoked_at_us=NOON + 1,
        **_RIGHTS,
    )
    assert {name.name for name, _ in key.ListFields()} == set(key.DESCRIPTOR.fields_by_name)
    set_ = {"id": key.id, "project": key.project, "prefix": key.prefix, "revoked_at_us": NOON + 1}
    assert to_key(key_row(key, NOON) | set_ | _SET_BY_SERVICE) == key


def test_absent_stays_absent() -> None:
    bare = account_pb2.Project(id="search", name="search", created_at_us=NOON)
    assert to_project(project_row(account_pb2.Project(id="search")) | _SET_BY_SERVICE) == bare


def test_a_budget_shows_what_the_service_knows_of_it() -> None:
    row = budget_row(budget("search", 12.5, allow_unpriced=True))
    known = {"spent_nano": 1_500_000_000, "reserved_nano": 20, "overridden_until_us": NOON + 1}
    expected = budget("search", 12.5, allow_unpriced=True, id="project:search:day", spent_usd=1.5, reserved_usd=2e-8)
    expected.resets_at_us = NOON + 43_200_000_000
    expected.overridden_until_us = NOON + 1
    assert to_budget(row | known, NOON) == expected
    assert not to_budget(row | known, NOON + 1).HasField("overridden_until_us")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"id": ""}, "project.id"),
        ({"id": "Search"}, "project.id"),
        ({"id": "a_b"}, "project.id"),
        ({"id": "x" * 64}, "project.id"),
        ({"id": "a\n"}, "project.id"),
        ({"name": "x" * 201}, "project.name"),
        ({"name": "a\0b"}, "project.name"),
        ({"limits": account_pb2.Limits(requests_per_minute=0)}, "project.limits.requests_per_minute"),
        ({"limits": account_pb2.Limits(tokens_per_minute=-1)}, "project.limits.tokens_per_minute"),
        ({"limits": account_pb2.Limits(concurrent_calls=0)}, "project.limits.concurrent_calls"),
        ({"allowed_models": ["a", " "]}, "project.allowed_models[1]"),
        ({"allowed_models": ["x" * 257]}, "project.allowed_models[0]"),
        ({"allowed_models": ["x"] * 1001}, "project.allowed_models"),
        ({"defaults": account_pb2.CallDefaults(model="a\0b")}, "project.defaults.model"),
        ({"defaults": account_pb2.CallDefaults(max_output_tokens=0)}, "project.defaults.max_output_tokens"),
    ],
)
def test_a_project_that_makes_no_sense_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as caught:
        project_row(account_pb2.Project(**{"id": "search"} | fields))
    _names(caught.value, param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"expires_at_us": NOON}, "key.expires_at_us"),
        ({"expires_at_us": 2**62}, "key.expires_at_us"),
        ({"name": "\x1b[31m"}, "key.name"),
        ({"limits": account_pb2.Limits(requests_per_minute=0)}, "key.limits.requests_per_minute"),
        ({"allowed_models": [""]}, "key.allowed_models[0]"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as caught:
        key_row(account_pb2.Key(**fields), NOON)
    _names(caught.value, param)


def test_an_expiry_that_has_passed_may_stay_as_it_is() -> None:
    assert key_row(account_pb2.Key(expires_at_us=5), NOON, expires_before=5)["expires_at_us"] == 5


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"scope": 0}, "budget.scope"),
        ({"scope": 99}, "budget.scope"),
        ({"period": 0}, "budget.period"),
        ({"subject": ""}, "budget.subject"),
        ({"subject": "Search"}, "budget.subject"),
        ({"subject": "search", "scope": account_pb2.BUDGET_SCOPE_KEY}, "budget.subject"),
        ({"subject": "a b", "scope": account_pb2.BUDGET_SCOPE_PROVIDER}, "budget.subject"),
        ({"limit_usd": 0}, "budget.limit_usd"),
        ({"limit_usd": -1}, "budget.limit_usd"),
        ({"limit_usd": float("nan")}, "budget.limit_usd"),
        ({"limit_usd": float("inf")}, "budget.limit_usd"),
        ({"limit_usd": 1e10}, "budget.limit_usd"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as caught:
        budget_row(budget(**fields))
    _names(caught.value, param)


def _names(error: GatewayError, param: str) -> None:
    assert (error.reason.name, error.details) == ("INVALID_REQUEST", {"param": param})
    assert f"`{param}`" in error.message
