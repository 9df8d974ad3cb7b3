"""What every call of the service has around its work: a span, a metric, and errors as gRPC statuses."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

from aigateway_common import attributes, logs, metrics
from aigateway_common.errors import GatewayError, abort
from aigateway_common.telemetry import SpanKind, Telemetry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from grpc import aio

_log = logs.get("usage")
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class Calls:
    """Answers the calls of one gRPC service, `service` being its full name."""

    def __init__(self, service: str, telemetry: Telemetry) -> None:
        self._service = service
        self._telemetry = telemetry

    async def answer(
        self,
        method: str,
        work: Callable[[_Request], Awaitable[_Response]],
        request: _Request,
        context: aio.ServicerContext[Any, Any],
    ) -> _Response:
        """Run `work` in a span of its own, its errors as gRPC statuses."""
        name = f"{self._service}/{method}"
        span = self._telemetry.span(name, kind=SpanKind.SERVER, parent=tuple(context.invocation_metadata() or ()))
        span.set(attributes.RPC_SYSTEM, "grpc")
        span.set(attributes.RPC_METHOD, name)
        begun = time.perf_counter()

        def end(status: str, failure: BaseException | None = None) -> None:
            span.end(failure)
            metrics.call_finished("usage", method, "", status, time.perf_counter() - begun)

        try:
            response = await work(request)
        except GatewayError as error:
            end(error.reason.name, error)  # before the caller knows of it, who may ask for the metrics next
            await abort(context, error)
        except asyncio.CancelledError as error:
            end("CANCELLED", error)
            raise
        except Exception as error:  # noqa: BLE001 -- the caller gets a status, the log the reason
            end("INTERNAL", error)
            _log.error("a call failed", method=method, exc_info=error)
            await abort(context, GatewayError("INTERNAL", "internal error; the logs have it"))
        end(metrics.OK)
        return response
