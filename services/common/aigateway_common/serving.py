"""gRPC servers and channels with the project's settings.

`grpc_server` puts components on one port; `grpc_channel` reaches such a server. Signals, topologies and in-process
joining are the launcher's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from typing import TYPE_CHECKING, Final, cast

from grpc import aio
from grpc_health.v1 import health_pb2_grpc

from aigateway_common import health, tls
from aigateway_common.peers import NamedCallers
from aigateway_common.renewing import RenewingChannel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aigateway_common.component import Component
    from aigateway_common.tls import Certificates

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
CONNECTION_AGE_GRACE: Final = 3660.0
"""Seconds that a call may go on after its connection has reached its age: more than `edge.max_timeout`."""
LINGER: Final = 2.0
"""Seconds at most that a draining server still takes the calls of clients that are being told to go elsewhere.

gRPC refuses calls that arrive while a server stops, and its client cannot know whether such a call was begun. A client
on a machine at ten times its load took more than half a second to go. Where no client is left, nobody waits.
"""
RESOLUTION_PAUSE: Final = 5.0
"""Seconds at least between two questions of one channel for the addresses of a name."""

_MESSAGE_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)
_SERVER_OPTIONS: Final = (
    *_MESSAGE_OPTIONS,
    # Clients may ping as often as our channels do, and idle ones too; more often is an attack or a mistake.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Who connects and then says nothing is let go after 20 seconds instead of gRPC's 120.
    ("grpc.server_handshake_timeout_ms", 20_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)
_CHANNEL_OPTIONS: Final = (
    *_MESSAGE_OPTIONS,
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A restarted service is found again within two seconds.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.dns_min_time_between_resolutions_ms", int(RESOLUTION_PAUSE * 1000)),
    # A call that meets the end of its connection, which no server has seen, is sent by another one: without this a
    # connection that reaches its age loses calls. What a server may have begun is the router's to send again; nothing
    # here says so. A message of any size is kept for it until the answer begins: for whole calls gRPC holds it for as
    # long anyway, for streams that is as much more memory as the requests that wait.
    ("grpc.enable_retries", 1),
    ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),
    # A server that drains says NOT_SERVING first: calls then go to its replicas, before it refuses any. One that knows
    # no health checks counts as healthy (https://grpc.io/docs/guides/health-checking/).
    ("grpc.service_config", '{"healthCheckConfig": {"serviceName": ""}}'),
    # `http_proxy` is for the world outside, not for our own hops.
    ("grpc.enable_http_proxy", 0),
)


class GrpcServer:
    """Components on one gRPC port, with health and, when asked for, reflection.

    It starts and stops the components too, unless `manage` is false: then they belong to someone else (to an in-process
    server that they are also on), and this is one more door to them.
    """

    def __init__(
        self,
        components: Sequence[Component],
        address: str,
        *,
        reflection: bool = False,
        max_connection_age: float | None = None,
        manage: bool = True,
        shared: bool = False,
        certificates: Certificates | None = None,
    ) -> None:
        names = [name for component in components for name in component.service_names]
        self._managed = list(components) if manage else []
        self._started: list[Component] = []
        self._health = health.Health(names)
        self._server = aio.server(
            interceptors=_guards(certificates),
            options=[*_SERVER_OPTIONS, *_port_sharing(shared), *_age(max_connection_age)],
        )
        servicers = cast("aio.Server", _Servicers(self._server))
        for component in components:
            component.register(servicers)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, servicers)
        if reflection:
            _reflect([*names, health.SERVICE_NAME], servicers)
        self.address = address
        self.port = _bind(self._server, address, certificates)
        """The port it listens on, also when 0 was asked for."""

    @property
    def is_serving(self) -> bool:
        """Whether its health is SERVING."""
        return self._health.is_serving

    async def start(self) -> None:
        """Start the components in order, then take calls, then report SERVING.

        When a component fails to start, it and those before it are stopped again, whatever it has opened by then.
        """
        try:
            for component in self._managed:
                self._started.append(component)
                await component.start()
            await self._listen()
        except BaseException:
            await self.drain(0)
            raise
        self._health.serving()

    async def _listen(self) -> None:
        """Take calls. A turn of the event loop that is not given up: gRPC cannot stop a server half-way."""
        starting = asyncio.ensure_future(self._server.start())
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await starting
            raise

    async def drain(self, grace: float) -> None:
        """Stop: report NOT_SERVING, take no more calls, give running ones `grace` seconds, stop the components.

        While clients watch the health, calls are taken until they have had time to go elsewhere. Components are stopped
        in reverse order and share what is left of `grace`.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        if self._health.watchers:
            self._health.leaving()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(LINGER, grace)):
                    await self._health.deserted()
        self._health.drain()
        await self._server.stop(max(0.0, end - loop.time()))
        while self._started:
            await self._started.pop().stop(max(0.0, end - loop.time()))

    async def wait(self) -> None:
        """Wait until the server has stopped."""
        await self._server.wait_for_termination()


class _Servicers:
    """What servicers are added to: their methods are looked up by name, not registered one by one as well.

    For each call grpc.aio makes a task and waits for all registered methods together, so that each of them costs.
    """

    def __init__(self, server: aio.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, *_: object) -> None:
        """The same methods as `add_generic_rpc_handlers` gets."""


def grpc_server(
    components: Sequence[Component],
    address: str,
    *,
    reflection: bool = False,
    max_connection_age: float | None = None,
    manage: bool = True,
    shared: bool = False,
    certificates: Certificates | None = None,
) -> GrpcServer:
    """A server for `components` on `address` (`host:port`; port 0 takes a free one), bound but not yet started.

    `max_connection_age` in seconds makes clients reconnect now and then, so that load spreads over new replicas.
    `shared` says that other servers may have the port as well. With `certificates` it speaks TLS only, to those who
    show a certificate of the same CA, and if callers are named, one of theirs. Call it in the event loop that is to
    serve. Raises OSError that names the address when it cannot be bound.
    """
    return GrpcServer(
        components,
        address,
        reflection=reflection,
        max_connection_age=max_connection_age,
        manage=manage,
        shared=shared,
        certificates=certificates,
    )


def grpc_channel(target: str, certificates: Certificates | None = None) -> aio.Channel:
    """A channel to `target` (`host:port`, or any gRPC name such as `dns:///router:50051`); plaintext, or mutual TLS.

    One channel per target serves any number of calls; it connects on the first and spreads calls over all addresses.
    """
    if certificates is not None:
        return RenewingChannel(target, certificates, _CHANNEL_OPTIONS)
    return aio.insecure_channel(target, options=_CHANNEL_OPTIONS)


def _guards(certificates: Certificates | None) -> list[aio.ServerInterceptor]:
    callers = certificates.tls.callers if certificates else ()
    return [NamedCallers(callers)] if callers else []


def _age(seconds: float | None) -> list[tuple[str, int]]:
    if seconds is None:
        return []
    return [
        ("grpc.max_connection_age_ms", int(seconds * 1000)),
        ("grpc.max_connection_age_grace_ms", int(CONNECTION_AGE_GRACE * 1000)),
    ]


def _port_sharing(shared: bool) -> list[tuple[str, int]]:  # noqa: FBT001 -- one thing to say
    """Two servers on one port each get a share of the connections: fail instead, unless they are meant to."""
    return [("grpc.so_reuseport", int(shared))]


def _bind(server: aio.Server, address: str, certificates: Certificates | None) -> int:
    try:
        if certificates is not None:
            return server.add_secure_port(address, tls.server_credentials(certificates))
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(
            errno.EADDRINUSE, f"cannot listen on `{address}`: the port is taken, or the address is not of this machine"
        ) from error


def _reflect(names: list[str], server: aio.Server) -> None:
    from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc  # noqa: PLC0415 -- loaded only when asked for

    servicer = reflection.aio.ReflectionServicer([*names, reflection.SERVICE_NAME])
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)  # type: ignore[no-untyped-call] # generated without types
