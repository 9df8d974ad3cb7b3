"""The documented models are true of the contract, and the document of the routes."""

from __future__ import annotations

import typing
from typing import Any

import pytest
from aigateway.v1 import (
    account_pb2,
    account_service_pb2,
    alert_service_pb2,
    router_admin_service_pb2,
    tokens_pb2,
    usage_service_pb2,
)
from aigateway_common.inprocess import InProcessChannel, InProcessServer
from aigateway_edge.admin import report_shapes, shapes
from aigateway_edge.admin.json_form import name, words
from aigateway_edge.anthropic import openapi as anthropic
from aigateway_edge.app import create_app
from aigateway_edge.openapi_responses import SCHEMAS as RESPONSES
from aigateway_edge.openapi_schemas import SCHEMAS
from aigateway_edge.settings import EdgeSettings

PAIRS: list[tuple[Any, Any]] = [
    (shapes.Limits, account_pb2.Limits),
    (shapes.Defaults, account_pb2.CallDefaults),
    (shapes.Project, account_pb2.Project),
    (shapes.Key, account_pb2.Key),
    (shapes.Budget, account_pb2.Budget),
    (shapes.Projects, account_service_pb2.ListProjectsResponse),
    (shapes.Keys, account_service_pb2.ListKeysResponse),
    (shapes.Budgets, account_service_pb2.ListBudgetsResponse),
    (shapes.Rotation, account_service_pb2.RotateKeyRequest),
    (report_shapes.Attempt, usage_service_pb2.Attempt),
    (report_shapes.Attempts, usage_service_pb2.ListAttemptsResponse),
    (report_shapes.AttemptUsage, tokens_pb2.TokenUsage),
    (report_shapes.Alert, alert_service_pb2.Alert),
    (report_shapes.Alerts, alert_service_pb2.ListAlertsResponse),
    (report_shapes.Act, account_pb2.AuditEvent),
    (report_shapes.Acts, account_service_pb2.ListAuditEventsResponse),
    (report_shapes.Breaker, router_admin_service_pb2.Breaker),
    (report_shapes.ProviderHealth, router_admin_service_pb2.ProviderHealth),
    (report_shapes.Health, router_admin_service_pb2.GetRouterHealthResponse),
]
IN_THE_PATH = {shapes.Rotation: {"id"}}
SET_BY_THE_SERVICE = {
    account_pb2.Project: {"created_at"},
    account_pb2.Key: {"id", "prefix", "created_at", "revoked_at"},
    account_pb2.Budget: {"id", "spent_usd", "reserved_usd", "resets_at", "overridden_until"},
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    result: dict[str, Any] = create_app(EdgeSettings(), gateway=InProcessChannel(InProcessServer())).openapi()
    return result


def of_contract(message: Any) -> set[str]:
    return {name(field.name) for field in message.DESCRIPTOR.fields}


@pytest.mark.parametrize(("model", "message"), PAIRS)
def test_a_model_has_every_field_of_its_message_and_no_other(model: Any, message: Any) -> None:
    assert set(model.model_fields) == of_contract(message) - IN_THE_PATH.get(model, set())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (shapes.NewProject, account_pb2.Project),
        (shapes.NewKey, account_pb2.Key),
        (shapes.NewBudget, account_pb2.Budget),
    ],
)
def test_everything_can_be_set_that_the_service_does_not_set_itself(model: Any, message: Any) -> None:
    assert set(model.model_fields) == of_contract(message) - SET_BY_THE_SERVICE[message]


@pytest.mark.parametrize(
    ("literal", "enum"),
    [
        (shapes.Scope, account_pb2.BudgetScope),
        (shapes.Period, account_pb2.BudgetPeriod),
        (report_shapes.Status, usage_service_pb2.AttemptStatus),
        (report_shapes.AlertWord, alert_service_pb2.AlertKind),
        (report_shapes.BreakerWord, router_admin_service_pb2.BreakerState),
        (report_shapes.HealthWord, router_admin_service_pb2.HealthState),
    ],
)
def test_documented_words_are_the_contracts(literal: Any, enum: Any) -> None:
    assert list(typing.get_args(literal)) == words(enum.DESCRIPTOR)


def test_sums_can_be_grouped_by_every_key_of_the_contract() -> None:
    sums, row = set(report_shapes.Sums.model_fields), of_contract(usage_service_pb2.SummaryRow)
    assert sums == (row - {"keys"}) | set(words(usage_service_pb2.SummaryKey.DESCRIPTOR))


def test_every_route_is_in_the_document(document: dict[str, Any]) -> None:
    found = {path: set(methods) for path, methods in document["paths"].items() if path.startswith("/admin")}
    assert found == {
        "/admin/projects": {"get", "post"},
        "/admin/projects/{id}": {"get", "patch"},
        "/admin/keys": {"get", "post"},
        "/admin/keys/{id}": {"patch", "delete"},
        "/admin/keys/{id}/rotate": {"post"},
        "/admin/budgets": {"get", "put"},
        "/admin/budgets/{id}": {"delete"},
        "/admin/budgets/{id}/override": {"post"},
        "/admin/budgets/{id}/revert": {"post"},
        "/admin/usage": {"get"},
        "/admin/usage/daily": {"get"},
        "/admin/costs": {"get"},
        "/admin/errors": {"get"},
        "/admin/requests": {"get"},
        "/admin/alerts": {"get"},
        "/admin/audit": {"get"},
        "/admin/health": {"get"},
    }


def test_every_route_names_its_key_and_its_failures_and_no_shape_that_it_never_answers(
    document: dict[str, Any],
) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values() if path.startswith("/admin") else ():
            assert {"bearer": []} in operation["security"]
            assert {"400", "401", "403", "404", "4XX", "5XX"} <= set(operation["responses"])
            assert "422" not in operation["responses"]


def test_no_model_takes_the_name_of_another_schema(document: dict[str, Any]) -> None:
    others = {*SCHEMAS, *RESPONSES, *anthropic.SCHEMAS}
    mine = {model.__name__ for module in (shapes, report_shapes) for model in vars(module).values() if is_model(model)}
    assert mine & others == set()
    assert {"Key", "NewSecret", "Attempt"} <= mine & set(document["components"]["schemas"])


def is_model(value: Any) -> bool:
    return isinstance(value, type) and hasattr(value, "model_fields")
