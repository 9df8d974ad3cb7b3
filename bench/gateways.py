"""Our own gateway in each topology with each set of features, as `Server`s, and the key that callers need."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from bench.servers import Command, Server, free_port

ADMIN: Final = "bench-admin-0123456789abcdef"
_PLENTY: Final = 100_000_000
"""A limit that is counted and never reached."""
_KEPT: Final = ("PATH", "HOME", "LANG", "TMPDIR")


@dataclass(frozen=True)
class Features:
    """What is on."""

    ledger: bool = True
    keys: bool = True
    """Callers need a key of the ledger's; else everybody may call."""
    limits: bool = True
    """The key and its project have limits per minute."""
    budgets: bool = False
    metrics: bool = True
    tracing: float | None = None
    """The share of calls that is traced; None without a receiver."""
    routes: int = 0
    """Names in the configuration, the last of which is called; with none calls name the provider and its model."""


def environment(**more: str) -> dict[str, str]:
    """A clean environment."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | more


def gateway(folder: Path, topology: str, features: Features, mock: int, otlp: int) -> Server:
    """The gateway in `folder`, not yet started."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "aigateway.yaml").write_text(yaml.safe_dump(_configuration(features, otlp)))
    upstream = {"OPENAI_API_KEY": "bench-upstream-key", "OPENAI_BASE_URL": f"http://127.0.0.1:{mock}/v1"}
    http, grpc = free_port(), free_port()
    metrics = ("--metrics-port", "0") if features.metrics else ()
    more = (*metrics, "--data-dir", str(folder / "data"))
    where = ("--port", str(http), "--grpc-port", str(grpc), *more)
    admin = {"ADMIN_API_KEY": ADMIN} if features.keys else {}  # where there are operators, callers need keys
    all_in = environment(**admin, **upstream)
    match topology:
        case "embedded":
            commands = [_command("gateway", all_in, "up", *where)]
        case "workers":
            commands = [_command("gateway", all_in, "up", "--workers", "2", *where)]
        case "split":
            commands = [_command("parent", all_in, "up", "--split", *where)]
        case "parts":
            commands = _parts(where, more, upstream, admin)
        case _:
            raise ValueError(topology)
    names = f"alias-{(features.routes - 1) // 2}" if features.routes else "openai/{}"
    return Server(folder, commands, http, _headers(folder), names, f"127.0.0.1:{grpc}")


def _parts(
    where: tuple[str, ...], more: tuple[str, ...], upstream: Mapping[str, str], admin: Mapping[str, str]
) -> list[Command]:
    """Edge and router in one process, the adapter and the ledger in one each."""
    usage, adapter = free_port(), free_port()
    targets = {
        "AIGATEWAY_USAGE_TARGET": f"127.0.0.1:{usage}",
        "AIGATEWAY_PROVIDER_TARGETS": f"openai=127.0.0.1:{adapter}",
    }
    return [
        _command("usage", environment(), "serve", "usage", "--grpc-port", str(usage), *more),
        _command("adapter", environment(**upstream), "serve", "provider:openai", "--grpc-port", str(adapter), *more),
        _command("edge,router", environment(**admin, **targets), "serve", "edge,router", *where),
    ]


def _command(name: str, env: Mapping[str, str], *arguments: str) -> Command:
    return Command(name, [sys.executable, "-m", "aigateway_launcher", *arguments], env)


def _configuration(features: Features, otlp: int) -> dict[str, Any]:
    """The file. Half of the routes are aliases, half are patterns; the ones in use come last."""
    aliases = {f"alias-{number}": "openai/bench-model" for number in range((features.routes + 1) // 2)}
    prices = {f"openai/other-{number}-*": {"input": 1, "output": 2} for number in range(features.routes // 2)}
    file: dict[str, Any] = {
        "usage": {"enabled": features.ledger},
        "aliases": aliases,
        "prices": prices | {"openai/*": {"input": 1, "output": 2}},
    }
    if features.tracing is not None:
        file["telemetry"] = {"otlp_endpoint": f"http://127.0.0.1:{otlp}", "sample_ratio": features.tracing}
    return file


def issue(server: Server, features: Features) -> None:
    """Make what the features need in the ledger of a running gateway, and put the key into the server's headers."""
    if not features.keys:
        return
    limits = {"requests_per_minute": _PLENTY, "tokens_per_minute": _PLENTY} if features.limits else {}
    _admin(server, "POST", "/admin/projects", {"id": "bench", "limits": limits})
    key = _admin(server, "POST", "/admin/keys", {"project": "bench", "name": "bench", "limits": limits})
    if features.budgets:
        budget = {"scope": "project", "subject": "bench", "period": "month", "limit_usd": 1_000_000}
        _admin(server, "PUT", "/admin/budgets", budget)
    (server.folder / "key").write_text(key["secret"])
    server.headers = _headers(server.folder)


def _admin(server: Server, method: str, path: str, body: Mapping[str, Any]) -> Any:
    status = 200 if method == "PUT" else 201
    headers = {"authorization": f"Bearer {ADMIN}"}
    return json.loads(server.until(status, method, path, json.dumps(body).encode(), headers))


def _headers(folder: Path) -> dict[str, str]:
    key = folder / "key"
    return {"authorization": f"Bearer {key.read_text()}"} if key.is_file() else {}
