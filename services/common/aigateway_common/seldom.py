"""A filter for what OpenTelemetry's exporters log while a collector is away: each complaint once a minute, by signal.

They say it at every attempt, in words of their own, and their own filter knows only the last line. Other lines pass.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS: Final = 60.0
"""How long a complaint is not repeated."""
_KEPT: Final = 100
"""Complaints that are remembered; they are few, unless one is made of what happened."""
_SIGNALS: Final = frozenset({"traces", "metrics", "logs"})


class Seldom(logging.Filter):
    """Lets other loggers than `opentelemetry`'s through, and those seldom. To be added to a handler."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[str, str, str], float] = {}

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] != "opentelemetry":
            return True
        arguments = record.args if isinstance(record.args, tuple) else ()
        signal = next((word for word in arguments if isinstance(word, str) and word in _SIGNALS), "")
        key, now = (record.name, str(record.msg), signal), self._clock()
        if now - self._said.get(key, -SECONDS) < SECONDS:
            return False
        if len(self._said) >= _KEPT:
            self._said.clear()
        self._said[key] = now
        return True
