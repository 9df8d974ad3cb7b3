"""Whether, when and how often a failed attempt is made again at the same target. What stands in is `fallback`'s."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aigateway_router.policy.window import Window

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from aigateway_common.errors import GatewayError

    from aigateway_router.settings import RetryPolicy

RETRYABLE: Final = frozenset(
    {
        "UPSTREAM_RATE_LIMITED",
        "UPSTREAM_OVERLOADED",
        "UPSTREAM_ERROR",
        "UPSTREAM_INVALID",
        "UPSTREAM_UNREACHABLE",
        "UPSTREAM_TIMEOUT",
        "UNAVAILABLE",
    }
)
"""Failures that pass. Narrower than `Reason.retryable`, which tells the caller: limits of the gateway are for them."""
BUDGET_SECONDS: Final = 10.0
"""How long a call pays for retries: what Finagle takes (https://finagle.github.io/blog/2016/02/08/retry-budgets)."""
_MOST_DOUBLINGS: Final = 32
"""Beyond that a pause is at its longest with any base, and numbers stay small."""


def is_retryable(error: GatewayError) -> bool:
    """Whether another attempt at the same target may help."""
    return error.reason.name in RETRYABLE


def pause(policy: RetryPolicy, number: int, retry_after: float | None, rng: random.Random) -> float | None:
    """Seconds to wait before the next attempt; None: not worth it, the provider asks for more than `policy.longest`.

    A provider that says when to come back is asked then and never sooner: a little is added, so that calls refused
    together do not come back together. Otherwise it is "full jitter", which costs the fewest attempts
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).

    Args:
        policy: See there.
        number: How many attempts failed so far, from 1.
        retry_after: Seconds that the provider asks for.
        rng: Where chance comes from.
    """
    if retry_after is not None:
        return None if retry_after > policy.longest else retry_after + rng.uniform(0, policy.base)
    doublings = min(number - 1, _MOST_DOUBLINGS)
    return rng.uniform(0, min(policy.longest, policy.base * 2**doublings))


class RetryBudget:
    """How many retries a provider is given in all, whoever calls.

    In 10 seconds at most `budget_ratio` of the calls in them, and `budget_per_second` for each second: the balance
    of Finagle's RetryBudget, whose deposits and withdrawals are both forgotten after that time
    (https://twitter.github.io/finagle/docs/com/twitter/finagle/service/RetryBudget$.html).
    """

    __slots__ = ("_calls", "_policy", "_retries")

    def __init__(self, policy: RetryPolicy, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._calls = Window(BUDGET_SECONDS, clock)
        self._retries = Window(BUDGET_SECONDS, clock)

    def called(self) -> None:
        """A call goes to the provider; to be told once a call, not for its retries."""
        self._calls.add()

    def try_retry(self) -> bool:
        """Take one retry out of the budget; False when there is none left."""
        allowed = self._policy.budget_per_second * BUDGET_SECONDS + self._policy.budget_ratio * self._calls.total
        if self._retries.total + 1 > allowed:
            return False
        self._retries.add()
        return True
