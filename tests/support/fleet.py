"""A gateway as a cluster runs it behind Envoy: replicas of edges and routers under two names, one adapter, one ledger.

Replicas of a service have the same port and an address of loopback each (127.0.0.2, 127.0.0.3, ...), as pods behind a
headless Service do; a name server of the test says which of them a name has.
"""

from __future__ import annotations

import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest

from support.envoy import Envoy, free_port
from support.gateway import PROVIDER_KEYS, Running, environment, start
from support.nameserver import NameServer

KEY = "front-key-0123456789abcdef"
DOMAIN = "gateway.test"
HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")


class Fleet:
    """The processes; a context manager that stops them and checks that they end well."""

    def __init__(self, folder: Path, upstream: str, otlp: str) -> None:
        if sys.platform != "linux":
            pytest.skip("only Linux has all of 127.0.0.0/8 on loopback, one address for each replica")
        self.folder = folder
        self.names = NameServer()
        self.ports = {"edge": free_port(*HOSTS), "router": free_port(*HOSTS)}
        self.running: dict[str, Running] = {}
        self._killed: set[str] = set()
        more = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{otlp}", "OTEL_BSP_SCHEDULE_DELAY": "100"}
        self._full = environment(upstream, "openai", GATEWAY_API_KEY=KEY, **more)
        hidden = {name for key, url, _ in PROVIDER_KEYS.values() for name in (key, url)}
        self._bare = {name: value for name, value in self._full.items() if name not in hidden}

    def __enter__(self) -> Self:
        self.names.__enter__()
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(self._serve, ("usage", "provider:openai")))
                two = [(service, host) for service in ("router", "edge") for host in HOSTS[:2]]
                list(pool.map(lambda one: self.start(*one), two))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        codes = self._stop()
        if kind is None:
            assert set(codes.values()) <= {0}, codes

    def front(self, folder: Path, **settings: str) -> Envoy:
        """Envoy before all of it, by the two names."""
        names = {f"{service.upper()}S": f"{service}.{DOMAIN}:{port}" for service, port in self.ports.items()}
        return Envoy(folder, DNS_SERVER=self.names.address, **names, **settings)

    def addresses(self, service: str, *hosts: str) -> set[str]:
        """Addresses of the replicas on `hosts`; of the two that run from the start when none is given."""
        return {f"{host}:{self.ports[service]}" for host in hosts or HOSTS[:2]}

    def start(self, service: str, host: str) -> None:
        """Start a replica and have the name lead to it."""
        name, port = f"{service}@{host}", str(self.ports[service])
        if service == "edge":
            routers = ",".join(sorted(self.addresses("router")))
            env = self._bare | {"AIGATEWAY_ROUTER_TARGET": f"ipv4:{routers}"}
            where = ["--host", host, "--port", port]
        else:
            adapter = self.running["provider:openai"].grpc("provider:openai")
            targets = {
                "AIGATEWAY_USAGE_TARGET": self.running["usage"].grpc("usage"),
                "AIGATEWAY_PROVIDER_TARGETS": f"openai={adapter}",
                "AIGATEWAY_GRPC_HOST": host,
            }
            env, where = self._bare | targets, ["--grpc-port", port]
        self.running[name] = start(
            self.folder / name, env, "serve", service, *where, "--data-dir", str(self.folder / name)
        )
        self._killed.discard(name)
        self.resolve(service, *self._resolved(service), host)

    def resolve(self, service: str, *hosts: str) -> None:
        """From now on the name of the service has these addresses."""
        self.names.names[f"{service}.{DOMAIN}"] = sorted(set(hosts))

    def leave(self, service: str, host: str) -> None:
        """Take a replica out of its name; it runs on."""
        self.resolve(service, *(one for one in self._resolved(service) if one != host))

    def stop(self, service: str, host: str, number: int = signal.SIGTERM) -> None:
        """End a replica, by whatever signal; the name keeps it until it is told to leave."""
        name = f"{service}@{host}"
        if number == signal.SIGKILL:
            self._killed.add(name)
        code = self.running.pop(name).stop(number)
        assert code == (-number if number == signal.SIGKILL else 0)

    def _resolved(self, service: str) -> list[str]:
        return self.names.names.get(f"{service}.{DOMAIN}", [])

    def _serve(self, service: str) -> None:
        env = self._full if service.startswith("provider") else self._bare
        folder = self.folder / service.replace(":", "-")
        self.running[service] = start(folder, env, "serve", service, "--data-dir", str(folder), "--grpc-port", "0")

    def _stop(self) -> dict[str, int]:
        try:
            order = sorted(self.running, key=lambda name: name.partition("@")[0] != "edge")
            with ThreadPoolExecutor() as pool:
                return dict(zip(order, pool.map(lambda name: self.running[name].stop(), order), strict=True))
        finally:
            self.names.__exit__()
