"""What a detector says of a subject after a look at it, and the words that the ledger has for the kinds; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from aigateway.v1 import alert_service_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

CONSECUTIVE_ERRORS: Final = "consecutive_errors"
LATENCY_SPIKE: Final = "latency_spike"
BUDGET_THRESHOLD: Final = "budget_threshold"
PROVIDER_DOWN: Final = "provider_down"

_Kind = alert_service_pb2.AlertKind
KINDS: Final[Mapping[str, alert_service_pb2.AlertKind.ValueType]] = {
    CONSECUTIVE_ERRORS: _Kind.ALERT_KIND_CONSECUTIVE_ERRORS,
    LATENCY_SPIKE: _Kind.ALERT_KIND_LATENCY_SPIKE,
    BUDGET_THRESHOLD: _Kind.ALERT_KIND_BUDGET_THRESHOLD,
    PROVIDER_DOWN: _Kind.ALERT_KIND_PROVIDER_DOWN,
}

Key = tuple[str, str]
"""Kind and subject: what there is one open alert of."""


class Sign(msgspec.Struct, frozen=True):
    """That something is wrong with a subject, or that it is not (any more)."""

    kind: str
    subject: str
    wrong: bool
    at_us: int
    """When it began, or when it was over; microseconds since the Unix epoch."""
    message: str = ""
    """What is wrong, in words."""
    level: int = 0
    """How wrong, where there are degrees; an open alert is told again when it rises."""

    @property
    def key(self) -> Key:
        """Which alert it is about."""
        return self.kind, self.subject
