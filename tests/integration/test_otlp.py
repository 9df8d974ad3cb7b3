"""Metrics and logs of real gateways at a real OTLP receiver, in each topology, beside what scrapes and lines say."""

from __future__ import annotations

import json
import socket
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.cases import CASES
from support.collector import Export, Receiver, collector, text_of
from support.gateway import Gateway, command, environment
from support.replay import Upstream

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
BODY = {"model": CASES[0].name, "messages": [{"role": "user", "content": "a secret prompt"}]}
ON = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp"}
SOON = {"OTEL_METRIC_EXPORT_INTERVAL": "100", "OTEL_BLRP_SCHEDULE_DELAY": "100", "OTEL_BSP_SCHEDULE_DELAY": "100"}
ADAPTER = "aigateway-provider-openai"


def call(gateway: Gateway) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    got = httpx.post(f"{gateway.http}/v1/chat/completions", json=BODY, headers=headers)
    assert got.status_code == 200, got.text


def latest(exports: Iterable[Export]) -> dict[str, Export]:
    """The last export of each process."""
    return {one.resource["service.instance.id"]: one for one in exports}


def points(export: Export, name: str, **labels: str) -> list[Any]:
    """The points of a metric with these labels; none where it is not there."""
    metric = export.metrics.get(name)
    found = getattr(metric, metric.WhichOneof("data")).data_points if metric else []
    return [point for point in found if labels.items() <= text_of(point.attributes).items()]


def call_records(receiver: Receiver) -> list[tuple[str, Any]]:
    """The records of the lines that calls leave, once there is one."""
    return receiver.when(
        lambda: [(service, record) for service, record in receiver.logs if record.body.string_value == "call"], bool
    )


@pytest.mark.parametrize(
    ("topology", "processes"),
    [
        ("embedded", ["aigateway"]),
        ("workers", ["aigateway", "aigateway", "aigateway-usage"]),
        ("edge,router", ["aigateway", ADAPTER, "aigateway-usage"]),
        ("split", ["aigateway-edge", ADAPTER, "aigateway-router", "aigateway-usage"]),
    ],
)
def test_every_process_exports_its_metrics_once_and_the_log_of_a_call_has_its_trace(
    topology: str, processes: list[str], tmp_path: Path
) -> None:
    with Upstream(CASES[0].whole) as upstream, collector() as (receiver, address):
        env = environment(upstream.url, "openai", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{address}") | ON | SOON
        with Gateway(topology, tmp_path, env) as gateway:
            call(gateway)
            ((service, record),) = call_records(receiver)

    exports = latest(receiver.exports).values()
    assert sorted(one.service for one in exports) == sorted(processes)
    for hop, provider in (("edge", "openai"), ("router", "openai"), ("provider", "openai")):
        found = [
            point.as_double
            for one in exports
            for point in points(one, "aigateway_calls_total", service=hop, provider=provider, status="ok")
        ]
        assert found == [1], hop
    assert (service, record.trace_id.hex()) == ("aigateway-edge", TRACE)
    span = next(
        span for name, span in receiver.spans if name == "aigateway-edge" and span.parent_span_id.hex() == PARENT
    )
    assert record.span_id == span.span_id
    attributes = text_of(record.attributes)
    assert (attributes["provider"], attributes["outcome"], attributes["status"]) == ("openai", "ok", 200)
    assert "a secret prompt" not in str(receiver.logs)
    assert "test-key-of" not in str(receiver.logs)


def test_the_file_switches_them_on_and_every_process_of_split_follows_it(tmp_path: Path) -> None:
    with Upstream(CASES[0].whole) as upstream, collector() as (receiver, address):
        lines = [f"otlp_endpoint: http://{address}", "metrics_exporter: otlp", "logs_exporter: otlp", "sample_ratio: 0"]
        (tmp_path / "aigateway.yaml").write_text("telemetry:\n" + "".join(f"  {line}\n" for line in lines))
        with Gateway("split", tmp_path, environment(upstream.url, "openai")) as gateway:
            call(gateway)

    services = {"aigateway-edge", "aigateway-router", ADAPTER, "aigateway-usage"}
    assert {one.service for one in receiver.exports} == services
    assert {service for service, record in receiver.logs if record.body.string_value == "ready"} == services
    assert [service for service, record in receiver.logs if record.body.string_value == "call"] == ["aigateway-edge"]
    assert receiver.spans == []


def test_what_is_exported_is_what_prometheus_scrapes(tmp_path: Path) -> None:
    with Upstream(CASES[0].whole) as upstream, collector() as (receiver, address):
        env = environment(upstream.url, "openai", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{address}") | ON
        with Gateway("embedded", tmp_path, env, ("--metrics-port", "0")) as gateway:
            for _ in range(3):
                call(gateway)
            (shown,) = gateway.running[-1].addresses["metrics"].values()
            scrape = httpx.get(f"http://{shown}/metrics").text

    (export,) = receiver.exports
    families = {family.name: family for family in text_string_to_metric_families(scrape)}
    scraped = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for sample in families["aigateway_call_seconds"].samples
    }
    compared = 0
    for point in points(export, "aigateway_call_seconds", operation="chat"):
        labels = tuple(sorted(text_of(point.attributes).items()))
        assert point.count == scraped["aigateway_call_seconds_count", labels] == 3
        assert point.sum == scraped["aigateway_call_seconds_sum", labels]
        below = [sum(point.bucket_counts[: place + 1]) for place in range(len(point.bucket_counts))]
        bounds = [float(bound) for bound in (*point.explicit_bounds, "inf")]
        assert dict(zip(bounds, below, strict=True)) == {
            float(dict(found)["le"]): value
            for (name, found), value in scraped.items()
            if name == "aigateway_call_seconds_bucket" and set(labels) <= set(found)
        }
        compared += 1
    assert compared == 3, "edge, router and provider"


def test_a_collector_that_is_away_costs_calls_nothing_and_is_seldom_complained_of(tmp_path: Path) -> None:
    with Upstream(CASES[0].whole) as upstream, socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # held, and not listened on: nobody is there
        env = environment(
            upstream.url, "openai", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{held.getsockname()[1]}"
        )
        with Gateway("embedded", tmp_path, env | ON | SOON) as gateway:
            for _ in range(20):
                call(gateway)
            for signal in ("traces", "metrics", "logs"):
                gateway.running[-1].wait_text(f"Failed to export {signal}", 30)
        lines = [json.loads(line) for line in gateway.running[-1].text().splitlines() if line.startswith("{")]

    assert sum(line["event"] == "call" for line in lines) == 20
    complaints = Counter(line["event"] for line in lines if line["event"].startswith("Failed to export"))
    assert set(complaints.values()) == {1}
    assert {text.split()[3] for text in complaints} == {"traces", "metrics", "logs"}


def test_a_wrong_value_is_said_before_anything_starts(tmp_path: Path) -> None:
    env = environment(None, OTEL_METRICS_EXPORTER="prometheus", OTEL_LOGS_EXPORTER="otlp")
    done = subprocess.run(command("serve", "edge"), env=env, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "OTEL_METRICS_EXPORTER: must be otlp or none, not `prometheus`" in done.stderr
    assert "OTEL_LOGS_EXPORTER: `otlp` needs to know where to: set OTEL_EXPORTER_OTLP_ENDPOINT" in done.stderr
