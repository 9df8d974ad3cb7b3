"""The arithmetic of limits per minute: a sliding window made of two counts. Pure.

Calls are counted in the minute that they begin in. What counts against a limit is this minute's count and the share of
the last minute's that still lies within 60 seconds, as Cloudflare does it
(https://blog.cloudflare.com/counting-things-a-lot-of-different-things/): two numbers a counter, no burst of twice the
limit where two minutes meet, and a count that belongs to one minute can be put right afterwards.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

MINUTE: Final = 60.0
"""Seconds of a window."""


class Reading(NamedTuple):
    """What a counter holds."""

    previous: int
    """Counted in the last minute."""
    current: int
    """Counted in this one."""
    elapsed: float
    """Seconds that this minute has lasted, 0 to 60."""

    @property
    def used(self) -> int:
        """What counts against a limit now."""
        if not self.previous:
            return self.current
        return self.current + math.ceil(self.previous * (MINUTE - self.elapsed) / MINUTE)

    def plus(self, cost: int) -> Reading:
        """The counter after `cost` more."""
        return Reading(self.previous, self.current + cost, self.elapsed)

    def reset(self) -> float:
        """Seconds until all of a limit is there again, when nothing more is counted."""
        if self.current:
            return 2 * MINUTE - self.elapsed
        return MINUTE - self.elapsed if self.previous else 0.0

    def wait(self, limit: int, cost: int) -> float:
        """Seconds until `cost` fits into `limit`, when nothing more is counted. `cost` is `limit` at most."""
        if self.used + cost <= limit:
            return 0.0
        if (room := limit - cost - self.current) >= 0:  # enough of the last minute's count has to pass
            return max(0.0, _until(self.previous, room) - self.elapsed)
        return MINUTE - self.elapsed + _until(self.current, limit - cost)


def _until(count: int, room: int) -> float:
    """Seconds into the next minute at which `count` weighs no more than `room`."""
    return MINUTE * (1 - room / count) if count > room else 0.0
