"""Usage events by gRPC to the usage service, which answers once they are in the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc
from aigateway.v1 import usage_service_pb2, usage_service_pb2_grpc
from grpc import aio

from aigateway_router.delivery.transport import Rejected

if TYPE_CHECKING:
    from collections.abc import Sequence

_TIMEOUT: Final = 30.0


class RpcTransport:
    """Delivers over a channel to the usage service."""

    def __init__(self, usage: aio.Channel) -> None:
        self._usage = usage_service_pb2_grpc.UsageServiceStub(usage)

    async def deliver(self, attempts: Sequence[usage_service_pb2.Attempt]) -> Sequence[Rejected]:
        """As `Transport` has it; when the ledger calls a batch invalid, the event is found that is."""
        request = usage_service_pb2.RecordAttemptsRequest()
        request.attempts.extend(attempts)
        try:
            await self._usage.RecordAttempts(request, timeout=_TIMEOUT)
        except aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            if len(attempts) == 1:
                return [Rejected(attempts[0], error.details() or "")]
            half = len(attempts) // 2
            return [*await self.deliver(attempts[:half]), *await self.deliver(attempts[half:])]
        return []

    async def close(self) -> None:
        """The channel is its maker's."""
