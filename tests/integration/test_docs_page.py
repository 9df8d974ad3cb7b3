"""`/docs` as a browser loads it: whole, from this host alone, and only where it is wanted."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from urllib.parse import urljoin

import httpx
import pytest
from support.edge import Router, edge


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with edge(Router()) as served, httpx.AsyncClient(base_url=served.url) as client:
        yield client


async def test_the_page_and_all_that_it_names_come_from_this_host(http: httpx.AsyncClient) -> None:
    page = await http.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    named = re.findall(r'(?:src|href|url)(?:=|: )"([^"]+)"', page.text)
    assert named == [
        "data:,",
        "docs/files/swagger-ui.css",
        "openapi.json",
        "docs/files/swagger-ui-bundle.js",
        "openapi.json",
    ]
    found = {name: await http.get(urljoin("/docs", name)) for name in named[1:]}
    assert {name: (answer.status_code, answer.headers["content-type"]) for name, answer in found.items()} == {
        "docs/files/swagger-ui.css": (200, "text/css; charset=utf-8"),
        "openapi.json": (200, "application/json"),
        "docs/files/swagger-ui-bundle.js": (200, "text/javascript; charset=utf-8"),
    }
    assert b"SwaggerUIBundle" in found["docs/files/swagger-ui-bundle.js"].content


async def test_the_page_lets_browsers_ask_no_other_host(http: httpx.AsyncClient) -> None:
    policy = (await http.get("/docs")).headers["content-security-policy"]
    directives = dict(directive.split(" ", 1) for directive in policy.split("; "))
    assert directives.pop("default-src") == "'none'"
    allowed = {source for sources in directives.values() for source in sources.split()}
    assert {source for source in allowed if not source.startswith("'sha256-")} == {
        "'self'",
        "'none'",
        "'unsafe-inline'",
        "data:",
    }
    assert "'unsafe-inline'" not in directives["script-src"]


async def test_the_page_can_be_switched_off() -> None:
    async with edge(Router(), docs=False) as served, httpx.AsyncClient(base_url=served.url) as client:
        answers = [await client.get(path) for path in ("/docs", "/docs/files/swagger-ui.css", "/openapi.json")]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
