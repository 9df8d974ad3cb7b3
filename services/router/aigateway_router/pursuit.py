"""Which attempts are made for a call, and when: retries, other members of a pool, stand-ins, hedges.

Only as long as nothing has reached the caller. What an attempt does is `unary` and `streams`; what the policies know
is `policies`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from aigateway_common import metrics
from aigateway_common.errors import GatewayError

from aigateway_router.attempt_guard import Errand
from aigateway_router.policies import Lease, Policies, SkippedError
from aigateway_router.policy.fallback import falls_back
from aigateway_router.policy.retry import is_retryable, pause
from aigateway_router.race import first_of
from aigateway_router.routes import Target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence

    from aigateway.v1 import usage_service_pb2

    from aigateway_router.calls import Call
    from aigateway_router.policy.budget import Budgets

_T = TypeVar("_T")

_PATIENCE: Final = 3600.0
"""Seconds that a call without a deadline may wait for a place, unless the limit's own is shorter, which it is."""


@dataclass(slots=True)
class Quest(Generic[_T]):
    """What a call is after.

    `run` makes one attempt; `discard` is given what an attempt brought that came second.
    """

    call: Call
    operation: usage_service_pb2.Operation.ValueType
    requested_model: str
    steps: Sequence[Target]
    """Where to go, in order: the target of the name, then what stands in for it."""
    run: Callable[[Errand], Awaitable[_T]]
    discard: Callable[[_T], None]
    tokens: Callable[[], tuple[int, int]] | None
    """The tokens of the prompt and the most of the answer, by estimate; None: the call costs nothing."""
    sticky_key: str | None = None
    """What keeps calls that share a beginning with one member of a pool."""
    hedge_after: float | None = None
    """Seconds after which a second attempt starts beside the first."""
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def errand(self, target: Target, step: int, *, hedge: bool = False) -> Errand:
        """The next attempt, at `target`."""
        original = self.steps[0]
        return Errand(
            self.call,
            self.operation,
            self.requested_model,
            target,
            number=next(self.numbers),
            fallback_from=f"{original.provider}/{original.model}" if step else "",
            hedge=hedge,
        )


@dataclass(frozen=True, slots=True)
class Found(Generic[_T]):
    """What an attempt brought, and the lease that ends when all of it is told."""

    result: _T
    lease: Lease


class Pursuer:
    """Makes attempts until one succeeds or there is no use in another."""

    def __init__(self, policies: Policies, budgets: Budgets, default_timeout: float) -> None:
        self._policies = policies
        self._budgets = budgets
        self._default_timeout = default_timeout

    async def pursue(self, quest: Quest[_T]) -> Found[_T]:
        """The first success. Raises the last attempt's GatewayError when there is none."""
        steps = quest.steps
        for number, step in enumerate(steps):
            try:
                found = await self._step(quest, number)
            except GatewayError as error:
                if number + 1 < len(steps) and falls_back(error):
                    metrics.fell_back(step.provider, error.reason.name)
                    continue
                raise
            found.lease.answered()
            return found
        raise AssertionError("a quest has a step")

    async def _step(self, quest: Quest[_T], number: int) -> Found[_T]:
        """The first success at one target, or at the members of one pool."""
        targets = self._members(quest, quest.steps[number])
        for failures in count(1):
            target = targets[(failures - 1) % len(targets)]
            if failures == 1:
                self._policies.retry_budget(target.provider).called()
            try:
                if quest.hedge_after is None:
                    return await self._attempt(quest, quest.errand(target, number))
                return await self._hedged(quest, target, targets[failures % len(targets)], number)
            except GatewayError as error:
                wait = self._wait(quest, error, target, failures, len(targets))
                if wait is None:
                    raise
                metrics.retried(target.provider, error.reason.name)
            if wait:
                await asyncio.sleep(wait)
        raise AssertionError("counting has no end")

    def _members(self, quest: Quest[_T], step: Target) -> list[Target]:
        """Where attempts at `step` go, in turn."""
        if step.provider not in self._policies.balancers:
            return [step]
        order = self._policies.order(step.provider, quest.sticky_key, step.model)
        return [Target(name, step.model) for name in order]

    def _wait(self, quest: Quest[_T], error: GatewayError, target: Target, failures: int, members: int) -> float | None:
        """Seconds until the next attempt at the same step; None when there is no use in one."""
        untried = failures < members
        if isinstance(error, SkippedError):
            return 0.0 if untried else None
        if untried and falls_back(error):  # another key or upstream of the same provider may do
            return 0.0 if self._policies.retry_budget(target.provider).try_retry() else None
        if failures >= self._policies.retries.attempts or not is_retryable(error):
            return None
        wait = pause(self._policies.retries, failures, error.retry_after, self._policies.rng)
        remaining = quest.call.remaining()
        if wait is None or (remaining is not None and remaining <= wait):
            return None
        return wait if self._policies.retry_budget(target.provider).try_retry() else None

    async def _attempt(self, quest: Quest[_T], errand: Errand) -> Found[_T]:
        call = quest.call
        remaining = call.remaining()
        lease = await self._policies.lease(
            errand.target, call.caller.project, _PATIENCE if remaining is None else remaining
        )
        try:
            reserved = await self._reserve(quest, errand)
            try:
                return Found(await quest.run(errand), lease)
            finally:
                if reserved and not errand.begun:
                    self._budgets.release(errand.event_id)
        except BaseException as error:
            lease.end(error)
            raise

    async def _reserve(self, quest: Quest[_T], errand: Errand) -> bool:
        """Set money aside where there are budgets; whether some is. Recording the attempt settles it."""
        call, target = quest.call, errand.target
        if quest.tokens is None or not self._budgets.needed(call.caller, target.provider):
            return False
        prompt, answer = quest.tokens()
        remaining = call.remaining()
        call.low_budgets = await self._budgets.reserve(
            errand.event_id,
            call.caller,
            provider=target.provider,
            model=target.model,
            input_tokens=prompt,
            max_output_tokens=answer,
            deadline=self._default_timeout if remaining is None else remaining,
        )
        return True

    async def _hedged(self, quest: Quest[_T], target: Target, other: Target, step: int) -> Found[_T]:
        """An attempt at `target`, and one at `other` when that takes long; whichever answers first."""
        if quest.hedge_after is None:
            raise AssertionError("only calls that are hedged come here")

        def second() -> Coroutine[None, None, Found[_T]] | None:
            if not self._policies.retry_budget(other.provider).try_retry():
                return None
            metrics.hedged(other.provider)
            return self._attempt(quest, quest.errand(other, step, hedge=True))

        def discard(found: Found[_T]) -> None:
            quest.discard(found.result)
            found.lease.end(asyncio.CancelledError())

        first = self._attempt(quest, quest.errand(target, step))
        return await first_of(first, second, quest.hedge_after, discard)
