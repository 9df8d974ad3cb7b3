"""Every example of the OpenAPI page works as it stands on a gateway that nobody configured."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support.gateway import Gateway


@pytest.fixture(scope="module")
def document(sandbox: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{sandbox.http}/openapi.json").json()
    return found


def _example(operation: dict[str, Any]) -> Any:
    """The body that the page offers; None for an operation without one."""
    body = operation.get("requestBody")
    return body["content"]["application/json"]["example"] if body else None


def _values(operation: dict[str, Any], place: str) -> dict[str, str]:
    given = operation.get("parameters", [])
    return {one["name"]: one["example"] for one in given if one["in"] == place and one.get("required")}


def test_every_documented_example_is_answered_by_a_fresh_gateway(sandbox: Gateway, document: dict[str, Any]) -> None:
    answered: dict[tuple[str, str], tuple[int, str]] = {}
    with httpx.Client(base_url=sandbox.http, timeout=30) as client:
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                answer = client.request(
                    method,
                    path.format(**_values(operation, "path")),
                    headers=_values(operation, "header"),
                    json=_example(operation),
                )
                answered[path, method] = (answer.status_code, answer.headers.get("x-gateway-translation", ""))
    assert set(answered.values()) == {(200, "")}, answered
    assert ("/v1/chat/completions", "post") in answered


def test_examples_are_short_enough_to_read(document: dict[str, Any]) -> None:
    """The required fields and nothing else, so that the page fills in no field which somebody would have to delete."""
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        if "post" in methods:
            name = methods["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
            assert set(_example(methods["post"])) == set(schemas[name]["required"]), path
