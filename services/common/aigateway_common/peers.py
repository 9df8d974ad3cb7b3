"""Which services may call, by the names in the certificates that they show: a further check behind mutual TLS.

Not who calls on whose behalf: keys and projects are the router's business.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from grpc import aio
from typing_extensions import override

from aigateway_common.errors import GatewayError, abort

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    import grpc

_NAMES: Final = "x509_subject_alternative_name"
"""What gRPC tells of a peer's certificate (https://grpc.github.io/grpc/python/grpc_asyncio.html, `auth_context`)."""
_HEALTH: Final = "/grpc.health.v1.Health/"
_KINDS: Final = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class NamedCallers(aio.ServerInterceptor):
    """Takes calls of those whose certificate has one of `names`; health may be asked for by whoever has any."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.encode() for name in names)

    @override
    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or str(handler_call_details.method).startswith(_HEALTH):
            return handler
        (kind,) = [kind for kind in _KINDS if getattr(handler, kind) is not None]
        return handler._replace(**{kind: self._guarded(getattr(handler, kind))})

    def _guarded(self, behaviour: Any) -> Any:
        """`behaviour` for callers who may come; gRPC tells the two ways of streaming apart by what it looks like."""
        if inspect.isasyncgenfunction(behaviour):

            async def stream(request: Any, context: aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
                await self._check(context)
                async for message in behaviour(request, context):
                    yield message

            return stream

        async def answer(request: Any, context: aio.ServicerContext[Any, Any]) -> Any:
            await self._check(context)
            return await behaviour(request, context)

        return answer

    async def _check(self, context: aio.ServicerContext[Any, Any]) -> None:
        if self._names.isdisjoint(context.auth_context().get(_NAMES, ())):
            error = GatewayError("PERMISSION_DENIED", "this service is not for the one whose certificate was shown")
            await abort(context, error)
