"""One call through split services is one trace with the right parents, at a real OTLP receiver."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from support.cases import CASES
from support.collector import collector
from support.gateway import Gateway, environment
from support.replay import Upstream

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
BODY = {"model": CASES[0].name, "messages": [{"role": "user", "content": "a secret prompt"}]}


@pytest.mark.parametrize("topology", ["embedded", "split", "edge,router"])
@pytest.mark.parametrize("stream", [False, True])
def test_one_call_is_one_trace(topology: str, stream: bool, tmp_path: Path) -> None:
    answer = CASES[0].stream if stream else CASES[0].whole
    with Upstream(answer) as upstream, collector() as (receiver, address):
        env = environment(upstream.url, "openai", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{address}")
        with Gateway(topology, tmp_path, env | {"OTEL_BSP_SCHEDULE_DELAY": "100"}) as gateway:
            given = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            got = httpx.post(f"{gateway.http}/v1/chat/completions", json=BODY | {"stream": stream}, headers=given)
            assert got.status_code == 200, got.text
        spans = receiver.wait({"aigateway-edge", "aigateway-router", "aigateway-provider-openai"})

    ours = [(service, span) for service, span in spans if span.trace_id.hex() == TRACE]
    by_id = {span.span_id: (service, span) for service, span in ours}
    roots = [(service, span) for service, span in ours if span.parent_span_id not in by_id]
    assert [(service, span.parent_span_id.hex()) for service, span in roots] == [("aigateway-edge", PARENT)]
    parents = {(by_id[span.parent_span_id][0], service) for service, span in ours if span.parent_span_id in by_id}
    assert {("aigateway-edge", "aigateway-router"), ("aigateway-router", "aigateway-provider-openai")} <= parents
    names = {pair.key: pair.value for _, span in ours for pair in span.attributes}
    assert names["gen_ai.request.model"].string_value
    assert names["gen_ai.usage.input_tokens"].int_value == 9
    assert names["gen_ai.usage.output_tokens"].int_value == 3
    assert "a secret prompt" not in str(spans)
    assert "test-key-of" not in str(spans)


@pytest.mark.parametrize("topology", ["embedded", "split"])
def test_only_the_calls_that_are_sampled_are_traced(topology: str, tmp_path: Path) -> None:
    with Upstream(CASES[0].whole) as upstream, collector() as (receiver, address):
        env = environment(upstream.url, "openai", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{address}")
        with Gateway(topology, tmp_path, env | {"OTEL_TRACES_SAMPLER_ARG": "1e-15"}) as gateway:
            for flags in ("00", "01", None):
                given = {"traceparent": f"00-{TRACE}-{PARENT}-{flags}"} if flags else {}
                got = httpx.post(f"{gateway.http}/v1/chat/completions", json=BODY, headers=given)
                assert got.status_code == 200, got.text
        spans = receiver.wait({"aigateway-edge", "aigateway-router", "aigateway-provider-openai"})

    assert {span.trace_id.hex() for _, span in spans} == {TRACE}
    assert sorted(service for service, _ in spans) == [
        "aigateway-edge",
        "aigateway-provider-openai",
        "aigateway-router",
        "aigateway-router",
    ]
