"""What the policies know of each provider, and the lease that every attempt holds while it is under way.

The policies themselves are `policy/`; which attempts are made is `pursuit`.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final

from aigateway.v1 import router_admin_service_pb2 as admin
from aigateway_common import metrics
from aigateway_common.errors import GatewayError

from aigateway_router.policy.balance import Balancer
from aigateway_router.policy.breaker import Breakers, State, is_failure
from aigateway_router.policy.concurrency import Gate
from aigateway_router.policy.health import Prober, ProviderHealth
from aigateway_router.policy.residency import Residency
from aigateway_router.policy.retry import RetryBudget
from aigateway_router.routes import Target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from aigateway.v1 import model_pb2

    from aigateway_router.policy.breaker import Breaker, Permit
    from aigateway_router.policy.places import Places
    from aigateway_router.settings import ConcurrencyLimit, RouterSettings

_STATES: Final = {
    State.CLOSED: admin.BREAKER_STATE_CLOSED,
    State.OPEN: admin.BREAKER_STATE_OPEN,
    State.HALF_OPEN: admin.BREAKER_STATE_HALF_OPEN,
}
_HEALTH: Final = {
    "unknown": admin.HEALTH_STATE_UNKNOWN,
    "healthy": admin.HEALTH_STATE_HEALTHY,
    "degraded": admin.HEALTH_STATE_DEGRADED,
    "unhealthy": admin.HEALTH_STATE_UNHEALTHY,
}


class SkippedError(GatewayError):
    """No attempt was made: the provider is left alone, or has no room."""


class Policies:
    """The state of every policy.

    Args:
        settings: See there.
        providers: The names of the providers that can be called.
        models: Asks a provider for its models, which costs nothing; raises GatewayError when it does not answer.
        places: Where places at providers are counted.
    """

    def __init__(
        self,
        settings: RouterSettings,
        providers: Iterable[str],
        models: Callable[[str], Awaitable[Iterable[model_pb2.Model]]],
        places: Places,
    ) -> None:
        rng = random.Random()  # noqa: S311 -- no secret
        clock = time.monotonic
        self.retries = settings.retries
        self.rng = rng
        self._clock = clock
        self._breakers = Breakers(settings.breaker, clock) if settings.breaker.enabled else None
        self._providers = {
            name: _Provider(
                RetryBudget(settings.retries, clock),
                Gate(name, settings.concurrency[name], clock, places) if name in settings.concurrency else None,
                settings.concurrency.get(name),
                ProviderHealth(clock),
            )
            for name in providers
        }
        self.balancers = {name: Balancer(pool, clock, rng) for name, pool in settings.pools.items()}
        self._pool_of: dict[str, list[Balancer]] = {}
        for name, pool in settings.pools.items():
            for member in pool.members:
                self._pool_of.setdefault(member, []).append(self.balancers[name])
        watched = (name for pool in settings.pools.values() if pool.strategy == "resident" for name in pool.members)
        self._residency = Residency(watched, models)
        self._prober = Prober({name: one.health for name, one in self._providers.items()}, models)

    def retry_budget(self, provider: str) -> RetryBudget:
        """How many retries the provider may still be given."""
        return self._providers[provider].budget

    def is_usable(self, target: Target) -> bool:
        """Whether an attempt would be let through now, and may well succeed."""
        if self._providers[target.provider].health.state() == "unhealthy":
            return False
        if self._breakers is None:
            return True
        return self._breakers.of(target.provider, target.model).state is not State.OPEN

    def order(self, pool: str, key: str | None, model: str) -> list[str]:
        """The members of a pool in the order in which they are tried."""

        def wait(member: str) -> tuple[bool, int]:
            return not self._residency.has(member, model), self._providers[member].in_flight

        return self.balancers[pool].order(key, lambda member: self.is_usable(Target(member, model)), wait)

    async def lease(self, target: Target, project: str, patience: float) -> Lease:
        """Leave to make one attempt; waits for a place where calls to the provider are limited.

        Raises:
            SkippedError: None is given.
        """
        provider = self._providers[target.provider]
        permit = self._permit(target)
        try:
            if provider.gate is not None:
                await self._enter(provider.gate, project, patience)
        except BaseException:
            if permit is not None:
                permit.dropped()
            raise
        provider.in_flight += 1
        metrics.provider_in_flight(target.provider, provider.in_flight)
        probing = permit is not None and self._breaker(target).state is State.HALF_OPEN
        return Lease(self, target, provider, permit, probing=probing)

    def start(self) -> None:
        """Probe what is down from now on. Needs a running event loop."""
        self._prober.start()
        self._residency.start()

    async def stop(self) -> None:
        """Probe no longer."""
        await self._prober.stop()
        await self._residency.stop()

    def report(self) -> admin.GetRouterHealthResponse:
        """How every provider is."""
        offset = time.time() - self._clock()
        return admin.GetRouterHealthResponse(providers=[self._report(name, offset) for name in sorted(self._providers)])

    def ended(self, lease: Lease, error: BaseException | None) -> None:
        """Draw the conclusions from an attempt that is over."""
        name, provider = lease.target.provider, lease.provider
        provider.in_flight -= 1
        metrics.provider_in_flight(name, provider.in_flight)
        if provider.gate is not None:
            provider.gate.leave()
        failed = isinstance(error, GatewayError) and is_failure(error)
        if lease.permit is not None:
            if error is None:
                lease.permit.succeeded()
            elif failed:
                lease.permit.failed()
            else:
                lease.permit.dropped()
            if failed or lease.probing:
                self._measure(name)
        if error is None:
            provider.health.succeeded()
        elif isinstance(error, GatewayError):
            provider.health.failed(error)
            self._prober.notice(name)

    def answered(self, lease: Lease, seconds: float) -> None:
        """Note that an attempt brought its first content after `seconds`."""
        for balancer in self._pool_of.get(lease.target.provider, ()):
            balancer.note(lease.target.provider, seconds)

    def _permit(self, target: Target) -> Permit | None:
        if self._breakers is None:
            return None
        breaker = self._breakers.of(target.provider, target.model)
        permit = breaker.admit()
        if permit is None:
            wait = max(0.0, (breaker.retry_at or self._clock()) - self._clock())
            raise SkippedError(
                "UPSTREAM_OVERLOADED",
                f"`{target.provider}` failed too often with `{target.model}` and is left alone for {wait:.0f} seconds",
                details={"provider": target.provider, "breaker": "open"},
                retry_after=max(1.0, wait),
            )
        return permit

    def _breaker(self, target: Target) -> Breaker:
        if self._breakers is None:
            raise AssertionError("there are breakers when there is a permit")
        return self._breakers.of(target.provider, target.model)

    async def _enter(self, gate: Gate, project: str, patience: float) -> None:
        try:
            await gate.enter(project, patience)
        except GatewayError as error:
            raise SkippedError(
                error.reason.name, error.message, details=error.details, retry_after=error.retry_after
            ) from error

    def _measure(self, provider: str) -> None:
        if self._breakers is not None:
            breakers = self._breakers.by_provider(provider)
            metrics.breakers_open(provider, sum(breaker.state is not State.CLOSED for _, breaker in breakers))

    def _report(self, name: str, offset: float) -> admin.ProviderHealth:
        provider = self._providers[name]
        health, gate = provider.health, provider.gate
        answer = admin.ProviderHealth(
            provider=name,
            state=_HEALTH[health.state()],
            in_flight=provider.in_flight,
            queued=gate.queued if gate else 0,
            last_error=health.last_error,
        )
        if provider.limit is not None:
            answer.max_in_flight = provider.limit.max_in_flight
        if health.answered_at is not None:
            answer.answered_at_us = int((health.answered_at + offset) * 1e6)
        for model, breaker in self._breakers.by_provider(name) if self._breakers else ():
            shown = answer.breakers.add(
                model=model, state=_STATES[breaker.state], calls=breaker.calls, failures=breaker.failures
            )
            if breaker.retry_at is not None:
                shown.retry_at_us = int((breaker.retry_at + offset) * 1e6)
        return answer


class _Provider:
    __slots__ = ("budget", "gate", "health", "in_flight", "limit")

    def __init__(
        self, budget: RetryBudget, gate: Gate | None, limit: ConcurrencyLimit | None, health: ProviderHealth
    ) -> None:
        self.budget = budget
        self.gate = gate
        self.limit = limit
        self.health = health
        self.in_flight = 0


class Lease:
    """Held by an attempt while it is under way; ended exactly once."""

    __slots__ = ("_began", "_ended", "_policies", "permit", "probing", "provider", "target")

    def __init__(
        self, policies: Policies, target: Target, provider: _Provider, permit: Permit | None, *, probing: bool
    ) -> None:
        self._policies = policies
        self.target = target
        self.provider = provider
        self.permit = permit
        self.probing = probing
        """It is the one that a breaker lets through to see."""
        self._began = time.perf_counter()
        self._ended = False

    def answered(self) -> None:
        """The first content is there: that is enough for a breaker that wanted to see."""
        self._policies.answered(self, time.perf_counter() - self._began)
        if self.probing and self.permit is not None:
            self.permit.succeeded()

    def end(self, error: BaseException | None) -> None:
        """The attempt is over, and how."""
        if not self._ended:
            self._ended = True
            self._policies.ended(self, error)
