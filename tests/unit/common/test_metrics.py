"""The metrics, as a scrape sees them."""

from __future__ import annotations

import urllib.request

import pytest
from aigateway_common import metrics
from aigateway_common.counting import MAX_CHILDREN, OTHER, Count
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


def test_calls_are_counted_and_timed() -> None:
    labels = {"service": "router", "operation": "chat", "provider": "t-calls"}
    metrics.call_finished("router", "chat", "t-calls", metrics.OK, 0.2)
    metrics.call_finished("router", "chat", "t-calls", "RATE_LIMITED", 0.1)
    metrics.call_finished("router", "chat", "t-calls", "no such reason", 0.1)

    assert value("aigateway_calls_total", **labels, status="ok") == 1
    assert value("aigateway_calls_total", **labels, status="RATE_LIMITED") == 1
    assert value("aigateway_calls_total", **labels, status="other") == 1
    assert value("aigateway_call_seconds_sum", **labels) == pytest.approx(0.4)
    assert value("aigateway_call_seconds_bucket", **labels, le="0.1") == 2


def test_what_happens_beside_calls_is_counted_too() -> None:
    metrics.tokens_used("t-side", "input_uncached", 11)
    metrics.tokens_used("t-side", "input_uncached", 4)
    metrics.attempt_unpriced("t-side")
    metrics.upstream_error("t-side", "UPSTREAM_TIMEOUT")
    metrics.upstream_error("t-side", "anything")
    metrics.first_event("t-side", 0.3)
    metrics.overhead("t-hop", 0.0004)
    metrics.stream_opened("t-side")
    metrics.stream_opened("t-side")
    metrics.stream_closed("t-side")
    metrics.outbox(3, 900, 1.5)

    assert value("aigateway_tokens_total", provider="t-side", token_class="input_uncached") == 15
    assert value("aigateway_unpriced_attempts_total", provider="t-side") == 1
    assert value("aigateway_upstream_errors_total", provider="t-side", reason="UPSTREAM_TIMEOUT") == 1
    assert value("aigateway_upstream_errors_total", provider="t-side", reason="other") == 1
    assert value("aigateway_first_event_seconds_count", provider="t-side") == 1
    assert value("aigateway_overhead_seconds_bucket", hop="t-hop", le="0.0005") == 1
    assert value("aigateway_streams_in_flight", service="t-side") == 1
    assert [value(f"aigateway_outbox_{name}") for name in ("events", "bytes", "lag_seconds")] == [3, 900, 1.5]
    metrics.outbox(0, 0, 0)


def test_labels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = CollectorRegistry()
    counter = Count(registry, "aigateway_bounded", "Nothing else counts on it.", ("provider",))
    monkeypatch.setattr(metrics, "_UNPRICED", counter)
    for number in range(MAX_CHILDREN + 50):
        metrics.attempt_unpriced(f"t-bound-{number}")

    children = [
        sample.labels["provider"]
        for family in registry.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    ]
    assert len(children) <= MAX_CHILDREN + 1
    assert registry.get_sample_value("aigateway_bounded_total", {"provider": OTHER}) == 50


def test_a_scrape_sees_everything_on_a_port_of_its_own() -> None:
    metrics.call_finished("edge", "chat", "t-scrape", metrics.OK, 0.2)
    server = metrics.serve("127.0.0.1", 0)
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as response:
        families = {family.name for family in text_string_to_metric_families(response.read().decode())}
    with pytest.raises(OSError, match=f"cannot serve metrics on 127.0.0.1:{server.port}"):
        metrics.serve("127.0.0.1", server.port)
    server.stop()

    assert {"aigateway_calls", "aigateway_call_seconds", "process_resident_memory_bytes"} <= families
    metrics.serve("127.0.0.1", server.port).stop()
