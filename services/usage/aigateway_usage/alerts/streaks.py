"""Failures without a success between them; pure.

Attempts are told in any order: several routers write the ledger, and what one could not deliver comes later. So it goes
by the times at which attempts ended, and a failure from before the last success is no news.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from aigateway_common.reasons import REASONS

if TYPE_CHECKING:
    from aigateway_usage.rows import Row

FAULTS: Final = frozenset(
    {*(name for name in REASONS if name.startswith("UPSTREAM_")), "UNAVAILABLE"} - {"UPSTREAM_RATE_LIMITED"}
)
"""Reasons that are the provider's fault, or that of what stands between; being asked to slow down is neither."""

Outcome = Literal["worked", "answered", "failed", "unknown"]


def outcome(row: Row) -> Outcome:
    """What an attempt says of its provider.

    `answered`: it is there, and refused what the caller sent. `unknown`: nothing, as when the caller went away first.
    """
    if row["status"] == "ok":
        return "worked"
    if row["status"] == "cancelled":
        return "unknown" if row["first_event_us"] is None else "worked"
    reason = row["error_reason"]
    if reason in FAULTS:
        return "failed"
    return "answered" if row["upstream_status"] and reason != "UPSTREAM_RATE_LIMITED" else "unknown"


class Streak:
    """The failures since the last success."""

    __slots__ = ("_last_us", "_worked_us", "count", "first_us")

    def __init__(self) -> None:
        self.count = 0
        self.first_us = 0
        """When the first of them ended; microseconds since the Unix epoch, like all times here."""
        self._last_us = 0
        self._worked_us = 0

    def failed(self, at_us: int) -> None:
        """Count a failure."""
        if at_us <= self._worked_us:
            return
        self.first_us = min(self.first_us, at_us) if self.count else at_us
        self._last_us = max(self._last_us, at_us) if self.count else at_us
        self.count += 1

    def worked(self, at_us: int) -> bool:
        """Note a success; whether nothing has failed after it."""
        self._worked_us = max(self._worked_us, at_us)
        if at_us >= self._last_us:
            self.count = 0
        elif self.count and at_us >= self.first_us:  # in their midst; only of the last is it known that it came after
            self.count, self.first_us = 1, self._last_us
        return not self.count

    def lasts_us(self) -> int:
        """From the first failure to the last; microseconds."""
        return self._last_us - self.first_us if self.count else 0
