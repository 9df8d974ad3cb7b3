"""From the sections about callers and policies to the router's own settings, with every mistake found on the way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aigateway_common.settings import Problem, suggestion
from aigateway_router.settings import BreakerPolicy, CallLimits, ConcurrencyLimit, JwtSettings, Pool, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Collection

    from aigateway_common.settings import Document

    from aigateway_launcher.config import Config
    from aigateway_launcher.config_policies import JwtSection, PoolSection
    from aigateway_launcher.environment import Environment


class PolicyMaker:
    """Resolves the policies; `problems` fills while it works."""

    def __init__(self, config: Config, document: Document, environment: Environment) -> None:
        self.problems: list[Problem] = []
        self._config = config
        self._document = document
        self._env = environment

    def router(self, providers: Collection[str], known: Collection[str]) -> dict[str, Any]:
        """The fields of `RouterSettings` about policies.

        Args:
            providers: The providers that can be called.
            known: Those and the ones that could be enabled.
        """
        config = self._config
        retries, breaker = config.retries, config.breaker
        return {
            "jwt": self._jwt(config.jwt) if config.jwt else None,
            "key_limits": CallLimits(**config.limits.model_dump()),
            "redis_url": self._redis(),
            "fallbacks": {name: tuple(steps) for name, steps in config.fallbacks.items()},
            "pools": {name: self._pool(name, section, providers, known) for name, section in config.pools.items()},
            "hedging": dict(config.hedging),
            "retries": RetryPolicy(
                attempts=retries.attempts,
                base=retries.base_seconds,
                longest=retries.longest_seconds,
                budget_ratio=retries.budget_ratio,
                budget_per_second=retries.budget_per_second,
            ),
            "breaker": BreakerPolicy(
                enabled=breaker.enabled,
                window=breaker.window_seconds,
                min_calls=breaker.min_calls,
                failure_ratio=breaker.failure_ratio,
                open_seconds=breaker.open_seconds,
            ),
            "concurrency": self._concurrency(known),
        }

    def _redis(self) -> str | None:
        url = self._config.redis_url or self._env.text("REDIS_URL")
        if url and not url.startswith(("redis://", "rediss://", "unix://")):
            where = self._document.where(("redis_url",)) if self._config.redis_url else "REDIS_URL"
            self.problems.append(Problem(where, "must begin with redis://, rediss:// or unix://"))
        return url

    def _concurrency(self, known: Collection[str]) -> dict[str, ConcurrencyLimit]:
        for name in self._config.concurrency:
            if name not in known:
                text = f"`{name}` is not a provider{suggestion(name, known)}"
                self.problems.append(Problem(self._document.where(("concurrency", name)), text))
        return {name: ConcurrencyLimit(**section.model_dump()) for name, section in self._config.concurrency.items()}

    def _pool(self, name: str, section: PoolSection, providers: Collection[str], known: Collection[str]) -> Pool:
        where = self._document.where(("pools", name))
        if name in known or not name or "/" in name:
            self.problems.append(Problem(where, f"`{name}` cannot name a pool: it is a provider, or has a slash"))
        for member in section.members:
            if member not in providers:
                place = self._document.where(("pools", name, "members", member))
                text = f"`{member}` is not an enabled provider{suggestion(member, providers)}"
                self.problems.append(Problem(place, text))
        if not any(section.members.values()):
            self.problems.append(Problem(where, "at least one member needs a weight above 0"))
        return Pool(members=section.members, strategy=section.strategy, sticky=section.sticky)

    def _jwt(self, section: JwtSection) -> JwtSettings:
        where = self._document.where(("jwt",))
        if (section.jwks_url is None) == (section.jwks_file is None):
            self.problems.append(Problem(where, "name one of `jwks_url` and `jwks_file`"))
        if section.jwks_url and urlsplit(section.jwks_url).scheme not in {"http", "https"}:
            text = f"must begin with http:// or https://, not `{section.jwks_url}`"
            self.problems.append(Problem(self._document.where(("jwt", "jwks_url")), text))
        for name in section.algorithms:
            if name.upper().startswith("HS") or name.lower() == "none":
                text = f"`{name}` needs a shared secret, or none; use one with a public key, such as RS256"
                self.problems.append(Problem(self._document.where(("jwt", "algorithms")), text))
        return JwtSettings(
            jwks_url=section.jwks_url,
            jwks_file=Path(section.jwks_file) if section.jwks_file else None,
            issuer=section.issuer,
            audience=section.audience,
            algorithms=tuple(section.algorithms),
            project_claim=section.project_claim,
            models_claim=section.models_claim,
            jwks_ttl=section.jwks_ttl_seconds,
        )
