"""How each provider is, by the calls made to it; one that is down is probed until it answers.

It only watches: whether a call is made is up to breakers, gates and pools.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Literal

from aigateway_common import logs
from aigateway_common.errors import GatewayError

from aigateway_router.policy.breaker import FAILURES
from aigateway_router.policy.window import Window

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

HealthState = Literal["unknown", "healthy", "degraded", "unhealthy"]

COUNTED: Final = FAILURES | {"UNAVAILABLE", "UPSTREAM_AUTH", "UPSTREAM_BILLING", "UPSTREAM_QUOTA"}
"""Failures that make a provider no use, whoever calls; more than breakers count, as operators want to see these."""
WINDOW_SECONDS: Final = 60.0
"""How far is looked back."""
UNHEALTHY_AFTER: Final = 5
"""Failures in a row, with no success between them."""
DEGRADED_SHARE: Final = 0.05
"""The share of failures from which on it shows: one in a thousand is every provider's everyday."""
FIRST_PAUSE: Final = 5.0
"""Seconds until the first probe; each further pause is twice as long."""
LONGEST_PAUSE: Final = 60.0
"""Seconds between probes at most."""
_PATIENCE: Final = 10.0
"""Seconds that a probe may take."""

_log = logs.get("aigateway.router")


class ProviderHealth:
    """How one provider is.

    Args:
        clock: The time in seconds, as `time.monotonic`.
    """

    __slots__ = ("_answered_at", "_clock", "_failed_at", "_failures", "_in_a_row", "_last_error", "_successes")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._successes = Window(WINDOW_SECONDS, clock)
        self._failures = Window(WINDOW_SECONDS, clock)
        self._in_a_row = 0
        self._failed_at = clock()
        self._answered_at: float | None = None
        self._last_error = ""

    @property
    def answered_at(self) -> float | None:
        """When, by the clock, it last answered; None: it did not."""
        return self._answered_at

    @property
    def last_error(self) -> str:
        """Its last failure, in words; empty: there was none."""
        return self._last_error

    def succeeded(self) -> None:
        """It answered."""
        self._successes.add()
        self._in_a_row = 0
        self._answered_at = self._clock()

    def failed(self, error: GatewayError) -> None:
        """A call to it failed; rate limits, the caller's mistakes and callers that leave say nothing of it."""
        if error.reason.name not in COUNTED:
            return
        now = self._clock()
        if self._in_a_row < UNHEALTHY_AFTER and now - self._failed_at >= WINDOW_SECONDS:
            self._in_a_row = 0  # failures hours apart are no row
        self._in_a_row += 1
        self._failed_at = now
        self._failures.add()
        self._last_error = error.message

    def state(self) -> HealthState:
        """How it is now. Once unhealthy, it stays so until it answers, even if nothing is asked of it any more."""
        if self._in_a_row >= UNHEALTHY_AFTER:
            return "unhealthy"
        failures = self._failures.total
        calls = failures + self._successes.total
        if calls == 0:
            return "unknown"
        return "degraded" if failures >= DEGRADED_SHARE * calls else "healthy"


class Prober:
    """Asks providers that are unhealthy for something cheap, until they answer, by a call or by a probe.

    Args:
        providers: How each provider is, by its name.
        probe: Asks one provider (for its list of models, say). Raises GatewayError when it fails.
        sleep: Waits for so many seconds.
        patience: Seconds that a probe may take.
    """

    def __init__(
        self,
        providers: Mapping[str, ProviderHealth],
        probe: Callable[[str], Awaitable[object]],
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        patience: float = _PATIENCE,
    ) -> None:
        self._providers = providers
        self._probe = probe
        self._sleep = sleep
        self._patience = patience
        self._started = False
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """From now on providers are probed. Needs a running event loop."""
        self._started = True
        for provider in self._providers:
            self.notice(provider)

    def notice(self, provider: str) -> None:
        """Look at `provider`, to which a call just failed: if it is unhealthy by now, its probing begins."""
        if self._started and provider not in self._tasks and self._is_down(provider):
            name = f"probing of {provider}"
            self._tasks[provider] = asyncio.create_task(self._until_it_answers(provider), name=name)

    async def stop(self) -> None:
        """Probe no longer; no probe is under way afterwards."""
        self._started = False
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()  # a task that is cancelled before it began does not take itself out

    async def _until_it_answers(self, provider: str) -> None:
        pause = FIRST_PAUSE
        try:
            while True:
                await self._sleep(pause)
                if not self._is_down(provider):
                    return
                if await self._answers(provider):
                    self._providers[provider].succeeded()
                    _log.info("provider answers again", provider=provider)
                    return
                pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            self._tasks.pop(provider, None)

    async def _answers(self, provider: str) -> bool:
        try:
            async with asyncio.timeout(self._patience):
                await self._probe(provider)
        except TimeoutError:
            message = f"`{provider}` did not answer within {self._patience:g} seconds"
            self._providers[provider].failed(GatewayError("UPSTREAM_TIMEOUT", message))
        except GatewayError as error:
            self._providers[provider].failed(error)
            # A refusal of the provider's own, such as a rate limit, is an answer.
            return error.reason.name not in COUNTED and "upstream_status" in error.details
        except Exception:  # noqa: BLE001 -- a fault here must not end the probing
            _log.exception("a probe failed by a fault of the gateway", provider=provider)
        else:
            return True
        return False

    def _is_down(self, provider: str) -> bool:
        return self._providers[provider].state() == "unhealthy"
