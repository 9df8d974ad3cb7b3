"""One call as the router sees it: who made it, under which id, since when and until when."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

from aigateway.v1 import chat_pb2, gateway_service_pb2
from aigateway_common.ids import new_id

from aigateway_router.callers import ANYBODY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_common.telemetry import Span
    from grpc import aio

    from aigateway_router.attempt_guard import Errand
    from aigateway_router.callers import Caller

_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")


class Call:
    """A call being served.

    Args:
        context: Its gRPC side.
        metadata: What came with it, by lower-case key.
    """

    __slots__ = (
        "_context",
        "caller",
        "cut",
        "low_budgets",
        "metadata",
        "model",
        "provider",
        "request_id",
        "request_limit",
        "span",
        "started_ns",
        "token_limit",
    )

    def __init__(self, context: aio.ServicerContext[Any, Any], metadata: dict[str, str], span: Span) -> None:
        self.started_ns = time.perf_counter_ns()
        self._context = context
        self.metadata = metadata
        self.request_id = request_id(metadata)
        self.span = span
        self.caller: Caller = ANYBODY
        """Who calls, once that is known."""
        self.model = ""
        """The name that was routed: the caller's own, or what `default` stands for."""
        self.provider = ""
        """Where it goes, once that is known."""
        self.cut = False
        """Its key was revoked while it was under way, and it has to end."""
        self.request_limit: gateway_service_pb2.LimitState | None = None
        """What is left of the limits on calls; None when there are none."""
        self.token_limit: gateway_service_pb2.LimitState | None = None
        """What is left of the limits on tokens; None when there are none."""
        self.low_budgets: list[str] = []
        """Budgets that are nearly spent, in words."""

    @property
    def key_id(self) -> str:
        """What stands for the caller's key; empty when the gateway is open."""
        return self.caller.key_id

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
        route = gateway_service_pb2.Route(
            provider=errand.target.provider,
            requested_model=errand.requested_model,
            sent_model=errand.target.model,
            request_id=self.request_id,
            original_provider=errand.fallback_from.partition("/")[0],
            attempts=errand.number,
            low_budgets=self.low_budgets,
        )
        if self.request_limit is not None:
            route.request_limit.CopyFrom(self.request_limit)
        if self.token_limit is not None:
            route.token_limit.CopyFrom(self.token_limit)
        return route


def request_id(metadata: Mapping[str, str]) -> str:
    """The caller's own id when it is a sensible one, else a new one."""
    given = metadata.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else new_id()
