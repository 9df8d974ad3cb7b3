"""A real Prometheus scrapes a real run in which nearly everything happens that is counted, and is asked what the
dashboards and alerts ask.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import yaml
from support import prometheus, redis
from support.cases import CASES
from support.envoy import free_port
from support.gateway import Gateway, environment
from support.kustomize import K8S, scaling_queries
from support.prometheus import Prometheus
from support.replay import Answer, Sent, Upstream

ROOT = K8S.parents[1]
ADMIN, KEY = "operator-key-0123456789", "prometheus-key-0123456789"
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
CHAT = "/v1/chat/completions"
CONFIG = """
edge: {max_calls: 4}
retries: {attempts: 2, base_seconds: 0.01}
breaker: {min_calls: 4}
aliases: {smart: openai/failing}
fallbacks: {smart: [anthropic/claude-haiku-4-5]}
hedging: {anthropic/slow: 0.05}
concurrency: {ollama: {max_in_flight: 1, max_queued: 1}}
alerts:
  consecutive_errors: 2
  webhooks: [{url: "ADDRESS", secret: "${HOOK_SECRET}", allow_private: true}]
"""
THRESHOLD = re.compile(r"\s*(?:>|==)\s*[\d.* ]+$")
BY_NAME = {case.provider: case for case in CASES}


def alerting() -> Iterator[tuple[str, str]]:
    """What each alert asks."""
    for group in yaml.safe_load((ROOT / "deploy/docker/prometheus-alerts.yaml").read_text())["groups"]:
        yield from ((rule["alert"], rule["expr"]) for rule in group["rules"])


def questions() -> Iterator[tuple[str, str]]:
    """What each panel and KEDA ask, and each alert but for how much is too much."""
    for name, expression in alerting():
        yield name, THRESHOLD.sub("", expression)
    for path in sorted((K8S / "components/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                if "expr" in target:
                    yield f"{path.stem}: {panel['title']}", target["expr"].replace("$__rate_interval", "1m")
    yield from scaling_queries()


def plain(sent: Sent) -> Answer:
    """What a provider answers, by the model that is asked."""
    case = next((case for case in CASES if sent.path in (case.path, case.stream_path)), None)
    if case is None:
        return Answer.of({}, 200 if sent.path == "/hook" else 404)
    asked = sent.json()
    model = asked.get("model", "")
    if model == "failing":
        return Answer.of({"error": {"message": "out of order"}}, 503)
    if model == "busy":
        return Answer.of({"error": {"message": "slow down"}}, 429)
    if model == "wrong-key":
        return Answer.of({"error": {"message": "no such key"}}, 401)
    if model == "held":
        return Answer(case.stream.status, case.stream.headers, case.stream.pieces[:3], hold=True)
    if model == "slow":
        return Answer(case.whole.status, case.whole.headers, (b"", *case.whole.pieces), gap=0.5)
    if model == "odd":
        return changed(case.whole, finish_reason="of its own")
    return case.stream if asked.get("stream") else ollama(case.whole) if case.provider == "ollama" else case.whole


def changed(answer: Answer, **choice: object) -> Answer:
    body = json.loads(b"".join(answer.pieces))
    body["choices"][0] |= choice
    body["model"] = "unheard-of"
    body["usage"]["prompt_tokens_details"] = {"cached_tokens": 4}
    return Answer.of(body)


def ollama(answer: Answer) -> Answer:
    times = {"load_duration": 2_000_000_000, "prompt_eval_duration": 1_000_000, "eval_duration": 1_000_000}
    return Answer.of(json.loads(b"".join(answer.pieces)) | times)


@dataclass
class Run:
    """A split gateway that shares its limits in Redis."""

    gateway: Gateway
    counters: redis.RedisServer

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {ADMIN}"}
        answer = httpx.request(method, f"{self.gateway.http}/admin{path}", json=body, headers=headers, timeout=30)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def traffic(self) -> None:
        """A little of everything."""
        url, key = self.gateway.http + CHAT, {"authorization": f"Bearer {KEY}"}

        def call(model: str, **more: Any) -> int:
            body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]} | more
            return httpx.post(url, json=body, headers=key, timeout=30).status_code

        for name in ("openai", "anthropic", "ollama"):
            assert call(BY_NAME[name].name) == call(BY_NAME[name].name, stream=True) == 200
        assert call("openai/odd") == 200
        assert call("smart") == 200
        for model in ("failing", "busy", "wrong-key"):
            assert call(f"openai/{model}") >= 429
            assert call(f"openai/{model}", stream=True) >= 429
        assert call("ollama/failing") >= 500
        assert call("anthropic/slow") == 200
        with ThreadPoolExecutor(2) as pool:  # of which one waits for the other
            assert list(pool.map(lambda _: call("ollama/slow"), range(2))) == [200, 200]
        self.limited()
        self.left(url, key)
        with ThreadPoolExecutor(8) as pool:
            assert 503 in pool.map(lambda _: call("anthropic/slow"), range(8))

    def limited(self) -> None:
        """A key that may call once a minute calls twice, and another is revoked in mid-answer."""
        url = self.gateway.http + CHAT
        body = {"model": "openai/held", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        made = self.admin("POST", "/keys", {"project": "default", "limits": {"requests_per_minute": 1}})
        key = {"authorization": f"Bearer {made['secret']}"}
        with httpx.stream("POST", url, json=body, headers=key, timeout=30) as answer:
            lines = answer.iter_lines()
            next(lines)
            refused = httpx.post(url, json=body, headers=key, timeout=30)
            self.admin("DELETE", f"/keys/{made['id']}?cut_calls=true")
            rest = "".join(lines)
        assert refused.status_code == 429
        assert '"error"' in rest

    @staticmethod
    def left(url: str, key: dict[str, str]) -> None:
        """A caller leaves in mid-answer."""
        body = {"model": "openai/held", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        with httpx.stream("POST", url, json=body, headers=key, timeout=30) as answer:
            next(answer.iter_lines())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("prometheus")
    config = folder / "aigateway.yaml"
    with Upstream(script=plain) as upstream, redis.running() as counters:
        config.write_text(CONFIG.replace("ADDRESS", f"{upstream.url}/hook"))
        keys = {"GATEWAY_API_KEY": KEY, "ADMIN_API_KEY": ADMIN, "REDIS_URL": counters.url, "HOOK_SECRET": SECRET}
        env = environment(upstream.url, "openai", "anthropic", "ollama") | keys
        options = ("--config", str(config), "--metrics-port", str(free_port(row=7)))
        with Gateway("split", folder, env, options) as gateway:
            yield Run(gateway, counters)


@pytest.fixture(scope="module")
def server(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    targets: dict[str, list[str]] = {}
    for services, address in run.gateway.running[-1].addresses["metrics"].items():
        targets.setdefault(services.partition(":")[0], []).append(address)
    folder = tmp_path_factory.mktemp("server")
    with prometheus.running(folder, ROOT / "deploy/docker/prometheus.yaml", targets) as server:
        server.scraped()
        for _ in range(2):  # a counter that is there for the first time has not grown yet
            run.traffic()
            server.scraped()
        yield server


def test_every_panel_and_alert_gets_numbers(server: Prometheus) -> None:
    asked = [(where, expression) for where, expression in questions() if where not in LATER]
    assert len(asked) > 50
    assert [where for where, expression in asked if not server.numbers(expression)] == []


def test_alerts_fire_when_what_they_watch_for_comes_true(server: Prometheus, run: Run) -> None:
    alerts = dict(alerting())
    for name in ("AigatewayErrors", "AigatewayProviderFailing", "AigatewayProviderRefusesKey", "AigatewayUnpriced"):
        assert server.ask(alerts[name]), name
    assert server.ask(alerts["AigatewayDown"]) == []
    run.counters.stop()
    run.traffic()
    server.until(alerts["AigatewaySharedLimitsAway"])


LATER = {"AigatewayDown", "AigatewayEventsNotTaken", "AigatewaySharedLimitsAway", "AigatewayWebhooksAbandoned"}
"""Alerts without a number until they fire."""
