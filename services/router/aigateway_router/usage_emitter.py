"""One usage event per attempt, kept in the outbox before the answer ends. Decides nothing about delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aigateway_common import logs, metrics
from aigateway_common.errors import GatewayError

from aigateway_router import attempts

if TYPE_CHECKING:
    from aigateway_router.attempts import Attempt
    from aigateway_router.outbox import Outbox

_CLASSES: Final = frozenset(
    {
        "input_uncached",
        "input_cache_read",
        "input_cache_write_5m",
        "input_cache_write_1h",
        "output_text",
        "output_reasoning",
        "tool_use_prompt",
    }
)
"""The disjoint token classes."""

_log = logs.get("aigateway.router")


class UsageEmitter:
    """Records attempts; without an outbox there is no ledger, and it does nothing."""

    def __init__(self, outbox: Outbox | None) -> None:
        self._outbox = outbox

    def admit(self) -> None:
        """Check that an event can be kept. Raises GatewayError OVERLOADED when not."""
        if self._outbox is not None:
            self._outbox.admit()

    def succeeded(self, attempt: Attempt) -> None:
        """Record an answered attempt; to be called before the last of the answer leaves.

        Raises:
            GatewayError: OVERLOADED, when the event cannot be kept; then the answer must not end well.
        """
        attempt.recorded = True
        _count(attempt)
        if self._outbox is not None:
            self._outbox.append(attempt.event(attempts.OK, None))

    def failed(self, attempt: Attempt, error: GatewayError) -> None:
        """Record a failed attempt, or one that its caller left (`CANCELLED`, `DEADLINE_EXCEEDED`), unless it is."""
        if attempt.recorded:
            return
        attempt.recorded = True
        _count(attempt)
        if self._outbox is None:
            return
        left = error.reason.name in {"CANCELLED", "DEADLINE_EXCEEDED"}
        event = attempt.event(attempts.CANCELLED if left else attempts.ERROR, error)
        try:
            self._outbox.append(event)
        except GatewayError:
            # The caller gets an error either way; the outbox has logged why.
            _log.error("usage event lost", event_id=event.event_id, request_id=attempt.request_id)


def _count(attempt: Attempt) -> None:
    """Add the attempt's tokens to the metric."""
    if attempt.usage is not None:
        for field, count in attempt.usage.ListFields():
            if field.name in _CLASSES:
                metrics.tokens_used(attempt.provider, field.name, count)
