"""What `up --split` tells each child: the others' addresses, and no key but its own."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from aigateway_common.serving import grpc_server
from aigateway_launcher import children as children_module
from aigateway_launcher.children import PRIVATE_PORTS, hold_port
from aigateway_launcher.groups import everything, parts
from aigateway_launcher.plan import Overrides, make
from aigateway_launcher.split import Split
from aigateway_launcher.supervisor import Child

ENVIRONMENT = {
    "PATH": "/bin",
    "OPENAI_API_KEY": "openai-key",
    "GROQ_API_KEY": "groq-key",
    "GEMINI_API_KEY_FILE": "/dev/null",
    "GATEWAY_API_KEY": "a-gateway-key-of-some-length",
}


def children(tmp_path: Path) -> dict[str, Child]:
    plan = make(Overrides(data_dir=tmp_path, port=0, grpc_port=0), ENVIRONMENT, ollama_found=lambda: True)
    layout = Split(plan, ENVIRONMENT)
    try:
        return {child.name: child for stage in layout.stages for child in stage}
    finally:
        layout.close()


def test_there_is_a_process_per_service_those_that_others_need_first(tmp_path: Path) -> None:
    names = list(children(tmp_path))
    assert names == ["usage", "provider:openai", "provider:groq", "provider:ollama", "router", "edge"]


def test_each_adapter_gets_its_own_key_and_no_other(tmp_path: Path) -> None:
    got = children(tmp_path)
    assert got["provider:openai"].environment["OPENAI_API_KEY"] == "openai-key"
    for name, child in got.items():
        held = {"OPENAI_API_KEY", "GROQ_API_KEY", "GEMINI_API_KEY_FILE"} & set(child.environment)
        wanted = {"provider:openai": {"OPENAI_API_KEY"}, "provider:groq": {"GROQ_API_KEY"}}.get(name, set())
        assert held == wanted, name


def test_only_the_ledger_is_told_of_its_database(tmp_path: Path) -> None:
    """The URL of PostgreSQL holds a password."""
    plan = make(Overrides(data_dir=tmp_path), ENVIRONMENT, ollama_found=lambda: False)
    given = {**ENVIRONMENT, "DATABASE_URL": "postgresql://me:word@db/ledger", "DATABASE_URL_FILE": "/run/secrets/db"}
    told = [
        group.names
        for group in parts(everything(plan))
        if {"DATABASE_URL", "DATABASE_URL_FILE"} & set(children_module.environment(plan, group, given))
    ]
    assert told == [("usage",)]


def test_the_router_and_the_edge_are_told_where_the_others_are(tmp_path: Path) -> None:
    got = children(tmp_path)
    ports = {
        name: child.arguments[child.arguments.index("--grpc-port") + 1] for name, child in got.items() if name != "edge"
    }
    router = got["router"].environment
    assert router["AIGATEWAY_USAGE_TARGET"] == f"127.0.0.1:{ports['usage']}"
    assert router["AIGATEWAY_PROVIDER_TARGETS"].split(",") == [
        f"{name}=127.0.0.1:{ports[f'provider:{name}']}" for name in ("openai", "groq", "ollama")
    ]
    assert got["edge"].environment["AIGATEWAY_ROUTER_TARGET"] == f"127.0.0.1:{ports['router']}"


def test_an_ollama_that_was_found_is_named_to_its_adapter(tmp_path: Path) -> None:
    assert children(tmp_path)["provider:ollama"].environment["OLLAMA_URL"] == "http://localhost:11434"


def test_an_edge_that_may_listen_anywhere_is_started_again_where_callers_know_it(tmp_path: Path) -> None:
    edge = children(tmp_path)["edge"]
    assert int(edge.arguments[edge.arguments.index("--port") + 1]) in PRIVATE_PORTS


def test_the_ports_of_services_are_none_that_systems_hand_out(tmp_path: Path) -> None:
    got = children(tmp_path)
    ports = [int(child.arguments[child.arguments.index("--grpc-port") + 1]) for child in list(got.values())[:-1]]
    assert set(ports) <= set(PRIVATE_PORTS)
    assert len(set(ports)) == len(ports)


async def test_a_held_port_is_the_childs_and_no_other_gateways(monkeypatch: pytest.MonkeyPatch) -> None:
    with hold_port() as held:
        port = held.number
        monkeypatch.setattr(children_module, "PRIVATE_PORTS", range(port, port + 1))
        with pytest.raises(OSError, match="no port is free"):
            hold_port()
        for _ in range(2):  # the second time as a service that is started again
            server = grpc_server([], f"127.0.0.1:{port}")
            await server.start()
            await server.drain(0)
    hold_port().close()


def test_where_a_held_port_would_be_refused_to_the_child_it_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with hold_port() as first, socket.socket() as other:
        other.bind(("127.0.0.1", first.number))
