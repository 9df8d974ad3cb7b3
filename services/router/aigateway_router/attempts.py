"""One attempt at one provider, from its start to the event that the ledger gets. Pure but for the clock.

Where the event goes is `usage_emitter`'s business.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aigateway.v1 import tokens_pb2, usage_service_pb2
from aigateway_common.ids import new_id

if TYPE_CHECKING:
    from aigateway_common.errors import GatewayError

OK: Final = usage_service_pb2.ATTEMPT_STATUS_OK
ERROR: Final = usage_service_pb2.ATTEMPT_STATUS_ERROR
CANCELLED: Final = usage_service_pb2.ATTEMPT_STATUS_CANCELLED

DEFAULT_PROJECT: Final = "default"
_MAX_ERROR_MESSAGE: Final = 500


@dataclass(slots=True)
class Attempt:
    """What is known of an attempt; the answer's side is filled in as it comes."""

    request_id: str
    key_id: str
    operation: usage_service_pb2.Operation.ValueType
    provider: str
    requested_model: str
    sent_model: str
    trace_id: str
    project: str = DEFAULT_PROJECT
    number: int = 1
    """Which attempt of the call, from 1."""
    fallback_from: str = ""
    """The `provider/model` it stands in for; empty when it does not."""
    hedge: bool = False
    """It was started beside a slow one."""
    event_id: str = field(default_factory=new_id)
    """What its event, and the money set aside for it, is known by."""
    started_at_us: int = 0
    started_ns: int = 0
    first_event_ns: int = 0
    """Nanoseconds from the start to the first event of a stream; 0 before it."""
    answered_model: str = ""
    finish_reason: str = ""
    usage: tokens_pb2.TokenUsage | None = None
    recorded: bool = False
    """Its event was handed over; an attempt has exactly one."""

    def __post_init__(self) -> None:
        """Start the clock."""
        self.started_at_us = time.time_ns() // 1000
        self.started_ns = time.perf_counter_ns()

    def elapsed_ns(self) -> int:
        """Nanoseconds since the start."""
        return time.perf_counter_ns() - self.started_ns

    def event(
        self, status: usage_service_pb2.AttemptStatus.ValueType, error: GatewayError | None
    ) -> usage_service_pb2.Attempt:
        """The usage event of an attempt that ended now, with `status`."""
        event = usage_service_pb2.Attempt(
            event_id=self.event_id,
            request_id=self.request_id,
            attempt=self.number,
            project=self.project,
            key_id=self.key_id,
            operation=self.operation,
            provider=self.provider,
            requested_model=self.requested_model,
            sent_model=self.sent_model,
            answered_model=self.answered_model,
            started_at_us=self.started_at_us,
            duration_us=self.elapsed_ns() // 1000,
            first_event_us=self.first_event_ns // 1000 if self.first_event_ns else None,
            status=status,
            finish_reason=self.finish_reason,
            trace_id=self.trace_id,
            fallback_from=self.fallback_from,
            hedge=self.hedge,
        )
        if self.usage is not None:
            event.usage.CopyFrom(self.usage)
        if error is not None:
            event.error_reason = error.reason.name
            event.error_message = error.message[:_MAX_ERROR_MESSAGE]
            if (upstream_status := error.details.get("upstream_status", "")).isdecimal():
                event.upstream_status = int(upstream_status)
        return event
