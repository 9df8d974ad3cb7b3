"""One call as the router sees it: who made it, under which id, since when and until when."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

from aigateway.v1 import chat_pb2, gateway_service_pb2
from aigateway_common.ids import new_id

from aigateway_router.attempts import DEFAULT_PROJECT

if TYPE_CHECKING:
    from aigateway_common.telemetry import Span
    from grpc import aio

    from aigateway_router.attempt_guard import Errand

_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")


class Call:
    """A call being served.

    Args:
        context: Its gRPC side.
        metadata: What came with it, by lower-case key.
    """

    __slots__ = ("_context", "key_id", "metadata", "project", "provider", "request_id", "span", "started_ns")

    def __init__(self, context: aio.ServicerContext[Any, Any], metadata: dict[str, str], span: Span) -> None:
        self.started_ns = time.perf_counter_ns()
        self._context = context
        self.metadata = metadata
        self.request_id = _request_id(metadata)
        self.span = span
        self.key_id = ""
        self.project = DEFAULT_PROJECT
        self.provider = ""
        """Where it goes, once that is known."""

    def remaining(self) -> float | None:
        """Seconds until its caller stops waiting; None when its caller set no deadline."""
        return self._context.time_remaining()

    def elapsed_ns(self) -> int:
        """Nanoseconds since it came in."""
        return time.perf_counter_ns() - self.started_ns

    def timing(self, below: chat_pb2.CallTiming) -> chat_pb2.CallTiming:
        """Where the time went up to now, given what the adapter says of its own and the provider's."""
        spent = self.elapsed_ns() // 1000 - below.upstream_us - below.adapter_us
        return chat_pb2.CallTiming(upstream_us=below.upstream_us, adapter_us=below.adapter_us, router_us=max(0, spent))

    def route(self, errand: Errand) -> gateway_service_pb2.Route:
        """Where it went, for the answer."""
        return gateway_service_pb2.Route(
            provider=errand.target.provider,
            requested_model=errand.requested_model,
            sent_model=errand.target.model,
            request_id=self.request_id,
            original_provider=errand.fallback_from.partition("/")[0],
            attempts=errand.number,
        )


def _request_id(metadata: dict[str, str]) -> str:
    """The caller's own id when it is a sensible one, else a new one."""
    given = metadata.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else new_id()
