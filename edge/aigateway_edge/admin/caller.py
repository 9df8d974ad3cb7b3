"""The administrative services as the edge calls them: with the operator's own credentials, which the router checks.

Not for deciding who may do what, nor for any rule about accounts: the edge knows neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import grpc
from aigateway.v1 import (
    account_service_pb2_grpc,
    alert_service_pb2_grpc,
    router_admin_service_pb2_grpc,
    usage_service_pb2_grpc,
)
from aigateway_common.errors import STATUS_DETAILS_KEY, GatewayError, from_rpc_error
from grpc import aio

from aigateway_edge.admin.json_form import name
from aigateway_edge.inbound import Inbound

if TYPE_CHECKING:
    from starlette.requests import Request

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

_SECONDS: Final = 30.0
_INBOUND: Final = "aigateway.inbound"
_WRAPPED: Final = ("project", "key", "budget", "filter")
"""Messages whose fields stand by themselves in HTTP."""
_LACKING: Final = "nothing behind this gateway answers that: `usage.enabled` is off, or a service is of another release"


class Admin:
    """The services behind one channel."""

    def __init__(self, channel: aio.Channel, *, actor: str = "") -> None:
        """`actor` says who asks where no router stands between, which else does so by the key."""
        self.accounts: account_service_pb2_grpc.AccountServiceAsyncStub = account_service_pb2_grpc.AccountServiceStub(
            channel
        )
        self.alerts: alert_service_pb2_grpc.AlertServiceAsyncStub = alert_service_pb2_grpc.AlertServiceStub(channel)
        self.usage: usage_service_pb2_grpc.UsageServiceAsyncStub = usage_service_pb2_grpc.UsageServiceStub(channel)
        self.router: router_admin_service_pb2_grpc.RouterAdminServiceAsyncStub = (
            router_admin_service_pb2_grpc.RouterAdminServiceStub(channel)
        )
        self._actor = actor

    async def call(self, request: Request, rpc: aio.UnaryUnaryMultiCallable[Asked, Answer], asked: Asked) -> Answer:
        """Ask, on behalf of who sent `request`.

        Raises:
            GatewayError: Whatever the service says; fields are named as HTTP has them.
        """
        inbound = inbound_of(request)
        metadata = [*inbound.credentials(), ("x-request-id", inbound.request_id), *inbound.trace_context()]
        if self._actor:
            metadata.append(("x-actor", self._actor))
        try:
            return await rpc(asked, timeout=_SECONDS, metadata=metadata)
        except aio.AioRpcError as error:
            raise _failure(error) from error


def inbound_of(request: Request) -> Inbound:
    """What the request says beside its body; read once, so that its id stays one."""
    found = request.scope.get(_INBOUND)
    if found is None:
        found = request.scope[_INBOUND] = Inbound(request.scope)
    assert isinstance(found, Inbound)  # noqa: S101 # nobody else writes it
    return found


def _failure(error: aio.AioRpcError) -> GatewayError:
    if error.code() == grpc.StatusCode.UNIMPLEMENTED and not _ours(error):
        return GatewayError("NOT_FOUND", _LACKING)
    failure = from_rpc_error(error)
    if param := failure.details.get("param", ""):
        shown = _shown(param)
        failure.details["param"] = shown
        failure.message = failure.message.replace(f"`{param}`", f"`{shown}`")
    return failure


def _shown(param: str) -> str:
    """A field as HTTP has it: `key.expires_at_us` is `expires_at`."""
    wrapper, dot, rest = param.partition(".")
    path = rest if dot and wrapper in _WRAPPED else param
    return ".".join(name(step) for step in path.split("."))


def _ours(error: aio.AioRpcError) -> bool:
    return any(key == STATUS_DETAILS_KEY for key, _ in error.trailing_metadata() or ())
