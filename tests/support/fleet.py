"""A gateway as a cluster runs it behind Envoy: replicas of edges, routers and adapters under a name each, one ledger.

Replicas of a service have the same port and an address of loopback each (127.0.0.2, 127.0.0.3, ...), as pods behind a
headless Service do; a name server of the test says which of them a name has.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import psutil
import pytest

from support.envoy import Envoy, free_port
from support.gateway import PROVIDER_KEYS, Running, environment, start
from support.nameserver import NameServer
from support.replay import Sent

KEY = "front-key-0123456789abcdef"
DOMAIN = "gateway.test"
ADAPTERS = ("provider:openai", "provider:anthropic")
HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
CONNECTION_AGE = 2
"""Seconds after which connections to services that `renew` are made anew, and names asked again."""


class Fleet:
    """The processes; a context manager that stops them and checks that they end well."""

    def __init__(self, folder: Path, upstream: str, otlp: str, renew: Sequence[str] = ADAPTERS) -> None:
        if sys.platform != "linux":
            pytest.skip("only Linux has all of 127.0.0.0/8 on loopback, one address for each replica")
        self.folder = folder
        self.names = NameServer()
        self.ports = {service: free_port(*HOSTS) for service in ("edge", "router", *ADAPTERS)}
        self.running: dict[str, Running] = {}
        self._ledger_port = free_port()
        self._upstream = upstream
        self._killed: set[str] = set()
        self._renew = renew
        self._config = folder / "aigateway.yaml"
        self._config.write_text(f"server: {{max_connection_age: {CONNECTION_AGE}}}\n")
        self._env = environment(
            None,
            GATEWAY_API_KEY=KEY,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{otlp}",
            OTEL_BSP_SCHEDULE_DELAY="100",
        )

    def __enter__(self) -> Self:
        self.names.__enter__()
        try:
            with ThreadPoolExecutor() as pool:
                first = [pool.submit(self.start_ledger), *(pool.submit(self.start, one, HOSTS[0]) for one in ADAPTERS)]
                for one in first:
                    one.result()
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

    @property
    def ledger(self) -> Path:
        """The data folder of the usage service."""
        return self.folder / "usage"

    def front(self, folder: Path, **settings: str) -> Envoy:
        """Envoy before all of it, by the two names."""
        names = {f"{service.upper()}S": f"{_name(service)}:{self.ports[service]}" for service in ("edge", "router")}
        return Envoy(folder, DNS_SERVER=self.names.address, **names, **settings)

    def addresses(self, service: str, *hosts: str) -> set[str]:
        """Addresses of the replicas on `hosts`; of the two that run from the start when none is given."""
        return {f"{host}:{self.ports[service]}" for host in hosts or HOSTS[:2]}

    def hosts(self, service: str) -> list[str]:
        """Where replicas of the service run."""
        return sorted(name.partition("@")[2] for name in self.running if name.startswith(f"{service}@"))

    def start(self, service: str, host: str) -> None:
        """Start a replica and have the name lead to it."""
        name, port = f"{service}@{host}", str(self.ports[service])
        env = self._env | {"AIGATEWAY_GRPC_HOST": host}
        if service in self._renew:
            env |= {"AIGATEWAY_CONFIG": str(self._config)}
        where = ["--grpc-port", port]
        if service == "edge":
            env |= {"AIGATEWAY_ROUTER_TARGET": self._target("router")}
            where = ["--host", host, "--port", port]
        elif service == "router":
            adapters = ",".join(f"{one.partition(':')[2]}={self._target(one)}" for one in ADAPTERS)
            env |= {"AIGATEWAY_USAGE_TARGET": f"127.0.0.1:{self._ledger_port}", "AIGATEWAY_PROVIDER_TARGETS": adapters}
        else:
            key, url, suffix = PROVIDER_KEYS[service.partition(":")[2]]
            assert key is not None
            env |= {key: key_of(host), url: self._upstream + suffix}
        folder = self.folder / name.replace(":", "-")
        self.running[name] = start(folder, env, "serve", service, *where, "--data-dir", str(folder))
        self._killed.discard(name)
        self.resolve(service, *self._resolved(service), host)

    def start_ledger(self) -> None:
        """Start the usage service: one, at an address that stays."""
        where = ["--grpc-port", str(self._ledger_port), "--data-dir", str(self.ledger)]
        self.running["usage"] = start(self.ledger, self._env, "serve", "usage", *where)

    def stop_ledger(self) -> None:
        assert self.running.pop("usage").stop() == 0

    def resolve(self, service: str, *hosts: str) -> None:
        """From now on the name of the service has these addresses."""
        self.names.names[_name(service)] = sorted(set(hosts))

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

    def linked(self, client: str, service: str) -> list[set[str]]:
        """For each replica of `client`, the hosts of `service` that it has a connection to."""
        processes = [self.running[f"{client}@{host}"].process.pid for host in self.hosts(client)]
        return [_peers(process, self.ports[service]) for process in processes]

    def _target(self, service: str) -> str:
        """The name of a service as gRPC asks the name server of the test for it."""
        return f"dns://{self.names.address}/{_name(service)}:{self.ports[service]}"

    def _resolved(self, service: str) -> list[str]:
        return self.names.names.get(_name(service), [])

    def _stop(self) -> dict[str, int]:
        try:
            order = sorted(self.running, key=lambda name: name.partition("@")[0] != "edge")
            with ThreadPoolExecutor() as pool:
                return dict(zip(order, pool.map(lambda name: self.running[name].stop(), order), strict=True))
        finally:
            self.names.__exit__()


def _peers(process: int, port: int) -> set[str]:
    links = psutil.Process(process).net_connections("tcp")
    peers = [one.raddr for one in links if one.status == psutil.CONN_ESTABLISHED]
    return {peer.ip.rpartition(":")[2] for peer in peers if peer.port == port}


def key_of(host: str) -> str:
    """The provider's key of the adapter on `host`, by which the stand-in can tell who asks."""
    return f"test-key-of-{host}"


def host_of(sent: Sent) -> str:
    """The host of the adapter that asked the provider."""
    key = sent.headers.get("x-api-key") or sent.headers["authorization"]
    return key.rpartition(key_of(""))[2]


def _name(service: str) -> str:
    return f"{service.replace(':', '-')}.{DOMAIN}"
