"""`/admin/*` over HTTP, in front of the real ledger: what an operator can do, and what is refused in which words."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from aigateway.v1 import (
    alert_service_pb2,
    alert_service_pb2_grpc,
    router_admin_service_pb2,
    router_admin_service_pb2_grpc,
    usage_service_pb2,
)
from aigateway_common.errors import GatewayError
from aigateway_common.inprocess import InProcessServer
from aigateway_edge.admin.route import MAX_BODY
from support.admin import ADMIN_KEY, Alerts, Health, ledger, over_http
from support.attempts import NOON, attempt

NOTHING = {"requests_per_minute": None, "tokens_per_minute": None, "concurrent_calls": None}


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with ledger(tmp_path) as client:
        yield client


@pytest.fixture
async def used(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """With some attempts in the ledger."""
    failed = usage_service_pb2.ATTEMPT_STATUS_ERROR
    day = 86_400_000_000
    attempts = [
        attempt(1, provider="sandbox", sent_model="echo"),
        attempt(2, provider="sandbox", sent_model="echo", started_at_us=NOON + day),
        attempt(
            3, provider="acme", sent_model="=cmd|calc", project="search", usage=None, status=failed, error_reason="X"
        ),
    ]
    async with ledger(tmp_path, *attempts) as client:
        yield client


async def ok(call: Any, status: int = 200) -> Any:
    response = await call
    assert response.status_code == status, response.text
    return response.json()


async def refused(call: Any, status: int = 400) -> Any:
    response = await call
    assert response.status_code == status, response.text
    assert response.headers["x-request-id"]
    error = response.json()["error"]
    assert set(error) == {"message", "type", "code", "param"}
    return error


async def project(admin: httpx.AsyncClient, name: str = "search", **more: Any) -> Any:
    return await ok(admin.post("/admin/projects", json={"id": name} | more), 201)


async def key(admin: httpx.AsyncClient, **more: Any) -> Any:
    return await ok(admin.post("/admin/keys", json={"project": "default"} | more), 201)


async def test_a_project_is_made_shown_listed_and_changed(admin: httpx.AsyncClient) -> None:
    made = await project(admin, limits={"requests_per_minute": 60}, allowed_models=["openai/*"])
    assert made.pop("created_at").endswith("Z")
    assert made == {
        "id": "search",
        "name": "search",
        "limits": NOTHING | {"requests_per_minute": 60},
        "allowed_models": ["openai/*"],
        "defaults": {"model": "", "max_output_tokens": None},
        "disabled": False,
    }
    change = {"name": "Search", "limits": {"tokens_per_minute": 9000}, "defaults": {"model": "openai/gpt-5"}}
    changed = await ok(admin.patch("/admin/projects/search", json=change))
    changed.pop("created_at")
    assert changed == made | {
        "name": "Search",
        "limits": NOTHING | {"requests_per_minute": 60, "tokens_per_minute": 9000},
        "defaults": {"model": "openai/gpt-5", "max_output_tokens": None},
    }
    shown = await ok(admin.get("/admin/projects/search"))
    shown.pop("created_at")
    assert shown == changed
    assert [one["id"] for one in (await ok(admin.get("/admin/projects")))["projects"]] == ["default", "search"]


async def test_null_takes_a_limit_away_and_leaves_the_others(admin: httpx.AsyncClient) -> None:
    await project(admin, limits={"requests_per_minute": 60, "concurrent_calls": 2})
    changed = await ok(admin.patch("/admin/projects/search", json={"limits": {"requests_per_minute": None}}))
    assert changed["limits"] == NOTHING | {"concurrent_calls": 2}
    assert (await ok(admin.patch("/admin/projects/search", json={"limits": None})))["limits"] == NOTHING


async def test_a_secret_is_shown_once_and_no_cache_keeps_it(admin: httpx.AsyncClient) -> None:
    response = await admin.post("/admin/keys", json={"project": "default", "name": "ci"})
    assert response.status_code == 201
    assert response.headers["cache-control"] == "no-store"
    made = response.json()
    secret = made.pop("secret")
    assert secret.startswith(made["prefix"])
    listed = await admin.get("/admin/keys")
    assert listed.json() == {"keys": [made]}
    assert secret not in listed.text
    assert secret not in (await admin.get("/admin/audit")).text


async def test_a_key_is_changed_rotated_and_revoked(admin: httpx.AsyncClient) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    made = await key(admin, expires_at=later.isoformat(), limits={"concurrent_calls": 3})
    assert datetime.fromisoformat(made["expires_at"]) == later.replace(microsecond=later.microsecond // 1000 * 1000)
    changed = await ok(admin.patch(f"/admin/keys/{made['id']}", json={"expires_at": None, "allowed_models": ["a"]}))
    assert (changed["expires_at"], changed["limits"]) == (None, made["limits"])
    successor = await ok(admin.post(f"/admin/keys/{made['id']}/rotate", json={"overlap_seconds": 60}), 201)
    assert successor["id"] != made["id"]
    assert (successor["limits"], successor["allowed_models"]) == (made["limits"], ["a"])
    assert successor["secret"] != made["secret"]
    revoked = await ok(admin.delete(f"/admin/keys/{successor['id']}", params={"cut_calls": "true"}))
    assert revoked["revoked_at"] is not None
    acts = (await ok(admin.get("/admin/audit")))["events"]
    assert {act["action"] for act in acts} == {"RevokeKey", "RotateKey", "UpdateKey", "CreateKey"}


async def test_rotating_without_a_body_ends_the_old_key_at_once(admin: httpx.AsyncClient) -> None:
    made = await key(admin)
    await ok(admin.post(f"/admin/keys/{made['id']}/rotate"), 201)
    old = {one["id"]: one for one in (await ok(admin.get("/admin/keys")))["keys"]}[made["id"]]
    assert old["revoked_at"] is not None


async def test_keys_are_listed_by_project(admin: httpx.AsyncClient) -> None:
    await project(admin)
    made = await key(admin, project="search")
    await key(admin)
    listed = await ok(admin.get("/admin/keys", params={"project": "search"}))
    assert [one["id"] for one in listed["keys"]] == [made["id"]]


async def test_a_budget_is_set_overridden_reverted_and_removed(admin: httpx.AsyncClient) -> None:
    budget = {"scope": "project", "subject": "default", "period": "month", "limit_usd": 12.5}
    made = await ok(admin.put("/admin/budgets", json=budget))
    resets = datetime.fromisoformat(made.pop("resets_at"))
    assert (resets.day, resets.hour, resets.minute) == (1, 0, 0)
    assert made == budget | {
        "id": "project:default:month",
        "allow_unpriced": False,
        "spent_usd": 0,
        "reserved_usd": 0,
        "overridden_until": None,
    }
    one = f"/admin/budgets/{made['id']}"
    assert (await ok(admin.put("/admin/budgets", json=budget | {"limit_usd": 20})))["limit_usd"] == 20
    overridden = await ok(admin.post(f"{one}/override"))
    assert datetime.fromisoformat(overridden["overridden_until"]) == resets
    assert (await ok(admin.post(f"{one}/revert")))["overridden_until"] is None
    assert len((await ok(admin.get("/admin/budgets", params={"scope": "project"})))["budgets"]) == 1
    assert (await ok(admin.get("/admin/budgets", params={"scope": "key"})))["budgets"] == []
    response = await admin.delete(one)
    assert (response.status_code, response.content) == (204, b"")
    assert (await refused(admin.delete(one), 404))["code"] == "not_found"


async def test_the_budget_of_a_provider_with_a_slash_in_its_name_can_be_reached(admin: httpx.AsyncClient) -> None:
    await ok(admin.put("/admin/budgets", json={"scope": "provider", "subject": "a/b", "period": "day", "limit_usd": 1}))
    assert (await ok(admin.post("/admin/budgets/provider:a/b:day/override")))["overridden_until"]
    assert (await admin.delete("/admin/budgets/provider:a/b:day")).status_code == 204


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("POST", "/admin/projects", {}, "id"),
        ("POST", "/admin/projects", {"id": "No Capitals"}, "id"),
        ("POST", "/admin/projects", {"id": "default"}, "id"),
        ("POST", "/admin/projects", {"id": "a", "limits": {"requests_per_minute": 0}}, "limits.requests_per_minute"),
        ("POST", "/admin/projects", {"id": "a", "limits": {"concurrent_calls": 2**31}}, "limits.concurrent_calls"),
        ("POST", "/admin/projects", {"id": "a", "limits": {"rpm": 1}}, "limits.rpm"),
        ("POST", "/admin/projects", {"id": "a", "allowed_models": ["x", ""]}, "allowed_models[1]"),
        ("POST", "/admin/keys", {"project": "default", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ("POST", "/admin/keys", {"project": "default", "expires_at": "2050-01-01T00:00:00"}, "expires_at"),
        ("POST", "/admin/keys", {"project": "default", "secret": "mine"}, "secret"),
        ("POST", "/admin/keys", {"project": "nobody"}, "project"),
        ("POST", "/admin/keys/key-00000000/rotate", {"overlap_seconds": -1}, "overlap_seconds"),
        ("PUT", "/admin/budgets", {"scope": "key", "subject": "x", "period": "day", "limit_usd": 1}, "subject"),
        ("PUT", "/admin/budgets", {"scope": "all", "subject": "x", "period": "day", "limit_usd": 1}, "scope"),
        ("PUT", "/admin/budgets", {"scope": "project", "subject": "a", "period": "day", "limit_usd": 0}, "limit_usd"),
        (
            "PUT",
            "/admin/budgets",
            {"scope": "project", "subject": "a", "period": "day", "limit_usd": 1e99},
            "limit_usd",
        ),
        ("GET", "/admin/usage?by=colour", None, "by"),
        ("GET", "/admin/usage?modl=x", None, "modl"),
        ("GET", "/admin/usage?from=yesterday", None, "from"),
        ("GET", "/admin/costs?format=xml", None, "format"),
        ("GET", "/admin/requests?status=fine", None, "status[0]"),
        ("GET", "/admin/requests?page_token=mine", None, "page_token"),
        ("GET", "/admin/requests?page_size=1001", None, "page_size"),
        ("GET", "/admin/errors?status=ok", None, "status"),
        ("GET", "/admin/audit?before_id=-1", None, "before_id"),
    ],
)
async def test_a_mistake_is_named_by_its_field(
    admin: httpx.AsyncClient, method: str, path: str, body: Any, param: str
) -> None:
    error = await refused(admin.request(method, path, json=body) if body is not None else admin.request(method, path))
    assert error["param"] == param
    assert f"`{param}`" in error["message"] or param == "id"
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "path", ["/admin/projects/nobody", "/admin/keys/key-00000000", "/admin/budgets/project:nobody:day/override"]
)
async def test_what_is_not_there_is_a_404(admin: httpx.AsyncClient, path: str) -> None:
    method = "POST" if path.endswith("override") else "PATCH"
    assert (await refused(admin.request(method, path, json={}), 404))["code"] == "not_found"


async def test_unknown_paths_and_methods_are_told_as_elsewhere(admin: httpx.AsyncClient) -> None:
    assert (await refused(admin.get("/admin/nothing"), 404))["code"] == "not_found"
    assert (await refused(admin.get("/admin/"), 404))["code"] == "not_found"
    assert (await refused(admin.put("/admin/keys"), 405))["code"] == "method_not_allowed"


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", JSON, 400),
        (b'{"project": "\\ud800"}', JSON, 400),
        (b'{"project": NaN}', JSON, 400),
        (b"[" * 100_000, JSON, 400),
        (b"\xff", JSON, 400),
        (b"[]", JSON, 400),
        (b"", JSON, 400),
        (b'{"project":"default"}', {"content-type": "text/plain"}, 415),
        (b"", {"content-type": "text/plain", "origin": "https://evil.example"}, 415),
        (b'{"name":"' + b"x" * MAX_BODY + b'"}', JSON, 413),
    ],
)
async def test_bodies_that_are_no_request_make_no_key(
    admin: httpx.AsyncClient, content: bytes, headers: dict[str, str], status: int
) -> None:
    await refused(admin.post("/admin/keys", content=content, headers=headers), status)
    assert (await ok(admin.get("/admin/keys"))) == {"keys": []}


async def test_pages_of_other_origins_cannot_rotate_a_key(admin: httpx.AsyncClient) -> None:
    made = await key(admin)
    response = await admin.post(f"/admin/keys/{made['id']}/rotate", headers={"origin": "https://evil.example"})
    assert response.status_code == 415
    assert [one["id"] for one in (await ok(admin.get("/admin/keys")))["keys"]] == [made["id"]]


async def test_usage_is_summed_up_by_what_is_asked(used: httpx.AsyncClient) -> None:
    (rows,) = (await ok(used.get("/admin/usage", params={"by": "provider,status"}))).values()
    assert rows[0] == {
        "provider": "sandbox",
        "status": "ok",
        "attempts": 2,
        "errors": 0,
        "cancelled": 0,
        "input_tokens": 200,
        "output_tokens": 20,
        "cost_usd": 0,
        "unpriced": 0,
        "mean_duration_us": 250_000,
    }
    assert [(row["provider"], row["status"]) for row in rows[1:]] == [("acme", "error")]
    (everything,) = (await ok(used.get("/admin/usage", params={"by": ""})))["rows"]
    assert everything["attempts"] == 3
    assert "model" not in everything


@pytest.mark.parametrize(
    ("params", "count"),
    [
        ({"model": "echo"}, 2),
        ({"provider": ["acme", "sandbox"]}, 3),
        ({"project": "search"}, 1),
        ({"status": "ok"}, 2),
        ({"request_id": "call-1"}, 1),
        ({"from": "2026-07-25"}, 1),
        ({"until": "2026-07-25"}, 2),
        ({"from": "2026-07-24T12:00:00.000002Z", "until": "2026-07-25T00:00:00+02:00"}, 1),
    ],
)
async def test_filters_narrow_sums_and_lists_alike(used: httpx.AsyncClient, params: Any, count: int) -> None:
    (row,) = (await ok(used.get("/admin/usage", params=params | {"by": ""})))["rows"]
    assert row["attempts"] == count
    assert len((await ok(used.get("/admin/requests", params=params)))["attempts"]) == count


async def test_days_come_in_order(used: httpx.AsyncClient) -> None:
    rows = (await ok(used.get("/admin/usage/daily", params={"by": "provider"})))["rows"]
    assert [(row["day"], row["provider"]) for row in rows] == [
        ("2026-07-24", "acme"),
        ("2026-07-24", "sandbox"),
        ("2026-07-25", "sandbox"),
    ]


async def test_costs_have_a_total_and_say_what_is_not_in_it(tmp_path: Path) -> None:
    plenty = {"input_uncached": 1_000_000, "output_text": 0}
    attempts = [
        attempt(1, provider="openai", sent_model="gpt-4o-mini", answered_model="gpt-4o-mini", usage=plenty),
        attempt(2, provider="openai", sent_model="gpt-4o", answered_model="gpt-4o", usage=plenty),
        attempt(3, provider="acme", sent_model="unheard-of", answered_model=""),
    ]
    async with ledger(tmp_path, *attempts) as admin:
        found = await ok(admin.get("/admin/costs"))
    assert [row["model"] for row in found["rows"]] == ["gpt-4o", "gpt-4o-mini", "unheard-of"]
    assert found["total_usd"] == pytest.approx(2.65)
    assert found["unpriced"] == 1


async def test_requests_are_paged_and_errors_are_those_that_failed(used: httpx.AsyncClient) -> None:
    first = await ok(used.get("/admin/requests", params={"page_size": 2}))
    assert [one["request_id"] for one in first["attempts"]] == ["call-2", "call-3"]
    rest = await ok(used.get("/admin/requests", params={"page_size": 2, "page_token": first["next_page_token"]}))
    assert [one["request_id"] for one in rest["attempts"]] == ["call-1"]
    assert rest["next_page_token"] == ""
    (failed,) = (await ok(used.get("/admin/errors")))["attempts"]
    assert (failed["status"], failed["error_reason"], failed["usage"]) == ("error", "X", None)
    assert failed["started_at"] == "2026-07-24T12:00:00.000Z"
    assert rest["attempts"][0]["usage"]["input_uncached"] == 100


def lines(response: httpx.Response) -> list[dict[str, str]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(response.text, newline="")))


@pytest.mark.parametrize(
    "path", ["/admin/usage", "/admin/usage/daily", "/admin/costs", "/admin/errors", "/admin/requests"]
)
async def test_every_report_comes_as_csv_too(used: httpx.AsyncClient, path: str) -> None:
    by_accept = lines(await used.get(path, headers={"accept": "text/csv"}))
    assert by_accept == lines(await used.get(path, params={"format": "csv"}))
    assert by_accept
    assert (await used.get(path, headers={"accept": "text/csv"}, params={"format": "json"})).json()


async def test_a_spreadsheet_runs_nothing_that_a_model_is_called(used: httpx.AsyncClient) -> None:
    assert "'=cmd|calc" in [row["model"] for row in lines(await used.get("/admin/usage?format=csv"))]
    (failed,) = lines(await used.get("/admin/errors?format=csv"))
    assert (failed["sent_model"], failed["cost_usd"], failed["usage.input_uncached"]) == ("'=cmd|calc", "", "")


async def test_a_page_of_csv_says_where_the_next_begins(used: httpx.AsyncClient) -> None:
    first = await used.get("/admin/requests", params={"page_size": 2, "format": "csv"})
    token = first.headers["x-next-page-token"]
    last = await used.get("/admin/requests", params={"page_size": 2, "format": "csv", "page_token": token})
    assert [len(lines(first)), len(lines(last))] == [2, 1]
    assert "x-next-page-token" not in last.headers


async def test_acts_are_listed_newest_first_with_the_request_that_asked(admin: httpx.AsyncClient) -> None:
    await admin.post("/admin/projects", json={"id": "a"}, headers={"x-request-id": "ask-1"})
    await admin.post("/admin/projects", json={"id": "b"}, headers={"x-request-id": "ask-2"})
    (newest,) = (await ok(admin.get("/admin/audit", params={"page_size": 1})))["events"]
    assert (newest["action"], newest["subject"], newest["request_id"]) == ("CreateProject", "b", "ask-2")
    assert isinstance(newest["detail"], dict)
    (older,) = (await ok(admin.get("/admin/audit", params={"before_id": newest["id"]})))["events"]
    assert (older["subject"], older["request_id"]) == ("a", "ask-1")


async def test_alerts_are_listed() -> None:
    alerts, server = Alerts(), InProcessServer()
    down = alert_service_pb2.ALERT_KIND_PROVIDER_DOWN
    alerts.answer.alerts.add(id="a", kind=down, subject="acme", message="down", opened_at_us=NOON, seen_at_us=NOON)
    alert_service_pb2_grpc.add_AlertServiceServicer_to_server(alerts, server)
    async with over_http(server) as client:
        found = await ok(client.get("/admin/alerts", params={"open_only": "true", "page_size": 7}))
    assert alerts.asked == [alert_service_pb2.ListAlertsRequest(open_only=True, page_size=7)]
    assert found["alerts"] == [
        {
            "id": "a",
            "kind": "provider_down",
            "subject": "acme",
            "message": "down",
            "opened_at": "2026-07-24T12:00:00.000Z",
            "seen_at": "2026-07-24T12:00:00.000Z",
            "resolved_at": None,
        }
    ]


@pytest.mark.parametrize("header", [{"authorization": f"Bearer {ADMIN_KEY}"}, {"x-api-key": ADMIN_KEY}])
async def test_the_router_gets_the_operators_key_and_the_request_id(header: dict[str, str]) -> None:
    health, server = Health(), InProcessServer()
    breaker = router_admin_service_pb2.Breaker(model="m", state=router_admin_service_pb2.BREAKER_STATE_HALF_OPEN)
    health.answer = router_admin_service_pb2.GetRouterHealthResponse(
        providers=[router_admin_service_pb2.ProviderHealth(provider="acme", in_flight=2, breakers=[breaker])]
    )
    router_admin_service_pb2_grpc.add_RouterAdminServiceServicer_to_server(health, server)
    async with over_http(server) as client:
        found = await ok(client.get("/admin/health", headers=header | {"x-request-id": "ask-7"}))
        assert health.metadata["x-request-id"] == "ask-7"
        assert "x-actor" not in health.metadata
        assert found["providers"] == [
            {
                "provider": "acme",
                "state": None,
                "in_flight": 2,
                "max_in_flight": None,
                "queued": 0,
                "breakers": [{"model": "m", "state": "half_open", "calls": 0, "failures": 0, "retry_at": None}],
                "answered_at": None,
                "last_error": "",
            }
        ]
        refusal = await client.get("/admin/health", headers={"authorization": "Bearer wrong"})
    assert refusal.status_code == 401
    assert refusal.headers["www-authenticate"] == "Bearer"
    assert refusal.json()["error"]["code"] == "invalid_api_key"


async def test_what_the_gateway_does_not_have_is_a_404_that_says_why() -> None:
    async with over_http(InProcessServer()) as client:
        assert "`usage.enabled`" in (await refused(client.get("/admin/keys"), 404))["message"]


async def test_a_router_that_is_gone_is_a_503(tmp_path: Path) -> None:
    health, server = Health(), InProcessServer()
    router_admin_service_pb2_grpc.add_RouterAdminServiceServicer_to_server(health, server)
    async with over_http(server) as client:
        await server.stop(None)
        assert (await refused(client.get("/admin/health"), 503))["code"] == "unavailable"


async def test_a_fault_is_told_as_one_and_nothing_of_it_is_shown() -> None:
    health, server = Health(), InProcessServer()
    health.answer = GatewayError("INTERNAL", "internal error; the logs have it")
    router_admin_service_pb2_grpc.add_RouterAdminServiceServicer_to_server(health, server)
    async with over_http(server) as client:
        error = await refused(client.get("/admin/health", headers={"x-api-key": ADMIN_KEY}), 500)
    assert error["code"] == "internal_error"


async def test_no_key_and_no_secret_is_logged(admin: httpx.AsyncClient, capfd: pytest.CaptureFixture[str]) -> None:
    made = await ok(
        admin.post("/admin/keys", json={"project": "default"}, headers={"authorization": f"Bearer {ADMIN_KEY}"}), 201
    )
    out, err = capfd.readouterr()
    assert "createKey" in out + err
    assert made["secret"] not in out + err
    assert ADMIN_KEY not in out + err


async def test_pages_of_allowed_origins_may_administer(tmp_path: Path) -> None:
    asked = {"origin": "https://app.example", "access-control-request-method": "PATCH"}
    async with ledger(tmp_path, cors_origins=("https://app.example",)) as client:
        response = await client.options("/admin/keys/key-1", headers=asked)
    assert response.status_code == 200
    assert "PATCH" in response.headers["access-control-allow-methods"]


async def test_the_document_is_true_of_the_answers(used: httpx.AsyncClient) -> None:
    """Fields of answers are those of the document's schemas."""
    document = (await used.get("/openapi.json")).json()
    for path in ("/admin/projects", "/admin/costs", "/admin/requests", "/admin/audit"):
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        fields = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]["properties"]
        assert set(json.loads((await used.get(path)).text)) == set(fields)
