"""Dashboards and alerts ask for metrics, labels and values that the code has, and the ledger answers their SQL.

PromQL is parsed by a real parser and rules are read by promtool where it is installed; a Prometheus runs in
`test_prometheus`, and no Grafana anywhere.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from aigateway.v1 import tokens_pb2, usage_service_pb2
from aigateway_common import attributes, metrics
from aigateway_common.counting import OTHER
from aigateway_common.reasons import REASONS
from aigateway_launcher.config import Config
from aigateway_providers.registry import PROVIDERS
from support import postgres
from support.accounts import books
from support.kustomize import K8S, scaling_queries

ROOT = K8S.parents[1]
RULES = K8S / "components/prometheus-rules/prometheus-rule.yaml"
PLAIN_RULES = ROOT / "deploy/docker/prometheus-alerts.yaml"
DASHBOARDS = sorted((K8S / "components/dashboards").glob("*.json"))
SCRAPED = {"job", "instance", "pod", "component", "namespace"}
"""Labels that the scrape adds; `job` and `component` by our PodMonitor and Prometheus file."""
VALUES: dict[str, set[str]] = {
    "service": {"edge", "router", "provider", "usage"},
    "component": {"edge", "router", "provider", "usage"},
    "status": {metrics.OK, OTHER, *REASONS},
    "reason": {OTHER, *REASONS},
    "provider": set(PROVIDERS),
    "operation": {attributes.CHAT, attributes.EMBEDDINGS},
    "token_class": {field.name for field in tokens_pb2.TokenUsage.DESCRIPTOR.fields},
    "phase": {"load", "prompt", "output"},
    "result": {"delivered", "again", "abandoned"},
    "job": {"aigateway"},
}
"""The values that a label can have; `docs/facts.py` and the services' own tests hold the code to them."""


def series() -> dict[str, set[str]]:
    """Each time series that our processes export, with its labels."""
    found: dict[str, set[str]] = {"up": set()}
    for metric in metrics.FAMILIES:
        match metric.kind:
            case "counter":
                found[f"{metric.name}_total"] = set(metric.labels)
            case "histogram":
                for suffix, extra in (("bucket", {"le"}), ("sum", set()), ("count", set())):
                    found[f"{metric.name}_{suffix}"] = {*metric.labels, *extra}
            case _:
                found[metric.name] = set(metric.labels)
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes"):
        assert name in {sample.name for family in metrics.REGISTRY.collect() for sample in family.samples}
        found[name] = set()
    return found


SERIES = series()


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())["panels"])


def questions() -> Iterator[tuple[str, str]]:
    """Every expression and where it stands: alerts, panels, and what KEDA scales by."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for path in DASHBOARDS:
        for panel in panels(path):
            for target in panel["targets"]:
                if "expr" in target:
                    yield f"{path.stem}: {panel['title']}", target["expr"].replace("$__rate_interval", "5m")
    yield from scaling_queries()


QUESTIONS = list(questions())


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    found: list[promql_parser.VectorSelector] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        elif isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)

    promql_parser.walk(promql_parser.parse(expression), pre_visit=visit)
    return found


@pytest.mark.parametrize(("where", "expression"), QUESTIONS, ids=[where for where, _ in QUESTIONS])
def test_only_what_the_code_exports_is_asked_for(where: str, expression: str) -> None:
    asked = selectors(expression)
    assert asked
    for selector in asked:
        assert selector.name in SERIES, where
        for matcher in selector.matchers.matchers:
            assert matcher.name in SERIES[selector.name] | SCRAPED, f"{where}: {selector.name}"
            if matcher.name in VALUES and not (matcher.name == "le" or matcher.value == ""):
                operators = promql_parser.MatchOp
                exact = matcher.op in (operators.Equal, operators.NotEqual)
                for one in [matcher.value] if exact else alternatives(matcher.value):
                    pattern = re.escape(one) if exact else one
                    assert any(re.fullmatch(pattern, value) for value in VALUES[matcher.name]), f"{where}: {one}"
    labels = {label for selector in asked for label in SERIES[str(selector.name)]} | SCRAPED
    for group in re.findall(r"\bby \(([^)]*)\)", expression):
        assert {label.strip() for label in group.split(",")} <= labels, where


def alternatives(pattern: str) -> list[str]:
    """The alternatives of a pattern, those in one pair of brackets spelt out."""
    if inner := re.fullmatch(r"(.*?)\b(\w+_)\(([^()]*)\)(.*)", pattern):
        before, prefix, middle, after = inner.groups()
        spelt = "|".join(prefix + one for one in middle.split("|"))
        return alternatives(before + spelt + after)
    return pattern.split("|")


def test_a_legend_names_labels_that_are_left() -> None:
    for path in DASHBOARDS:
        for panel in panels(path):
            for target in panel["targets"]:
                named = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
                kept = {
                    label.strip()
                    for group in re.findall(r"\bby \(([^)]*)\)", target.get("expr", ""))
                    for label in group.split(",")
                }
                assert named <= kept, f"{path.stem}: {panel['title']}"


def test_every_dashboard_is_one_that_grafana_and_people_can_tell_apart() -> None:
    assert {path.stem for path in DASHBOARDS} == {"overview", "spend", "providers", "latency", "streams", "ollama"}
    listed = yaml.safe_load((K8S / "components/dashboards/kustomization.yaml").read_text())
    assert sorted(listed["configMapGenerator"][0]["files"]) == [path.name for path in DASHBOARDS]
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len({board["uid"] for board in boards}) == len(boards)
    for board in boards:
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        assert all(panel["description"] for panel in board["panels"])
        taken = [(x, y) for panel in board["panels"] for x, y in area(panel["gridPos"])]
        assert len(taken) == len(set(taken)), board["title"]
        assert all(x < 24 for x, _ in taken)


def area(grid: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(grid["x"], grid["x"] + grid["w"]):
        for y in range(grid["y"], grid["y"] + grid["h"]):
            yield x, y


def test_every_metric_is_shown_or_watched() -> None:
    asked = {str(selector.name) for _, expression in QUESTIONS for selector in selectors(expression)}
    bare = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in asked}
    ours = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in SERIES if name.startswith("aigateway_")}
    assert ours - bare == set()


def test_every_alert_says_what_it_is_and_what_to_do() -> None:
    runbooks = re.findall(r"^### (\w+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert runbooks == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_the_page_reads_every_dashboard_by_panels_that_it_has() -> None:
    rows = re.findall(r"^\| \*(\w+)\* \| (.*) \|$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert {name for name, _ in rows} == {path.stem for path in DASHBOARDS}
    for name, text in rows:
        titles = {panel["title"] for panel in panels(K8S / f"components/dashboards/{name}.json")}
        assert set(re.findall(r"\*([^*]+)\*", text)) - {path.stem for path in DASHBOARDS} <= titles


def test_the_outbox_is_nearly_full_by_the_default_of_the_setting() -> None:
    (rule,) = [rule for rule in rules() if rule["alert"] == "AigatewayOutboxNearlyFull"]
    assert str(Config().usage.outbox_max_bytes) in rule["expr"]


def test_the_plain_rules_are_the_same() -> None:
    assert yaml.safe_load(PLAIN_RULES.read_text()) == yaml.safe_load(RULES.read_text())["spec"]


def test_promtool_takes_the_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on PATH (Debian has it in the package prometheus)")
    config = str(ROOT / "deploy/docker/prometheus.yaml")
    for arguments in (["rules", str(PLAIN_RULES)], ["config", "--syntax-only", config]):
        result = subprocess.run([promtool, "check", *arguments], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


QUERIES = [
    (f"{path.stem}: {panel['title']}", target["rawSql"])
    for path in DASHBOARDS
    for panel in panels(path)
    for target in panel["targets"]
    if "rawSql" in target
]


def expanded(query: str) -> str:
    """`query` with Grafana's macros written out, as its PostgreSQL data source does.

    See https://grafana.com/docs/grafana/latest/datasources/postgres/#macros.
    """
    query = re.sub(r"\$__timeGroupAlias\((\w+),1h\)", r'floor(extract(epoch from \1)/3600)*3600 AS "time"', query)
    times = "'2026-01-01T00:00:00Z' AND '2027-01-01T00:00:00Z'"
    query = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {times}", query)
    assert "$__" not in query
    return query


async def test_the_ledger_answers_what_dashboards_ask() -> None:
    failed = usage_service_pb2.ATTEMPT_STATUS_ERROR
    with postgres.running() as server:
        async with books(await server.create()) as kept:
            await kept.record(1, cost=2_000_000)
            await kept.record(2, cost=3_000_000, project="search", status=failed)
            for where, query in QUERIES:
                answer = await kept.rows(expanded(query))
                assert answer, where
                assert sum(float(row[-1]) for row in answer) == (0.003 if "failed" in where else 0.005), where
