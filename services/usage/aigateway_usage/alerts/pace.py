"""How long calls take now, against how long they took; pure.

Now is the median of the last calls, so that single slow ones do not count. Before is a moving average of what has left
that window, over about an hour, and of logarithms, so that it lies near the median too. A change that stays is thus the
usual after about an hour.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from typing import Final

MAX_WINDOW: Final = 100
"""Calls that are now, at most; `min_calls` beyond it asks for a longer before."""
MEMORY_US: Final = 3_600_000_000
"""Time after which the average has forgotten two thirds of what it was; microseconds."""
MIN_RISE_US: Final = 100_000
"""Calls must take that much longer, too: three times a few milliseconds is nothing that anybody notices."""
_FIRST: Final = 10
"""The average of the first `min_calls` times this many is a plain one: any other would stay at its first values."""


class Pace:
    """The durations of one kind of calls.

    Args:
        min_calls: How many must be known before, and now, until it is judged.
        factor: How many times the usual is slow.
    """

    __slots__ = ("_changed_us", "_count", "_factor", "_min_calls", "_recent", "_sorted", "_usual_log", "slow")

    def __init__(self, min_calls: int, factor: float) -> None:
        self._min_calls = min_calls
        self._factor = factor
        self._recent: deque[int] = deque()
        self._sorted: list[int] = []
        self._count = 0
        self._usual_log = 0.0
        self._changed_us = 0
        self.slow = False
        """Whether calls are slow now."""

    def add(self, duration_us: int, at_us: int) -> bool | None:
        """Note a call that ended at `at_us`; whether calls are slow now, None when that is not clear."""
        self._recent.append(duration_us)
        insort(self._sorted, duration_us)
        if len(self._recent) > min(self._min_calls, MAX_WINDOW):
            oldest = self._recent.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
            self._learn(oldest, at_us)
        return self._judged()

    def usual_us(self) -> float:
        """How long calls took before; microseconds."""
        return math.exp(self._usual_log)

    def median_us(self) -> int:
        """How long calls take now; microseconds."""
        return self._sorted[len(self._sorted) // 2]

    def _learn(self, duration_us: int, at_us: int) -> None:
        passed = max(0, at_us - self._changed_us)
        weight = -math.expm1(-passed / MEMORY_US)
        if self._count < _FIRST * self._min_calls and not self.slow:
            weight = max(weight, 1 / (self._count + 1))
        self._usual_log += weight * (math.log(max(1, duration_us)) - self._usual_log)
        self._changed_us = max(self._changed_us, at_us)
        self._count += 1

    def _judged(self) -> bool | None:
        if self._count < self._min_calls:
            return None
        now, usual = self.median_us(), self.usual_us()
        if now > self._factor * usual and now - usual > MIN_RISE_US:
            self.slow = True
            return True
        # Between the two lies what is neither: at the border an alert would come and go with each call.
        if now <= (1 + self._factor) / 2 * usual or now - usual <= MIN_RISE_US / 2:
            self.slow = False
            return False
        return None
