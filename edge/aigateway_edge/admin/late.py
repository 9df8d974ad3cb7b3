"""`/admin/*` made when it is first asked for, so that no start waits for what few processes are ever asked.

Its models and routes cost some 70 ms, a twentieth of a cold start; they are made in a thread, beside the calls.
"""

from __future__ import annotations

import asyncio
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from grpc import aio
    from starlette.types import Receive, Scope, Send


class LateAdmin:
    """The application of `/admin`, as an ASGI callable."""

    def __init__(self, gateway: aio.Channel, exception_handlers: Mapping[Any, Any]) -> None:
        self._gateway = gateway
        self._handlers = exception_handlers
        self._making = asyncio.Lock()

    @cached_property
    def app(self) -> FastAPI:
        """The application itself."""
        made: FastAPI = import_module("aigateway_edge.admin.surface").application(
            self._gateway, exception_handlers=self._handlers
        )
        return made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if "app" not in self.__dict__:
            async with self._making:
                await asyncio.to_thread(lambda: self.app)
        await self.app(scope, receive, send)
