"""The operators' door: what the usage service and this router tell and do for holders of an admin key, and nobody else.

The usage service asks for no key itself, so nothing of a caller's but the request goes through: who acts is said by the
key alone. What routers ask on the way of a call is not for people, and is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

import grpc
from aigateway.v1 import (
    account_service_pb2,
    alert_service_pb2,
    router_admin_service_pb2,
    router_admin_service_pb2_grpc,
    usage_service_pb2,
)
from aigateway_common import logs
from aigateway_common.errors import STATUS_DETAILS_KEY, GatewayError, abort, from_rpc_error
from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from typing_extensions import override

from aigateway_router.authn import KeyRing, digest, presented
from aigateway_router.calls import request_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
    from google.protobuf.message import Message

    from aigateway_router.callers import Callers

    _Metadata = tuple[tuple[str, str], ...]
    _Context = aio.ServicerContext[Any, Any]
    _Handler = Callable[[Any, _Context], Awaitable[Any]]
    _Health = Callable[[], router_admin_service_pb2.GetRouterHealthResponse]

TIMEOUT: Final = 30.0
"""Seconds for a call whose caller set no deadline."""
CONNECT_SECONDS: Final = 3.0
"""How long a call waits for a connection to the usage service that was lost: more than gRPC pauses between tries."""

_PASSED: Final[Mapping[str, frozenset[str]]] = {
    "aigateway.v1.AccountService": frozenset(
        {
            "CreateProject",
            "ListProjects",
            "UpdateProject",
            "CreateKey",
            "ListKeys",
            "UpdateKey",
            "RotateKey",
            "RevokeKey",
            "SetBudget",
            "ListBudgets",
            "DeleteBudget",
            "OverrideBudget",
            "ListAuditEvents",
        }
    ),
    "aigateway.v1.AlertService": frozenset({"ListAlerts"}),
    "aigateway.v1.UsageService": frozenset({"ListAttempts", "SummarizeAttempts"}),
}
"""What is for operators; every other method of these services is for routers alone."""
SERVICE_NAMES: Final = (*_PASSED, "aigateway.v1.RouterAdminService")

_log = logs.get("aigateway.router")


class Door:
    """Lets operators through.

    Args:
        keys: The operators' keys.
        callers: Tells a caller's key from one that nobody knows.
        usage: A channel to the usage service; None when there is none.
        health: Says how the providers are.

    Raises ValueError for an empty key.
    """

    def __init__(self, keys: Iterable[str], callers: Callers, usage: aio.Channel | None, health: _Health) -> None:
        self._keys = KeyRing(keys)
        self._callers = callers
        self._usage = usage
        self._health = health

    def reload(self, keys: KeyRing) -> None:
        """Let those with `keys` in from now on, and no others."""
        self._keys = keys

    def register(self, server: aio.Server) -> None:
        """Add the services to `server`."""
        for file in (account_service_pb2, alert_service_pb2, usage_service_pb2):
            for service in file.DESCRIPTOR.services_by_name.values():
                server.add_generic_rpc_handlers((self._handlers(service),))
        router_admin_service_pb2_grpc.add_RouterAdminServiceServicer_to_server(_Router(self, self._health), server)

    async def enter(self, context: _Context) -> _Metadata:
        """Who asks and under which id, as metadata for the usage service.

        Raises:
            GatewayError: UNAUTHENTICATED or PERMISSION_DENIED.
        """
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        actor = await self._actor(metadata)
        own = request_id(metadata)
        logs.bind(request_id=own)
        traced = [(key, metadata[key]) for key in ("traceparent", "tracestate") if key in metadata]
        return (("x-actor", actor), ("x-request-id", own), *traced)

    async def _reach(self) -> None:
        """Wait a moment where the usage service was not there when last tried: it may have just started."""
        if self._usage is None or self._usage.get_state() is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._usage.channel_ready()

    async def _actor(self, metadata: Mapping[str, str]) -> str:
        if not self._keys:
            raise GatewayError("PERMISSION_DENIED", "there are no operators: set ADMIN_API_KEY to have some")
        keys = presented(metadata)
        for key in keys:
            if (found := self._keys.find(digest(key))) is not None:
                return found
        if not keys:
            raise GatewayError(
                "UNAUTHENTICATED", "no admin key given; send one of ADMIN_API_KEY as `authorization: Bearer KEY`"
            )
        try:
            await self._callers.identify(metadata)
        except GatewayError:
            raise GatewayError("UNAUTHENTICATED", "the admin key is wrong; send one of ADMIN_API_KEY") from None
        raise GatewayError("PERMISSION_DENIED", "this is a caller's key; send one of ADMIN_API_KEY")

    def _handlers(self, service: ServiceDescriptor) -> grpc.GenericRpcHandler:
        """A handler for each method of `service`: messages go through as they are, so none needs code of its own."""
        passed = _PASSED[service.full_name]
        return grpc.method_handlers_generic_handler(
            service.full_name,
            {
                method.name: grpc.unary_unary_rpc_method_handler(
                    self._passed(service, method) if method.name in passed else self._refused(method),
                    request_deserializer=GetMessageClass(method.input_type).FromString,
                    response_serializer=_serialized,
                )
                for method in service.methods
            },
        )

    def _passed(self, service: ServiceDescriptor, method: MethodDescriptor) -> _Handler:
        call: Callable[..., Awaitable[Any]] | None = None
        if self._usage is not None:
            call = self._usage.unary_unary(
                f"/{service.full_name}/{method.name}",
                request_serializer=_serialized,
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )

        async def handle(request: Any, context: _Context) -> Any:
            try:
                metadata = await self.enter(context)
                await self._reach()
                return await _pass(call, request, context.time_remaining(), metadata)
            except GatewayError as error:
                await abort(context, error)

        return handle

    def _refused(self, method: MethodDescriptor) -> _Handler:
        refusal = GatewayError("PERMISSION_DENIED", f"`{method.name}` is for routers alone")

        async def handle(_request: Any, context: _Context) -> Any:
            try:
                await self.enter(context)
            except GatewayError as error:
                await abort(context, error)
            await abort(context, refusal)

        return handle


class _Router(router_admin_service_pb2_grpc.RouterAdminServiceServicer):
    def __init__(self, door: Door, health: _Health) -> None:
        self._door = door
        self._health = health

    @override
    async def GetRouterHealth(
        self, request: router_admin_service_pb2.GetRouterHealthRequest, context: _Context
    ) -> router_admin_service_pb2.GetRouterHealthResponse:
        try:
            await self._door.enter(context)
        except GatewayError as error:
            await abort(context, error)
        return self._health()


async def _pass(
    call: Callable[..., Awaitable[Any]] | None, request: Any, remaining: float | None, metadata: _Metadata
) -> Any:
    """The usage service's answer. Raises GatewayError."""
    if call is None:
        raise GatewayError("UNIMPLEMENTED", "this gateway keeps no ledger: `usage.enabled` is false")
    try:
        return await call(request, timeout=TIMEOUT if remaining is None else remaining, metadata=metadata)
    except aio.AioRpcError as error:
        raise _from_usage(error) from error


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


def _from_usage(error: aio.AioRpcError) -> GatewayError:
    """What the usage service says goes through as it is; what gRPC says of it is put in words."""
    if any(key == STATUS_DETAILS_KEY for key, _ in error.trailing_metadata() or ()):
        return from_rpc_error(error)
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return GatewayError("UNIMPLEMENTED", "the usage service does not offer this; it may be an older one")
    _log.error("usage service failed", code=error.code().name, details=error.details())
    if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
        return GatewayError("UNAVAILABLE", "the usage service cannot be reached; try again", retry_after=1)
    return from_rpc_error(error)
