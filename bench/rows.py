"""What is measured: every row of the tables, how its servers are made, and why it may be left out. Measures nothing."""

from __future__ import annotations

import functools
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from bench.bodies import AT_ONCE, FIRST, PACED
from bench.gateways import Features, environment, gateway
from bench.servers import ROOT, Command, Server, free_port

PEERS: Final = ROOT / "build/peers"
_LITELLM_KEY: Final = "sk-bench-0123456789abcdef"


@dataclass
class Site:
    """Where the servers of a run live."""

    folder: Path
    mock: int
    """Ports of the mock and of the span receiver."""
    otlp: int
    servers: dict[str, Server] = field(default_factory=dict)
    """Those that run, by the key of their row."""


@dataclass(frozen=True)
class Row:
    """One row."""

    key: str
    title: str
    build: Callable[[Site, Row], Server]
    missing: Callable[[], str] = lambda: ""
    """Why it cannot be measured here; empty when it can."""
    features: Features | None = None
    """Of our own gateway."""
    behind: str = ""
    """The row whose servers this one calls, and whose processes count here too."""
    over: Literal["http", "grpc"] = "http"


def _direct(site: Site, _: Row) -> Server:
    return Server(site.folder / "direct", (), site.mock, {})


def _floor(site: Site, _: Row) -> Server:
    port = free_port()
    line = [sys.executable, "-m", "bench.floor", f"http://127.0.0.1:{site.mock}", str(port)]
    return Server(site.folder / "floor", [Command("floor", line, environment(PYTHONPATH=str(ROOT)))], port, {})


def _ours(topology: str) -> Callable[[Site, Row], Server]:
    def build(site: Site, row: Row) -> Server:
        assert row.features is not None
        return gateway(site.folder / row.key, topology, row.features, site.mock, site.otlp)

    return build


def _grpc(site: Site, row: Row) -> Server:
    return replace(site.servers[row.behind], folder=site.folder / "grpc", commands=(), running={})


def _envoy_before(site: Site, row: Row) -> Server:
    folder, port, behind = site.folder / "front", free_port(), site.servers[row.behind]
    settings = {
        "EDGES": f"127.0.0.1:{behind.port}",
        "ROUTERS": behind.grpc,
        "LISTEN": f"127.0.0.1:{port}",
        "STATUS": f"127.0.0.1:{free_port()}",
        "ADMIN": f"127.0.0.1:{free_port()}",
        "FOLDER": str(folder),
        "RATE_PER_SECOND": "1000000",
        "RATE_BURST": "1000000",
    }
    given = [f"{name}={value}" for name, value in settings.items()]
    subprocess.run([sys.executable, str(ROOT / "deploy/envoy/render.py"), "--out", str(folder), *given], check=True)
    return Server(folder, [_envoy(folder / "envoy.yaml")], port, behind.headers, behind.model)


def _bare_envoy(site: Site, _: Row) -> Server:
    folder, port = site.folder / "envoy", free_port()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "envoy.json").write_text(json.dumps(_proxy(port, site.mock)))
    return Server(folder, [_envoy(folder / "envoy.json")], port, {})


def _envoy(file: Path) -> Command:
    line = [envoy_program(), "-c", str(file), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return Command("envoy", line, environment())


def envoy_program() -> str:
    """Envoy: the wheel's, else the one on PATH, else nothing."""
    spec = importlib.util.find_spec("envoy")
    for folder in (spec and spec.submodule_search_locations) or ():
        if (found := Path(folder, "_bin", "envoy")).is_file():
            return str(found)
    return shutil.which("envoy") or ""


def _proxy(port: int, mock: int) -> dict[str, Any]:
    """The least that Envoy needs to pass HTTP on."""
    types = "type.googleapis.com/envoy.extensions.filters"

    def address(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    route = {"match": {"prefix": "/"}, "route": {"cluster": "mock", "timeout": "0s"}}
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "mock", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}},
        ],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    endpoint = {"endpoint": {"address": address(mock)}}
    cluster = {
        "name": "mock",
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": "mock", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listener = {"name": "front", "address": address(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _litellm(site: Site, _: Row) -> Server:
    """One worker, no database, nothing logged but errors: https://docs.litellm.ai/docs/proxy/prod."""
    folder, port = site.folder / "litellm", free_port()
    folder.mkdir(parents=True, exist_ok=True)
    models = [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{name}",
                "api_base": f"http://127.0.0.1:{site.mock}/v1",
                "api_key": "bench-upstream-key",
            },
        }
        for name in (AT_ONCE, PACED, FIRST)
    ]
    settings = {"general_settings": {"master_key": _LITELLM_KEY}, "litellm_settings": {"set_verbose": False}}
    (folder / "config.json").write_text(json.dumps({"model_list": models} | settings))  # JSON is YAML
    home = PEERS / "litellm/.venv/bin"
    line = [str(home / "python"), str(home / "litellm"), "--config", "config.json", "--host", "127.0.0.1"]
    line += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    key = {"authorization": f"Bearer {_LITELLM_KEY}"}
    return Server(folder, [Command("litellm", line, environment(NO_DOCS="True", **quiet))], port, key)


def _portkey(site: Site, _: Row) -> Server:
    """Its Node build without its page: https://github.com/Portkey-AI/gateway/blob/main/docs/installation-deployments.md."""
    port = free_port()
    start = PEERS / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
    line = ["node", "--require", str(ROOT / "bench/peers/loopback.cjs"), str(start), "--headless", f"--port={port}"]
    headers = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{site.mock}/v1",
        "authorization": "Bearer bench-upstream-key",
    }
    command = Command("node", line, environment(NODE_ENV="production"))
    return Server(site.folder / "portkey", [command], port, headers)


def _installed(path: str) -> Callable[[], str]:
    return lambda: "" if (PEERS / path).exists() else "not installed: `make bench-peers` does it, with npm and pip"


@functools.cache
def _no_workers() -> str:
    line = [sys.executable, "-m", "aigateway_launcher", "up", "--help"]
    told = subprocess.run(line, capture_output=True, text=True, check=True, env=environment(COLUMNS="200")).stdout
    return "" if "--workers" in told else "this version's `aigateway up` has no `--workers`"


MAIN: Final = Features()
OURS: Final[Mapping[str, str]] = {
    "embedded": "embedded",
    "parts": "edge+router, adapter, usage",
    "split": "split",
}
"""Topologies of the targets, by the key of their row."""
ROWS: Final = (
    Row("direct", "direct, no gateway", _direct),
    Row("floor", "floor: a bare proxy of ours", _floor),
    Row("envoy", "Envoy, bare", _bare_envoy, lambda: "" if envoy_program() else "no Envoy on this machine"),
    Row("embedded", OURS["embedded"], _ours("embedded"), features=MAIN),
    Row("workers", "embedded, 2 workers", _ours("workers"), _no_workers, features=MAIN),
    Row("parts", OURS["parts"], _ours("parts"), features=MAIN),
    Row("split", OURS["split"], _ours("split"), features=MAIN),
    Row("grpc", "split, its router called by gRPC", _grpc, behind="split", over="grpc"),
    Row(
        "front",
        "Envoy before split",
        _envoy_before,
        lambda: "" if envoy_program() else "no Envoy on this machine",
        behind="split",
    ),
)
PEER_ROWS: Final = (
    Row("portkey", "Portkey", _portkey, _installed("portkey/node_modules/@portkey-ai/gateway/build/start-server.js")),
    Row("litellm", "LiteLLM", _litellm, _installed("litellm/.venv/bin/litellm")),
)

_NOTHING: Final = Features(ledger=False, keys=False, limits=False, metrics=False)
VARIANTS: Final[Mapping[str, tuple[str, Features]]] = {
    "nothing": ("nothing", _NOTHING),
    "ledger": ("ledger", replace(_NOTHING, ledger=True)),
    "keys": ("ledger, keys", replace(_NOTHING, ledger=True, keys=True)),
    "limits": ("ledger, keys, limits", replace(MAIN, metrics=False)),
    "main": ("ledger, keys, limits, metrics", MAIN),
    "budgets": ("… and a budget", replace(MAIN, budgets=True)),
    "traced-0": ("… and tracing of 0 %", replace(MAIN, tracing=0.0)),
    "traced-10": ("… and tracing of 10 %", replace(MAIN, tracing=0.1)),
    "traced-100": ("… and tracing of 100 %", replace(MAIN, tracing=1.0)),
}
"""Features that are on, by key, with their title."""


def variant_rows(topology: str) -> list[Row]:
    """A topology with each set of features; of the one in three processes only what the targets are about."""
    chosen = ("main", "traced-10") if topology == "parts" else tuple(VARIANTS)
    return [Row(f"{topology}-{key}", VARIANTS[key][0], _ours(topology), features=VARIANTS[key][1]) for key in chosen]


def route_rows(topology: str) -> list[Row]:
    """A topology with one name in its configuration and with a thousand, half of them aliases, half patterns."""
    return [
        Row(f"{topology}-{number}", f"{number:,}", _ours(topology), features=replace(MAIN, routes=number))
        for number in (1, 1000)
    ]
