"""The operators' commands, at a shell: on this machine's ledger, beside a running service, and through a gateway."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aigateway.v1 import alert_service_pb2, alert_service_pb2_grpc
from aigateway_common.errors import GatewayError
from aigateway_common.inprocess import InProcessServer
from support.admin import ADMIN_KEY, Alerts, ledger, over_http
from support.attempts import NOON
from support.gateway import command, environment

Done = subprocess.CompletedProcess[str]


def run(folder: Path, *arguments: str, **env: str) -> Done:
    variables = environment(None, **env)
    return subprocess.run(
        command(*arguments), env=variables, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def good(folder: Path, *arguments: str, **env: str) -> str:
    got = run(folder, *arguments, **env)
    assert (got.returncode, got.stderr) == (0, "")
    return got.stdout


def told(folder: Path, *arguments: str, **env: str) -> Any:
    return json.loads(good(folder, *arguments, "--json", **env))


async def beside(folder: Path, *arguments: str, **env: str) -> Done:
    """A command, while this process serves."""
    return await asyncio.to_thread(run, folder, *arguments, **env)


def test_a_key_lives_and_dies_on_this_machines_ledger(tmp_path: Path) -> None:
    project = told(tmp_path, "projects", "create", "search", "--rpm", "60", "--allow", "openai/*", "--allow", "fast")
    assert project["limits"]["requests_per_minute"] == 60
    assert project["allowed_models"] == ["openai/*", "fast"]
    text = good(tmp_path, "keys", "create", "--project", "search", "--name", "ci", "--expires", "30d")
    (secret,) = [line for line in text.splitlines() if line.startswith("gw-")]
    assert "This is shown once" in text
    (key,) = told(tmp_path, "keys", "list", "--project", "search")
    assert secret.startswith(key["prefix"])
    assert secret not in json.dumps(key)
    changed = told(tmp_path, "keys", "update", key["id"], "--tpm", "9000", "--expires", "none")
    assert (changed["limits"]["tokens_per_minute"], changed["expires_at"]) == (9000, None)
    successor = told(tmp_path, "keys", "rotate", key["id"], "--overlap", "1h")
    assert successor["secret"] != secret
    assert told(tmp_path, "keys", "revoke", successor["id"], "--cut-calls")["revoked_at"]
    lines = good(tmp_path, "keys", "list").splitlines()
    assert {line.split()[0]: ("revoked" in line) for line in lines[1:]} == {key["id"]: False, successor["id"]: True}
    acts = told(tmp_path, "audit", "--last", "50")
    assert {act["actor"] for act in acts} == {"cli"}
    assert {act["action"] for act in acts} == {"CreateProject", "CreateKey", "UpdateKey", "RotateKey", "RevokeKey"}


def test_a_budget_is_set_overridden_and_removed(tmp_path: Path) -> None:
    table = good(tmp_path, "budgets", "set", "project", "default", "--limit", "12.5", "--period", "total")
    assert "project:default:total" in table
    assert "$12.50" in table
    one = told(tmp_path, "budgets", "override", "project:default:total")
    assert one["overridden_until"]
    assert told(tmp_path, "budgets", "override", "project:default:total", "--revert")["overridden_until"] is None
    assert good(tmp_path, "budgets", "delete", "project:default:total") == "project:default:total is removed.\n"
    assert good(tmp_path, "budgets", "list") == "There are none.\n"


async def test_what_is_made_here_is_there_in_the_running_service_and_the_other_way_round(tmp_path: Path) -> None:
    async with ledger(tmp_path) as admin:
        got = await beside(tmp_path, "projects", "create", "search", "--data-dir", str(tmp_path))
        assert got.returncode == 0, got.stderr
        assert (await admin.get("/admin/projects/search")).status_code == 200
        await admin.patch("/admin/projects/search", json={"disabled": True})
        got = await beside(tmp_path, "projects", "list", "--data-dir", str(tmp_path))
        assert "disabled" in got.stdout


async def test_commands_go_through_a_running_gateway(tmp_path: Path) -> None:
    async with ledger(tmp_path / "elsewhere") as admin:
        url = str(admin.base_url)
        made = await beside(tmp_path, "keys", "create", "--url", url, "--concurrent", "2", "--json")
        assert made.returncode == 0, made.stderr
        listed = await beside(tmp_path, "keys", "list", "--json", AIGATEWAY_URL=url)
        assert [key["id"] for key in json.loads(listed.stdout)] == [json.loads(made.stdout)["id"]]
        assert "secret" not in json.loads(listed.stdout)[0]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("way", ["option", "variable", "file"])
async def test_the_admin_key_goes_along(tmp_path: Path, way: str) -> None:
    alerts, server = Alerts(), InProcessServer()
    down = alert_service_pb2.ALERT_KIND_PROVIDER_DOWN
    alerts.answer.alerts.add(id="a", kind=down, subject="acme", message="it is down", opened_at_us=NOON)
    alert_service_pb2_grpc.add_AlertServiceServicer_to_server(alerts, server)
    (tmp_path / "key").write_text(ADMIN_KEY + "\n")
    option = ("--admin-key", ADMIN_KEY) if way == "option" else ()
    env = {"variable": {"ADMIN_API_KEY": f"{ADMIN_KEY}, another"}, "file": {"ADMIN_API_KEY_FILE": "key"}}.get(way, {})
    async with over_http(server) as client:
        got = await beside(tmp_path, "alerts", "--open", "--url", str(client.base_url), *option, **env)
    assert (got.returncode, got.stderr) == (0, "")
    assert "2026-07-24 12:00  no    provider_down  acme  it is down" in got.stdout
    assert alerts.metadata["authorization"] == f"Bearer {ADMIN_KEY}"
    assert alerts.asked == [alert_service_pb2.ListAlertsRequest(open_only=True, page_size=100)]


async def test_refusals_have_exit_codes_of_their_own(tmp_path: Path) -> None:
    alerts, server = Alerts(), InProcessServer()
    alert_service_pb2_grpc.add_AlertServiceServicer_to_server(alerts, server)
    async with over_http(server) as client:
        for reason, status, code in (
            ("UNAUTHENTICATED", 401, 3),
            ("PERMISSION_DENIED", 403, 3),
            ("OVERLOADED", 503, 1),
        ):
            alerts.failure = GatewayError(reason, "no")
            got = await beside(tmp_path, "alerts", "--url", str(client.base_url))
            assert (got.returncode, got.stdout, got.stderr) == (code, "", f"{status}: no\n")


def test_mistakes_are_told_with_the_fix_and_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "off.yaml").write_text("usage: {enabled: false}\n")
    (tmp_path / "file").touch()
    cases: list[tuple[int, str, tuple[str, ...]]] = [
        (4, "there is no key `key-00000000`", ("keys", "revoke", "key-00000000")),
        (2, "`project`", ("keys", "create", "--project", "nobody")),
        (2, "--rpm", ("keys", "create", "--rpm", "many")),
        (2, "say what to change", ("projects", "update", "default")),
        (2, "usage.enabled", ("keys", "list", "--config", "off.yaml")),
        (1, "the ledger cannot be opened", ("keys", "list", "--data-dir", "file")),
        (1, "`aigateway up`", ("keys", "list", "--url", "http://127.0.0.1:1")),
    ]
    for code, text, arguments in cases:
        got = run(tmp_path, *arguments)
        assert (got.returncode, got.stdout) == (code, ""), got
        assert text in got.stderr
        assert "Traceback" not in got.stderr


def test_a_refusal_is_json_for_those_who_asked_for_json(tmp_path: Path) -> None:
    got = run(tmp_path, "keys", "create", "--project", "nobody", "--json")
    assert json.loads(got.stderr)["error"]["param"] == "project"


def test_the_commands_load_nothing_heavy_before_they_run(tmp_path: Path) -> None:
    heavy = {"httpx", "fastapi", "sqlalchemy", "pydantic", "grpc", "structlog", "rich.table"}
    code = f"import sys, aigateway_launcher.cli; print(sorted({heavy!r} & set(sys.modules)))"
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert got.stdout.strip() == "[]"
