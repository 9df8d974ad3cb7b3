"""Whether a process has more calls than it can serve: how late its event loop comes to what is due.

A process that takes every call answers each one later and later, and goes on with calls whose callers have left. One
that takes just as many as it can serve answers those as usual, and refuses the others at once. How many that are is
found as TCP finds its window: a few more in each turn, and a quarter fewer when the event loop comes late. Not for
limits of callers or providers, which are the router's policies.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from aigateway_common import logs

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL: Final = 0.025
"""Seconds between two looks at the event loop, while calls come in."""
LATE: Final = 0.05
"""Seconds beyond which the event loop is late. Twice in a row is an overload; once, anything may pause."""
LATE_AGAIN: Final = 0.02
"""The same during an overload. A call takes some ten turns of the loop, and waits for so long in each."""
FEW: Final = 64
"""With no more calls than these under way, it is not the calls that keep the event loop."""
QUIET: Final = 2.0
"""Seconds without a refusal after which an overload is over."""
FULL: Final = "aigateway.full"
"""What `scope["state"]` of an ASGI request says when there is no room for it, should it be a call."""
_FIRST, _LEAST, _STEP, _CUT = 32, 4, 2, 0.75
"""Calls taken between two looks: at first, at least, how many more after each, and what is left when it was late."""
_LOG_SECONDS: Final = 10.0

_log = logs.get("load")


class Load:
    """Watches the event loop in which it is asked.

    Args:
        service: Whose calls these are, for the log.
        max_calls: Calls under way beyond which none is taken, however idle the process is.
    """

    def __init__(self, service: str, *, max_calls: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._max_calls = max_calls
        self._clock = clock
        self._tick: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._asked = False
        self._was_late = False
        self._quota: int | None = None
        """Calls that may be taken between two looks; None when there is no overload."""
        self._taken = 0
        self._refused_at = 0.0
        self._logged = -_LOG_SECONDS

    def refuses(self, calls: int) -> bool:
        """Whether a call would be refused now, with `calls` under way; nothing is counted."""
        if calls >= self._max_calls:
            return True
        return self._quota is not None and self._taken >= self._quota and calls > FEW

    def full(self, calls: int) -> bool:
        """Whether a call that comes now is refused, with `calls` under way; to be asked once for each."""
        self._asked = True
        if self._tick is None:
            self._arm()
        if not self.refuses(calls):
            self._taken += 1
            return False
        now = self._clock()
        self._refused_at = now
        if now - self._logged >= _LOG_SECONDS:
            self._logged = now
            _log.warning("overloaded: calls are refused", service=self._service, under_way=calls)
        return True

    def stop(self) -> None:
        """Look no longer."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    def _arm(self) -> None:
        self._asked = False
        self._taken = 0
        self._due = self._clock() + INTERVAL
        self._tick = asyncio.get_running_loop().call_later(INTERVAL, self._look)

    def _look(self) -> None:
        now = self._clock()
        overdue = now - self._due
        if self._quota is not None:
            late = overdue > LATE_AGAIN
            over = now - self._refused_at > QUIET
            self._quota = None if over else max(_LEAST, int(self._quota * _CUT)) if late else self._quota + _STEP
        else:
            late = overdue > LATE
            if late and self._was_late:
                self._quota, self._refused_at = _FIRST, now
        self._was_late = late
        if self._asked or late or self._quota is not None:
            self._arm()
        else:
            self._tick = None  # nobody comes, so nobody has to know
