"""A clock that goes on only when it is told to."""

from __future__ import annotations


class Clock:
    """Stands in for `time.monotonic`."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
