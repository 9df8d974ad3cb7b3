"""Nothing that the OpenAPI page says of `/admin`, and little that it forbids, makes it fail on its own side."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from support.admin import ledger
from support.attempts import attempt

KNOWN = ("default", "made", "project:made:month")
"""Ids that are there, so that not every request ends at what is not."""
EXAMPLES = 4


async def test_no_request_makes_it_fail(tmp_path: Path) -> None:
    async with ledger(tmp_path, attempt(1), attempt(2)) as admin:
        made = await admin.post("/admin/projects", json={"id": "made"})
        budget = {"scope": "project", "subject": "made", "period": "month", "limit_usd": 1}
        assert [made.status_code, (await admin.put("/admin/budgets", json=budget)).status_code] == [201, 200]
        seen = await asyncio.to_thread(_all, (await admin.get("/openapi.json")).json(), str(admin.base_url))
    assert {operation.split(" ")[1].split("/")[2] for operation in seen} == {
        "projects",
        "keys",
        "budgets",
        "usage",
        "costs",
        "errors",
        "requests",
        "alerts",
        "audit",
        "health",
    }
    answered = {operation for operation, statuses in seen.items() if any(status < 300 for status in statuses)}
    assert {"POST /admin/projects", "PATCH /admin/projects/{id}", "GET /admin/costs"} <= answered


def _all(document: dict[str, Any], url: str) -> dict[str, set[int]]:
    document["paths"] = {path: found for path, found in document["paths"].items() if path.startswith("/admin/")}
    seen: dict[str, set[int]] = {}
    with httpx.Client(base_url=url, timeout=10) as client:
        for found in schemathesis.openapi.from_dict(document).get_all_operations():
            assert isinstance(found, Ok), found
            operation = found.ok()
            for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
                statuses = seen.setdefault(f"{operation.method.upper()} {operation.path}", set())
                _fuzz(client, operation, mode, statuses)
    return seen


def _fuzz(client: httpx.Client, operation: Any, mode: GenerationMode, statuses: set[int]) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode), st.sampled_from([None, *KNOWN]))
    def holds(case: Any, known: str | None) -> None:
        if known and "id" in (case.path_parameters or {}):
            case.path_parameters["id"] = known
        request = case.as_transport_kwargs(base_url=str(client.base_url))
        headers = {key: value for key, value in request.get("headers", {}).items() if _sendable(value)}
        sent = {key: value for key, value in request.items() if key in {"method", "url", "json", "params"}}
        response = client.request(**sent, headers=headers, content=request.get("data"))
        statuses.add(response.status_code)
        assert response.status_code < 500, (request, response.text)

    holds()


def _sendable(value: str) -> bool:
    """A header that the client does not refuse itself."""
    return value.isascii() and value == value.strip()
