"""Fallbacks, limits and budgets over HTTP: the headers and bodies that callers and their SDKs get."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx
import openai
import pytest
from aigateway.v1 import gateway_service_pb2
from aigateway_common.errors import GatewayError
from support.edge import ROUTE, Event, Router, edge, finish, start

Limit = gateway_service_pb2.LimitState
TALK: list[Any] = [{"role": "user", "content": "hi"}]
ASKED: dict[str, Any] = {"model": "acme/m", "messages": TALK, "max_tokens": 9}
VERSION = {"anthropic-version": "2023-06-01"}
BUDGET = {"id": "key:key-1:day", "limit": 1.0, "spent": 1.5, "reserved": 0.0, "resets_at": "2026-08-01T00:00:00Z"}
SPENT = GatewayError(
    "BUDGET_EXCEEDED",
    "the budget is spent",
    details={"budget" if name == "id" else name: str(value) for name, value in BUDGET.items()},
)


def fell_back() -> gateway_service_pb2.Route:
    route = gateway_service_pb2.Route()
    route.CopyFrom(ROUTE)
    route.MergeFrom(
        gateway_service_pb2.Route(
            original_provider="first",
            attempts=2,
            request_limit=Limit(limit=60, remaining=59, reset_ms=1000),
            token_limit=Limit(limit=9000, remaining=8000, reset_ms=6667),
            low_budgets=["project `a`: 71 % of $5.00 this month"],
        )
    )
    return route


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_every_answer_says_what_became_of_it(path: str, stream: bool) -> None:
    router = Router(steps=[[start(), Event(text="hi"), finish()]], route=fell_back())
    async with edge(router) as served, httpx.AsyncClient() as client:
        response = await client.post(served.url + path, json=ASKED | {"stream": stream}, headers=VERSION)
    assert response.status_code == 200
    told = {
        name: value for name, value in response.headers.items() if name.startswith(("x-hub", "x-rate", "x-gateway"))
    }
    assert told == {
        "x-hub-fallback": "true",
        "x-hub-original-provider": "first",
        "x-hub-actual-provider": "acme",
        "x-gateway-attempts": "2",
        "x-gateway-budget": "project `a`: 71 % of $5.00 this month",
        "x-ratelimit-limit": "60",
        "x-ratelimit-remaining": "59",
        "x-ratelimit-reset": "1",
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "9000",
        "x-ratelimit-remaining-tokens": "8000",
        "x-ratelimit-reset-tokens": "6.667s",
    }
    assert ("anthropic-ratelimit-requests-limit" in response.headers) is (path == "/v1/messages")


async def test_a_spent_budget_reaches_users_of_openais_sdk() -> None:
    async with edge(Router(completion=SPENT)) as served:
        client = openai.AsyncOpenAI(api_key="k", base_url=served.url + "/v1", max_retries=0)
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="acme/m", messages=TALK)
        await client.close()
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["budget"] == BUDGET
    assert caught.value.response.headers["x-should-retry"] == "false"


async def test_a_spent_budget_reaches_users_of_anthropics_sdk() -> None:
    async with edge(Router(completion=SPENT)) as served:
        client = anthropic.AsyncAnthropic(api_key="k", base_url=served.url, max_retries=0)
        with pytest.raises(anthropic.RateLimitError) as caught:
            await client.messages.create(model="acme/m", messages=TALK, max_tokens=9)
        await client.close()
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["budget"] == BUDGET


async def test_a_refusal_for_a_limit_says_when_to_come_back() -> None:
    details = {"limit_requests": "60", "remaining_requests": "0", "reset_requests_ms": "1000"}
    failure = GatewayError("RATE_LIMITED", "wait", details=details, retry_after=0.5)
    async with edge(Router(completion=failure), wire=True) as served, httpx.AsyncClient() as client:
        response = await client.post(served.url + "/v1/messages", json=ASKED, headers=VERSION)
    assert response.status_code == 429
    assert response.headers["retry-after"] == "1"
    assert response.headers["x-ratelimit-reset-requests"] == "1s"
    assert response.headers["anthropic-ratelimit-requests-remaining"] == "0"


async def test_the_callers_session_reaches_the_router() -> None:
    router = Router()
    async with edge(router) as served, httpx.AsyncClient() as client:
        await client.post(served.url + "/v1/chat/completions", json=ASKED, headers={"x-session-id": "chat-7"})
        assert router.metadata["x-session-id"] == "chat-7"
        await client.post(served.url + "/v1/chat/completions", json=ASKED, headers={"x-session-id": "x" * 999})
        assert "x-session-id" not in router.metadata


async def test_pages_of_allowed_origins_may_read_the_headers() -> None:
    async with edge(Router(), cors_origins=("https://app.example",)) as served, httpx.AsyncClient() as client:
        origin = {"origin": "https://app.example"}
        response = await client.post(served.url + "/v1/chat/completions", json=ASKED, headers=origin)
    exposed = response.headers["access-control-expose-headers"].split(", ")
    assert {"x-hub-fallback", "x-ratelimit-remaining", "x-gateway-budget", "retry-after"} <= set(exposed)
