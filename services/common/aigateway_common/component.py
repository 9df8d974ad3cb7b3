"""What a service is to whoever composes it: the launcher knows services by this Protocol alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from grpc import aio


class Component(Protocol):
    """A service that can live on a grpc.aio server or an in-process one, alone or with others."""

    service_names: tuple[str, ...]
    """Full names of its gRPC services, for health and reflection."""

    def register(self, server: aio.Server) -> None:
        """Add its servicers to `server`, before the server starts."""

    async def start(self) -> None:
        """Open what it needs (files, databases) and start its background tasks."""

    async def stop(self, grace: float) -> None:
        """Finish what is under way within `grace` seconds, flush, and close. Called once calls have stopped coming."""
