"""grpc.health.v1 for our servers, with a status per service.

Unlike grpcio's own servicer it ends its `Watch` streams when a server drains, so that a watching proxy does not hold
the drain up for the whole grace period; and it knows whether anybody watches, who can be told to go elsewhere first.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable

    from grpc import aio

    _Context = aio.ServicerContext[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]

SERVICE_NAME = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_Status = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """Answers health checks for `services` and, under the empty name, for the server as a whole."""

    def __init__(self, services: Iterable[str]) -> None:
        self._status: dict[str, int] = dict.fromkeys(("", *services), _Status.NOT_SERVING)
        self._changed = asyncio.Event()
        self._over = False
        self.watchers = 0
        """How many `Watch` streams are open; each of our own channels keeps one."""
        self._deserted = asyncio.Event()
        """Nobody watches any more."""

    @property
    def is_serving(self) -> bool:
        """Whether the server as a whole is SERVING."""
        return self._status[""] == _Status.SERVING

    def serving(self) -> None:
        """From now on everything is SERVING."""
        self._set(_Status.SERVING)

    def leaving(self) -> None:
        """From now on everything is NOT_SERVING: those who watch send their next calls elsewhere."""
        self._set(_Status.NOT_SERVING)

    async def deserted(self) -> None:
        """Wait until nobody watches, and so nobody is left who could be told anything."""
        while self.watchers:
            self._deserted.clear()
            await self._deserted.wait()

    def drain(self) -> None:
        """From now on everything is NOT_SERVING, for good: watchers are told so, and let go."""
        self._over = True
        self._set(_Status.NOT_SERVING)

    def _set(self, status: int) -> None:
        self._status = dict.fromkeys(self._status, status)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @override
    async def Check(self, request: health_pb2.HealthCheckRequest, context: _Context) -> _Status:
        """Answers the status of one service now."""
        status = self._status.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service `{request.service}` here")
        return _Status(status=status)

    @override
    async def Watch(self, request: health_pb2.HealthCheckRequest, context: _Context) -> None:
        """Answers the status of one service now and whenever it changes."""
        self.watchers += 1
        try:
            await self._tell(request.service, context)
        finally:
            self.watchers -= 1
            if not self.watchers:
                self._deserted.set()

    async def _tell(self, service: str, context: _Context) -> None:
        last: int | None = None
        while True:
            changed, over = self._changed, self._over
            status = self._status.get(service, _Status.SERVICE_UNKNOWN)
            if status != last:
                await context.write(_Status(status=status))
                last = status
            if over:
                return
            await changed.wait()
