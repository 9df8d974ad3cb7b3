"""One trace from the caller over Envoy to the provider, at a real OTLP receiver."""

from __future__ import annotations

import itertools
import secrets

import grpc
import httpx
import pytest
from aigateway.v1 import gateway_service_pb2, gateway_service_pb2_grpc
from support.cases import CASES
from support.collector import Receiver
from support.envoy import Envoy
from support.fleet import KEY
from support.replay import Upstream
from support.router import chat_call

CASE = CASES[0]
PARENT = "00f067aa0ba902b7"
HOPS = ["aigateway-envoy", "aigateway-edge", "aigateway-router", "aigateway-provider-openai"]


@pytest.mark.parametrize("over", ["http", "grpc"])
def test_envoys_span_is_the_callers_child_and_the_gateways_are_envoys(
    over: str, plain: Envoy, spans: tuple[Receiver, str], upstream: Upstream
) -> None:
    upstream.reset(CASE.whole)
    trace = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace}-{PARENT}-01", "authorization": f"Bearer {KEY}"}
    if over == "http":
        body = {"model": CASE.name, "messages": [{"role": "user", "content": "a secret prompt"}]}
        url = f"{plain.http}/v1/chat/completions?key=a-secret-query"
        httpx.post(url, json=body, headers=headers).raise_for_status()
    else:
        with grpc.insecure_channel(plain.address) as channel:
            stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
            request = gateway_service_pb2.ChatRequest(call=chat_call(CASE.name, "a secret prompt"))
            stub.Chat(request, metadata=tuple(headers.items()))
    hops = [hop for hop in HOPS if over == "http" or hop != "aigateway-edge"]
    found = spans[0].wait_trace(trace, PARENT, set(hops))

    by_id = {span.span_id: (service, span) for service, span in found}
    roots = [(service, span.parent_span_id.hex()) for service, span in found if span.parent_span_id not in by_id]
    assert roots == [("aigateway-envoy", PARENT)]
    between = {(by_id[span.parent_span_id][0], service) for service, span in found if span.parent_span_id in by_id}
    assert {pair for pair in between if pair[0] != pair[1]} == set(itertools.pairwise(hops))
    assert "secret" not in str(found)
    assert KEY not in str(found)
    (line,) = plain.entries(lambda line: line["trace_id"] == trace, 1)
    assert line["status"] == 200
