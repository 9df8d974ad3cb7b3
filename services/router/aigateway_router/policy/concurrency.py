"""Gives a provider no more calls at the same time than it takes; the others wait their turn, for a while.

The order of turns is `fair_queue`'s; this is its asyncio side. Limits of keys are not here. Where several routers share
the places, each has a queue of its own: a place that becomes free while others wait elsewhere is free for all, and
those who wait look for one every few milliseconds, so that no router keeps all places to its own.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from aigateway_common import metrics
from aigateway_common.errors import GatewayError

from aigateway_router.policy.fair_queue import FairQueue
from aigateway_router.policy.places import OwnPlaces
from aigateway_router.policy.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from aigateway_router.policy.places import Places
    from aigateway_router.settings import ConcurrencyLimit

_PACE_SECONDS: Final = 10.0
"""How far is looked back to see how fast calls end."""
_LOOK_SECONDS: Final = (0.002, 0.006)
"""Until a waiting call looks again for a place that another router left: at random, so that they take turns."""
_LONGEST_HINT: Final = 30.0
"""Seconds that a refused caller is told to wait at most, and where nothing ended lately: models answer within that."""


class Gate:
    """The gate in front of one provider: whoever enters must leave, once.

    Args:
        provider: Its name.
        limit: See there.
        clock: The time in seconds, as `time.monotonic`.
        places: Where its places are counted; without, it is the only gate in front of the provider.
    """

    def __init__(
        self, provider: str, limit: ConcurrencyLimit, clock: Callable[[], float], places: Places | None = None
    ) -> None:
        self._provider = provider
        self._limit = limit
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue(limit.max_queued)
        self._ended = Window(_PACE_SECONDS, clock)
        self._places = places or OwnPlaces()
        self._wanted = [(f"provider:{provider}", limit.max_in_flight)]
        self._waiting = f"waiting:{provider}"
        self._looking: asyncio.TimerHandle | None = None
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """Calls under way, of this router."""
        return self._in_flight

    @property
    def queued(self) -> int:
        """Calls that wait for their turn."""
        return len(self._queue)

    async def enter(self, project: str, patience: float) -> None:
        """Take a place, at once or in turn.

        Args:
            project: Who calls; projects take turns.
            patience: Seconds that this call can wait; never more than the limit's `queue_seconds`.

        Raises:
            GatewayError: RATE_LIMITED, at once when nobody may wait any more, else when the time is over.
        """
        # Who comes later than those who wait, here or elsewhere, waits behind them.
        if not self._queue and not self._places.elsewhere(self._waiting) and self._take():
            return
        turn = asyncio.get_running_loop().create_future()
        seconds = min(patience, self._limit.queue_seconds)
        if seconds <= 0 or not self._queues(project, turn):
            raise self._refusal()
        try:
            await asyncio.wait((turn,), timeout=seconds)
        except asyncio.CancelledError:
            if not (self._remove(project, turn) or turn.cancelled()):
                self.leave()  # the place came at the same moment, and goes to the next
            raise
        # Out of the queue means that the place is here, even if the time ended at that moment, or that it had to go.
        if self._remove(project, turn) or turn.cancelled():
            raise self._refusal()

    def leave(self) -> None:
        """Give the place back: to whose turn it is, if somebody waits here and nobody elsewhere."""
        self._ended.add()
        if self._queue and not self._places.elsewhere(self._waiting):
            self._serve()
            return
        self._in_flight -= 1
        self._places.leave([name for name, _ in self._wanted])

    def _take(self) -> bool:
        """Take a place, if there is one."""
        if self._places.enter(self._wanted) is not None:
            return False
        self._in_flight += 1
        return True

    def _serve(self) -> None:
        """Hand a place that is taken to whose turn it is."""
        turn = self._queue.pop()
        if turn is None:
            raise AssertionError("a place is handed over only while somebody waits")
        self._changed()
        turn.set_result(None)

    def _remove(self, project: str, turn: asyncio.Future[None]) -> bool:
        removed = self._queue.remove(project, turn)
        if removed:
            self._changed()
        return removed

    def _changed(self) -> None:
        """The queue has changed: where others share the places, let them know, and look for one that they leave."""
        metrics.provider_queued(self._provider, len(self._queue))
        if self._places.shared:
            self._places.tell(self._waiting, len(self._queue))
            self._look_later()

    def _look_later(self) -> None:
        if self._queue and self._looking is None:
            pause = random.uniform(*_LOOK_SECONDS)  # noqa: S311 -- no secret
            self._looking = asyncio.get_running_loop().call_later(pause, self._look)

    def _look(self) -> None:
        self._looking = None
        if self._queue and self._take():
            self._serve()
        self._look_later()

    def _queues(self, project: str, turn: asyncio.Future[None]) -> bool:
        """Let a call wait, in place of the newest of a project that has more waiting if there is no room."""
        if self._queue.push(project, turn):
            self._changed()
            return True
        displaced = self._queue.make_room(project)
        if displaced is None:
            return False
        displaced.cancel()
        return self._queue.push(project, turn)  # as many wait as before

    def _refusal(self) -> GatewayError:
        return GatewayError(
            "RATE_LIMITED",
            f"`{self._provider}` is given no more than {self._limit.max_in_flight} calls at the same time; try again",
            details={"provider": self._provider},
            retry_after=self._hint(),
        )

    def _hint(self) -> float:
        """Seconds until a newcomer would be served, at the pace at which calls ended lately."""
        ended = self._ended.total
        if ended == 0:
            return _LONGEST_HINT
        return min(_LONGEST_HINT, max(1.0, (self.queued + 1) * _PACE_SECONDS / ended))
