"""How much a caller may use: calls and tokens a minute, calls at the same time, of their key and of their project.

Tokens are set aside by estimate before a call and put right by fact after it, in the minute that the call began in.
Counting is the business of `counters` and `places`, for a router that is alone, of `machine` and `shared_counters`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from aigateway.v1 import gateway_service_pb2
from aigateway_common import metrics
from aigateway_common.errors import GatewayError

from aigateway_router.policy.counters import Charge
from aigateway_router.policy.places import OwnPlaces

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aigateway_router.callers import Caller
    from aigateway_router.policy.counters import Counters, Kind, Taken
    from aigateway_router.policy.minutes import Reading
    from aigateway_router.policy.places import Places
    from aigateway_router.settings import CallLimits

DEFAULT_OUTPUT: Final = 1024
"""Tokens that are set aside for an answer whose length nobody limited."""
_BUSY_RETRY: Final = 1.0
"""Seconds after which to try again when too many calls are under way: nobody knows when one ends."""
_WORDS: Final = {"requests": "call", "tokens": "token"}

LimitState = gateway_service_pb2.LimitState


class Estimate(NamedTuple):
    """The tokens that a call may use, before it is made."""

    prompt: int
    output: int | None
    """All answers together; None when the call does not limit them."""

    def within(self, limit: int) -> int:
        """What to set aside. A guess at the length of the answer never makes a call too large for a limit."""
        if self.output is not None:
            return self.prompt + self.output
        return max(self.prompt, min(self.prompt + DEFAULT_OUTPUT, limit))


class Hold:
    """What one call has taken of its caller's limits; to be ended once, whatever became of the call."""

    __slots__ = ("_limits", "_subjects", "_taken", "_tokens", "requests", "tokens", "used")

    def __init__(self, limits: Limits, subjects: tuple[str, ...]) -> None:
        self._limits = limits
        self._subjects = subjects
        self._taken: Taken | None = None
        self._tokens: list[Charge] = []
        self.requests: gateway_service_pb2.LimitState | None = None
        """What is left of the tightest limit on calls; None without one."""
        self.tokens: gateway_service_pb2.LimitState | None = None
        """What is left of the tightest limit on tokens; None without one."""
        self.used = 0
        """The tokens that the call used; to be set before the end."""

    def take(self, taken: Taken, charges: list[Charge]) -> None:
        """Note what was counted."""
        self._taken = taken
        self._tokens = [charge for charge in charges if charge.kind == "tokens"]
        left = _tightest(taken, charges)
        self.requests, self.tokens = left.get("requests"), left.get("tokens")

    def end(self) -> None:
        """Give back what was not used, or charge what was used beyond it."""
        self._limits.leave(self._subjects)
        self._subjects = ()
        changes = [(charge.name, self.used - charge.cost) for charge in self._tokens if self.used != charge.cost]
        self._tokens = []
        if changes and self._taken is not None:
            self._taken.counters.settle(self._taken.minute, changes)


class Limits:
    """Admits calls."""

    def __init__(self, counters: Counters, places: Places | None = None) -> None:
        self._counters = counters
        self._places = places or OwnPlaces()
        self._free = Hold(self, ())

    async def admit(self, caller: Caller, estimate: Estimate | None) -> Hold:
        """Take what a call needs of its caller's limits.

        Args:
            caller: Who calls.
            estimate: The tokens that it may use; None for a call that uses none, or whose tokens nobody counts.

        Raises:
            GatewayError: RATE_LIMITED, which names the limit; then nothing was taken.
        """
        limited = caller.limited
        if not limited:
            return self._free
        hold = Hold(self, self._enter(limited))
        try:
            if charges := _charges(limited, estimate):
                hold.take(await self._take(charges), charges)
        except BaseException:
            hold.end()
            raise
        return hold

    async def stop(self) -> None:
        """Finish counting."""
        await self._counters.stop()

    def leave(self, subjects: Iterable[str]) -> None:
        """A call under way has ended."""
        self._places.leave(subjects)

    async def _take(self, charges: list[Charge]) -> Taken:
        taken = await self._counters.take(charges)
        if not taken.granted:
            raise _refusal(taken, charges)
        return taken

    def _enter(self, limited: Iterable[tuple[str, CallLimits]]) -> tuple[str, ...]:
        subjects = [(subject, most) for subject, limits in limited if (most := limits.concurrent_calls) is not None]
        if subjects and (full := self._places.enter(subjects)) is not None:
            metrics.limited("concurrent")
            most = dict(subjects)[full]
            text = f"the limit of {_whose(full)}, {_count(most, 'call')} at the same time, is reached"
            raise GatewayError("RATE_LIMITED", f"{text}; wait for one to end", retry_after=_BUSY_RETRY)
        return tuple(subject for subject, _ in subjects)


def _charges(limited: Iterable[tuple[str, CallLimits]], estimate: Estimate | None) -> list[Charge]:
    charges: list[Charge] = []
    for subject, limits in limited:
        if limits.requests_per_minute is not None:
            charges.append(_one_call(subject, limits.requests_per_minute))
        if estimate is not None and (most := limits.tokens_per_minute) is not None:
            charges.append(Charge(subject, "tokens", most, estimate.within(most)))
    return charges


@lru_cache(maxsize=4096)
def _one_call(subject: str, limit: int) -> Charge:
    return Charge(subject, "requests", limit, 1)


def _tightest(taken: Taken, charges: list[Charge]) -> dict[Kind, LimitState]:
    """What is left of the limit of each kind that is nearest to its end."""
    found: dict[Kind, tuple[int, Charge, Reading]] = {}
    granted = taken.granted
    for charge, reading in zip(charges, taken.readings, strict=True):
        kind = charge.kind
        left = charge.limit - reading.used - (charge.cost if granted else 0)
        if kind not in found or left < found[kind][0]:
            found[kind] = (left, charge, reading)
    return {
        kind: _state(left, charge.limit, reading.plus(charge.cost) if granted else reading)
        for kind, (left, charge, reading) in found.items()
    }


def _state(left: int, limit: int, reading: Reading) -> LimitState:
    return LimitState(limit=limit, remaining=max(0, left), reset_ms=math.ceil(reading.reset() * 1000))


def _refusal(taken: Taken, charges: list[Charge]) -> GatewayError:
    """The error for the limit that has to be waited for longest, with what is left of each kind."""
    refused = [
        (charge, reading)
        for charge, reading in zip(charges, taken.readings, strict=True)
        if reading.used + charge.cost > charge.limit
    ]
    details: dict[str, str] = {}
    shown = _tightest(taken, charges)
    for charge, reading in refused:  # the limit that refused is the one to show
        shown[charge.kind] = _state(charge.limit - reading.used, charge.limit, reading)
    for kind, state in shown.items():
        details |= {
            f"limit_{kind}": str(state.limit),
            f"remaining_{kind}": str(state.remaining),
            f"reset_{kind}_ms": str(state.reset_ms),
        }
    metrics.limited(refused[0][0].kind)
    for charge, _ in refused:
        if charge.cost > charge.limit:
            return GatewayError("RATE_LIMITED", _too_large(charge), details=details)
    charge, reading = max(refused, key=lambda one: one[1].wait(one[0].limit, one[0].cost))
    wait = reading.wait(charge.limit, charge.cost)
    return GatewayError(
        "RATE_LIMITED",
        f"the limit of {_whose(charge.subject)}, {_count(charge.limit, _WORDS[charge.kind])} a minute, is reached; "
        f"try again in {math.ceil(wait)} s",
        details=details,
        retry_after=wait,
    )


def _too_large(charge: Charge) -> str:
    limit = f"the limit of {_whose(charge.subject)} is {_count(charge.limit, _WORDS[charge.kind])} a minute"
    if charge.kind == "requests":
        return f"{limit}: no call fits"
    return f"{limit}, and this call alone may use {charge.cost:,}; shorten the prompt or lower its most output tokens"


def _whose(subject: str) -> str:
    kind, _, name = subject.partition(":")
    return f"the project `{name}`" if kind == "project" else "this key"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
