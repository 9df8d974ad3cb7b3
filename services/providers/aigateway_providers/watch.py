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
    towards the whole call only: in a `with` of many waits `rests` and `waits` say which is which.
    """

    __slots__ = (
        "_begun",
        "_cancelling",
        "_end",
        "_first",
        "_handle",
        "_loop",
        "_owner",
        "_rang",
        "_settings",
        "_since",
    )

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._end = now + settings.total_timeout
        self._first = min(self._end, now + settings.first_byte_timeout)
        self._begun = False
        self._since: float | None = None
        """When the wait that is going on began."""
        self._handle: asyncio.TimerHandle | None = None
        """Set for when the wait would be too long, or earlier: then it is set again, which is rarer than a read."""
        owner = asyncio.current_task(self._loop)
        assert owner is not None  # noqa: S101 - a coroutine makes it
        self._owner: asyncio.Task[object] = owner
        self._cancelling = 0
        self._rang: float | None = None
        """The time that passed."""

    def __enter__(self) -> Self:
        self._cancelling = self._owner.cancelling()
        self.waits()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._since = None
        if kind is None:
            return
        self.stop()
        if self._rang is None:
            return
        if self._owner.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise self._passed(self._rang) from error

    def waits(self) -> None:
        """A wait for the provider begins."""
        self._since = self._loop.time()
        if self._handle is None:
            self._handle = self._loop.call_at(self._due(self._since), self._ring)

    def rests(self) -> None:
        """Nobody waits for the provider."""
        self._since = None

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

    def _due(self, since: float) -> float:
        return min(self._end, since + self._settings.idle_timeout) if self._begun else self._first

    def _ring(self) -> None:
        self._handle = None
        if self._since is None:
            return
        due = self._due(self._since)
        if self._loop.time() < due:
            self._handle = self._loop.call_at(due, self._ring)
            return
        self._rang = due
        self._owner.cancel()

    def _passed(self, due: float) -> GatewayError:
        if due >= self._end:
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
