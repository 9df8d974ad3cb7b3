"""What Envoy itself does to requests and answers, in front of a stand-in that keeps what reaches it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
from support.envoy import Envoy, free_port
from support.identity import AUDIENCE, ISSUER, IdentityProvider, token
from support.replay import Answer, Sent, Upstream

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FAILING = {"/fails": 503, "/broken": 502}
Front = Callable[..., Envoy]


def answer(sent: Sent) -> Answer:
    return Answer.of({"path": sent.path}, FAILING.get(sent.path, 200))


@pytest.fixture
def edge() -> Iterator[Upstream]:
    with Upstream(script=answer) as upstream:
        yield upstream


@pytest.fixture
def front(edge: Upstream, tmp_path: Path) -> Iterator[Front]:
    """Starts Envoy in front of the stand-in."""
    with ExitStack() as stack:

        def start(**settings: str) -> Envoy:
            nowhere = f"127.0.0.1:{free_port()}"
            here = {"EDGES": urlsplit(edge.url).netloc, "ROUTERS": nowhere} | settings
            return stack.enter_context(Envoy(tmp_path / "envoy", **here))

        yield start


def calls(edge: Upstream) -> list[Sent]:
    """What reached the stand-in, without Envoy's own looking after it."""
    return [sent for sent in edge.requests if sent.path != "/ready"]


def test_only_callers_own_headers_reach_the_gateway(edge: Upstream, front: Front) -> None:
    hidden = {
        "x-actor": "root",
        "x-forwarded-client-cert": "By=me",
        "x-envoy-retry-on": "5xx",
        "x-envoy-max-retries": "9",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-sane-id": "mine",
    }
    kept = {"traceparent": PARENT, "authorization": "Bearer key-1", "x-api-key": "key-2", "x-session-id": "s"}
    got = httpx.get(f"{front().http}/fails", headers=hidden | kept | {"x-request-id": "req_1/a+b=c@d:e"})
    assert got.status_code == 503
    (sent,) = calls(edge)  # one: what the gateway answered is not asked for again
    assert not hidden.keys() & sent.headers.keys()
    assert not [name for name in sent.headers if name.startswith("x-envoy-")]
    assert kept.items() <= sent.headers.items()
    assert sent.headers["x-request-id"] == "req_1/a+b=c@d:e"
    assert "server" not in got.headers


@pytest.mark.parametrize("given", [None, "", "two words", "x" * 129, 'a"b', "ä"])
def test_an_id_of_another_form_is_replaced(given: str | None, edge: Upstream, front: Front) -> None:
    headers = [] if given is None else [(b"x-request-id", given.encode())]
    envoy = front()
    httpx.get(f"{envoy.http}/any", headers=headers).raise_for_status()
    (sent,) = calls(edge)
    assert UUID.fullmatch(sent.headers["x-request-id"])
    (line,) = envoy.entries(lambda line: line["path"] == "/any", 1)
    assert line["request_id"] == sent.headers["x-request-id"]


def test_the_log_has_no_query_key_or_prompt(edge: Upstream, front: Front) -> None:
    envoy = front()
    secret = "hush-hush"
    headers = dict.fromkeys(("authorization", "x-api-key", "api-key", "cookie", "user-agent", "referer"), secret)
    httpx.post(f"{envoy.http}/v1/chat/completions?key={secret}", json={"prompt": secret}, headers=headers)
    (line,) = envoy.entries(lambda line: line["path"] == "/v1/chat/completions", 1)
    assert calls(edge)[0].query == {"key": [secret]}
    assert secret not in envoy.log.read_text() + envoy.errors.read_text()
    assert (line["method"], line["status"], line["cluster"], line["attempts"]) == ("POST", 200, "edges", 1)
    assert line["upstream"] == urlsplit(edge.url).netloc


def test_failures_of_providers_do_not_speak_against_a_replica(edge: Upstream, front: Front) -> None:
    envoy = front()
    with httpx.Client(base_url=envoy.http) as client:
        statuses = [client.get("/fails" if turn % 2 else "/broken").status_code for turn in range(30)]
        assert statuses == [502, 503] * 15
        assert client.get("/any").status_code == 200
    assert envoy.stat("cluster.edges.outlier_detection.ejections_enforced_total") == 0
    assert len(calls(edge)) == 31


def test_a_call_that_could_not_be_sent_is_sent_to_another_replica(edge: Upstream, front: Front) -> None:
    """Of two replicas one is dead and one not ready: with none that is well, both are asked, and one answers."""
    edge.script = lambda sent: Answer.of({}, 503) if sent.path == "/ready" else answer(sent)
    envoy = front(EDGES=f"127.0.0.1:{free_port()},{urlsplit(edge.url).netloc}")
    with httpx.Client(base_url=envoy.http) as client:
        assert {client.post("/any").status_code for _ in range(30)} == {200}
    assert len(calls(edge)) == 30
    assert envoy.stat("cluster.edges.upstream_rq_retry_success") > 0


def test_what_envoy_answers_itself_has_the_shape_of_the_gateways_errors(front: Front) -> None:
    envoy = front(EDGES=f"127.0.0.1:{free_port()}")
    got = httpx.post(f"{envoy.http}/v1/chat/completions", json={})
    assert got.status_code == 503
    assert got.headers["content-type"] == "application/json"
    assert got.headers["retry-after"] == "1"
    body = got.json()
    assert body.pop("type") == "error"
    assert body["error"].pop("message")
    assert body == {"error": {"type": "api_error", "code": "unavailable"}}


OPERATORS = ("/admin/keys", "/admin", "//admin/keys", "/x/../admin/keys", "/admin%2Fkeys", "/%61dmin/keys", "/admin?x")


@pytest.mark.parametrize("path", [*OPERATORS, "/aigateway.v1.UsageService/ListAttempts"])
def test_operators_routes_are_offered_only_where_that_is_said(path: str, edge: Upstream, front: Front) -> None:
    envoy = front()
    with httpx.Client() as client:
        url = httpx.URL(envoy.http).copy_with(raw_path=path.encode())
        assert client.send(httpx.Request("GET", url)).status_code == 404
    assert calls(edge) == []


def test_operators_routes_can_be_offered(edge: Upstream, front: Front) -> None:
    assert httpx.get(f"{front(OPERATORS='on').http}/admin/keys").status_code == 200
    assert [sent.path for sent in calls(edge)] == ["/admin/keys"]


def test_more_calls_than_the_limit_are_told_when_to_come_back(edge: Upstream, front: Front) -> None:
    envoy = front(RATE_PER_SECOND="1", RATE_BURST="3")
    with httpx.Client(base_url=envoy.http) as client:
        answers = [client.get("/any") for _ in range(20)]
    refused = [got for got in answers if got.status_code == 429]
    assert len(refused) >= 10
    assert len(calls(edge)) == 20 - len(refused)
    assert refused[0].headers["retry-after"] == "1"
    assert refused[0].json()["error"]["code"] == "rate_limit_exceeded"


def test_grpc_callers_are_told_of_the_limit_in_their_own_terms(front: Front) -> None:
    envoy = front(RATE_PER_SECOND="1", RATE_BURST="1")
    with grpc.insecure_channel(envoy.address) as channel:
        ask: Any = channel.unary_unary("/aigateway.v1.GatewayService/Chat")
        codes: set[tuple[grpc.StatusCode, str | None]] = set()
        for _ in range(5):
            with pytest.raises(grpc.RpcError) as caught:
                ask(b"")
            assert isinstance(caught.value, grpc.Call)
            codes.add((caught.value.code(), caught.value.details()))
    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "local_rate_limited") in codes


def test_pages_of_one_origin_may_call_by_grpc_web(front: Front) -> None:
    envoy = front(GRPC_WEB_ORIGIN="https://app.example")
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,x-grpc-web"}
    url = f"{envoy.http}/aigateway.v1.GatewayService/Chat"
    allowed = [
        httpx.options(url, headers=asked | {"origin": origin}).headers
        for origin in ("https://app.example", "https://x")
    ]
    assert allowed[0]["access-control-allow-origin"] == "https://app.example"
    assert "x-grpc-web" in allowed[0]["access-control-allow-headers"]
    assert "access-control-allow-origin" not in allowed[1]


def test_more_connections_than_the_limit_are_closed_and_probes_are_not(front: Front) -> None:
    envoy = front(MAX_CONNECTIONS="2")
    with ExitStack() as stack:
        clients = [stack.enter_context(httpx.Client(base_url=envoy.http)) for _ in range(3)]
        assert [client.get("/any").status_code for client in clients[:2]] == [200, 200]
        with pytest.raises(httpx.TransportError):
            clients[2].get("/any")
        assert httpx.get(f"{envoy.status}/ready").status_code == 200


def code_by_grpc(envoy: Envoy, bearer: str | None) -> grpc.StatusCode:
    """How a gRPC call ends; there is no router behind."""
    metadata = () if bearer is None else (("authorization", f"Bearer {bearer}"),)
    with grpc.insecure_channel(envoy.address) as channel:
        ask: Any = channel.unary_unary("/aigateway.v1.GatewayService/Chat")
        with pytest.raises(grpc.RpcError) as caught:
            ask(b"", metadata=metadata)
    assert isinstance(caught.value, grpc.Call)
    return caught.value.code()


@pytest.mark.parametrize("where", ["file", "address"])
def test_with_jwt_only_callers_with_a_good_token_come_through(
    where: str, edge: Upstream, front: Front, tmp_path: Path
) -> None:
    provider = IdentityProvider()
    keys = tmp_path / "jwks.json"
    provider.write(keys)
    document = json.loads(keys.read_text())
    with Upstream(Answer.of(document)) as identity:
        source = str(keys) if where == "file" else f"{identity.url}/jwks.json"
        envoy = front(JWT_ISSUER=ISSUER, JWT_AUDIENCE=AUDIENCE, JWT_JWKS=source)

        def status(bearer: str | None) -> int:
            headers = {} if bearer is None else {"authorization": f"Bearer {bearer}"}
            return httpx.get(f"{envoy.http}/any", headers=headers).status_code

        good = token()
        assert status(good) == 200
        bad = [None, "a-key", good[:-4] + "AAAA", token(exp=1), token(aud="other"), token(iss="https://other")]
        assert [status(one) for one in bad] == [401, 401, 401, 401, 403, 401]
        assert httpx.get(f"{envoy.http}/live").status_code == 200
        unauthenticated, unavailable = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE
        assert [code_by_grpc(envoy, one) for one in (None, bad[2], good)] == [unauthenticated] * 2 + [unavailable]
    (sent,) = [one for one in calls(edge) if one.path == "/any"]
    assert sent.headers["authorization"] == f"Bearer {good}"


def test_the_status_port_shows_metrics_and_nothing_else_of_the_admin_port(front: Front) -> None:
    envoy = front()
    assert "envoy_cluster_upstream_rq" in httpx.get(f"{envoy.status}/stats/prometheus").text
    others = ["/", "/quitquitquit", "/config_dump", "/clusters", "/ready/x", "/ready/../config_dump"]
    assert {httpx.get(envoy.status + path).status_code for path in others} == {404}
    assert {httpx.post(envoy.status + path).status_code for path in ("/quitquitquit", "/ready")} == {404}
