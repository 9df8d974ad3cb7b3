"""One process's services, and how their parts find each other.

What shares a process is joined by in-process channels; the rest by gRPC. The router always listens on gRPC as well, for
internal callers. No service knows which of these it got.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from aigateway_common.health import Health
from aigateway_common.inprocess import InProcessChannel, InProcessServer
from aigateway_common.load import Load
from aigateway_common.probes import Probes
from aigateway_common.serving import grpc_channel, grpc_server
from aigateway_common.settings import ConfigurationError, Problem
from aigateway_common.tls import Certificates
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from aigateway_launcher.exports import Exports
from aigateway_launcher.groups import PROVIDER, Addresses
from aigateway_launcher.plan import KEY_HINT, is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from aigateway_common.component import Component
    from aigateway_common.metrics import MetricsServer
    from aigateway_common.serving import GrpcServer
    from aigateway_providers.server import ProviderComponent
    from aigateway_router.server import RouterComponent
    from aigateway_usage.server import UsageComponent
    from grpc import aio

    from aigateway_launcher.groups import Group
    from aigateway_launcher.http_server import HttpServer
    from aigateway_launcher.plan import Plan
    from aigateway_launcher.worker import Worker


class Process:
    """One process's services, from start to drain."""

    def __init__(self, plan: Plan, group: Group, worker: Worker | None = None) -> None:
        self._plan = plan
        self._group = group
        self._worker = worker
        self.addresses = Addresses()
        self._http: HttpServer | None = None
        self._grpc: list[GrpcServer] = []
        self._local: list[tuple[InProcessServer, Health, Component]] = []
        """In-process servers with their health and component, in starting order."""
        self._channels: list[aio.Channel] = []
        self._exports = Exports(plan.telemetry, group)
        self._metrics: MetricsServer | None = None
        self._certificates = Certificates(plan.tls) if plan.tls else None
        self._started = False
        self._router: RouterComponent | None = None
        self._usage: UsageComponent | None = None
        self._providers: dict[str, ProviderComponent] = {}

    async def start(self) -> None:
        """Start every service, those that others need first."""
        plan, group = self._plan, self._group
        try:
            self._exports.start()
            if plan.metrics_port is not None:
                self._metrics = self._serve_metrics(plan.metrics_port)
            usage = await self._usage_channel()
            providers = await self._provider_channels()
            router = await self._router_channel(providers, usage)
            if group.edge:
                await self._start_edge(router)
            self._started = True
        except BaseException:
            await self.stop(0)
            raise

    async def stop(self, grace: float) -> None:
        """Drain: HTTP first, then gRPC, then what they used. `grace` bounds the whole, in seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace

        def left() -> float:
            return max(0.1, end - loop.time())

        if self._http is not None:
            await self._http.drain(left())
        for server in reversed(self._grpc):
            await server.drain(left())
        for local, health, component in reversed(self._local):
            health.drain()
            await local.stop(left())
            await component.stop(left())
        for channel in self._channels:
            await channel.close()
        await self._exports.stop()
        if self._metrics is not None:
            self._metrics.stop()

    def reload(self, plan: Plan) -> None:
        """Hand what of `plan` can be taken while it runs to the services that are here and started.

        Raises ValueError when the router cannot go by it, or a key cannot be sent; then that service goes on as before.
        """
        for name, component in self._providers.items():
            if name in plan.providers:
                component.rekey(plan.providers[name].api_key)
        if self._usage is not None:
            self._usage.reload(plan.usage)
        if self._router is not None:
            self._router.reload(plan.router)

    async def open_ledger(self) -> aio.Channel:
        """The ledger alone, joined in process; for commands that read it, and take no events for it."""
        server = import_module("aigateway_usage.server")
        return await self._join(server.UsageComponent(replace(self._plan.usage, events=None)))

    # Services.

    async def _usage_channel(self) -> aio.Channel | None:
        plan, group = self._plan, self._group
        if group.usage:
            server = import_module("aigateway_usage.server")
            component = server.UsageComponent(plan.usage, telemetry=self._exports.traced("usage"))
            self._usage = component
            if group.router:
                return await self._join(component)
            await self._listen("usage", component)
            return None
        if group.router and plan.targets.usage:
            return self._dial(plan.targets.usage)
        return None

    async def _provider_channels(self) -> dict[str, aio.Channel]:
        plan, group = self._plan, self._group
        channels: dict[str, aio.Channel] = {}
        if group.router:
            channels |= {name: self._dial(target) for name, target in plan.targets.providers.items()}
        for name in group.providers:
            create = import_module("aigateway_providers.registry").create_adapter
            server = import_module("aigateway_providers.server")
            component = server.ProviderComponent(
                create(plan.providers[name]), name=name, telemetry=self._exports.traced(f"provider-{name}")
            )
            self._providers[name] = component
            if group.router:
                channels[name] = await self._join(component)
            else:
                await self._listen(PROVIDER + name, component)
        return channels

    async def _router_channel(self, providers: dict[str, aio.Channel], usage: aio.Channel | None) -> aio.Channel | None:
        plan, group = self._plan, self._group
        if not group.router:
            if group.edge and not plan.targets.router:
                text = "an edge without a router needs its address: set AIGATEWAY_ROUTER_TARGET or `targets.router`"
                raise ConfigurationError([Problem("serve", text)])
            return self._dial(plan.targets.router) if group.edge and plan.targets.router else None
        if not providers:
            text = "a router needs adapters: name them beside it, or set AIGATEWAY_PROVIDER_TARGETS"
            raise ConfigurationError([Problem("serve", text)])
        guarded = plan.router.api_keys or plan.router.admin_keys or plan.router.jwt
        if not guarded and not is_loopback(plan.grpc_host):
            text = f"is not set, so the router may serve loopback only, not `{plan.grpc_host}`; {KEY_HINT}"
            raise ConfigurationError([Problem("GATEWAY_API_KEY", text)])
        server = import_module("aigateway_router.server")
        try:
            component = server.RouterComponent(
                plan.router, providers=providers, usage=usage, telemetry=self._exports.traced("router")
            )
        except ValueError as error:
            raise ConfigurationError([Problem("aliases", str(error))]) from error
        self._router = component
        channel = await self._join(component) if group.edge else None
        await self._listen("router", component, owned=not group.edge)
        return channel

    async def _start_edge(self, router: aio.Channel | None) -> None:
        if router is None:
            raise AssertionError("an edge always has a router by now")
        app = import_module("aigateway_edge.app")
        server = import_module("aigateway_launcher.http_server")
        plan = self._plan
        asgi = app.create_app(plan.edge, gateway=router, telemetry=self._exports.traced("edge"))
        gate = server.Gate(load=Load("edge", max_calls=plan.edge.max_calls), refuse=asgi.refuse)
        shared = self._worker and self._worker.shared_socket(plan)
        self._http = server.HttpServer(asgi, plan.host, plan.port, leaving=asgi.leave, gate=gate, shared=shared)
        await self._http.start()
        self.addresses.http = f"{plan.host}:{self._http.port}"

    # Joining.

    async def _join(self, component: Component) -> aio.Channel:
        """Start `component` on a server inside this process; the channel to it."""
        local = InProcessServer()
        health = Health(component.service_names)
        component.register(local)
        add_HealthServicer_to_server(health, local)
        self._local.append((local, health, component))
        await component.start()
        await local.start()
        health.serving()
        return InProcessChannel(local)

    async def _listen(self, name: str, component: Component, *, owned: bool = True) -> None:
        """Serve `component` on a gRPC port; `owned` says that this server starts and stops it."""
        plan = self._plan
        port = plan.grpc_port + len(self._grpc) if plan.grpc_port else 0
        address = f"{plan.grpc_host}:{port}"
        try:
            server = grpc_server(
                [component],
                address,
                reflection=plan.reflection,
                max_connection_age=plan.max_connection_age,
                manage=owned,
                shared=self._worker is not None,
                certificates=self._certificates,
            )
        except OSError as error:
            hint = "choose another with --grpc-port"
            raise ConfigurationError([Problem(address, f"{error.strerror}; {hint}")]) from error
        self._grpc.append(server)
        await server.start()
        self.addresses.grpc[name] = f"{plan.grpc_host}:{server.port}"

    def _dial(self, target: str) -> aio.Channel:
        channel = grpc_channel(target, self._certificates)
        self._channels.append(channel)
        return channel

    def _serve_metrics(self, port: int) -> MetricsServer:
        try:
            probes = Probes(asyncio.get_running_loop(), self._ready)
            server: MetricsServer = import_module("aigateway_common.metrics").serve(self._plan.grpc_host, port, probes)
        except OSError as error:
            raise ConfigurationError([Problem("--metrics-port", str(error.strerror))]) from error
        name = self._worker.name if self._worker else ",".join(self._group.names)
        self.addresses.metrics[name] = f"{self._plan.grpc_host}:{server.port}"
        return server

    def _ready(self) -> bool:
        return self._started and all(server.is_serving for server in self._grpc)


async def run(
    process: Process,
    ready: Callable[[Addresses], None],
    stop: asyncio.Event,
    grace: float,
    beside: Callable[[], Coroutine[None, None, None]] | None = None,
) -> None:
    """Start `process`, call `ready(addresses)`, run what goes `beside` it, wait for `stop`, drain.

    A `stop` that comes before it is ready ends its start, which may wait for a database that does not answer.
    """
    if not await _started(process, stop):
        return
    try:
        ready(process.addresses)
        task = asyncio.create_task(beside()) if beside else None
        await stop.wait()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    finally:
        await process.stop(grace)


async def _started(process: Process, stop: asyncio.Event) -> bool:
    starting, stopping = asyncio.create_task(process.start()), asyncio.create_task(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.wait((starting,))
    if starting.cancelled():
        return False
    starting.result()
    return True
