"""The time limits of one upstream call: to its first byte, between bytes, and in all.

One timer serves a call, however many reads it takes: `asyncio.timeout` around each of them costs more than the read.
Not for opening a connection: the transport itself limits that.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from aigateway_common.errors import GatewayError

if TYPE_CHECKING:
    from types import TracebackType

    from aigateway_providers.settings import ProviderSettings


class Watch:
    """The limits of a call that begins now; every wait for the provider goes into a `with` of it.

    All of them are in the task that makes it. One that takes too long is cancelled and ends in `GatewayError`
    UPSTREAM_TIMEOUT, which says which limit passed. What the caller of the adapter does between two waits counts
    towards the whole call only.
    """

    __slots__ = ("_begun", "_cancelling", "_due", "_end", "_handle", "_loop", "_owner", "_rang", "_settings", "_task")

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._end = now + settings.total_timeout
        self._due = min(self._end, now + settings.first_byte_timeout)
        self._begun = False
        self._handle: asyncio.TimerHandle | None = None
        """Set for `_due` or earlier: when it comes too early it is set again, which is rarer than a read."""
        owner = asyncio.current_task(self._loop)
        assert owner is not None  # noqa: S101 - a coroutine makes it
        self._owner: asyncio.Task[object] = owner
        self._task: asyncio.Task[object] | None = None
        """The task that waits."""
        self._cancelling = 0
        self._rang = False

    def __enter__(self) -> Self:
        task = self._task = self._owner
        self._cancelling = task.cancelling()
        if self._begun:
            self._due = min(self._end, self._loop.time() + self._settings.idle_timeout)
        if self._handle is None:
            self._handle = self._loop.call_at(self._due, self._ring)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if kind is None:
            return
        self.stop()
        if self._rang and task is not None and task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise self._passed() from error

    def answered(self) -> None:
        """The first byte is here: from now on the limit between bytes counts."""
        if not self._begun:
            self._begun = True
            self.stop()

    def stop(self) -> None:
        """The call is over, or its next wait has another limit."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _ring(self) -> None:
        self._handle = None
        if self._task is None:
            return
        if self._loop.time() < self._due:
            self._handle = self._loop.call_at(self._due, self._ring)
            return
        self._rang = True
        self._task.cancel()

    def _passed(self) -> GatewayError:
        if self._due >= self._end:
            return passed(self._settings, "total_timeout", "did not finish its answer within")
        if self._begun:
            return passed(self._settings, "idle_timeout", "went silent in mid-answer for")
        return passed(self._settings, "first_byte_timeout", "sent no byte within", nothing=True)


def passed(settings: ProviderSettings, limit: str, what: str, *, nothing: bool = False) -> GatewayError:
    """The error for a `limit`, a field of `settings`, that passed; `nothing` says that nothing was answered."""
    name = settings.name
    text = f"{name} {what} {getattr(settings, limit):g} seconds (`providers.{name}.{limit}`)"
    return GatewayError(
        "UPSTREAM_TIMEOUT",
        f"nothing was answered: {text}" if nothing else text,
        details={"provider": name, "limit": limit},
    )
