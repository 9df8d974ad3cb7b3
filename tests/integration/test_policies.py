"""What stands in, what is limited and what is paid for, end to end: HTTP in, real services, providers replayed."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import postgres
from support.cases import CASES, Case
from support.gateway import Gateway, Running, environment, start
from support.ledger import wait_for
from support.redis import RedisServer
from support.replay import Answer, Sent, Upstream

ADMIN = "operator-key-0123456789"
CHAT = "/v1/chat/completions"
BY_NAME = {case.provider: case for case in CASES}
PROMPT = "a prompt of nine tokens: 36 letters."
"""At four characters a token as many tokens as the stand-in says it had."""
BUDGET_CALLS, CALLS = 50, 500


def body(model: str, *, stream: bool = False) -> dict[str, Any]:
    return {"model": model, "max_tokens": 3, "stream": stream, "messages": [{"role": "user", "content": PROMPT}]}


def failing(*paths: str, status: int = 503) -> Any:
    """The stand-in fails at `paths`, and answers for everybody else."""

    def script(sent: Sent) -> Answer:
        if sent.path in paths:
            return Answer.of({"error": {"message": "out of order"}}, status)
        for case in CASES:
            if sent.path == case.path:
                return case.stream if case.path == case.stream_path and sent.json().get("stream") else case.whole
            if sent.path == case.stream_path:
                return case.stream
        raise AssertionError(sent.path)

    return script


CONFIG = """
retries: {attempts: 2, base_seconds: 0.01}
aliases: {smart: OPENAI}
fallbacks: {smart: [ANTHROPIC]}
prices: {"openai/*": {input: 1000, output: 1000}}
"""


@pytest.mark.parametrize("topology", ["embedded", "split"])
def test_another_provider_stands_in_and_callers_and_ledger_are_told(tmp_path: Path, topology: str) -> None:
    ours, other = BY_NAME["openai"], BY_NAME["anthropic"]
    config = tmp_path / "aigateway.yaml"
    config.write_text(CONFIG.replace("OPENAI", ours.name).replace("ANTHROPIC", other.name))
    with (
        Upstream(script=failing(ours.path)) as upstream,
        Gateway(
            topology, tmp_path, environment(upstream.url, "openai", "anthropic"), ("--config", str(config))
        ) as gateway,
    ):
        whole = httpx.post(gateway.http + CHAT, json=body("smart"), headers={"x-request-id": "r-1"}, timeout=30)
        streamed = httpx.post(gateway.http + CHAT, json=body("smart", stream=True), timeout=30)
        alone = httpx.post(gateway.http + CHAT, json=body(ours.name), timeout=30)
        attempts = wait_for(gateway.data, 3, "select * from attempts where request_id = 'r-1' order by attempt")
    assert whole.json()["choices"][0]["message"]["content"] == "Hello there"
    for answer in (whole, streamed):
        assert answer.status_code == 200
        assert (answer.headers["x-hub-fallback"], answer.headers["x-gateway-attempts"]) == ("true", "3")
        assert answer.headers["x-hub-original-provider"] == "openai"
        assert answer.headers["x-hub-actual-provider"] == answer.headers["x-provider"] == "anthropic"
    assert alone.status_code == 503
    assert "x-hub-fallback" not in alone.headers
    assert [(row["provider"], row["status"], row["fallback_from"]) for row in attempts] == [
        ("openai", "error", None),
        ("openai", "error", None),
        ("anthropic", "ok", ours.name),
    ]


@dataclass
class Cluster:
    """Usage service, adapter, and two routers with an edge each, which share one Redis and one PostgreSQL."""

    parts: list[Running] = field(default_factory=list)
    doors: list[str] = field(default_factory=list)

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """An operator's request, at the first edge."""
        headers = {"authorization": f"Bearer {ADMIN}"}
        answer = httpx.request(method, f"{self.doors[0]}/admin{path}", json=body, headers=headers, timeout=30)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def key(self, **limits: int) -> str:
        """A new key."""
        made = self.admin("POST", "/keys", {"project": "default", "limits": limits})
        secret: str = made["secret"]
        self.id = made["key"]["id"] if "key" in made else made["id"]
        return secret


@pytest.fixture
async def cluster(tmp_path: Path, redis_server: RedisServer) -> Any:
    config = tmp_path / "aigateway.yaml"
    config.write_text("prices: {'openai/*': {input: 1000, output: 1000}}\n")
    with postgres.running() as database, Upstream(BY_NAME["openai"].whole) as upstream:
        shared = {"ADMIN_API_KEY": ADMIN, "REDIS_URL": redis_server.url, "DATABASE_URL": await database.create()}
        with started(tmp_path, config, environment(upstream.url, "openai") | shared) as running:
            yield running


@contextlib.contextmanager
def started(folder: Path, config: Path, env: dict[str, str]) -> Iterator[Cluster]:
    running = Cluster()
    common = ("--grpc-port", "0", "--config", str(config))
    try:
        for service in ("usage", "provider:openai"):
            running.parts.append(start(folder, env, "serve", service, "--data-dir", str(folder / "data"), *common))
        usage, adapter = running.parts
        for number in range(2):
            targets = {
                "AIGATEWAY_USAGE_TARGET": usage.grpc("usage"),
                "AIGATEWAY_PROVIDER_TARGETS": f"openai={adapter.grpc('provider:openai')}",
            }
            own = ("--port", "0", "--data-dir", str(folder / f"router-{number}"))
            part = start(folder, env | targets, "serve", "edge,router", *own, *common)
            running.parts.append(part)
            running.doors.append(part.http)
        yield running
    finally:
        codes = [part.stop() for part in reversed(running.parts)]
    assert codes == [0] * len(codes), "\n".join(part.text() for part in running.parts)


async def flood(
    doors: list[str], secret: str, calls: int, case: Case, at_once: int | None = None
) -> list[httpx.Response]:
    """`calls`, spread over `doors`, all or so many at once."""
    headers = {"authorization": f"Bearer {secret}"}
    limits = httpx.Limits(max_connections=at_once)
    async with httpx.AsyncClient(headers=headers, timeout=120, limits=limits) as client:
        return await asyncio.gather(
            *(client.post(doors[number % len(doors)] + CHAT, json=body(case.name)) for number in range(calls))
        )


async def spent(cluster: Cluster, budget: str) -> dict[str, Any]:
    """The budget, once nothing is set aside any more."""
    async with asyncio.timeout(30):
        while True:
            listed = await asyncio.to_thread(cluster.admin, "GET", "/budgets")
            (found,) = [one for one in listed["budgets"] if one["id"] == budget]
            if not found["reserved_usd"]:
                return dict(found)


@pytest.mark.timeout(180)
async def test_two_routers_never_spend_more_than_a_budget_holds(cluster: Cluster) -> None:
    case = BY_NAME["openai"]
    secret = await asyncio.to_thread(cluster.key)
    price = 12 * 1000 / 1e6
    wanted = {"scope": "key", "subject": cluster.id, "period": "month", "limit_usd": price * BUDGET_CALLS}
    budget = await asyncio.to_thread(cluster.admin, "PUT", "/budgets", wanted)
    answers = await flood(cluster.doors, secret, CALLS, case)
    after = await spent(cluster, budget["id"])
    await flood(cluster.doors, secret, BUDGET_CALLS, case, at_once=4)
    late = (await flood(cluster.doors, secret, 1, case))[0]
    counts = Counter(answer.status_code for answer in answers)
    # A slow machine may answer some with "the budget cannot be checked", and lets none of those through.
    assert set(counts) <= {200, 429, 503}, counts
    assert counts[200] == BUDGET_CALLS or (counts[503] and counts[200] < BUDGET_CALLS)
    assert after["spent_usd"] == pytest.approx(price * counts[200])
    error = late.json()["error"]
    assert (late.status_code, error["code"]) == (429, "budget_exceeded")
    assert float(error["budget"]["limit"]) == pytest.approx(price * BUDGET_CALLS)
    assert float(error["budget"]["spent"]) == pytest.approx(price * BUDGET_CALLS)
    assert error["budget"]["resets_at"]


@pytest.mark.timeout(180)
async def test_two_routers_share_a_limit(cluster: Cluster) -> None:
    secret = await asyncio.to_thread(cluster.key, requests_per_minute=40)
    # Few at once: a router that waits too long for Redis counts for itself.
    answers = await flood(cluster.doors, secret, 200, BY_NAME["openai"], at_once=8)
    counts = Counter(answer.status_code for answer in answers)
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert counts == {200: 40, 429: 160}
    assert refused.headers["x-ratelimit-limit-requests"] == "40"
    assert int(refused.headers["retry-after"]) > 0


@pytest.mark.timeout(180)
async def test_a_revoked_key_stops_at_both_routers(cluster: Cluster) -> None:
    secret = await asyncio.to_thread(cluster.key)
    before = await flood(cluster.doors, secret, 2, BY_NAME["openai"])
    await asyncio.to_thread(cluster.admin, "DELETE", f"/keys/{cluster.id}")
    async with asyncio.timeout(10):
        while any(answer.status_code == 200 for answer in await flood(cluster.doors, secret, 2, BY_NAME["openai"])):
            pass
    assert [answer.status_code for answer in before] == [200, 200]
