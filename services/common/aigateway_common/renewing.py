"""A TLS channel whose certificates may change: calls begin on a connection made with the newest, and end on theirs.

gRPC's channel credentials are fixed when a channel is made (https://grpc.github.io/grpc/python/grpc.html#client-credentials),
so this makes a new channel when the files have changed; the old one is closed with its last call.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, Self

import grpc
from grpc import aio
from typing_extensions import override

from aigateway_common import logs

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from aigateway_common.tls import Certificates, Pem

QUIET_SECONDS: Final = 10.0
"""How long a channel that cannot connect says nothing after it has said why."""
_log = logs.get("tls")


class RenewingChannel(aio.Channel):
    """A channel to `target` that presents and demands what `certificates` hold."""

    def __init__(self, target: str, certificates: Certificates, options: tuple[tuple[str, str | int], ...]) -> None:
        name = certificates.tls.server_name
        self._target = target
        self._options = (*options, ("grpc.ssl_target_name_override", name)) if name else options
        self._certificates = certificates
        self._pem = certificates.current()
        self._now = self._made()
        self._old: set[_Connected] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._quiet_until = 0.0

    def connected(self) -> _Connected:
        """What a call that begins now goes through."""
        pem = self._certificates.current()
        if pem is not self._pem:
            old, self._pem = self._now, pem
            self._now = self._made()
            self._old.add(old)
            self._close_unless_used(old)
        return self._now

    def ended(self, connected: _Connected, call: aio.Call) -> None:
        """A call has ended that went through `connected`."""
        connected.calls -= 1
        if connected is not self._now:
            self._close_unless_used(connected)
        elif connected.channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            now = time.monotonic()
            if now >= self._quiet_until:
                self._quiet_until = now + QUIET_SECONDS
                self._do(self._explain(call))

    def _made(self) -> _Connected:
        return _Connected(aio.secure_channel(self._target, _credentials(self._pem), options=self._options))

    def _close_unless_used(self, old: _Connected) -> None:
        if old.calls == 0 and old in self._old:
            self._old.remove(old)
            self._do(old.channel.close())

    async def _explain(self, call: aio.Call) -> None:
        name = self._certificates.tls.server_name or self._target.rpartition("/")[2].rpartition(":")[0]
        _log.warning(
            "a service cannot be reached by TLS", target=self._target, expected_name=name, error=await call.details()
        )

    def _do(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @override
    def unary_unary(self, *arguments: Any, **more: Any) -> Any:
        return _Method(self, lambda channel: channel.unary_unary(*arguments, **more))

    @override
    def unary_stream(self, *arguments: Any, **more: Any) -> Any:
        return _Method(self, lambda channel: channel.unary_stream(*arguments, **more))

    @override
    def stream_unary(self, *arguments: Any, **more: Any) -> Any:
        return _Method(self, lambda channel: channel.stream_unary(*arguments, **more))

    @override
    def stream_stream(self, *arguments: Any, **more: Any) -> Any:
        return _Method(self, lambda channel: channel.stream_stream(*arguments, **more))

    @override
    async def close(self, grace: float | None = None) -> None:
        await asyncio.gather(*(each.channel.close(grace) for each in (self._now, *self._old)))
        await asyncio.gather(*self._tasks)

    @override
    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._now.channel.get_state(try_to_connect)

    @override
    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._now.channel.wait_for_state_change(last_observed_state)

    @override
    async def channel_ready(self) -> None:
        await self.connected().channel.channel_ready()

    @override
    async def __aenter__(self) -> Self:
        return self

    @override
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.close()


class _Connected:
    """A channel with one set of certificates, and how many calls are on it."""

    __slots__ = ("calls", "channel")

    def __init__(self, channel: aio.Channel) -> None:
        self.channel = channel
        self.calls = 0


class _Method:
    """One method of whichever channel is the newest when it is called."""

    def __init__(self, channel: RenewingChannel, make: Callable[[aio.Channel], Any]) -> None:
        self._channel = channel
        self._make = make
        self._on: _Connected | None = None
        self._method: Any = None

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        connected = self._channel.connected()
        if connected is not self._on:
            self._on, self._method = connected, self._make(connected.channel)
        call = self._method(*arguments, **more)
        connected.calls += 1
        call.add_done_callback(lambda ended: self._channel.ended(connected, ended))
        return call


def _credentials(pem: Pem) -> grpc.ChannelCredentials:
    credentials: grpc.ChannelCredentials = grpc.ssl_channel_credentials(pem.ca, pem.key, pem.certificate)
    return credentials
