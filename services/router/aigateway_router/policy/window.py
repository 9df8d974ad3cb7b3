"""A count over the last seconds, forgotten bucket by bucket. Knows nothing of what is counted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

BUCKETS: Final = 10
"""Into so many parts a window is cut: it looks back between nine tenths of its seconds and all of them."""


class Window:
    """A sliding count in constant memory.

    Args:
        seconds: How long is looked back.
        clock: The time, in seconds from anywhere; it never goes back.
    """

    __slots__ = ("_buckets", "_clock", "_now", "_total", "_width")

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._width = seconds / BUCKETS
        self._clock = clock
        self._buckets = [0] * BUCKETS
        self._now = math.floor(clock() / self._width)
        self._total = 0

    @property
    def total(self) -> int:
        """What was counted in the last seconds."""
        self._forget()
        return self._total

    def add(self) -> None:
        """Count one more."""
        self._forget()
        self._buckets[self._now % BUCKETS] += 1
        self._total += 1

    def clear(self) -> None:
        """Forget everything."""
        self._buckets = [0] * BUCKETS
        self._total = 0

    def _forget(self) -> None:
        """Empty the buckets that are over."""
        last, now = self._now, math.floor(self._clock() / self._width)
        if now == last:
            return
        self._now = now
        for number in range(max(last, now - BUCKETS) + 1, now + 1):
            place = number % BUCKETS
            self._total -= self._buckets[place]
            self._buckets[place] = 0
