"""A gateway as a cluster runs it: one usage service, two replicas of the adapters and of the router, edges before them.

Each service is `aigateway serve` in a process of its own; a replica that was stopped can be started again on its old
address.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from aigateway_launcher.children import HeldPort, hold_port

from support.gateway import PROVIDER_KEYS, Running, environment, start

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Replicas:
    """Its processes by name: `usage`, `adapter-a`, `adapter-b`, `router-a`, `router-b`, `edge-a`, `edge-b`."""

    folder: Path
    upstream: str
    provider: str = "openai"
    running: dict[str, Running] = field(default_factory=dict)
    _ports: dict[str, int] = field(default_factory=dict)
    _held: list[HeldPort] = field(default_factory=list)

    def __enter__(self) -> Self:
        try:
            for together in (("usage", "adapter-a", "adapter-b"), ("router-a", "router-b"), ("edge-a", "edge-b")):
                for name in together:
                    self._held.append(hold_port())
                    self._ports[name] = self._held[-1].number
                with ThreadPoolExecutor() as pool:
                    list(pool.map(self.start, together))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        codes = self._stop()
        if kind is None:
            assert set(codes.values()) == {0}, codes

    @property
    def data(self) -> Path:
        """Where the ledger is."""
        return self.folder / "usage"

    def start(self, name: str) -> None:
        """Start one process, on its old address when it had one."""
        service, env = self._service(name)
        option = "--port" if service == "edge" else "--grpc-port"
        port = self._ports[name]
        self.running[name] = start(
            self.folder, env, "serve", service, option, str(port), "--data-dir", str(self.folder / name)
        )

    def _service(self, name: str) -> tuple[str, dict[str, str]]:
        """What `serve` is told, and the environment of the process."""
        full = environment(self.upstream, self.provider)
        keys = {variable for key, url, _ in PROVIDER_KEYS.values() for variable in (key, url)}
        bare = {variable: value for variable, value in full.items() if variable not in keys}
        match name.partition("-")[0]:
            case "adapter":
                return f"provider:{self.provider}", full
            case "router":
                target = f"{self.provider}={self._both('adapter')}"
                usage = {"AIGATEWAY_USAGE_TARGET": self._address("usage")}
                return "router", bare | usage | {"AIGATEWAY_PROVIDER_TARGETS": target}
            case "edge":
                return "edge", bare | {"AIGATEWAY_ROUTER_TARGET": self._both("router")}
            case _:
                return "usage", bare

    def _both(self, service: str) -> str:
        """Both replicas as one gRPC target, which spreads calls over them."""
        return "ipv4:" + ",".join(self._address(f"{service}-{replica}") for replica in "ab")

    def _address(self, name: str) -> str:
        addresses = self.running[name].addresses
        return str(addresses["http"] or next(iter(addresses["grpc"].values())))

    def _stop(self) -> dict[str, int]:
        codes = {name: one.stop() for name, one in reversed(self.running.items())}
        for held in self._held:
            held.close()
        return codes
