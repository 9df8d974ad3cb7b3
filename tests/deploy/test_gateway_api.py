"""The component `gateway-api`: what it names is there, it says what the code does, and its schemas are strict."""

from __future__ import annotations

import copy
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from aigateway.v1 import gateway_service_pb2
from aigateway_common.health import SERVICE_NAME
from aigateway_edge.settings import EdgeSettings
from aigateway_launcher import http_server
from support import custom_schemas
from support.envoy import FOLDER as ENVOY
from support.kustomize import K8S, Resource, combination, named, of_kind

GATEWAY_SERVICE = gateway_service_pb2.DESCRIPTOR.services_by_name["GatewayService"].full_name
ROUTES = {"http": ("HTTPRoute", "edge"), "grpc": ("GRPCRoute", "router")}


@pytest.fixture(scope="module", params=[(), ("edge-with-router",)], ids=["apart", "together"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Resource]:
    return combination(tmp_path_factory.mktemp("kustomize"), "provider-openai", "gateway-api", *request.param)


def seconds(text: str) -> float:
    """A duration of one unit."""
    number, unit = re.fullmatch(r"(\d+)(ms|s)", text).groups()  # type: ignore[union-attr] # no match fails the test as well
    return int(number) * {"ms": 0.001, "s": 1}[unit]


def policies(built: list[Resource]) -> dict[str, Any]:
    return {one["metadata"]["name"]: one["spec"] for one in of_kind(built, "BackendTrafficPolicy")}


def test_each_listener_has_its_route_and_each_route_its_service(built: list[Resource]) -> None:
    gateway = named(built, "Gateway", "aigateway")["spec"]
    listeners = {one["name"]: one for one in gateway["listeners"]}
    assert listeners.keys() == ROUTES.keys()
    for listener, (kind, name) in ROUTES.items():
        assert listeners[listener]["allowedRoutes"]["kinds"] == [{"group": "gateway.networking.k8s.io", "kind": kind}]
        route = named(built, kind, name)["spec"]
        assert route["parentRefs"] == [{"name": "aigateway", "sectionName": listener}]
        (backend,) = [one for rule in route["rules"] for one in rule.get("backendRefs", ())]
        ports = {port["port"]: port for port in named(built, "Service", backend["name"])["spec"]["ports"]}
        assert ports[backend["port"]]["name"] == listener
    assert listeners["http"]["port"] != listeners["grpc"]["port"], "a hostname has routes of one kind on a port"


def test_every_policy_has_its_target(built: list[Resource]) -> None:
    kinds = ("BackendTrafficPolicy", "ClientTrafficPolicy")
    targets = [ref for one in of_kind(built, *kinds) for ref in one["spec"]["targetRefs"]]
    for ref in targets:
        assert named(built, ref["kind"], ref["name"])["apiVersion"].startswith(f"{ref['group']}/")
    assert {(ref["kind"], ref["name"]) for ref in targets} == {*ROUTES.values(), ("Gateway", "aigateway")}


def test_operators_are_not_offered_from_outside(built: list[Resource]) -> None:
    refused, offered = named(built, "HTTPRoute", "edge")["spec"]["rules"]
    (match,), (filter_,) = refused["matches"], refused["filters"]
    template = (ENVOY / "envoy.template.yaml").read_text()
    assert f'regex: "{match["path"]["value"]}"' in template
    reference = filter_["extensionRef"]
    assert named(built, reference["kind"], reference["name"])["spec"]["directResponse"]["statusCode"] == 404
    assert offered["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    (rule,) = named(built, "GRPCRoute", "router")["spec"]["rules"]
    assert {one["method"]["service"] for one in rule["matches"]} == {GATEWAY_SERVICE, SERVICE_NAME}


def test_no_stream_has_a_time_limit_but_the_gateways_own(built: list[Resource]) -> None:
    rule = named(built, "HTTPRoute", "edge")["spec"]["rules"][1]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    for policy in policies(built).values():
        assert policy["timeout"]["http"]["requestTimeout"] == "0s"
    client = named(built, "ClientTrafficPolicy", "aigateway")["spec"]
    assert seconds(client["timeout"]["http"]["streamIdleTimeout"]) > EdgeSettings().max_timeout


def test_envoy_closes_an_idle_connection_before_the_edge_does(built: list[Resource]) -> None:
    (kept,) = re.findall(r"timeout_keep_alive=(\d+)", inspect.getsource(http_server))
    assert seconds(policies(built)["edge"]["timeout"]["http"]["connectionIdleTimeout"]) < int(kept)


def test_replicas_are_asked_for_the_health_that_they_tell(built: list[Resource]) -> None:
    found = {name: policy["healthCheck"]["active"] for name, policy in policies(built).items()}
    assert found["edge"]["http"] == {"path": "/ready"}
    assert found["router"]["grpc"] == {"service": GATEWAY_SERVICE}


def test_only_what_was_not_sent_is_sent_again_as_by_the_envoy_that_is_tested(built: list[Resource]) -> None:
    (triggers,) = re.findall(r"retry_on: (\S+)", (ENVOY / "envoy.template.yaml").read_text())
    for policy in policies(built).values():
        assert policy["retry"]["retryOn"] == {"triggers": triggers.split(",")}
        assert policy["loadBalancer"] == {"type": "LeastRequest"}


def test_the_policy_of_the_readme_is_valid() -> None:
    text = (K8S / "components" / "gateway-api" / "README.md").read_text()
    commented = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")][1:]
    assert custom_schemas.problems(yaml.safe_load("\n".join(commented))) == []


def test_envoys_proxies_reach_the_routers(built: list[Resource]) -> None:
    spec = named(built, "NetworkPolicy", "router-from-envoy-gateway")["spec"]
    (container,) = named(built, "StatefulSet", "router")["spec"]["template"]["spec"]["containers"]
    grpc = {port["containerPort"] for port in container["ports"] if port["name"] == "grpc"}
    assert {port["port"] for port in spec["ingress"][0]["ports"]} == grpc


@pytest.mark.parametrize("group", custom_schemas.GROUPS)
def test_an_unknown_field_is_refused_wherever_it_stands(group: str, tmp_path: Path) -> None:
    together = ("keda", "prometheus-rules", "external-secrets", "gateway-api", "mtls")
    resources = [one for one in combination(tmp_path, *together) if one["apiVersion"].startswith(f"{group}/")]
    assert resources
    for one in resources:
        for number in range(len(objects(one["spec"]))):
            spoilt = copy.deepcopy(one)
            objects(spoilt["spec"])[number]["unknownField"] = {}
            assert custom_schemas.problems(spoilt), f"{one['kind']}: {objects(spoilt['spec'])[number]}"
    assert custom_schemas.problems({**resources[0], "kind": "Unknown"})


def objects(value: Any) -> list[dict[str, Any]]:
    """Every object in `value`, itself first."""
    if isinstance(value, list):
        return [found for one in value for found in objects(one)]
    if isinstance(value, dict):
        return [value, *(found for one in value.values() for found in objects(one))]
    return []
