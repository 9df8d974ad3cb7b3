"""A FastAPI application with a short cut to the routes that matter for speed, past the layers that they don't need.

FastAPI's middleware, exception handling and route matching cost about as much as translating a small request, and part
of it again for every chunk of a stream. Not for deciding anything: a request that is not exactly one of the routes
given goes the long way, where the same routes are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI
from typing_extensions import override

from aigateway_edge.refusal import refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from aigateway_edge.errors import Shape
    from aigateway_edge.refusal import Refused


class FastPathApp(FastAPI):
    """Answers `POST`s to some paths by itself."""

    short_cuts: Mapping[str, ASGIApp] = {}
    """By path; what CORS asks of them they do themselves."""
    refusals: Mapping[bytes, Shape] = {}
    """The dialects of calls that may be refused before they are read, by path."""
    leaving: bool = False
    """The server is about to stop: `/ready` sends load balancers elsewhere."""

    def leave(self) -> None:
        """Note that the server is about to stop."""
        self.leaving = True

    def refuse(self, path: bytes) -> Refused | None:
        """The answer to a call on `path` that there is no room for; None for what has to go the long way."""
        shape = self.refusals.get(path)
        return None if shape is None else refused(shape)

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or go the long way."""
        if scope["type"] == "http" and scope["method"] == "POST":
            route = self.short_cuts.get(scope["path"])
            if route is not None:
                await route(scope, receive, send)
                return
        await super().__call__(scope, receive, send)
