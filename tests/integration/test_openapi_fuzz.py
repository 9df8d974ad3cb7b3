"""Nothing that the OpenAPI page allows, and little that it forbids, makes the gateway fail on its own side."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from support.gateway import Gateway

MODELS = ("sandbox/echo", "sandbox/tools", "sandbox/json", "sandbox/reason", "sandbox/embed")
TALK = [{"role": "user", "content": "hi"}]
"""Made-up messages are nearly always refused; with these the other fields are read, too."""
EXAMPLES = 10
"""Requests of each route in each mode, short aliases of routes aside; the suite is to stay quick."""


def test_no_request_makes_the_gateway_fail(sandbox: Gateway) -> None:
    document = httpx.get(f"{sandbox.http}/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    seen: dict[str, dict[int, int]] = {}
    with httpx.Client(base_url=sandbox.http, timeout=10) as client:
        for found in schema.get_all_operations():
            assert isinstance(found, Ok), found
            operation = found.ok()
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                statuses = seen.setdefault(f"{operation.method.upper()} {operation.path}", {})
                _fuzz(client, operation, mode, statuses)
    print(json.dumps(seen, indent=1))
    assert {path.split(" ")[1] for path in seen} == set(document["paths"])


def _fuzz(client: httpx.Client, operation: Any, mode: GenerationMode, statuses: dict[int, int]) -> None:
    @settings(
        max_examples=EXAMPLES if operation.path.startswith("/v1/") else 2,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def holds(case: Any) -> None:
        request = case.as_transport_kwargs(base_url=str(client.base_url))
        response = _send(client, request)
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
        if response.status_code == 504:  # the caller's own limit, which may be next to nothing
            assert "X-Gateway-Timeout" in request["headers"], request
        else:
            assert response.status_code < 500, (request, response.text)

    with contextlib.suppress(Unsatisfiable):  # a route that takes nothing cannot be asked wrongly
        holds()


def _send(client: httpx.Client, request: dict[str, Any]) -> httpx.Response:
    known = {key: value for key, value in request.items() if key in {"method", "url", "json", "params"}}
    body = known.get("json")
    if isinstance(body, dict) and isinstance(body.get("model"), str):
        size = len(json.dumps(body))
        talk = {"messages": TALK} if size % 2 and isinstance(body.get("messages"), list) else {}
        known["json"] = body | {"model": MODELS[size % len(MODELS)]} | talk
    headers = {key: value for key, value in request.get("headers", {}).items() if _sendable(value)}
    return client.request(**known, headers=headers, content=request.get("data"))


def _sendable(value: str) -> bool:
    """A header that the client does not refuse itself."""
    return value.isascii() and value == value.strip()
