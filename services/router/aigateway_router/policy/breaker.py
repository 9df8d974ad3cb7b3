"""Leaves a provider's model alone for a while once too many calls to it failed, then lets one through to see.

A state machine: it makes no calls and decides nothing about what stands in.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from aigateway_router.policy.retry import RETRYABLE
from aigateway_router.policy.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from aigateway_common.errors import GatewayError

    from aigateway_router.settings import BreakerPolicy

FAILURES: Final = RETRYABLE - {"UPSTREAM_RATE_LIMITED", "UNAVAILABLE"}
"""Failures that say that a provider is not well.

Not that its adapter is away: gRPC knows at once and finds it again within two seconds, sooner than an open breaker
would let a call through. Not a refused key or a spent account: those errors tell the operator what to do, which it
would hide.
"""
MAX_BREAKERS: Final = 1000
"""Callers choose the names of models, so their number must have an end."""


def is_failure(error: GatewayError) -> bool:
    """Whether `error` counts against the provider; rate limits and the caller's mistakes do not."""
    return error.reason.name in FAILURES


class State(StrEnum):
    """Whether calls are let through."""

    CLOSED = "closed"
    """All are."""
    OPEN = "open"
    """None is."""
    HALF_OPEN = "half_open"
    """One at a time is, to see."""


class Permit:
    """One call that was let through. Its end must be told, once; what is told later does nothing."""

    __slots__ = ("_breaker", "_period")

    def __init__(self, breaker: Breaker, period: int) -> None:
        self._breaker: Breaker | None = breaker
        self._period = period

    def succeeded(self) -> None:
        """The provider answered."""
        self._end(failed=False)

    def failed(self) -> None:
        """The provider failed."""
        self._end(failed=True)

    def dropped(self) -> None:
        """The call says nothing of the provider: cancelled, rate limited, or the caller's mistake."""
        self._end(failed=None)

    def _end(self, *, failed: bool | None) -> None:
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.ended(self._period, failed=failed)


class Breaker:
    """The breaker of one model at one provider.

    Args:
        policy: See there.
        clock: The time in seconds, as `time.monotonic`.
    """

    __slots__ = ("_calls", "_clock", "_failures", "_period", "_policy", "_probing", "_retry_at")

    def __init__(self, policy: BreakerPolicy, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._clock = clock
        self._calls = Window(policy.window, clock)
        self._failures = Window(policy.window, clock)
        self._retry_at: float | None = None
        """Set unless closed."""
        self._probing = False
        self._period = 0
        """Counts the changes of state: a call let through before one says nothing after it."""

    @property
    def state(self) -> State:
        """Whether calls are let through now."""
        if self._retry_at is None:
            return State.CLOSED
        return State.OPEN if self._clock() < self._retry_at else State.HALF_OPEN

    @property
    def calls(self) -> int:
        """Calls in the window that succeeded or failed."""
        return self._calls.total

    @property
    def failures(self) -> int:
        """How many of them failed."""
        return self._failures.total

    @property
    def retry_at(self) -> float | None:
        """When, by the clock, a call is let through to see; None unless it is open."""
        return self._retry_at if self.state is State.OPEN else None

    def admit(self) -> Permit | None:
        """Let a call through; None: not now."""
        match self.state:
            case State.OPEN:
                return None
            case State.HALF_OPEN:
                if self._probing:
                    return None
                self._probing = True
            case State.CLOSED:
                pass
        return Permit(self, self._period)

    def ended(self, period: int, *, failed: bool | None) -> None:
        """What became of a call let through in `period`; None: it says nothing. For permits alone."""
        if period != self._period:
            return
        if self._retry_at is not None:
            self._probed(failed=failed)
        elif failed is not None:
            self._calls.add()
            if failed:
                self._failures.add()
                self._judge()

    def _probed(self, *, failed: bool | None) -> None:
        self._probing = False
        if failed:
            self._open()
        elif failed is False:
            self._retry_at = None
            self._period += 1
            self._calls.clear()
            self._failures.clear()

    def _judge(self) -> None:
        """Open when it is time; asked at failures only, so that a provider that recovers is never cut off."""
        calls = self.calls
        enough = calls >= self._policy.min_calls
        if self._policy.enabled and enough and self.failures >= self._policy.failure_ratio * calls:
            self._open()

    def _open(self) -> None:
        self._retry_at = self._clock() + self._policy.open_seconds
        self._period += 1


class Breakers:
    """The breakers of all models that calls were made to lately.

    Args:
        policy: See there.
        clock: The time in seconds, as `time.monotonic`.
    """

    def __init__(self, policy: BreakerPolicy, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._clock = clock
        self._breakers: OrderedDict[tuple[str, str], Breaker] = OrderedDict()

    def of(self, provider: str, model: str) -> Breaker:
        """The breaker of `model` at `provider`."""
        name = (provider, model)
        breaker = self._breakers.get(name)
        if breaker is None:
            if len(self._breakers) >= MAX_BREAKERS:
                self._forget_one()
            breaker = self._breakers[name] = Breaker(self._policy, self._clock)
        self._breakers.move_to_end(name)
        return breaker

    def by_provider(self, provider: str) -> list[tuple[str, Breaker]]:
        """The models of `provider` that have a breaker, by name."""
        return sorted((key[1], breaker) for key, breaker in self._breakers.items() if key[0] == provider)

    def _forget_one(self) -> None:
        """Forget the one not used for the longest time: a closed one if there is any, as it remembers least."""
        closed = (name for name, breaker in self._breakers.items() if breaker.state is State.CLOSED)
        del self._breakers[next(closed, next(iter(self._breakers)))]
