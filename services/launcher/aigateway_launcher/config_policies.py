"""The sections of `aigateway.yaml` that say who may call, how much, and what happens when a provider fails."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from aigateway_launcher.config_base import Boolean, Seconds, Section

Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class RetrySection(Section):
    """`retries:` When a failed attempt is made again."""

    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    base_seconds: Seconds = 0.25
    longest_seconds: Seconds = 8.0
    budget_ratio: Share = 0.2
    budget_per_second: Annotated[float, Field(ge=0)] = 1.0


class BreakerSection(Section):
    """`breaker:` When a provider's model is left alone for a while."""

    enabled: Boolean = True
    window_seconds: Seconds = 30.0
    min_calls: Count = 20
    failure_ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    open_seconds: Seconds = 15.0


class PoolSection(Section):
    """`pools.NAME:` Several upstreams, or keys, of one provider under one name."""

    members: Annotated[dict[str, Annotated[float, Field(ge=0)]], Field(min_length=1)]
    strategy: Literal["weighted", "least_latency", "resident"] = "weighted"
    sticky: Literal["none", "session", "prefix"] = "none"


class ConcurrencySection(Section):
    """`concurrency.PROVIDER:` How many calls a provider is given at the same time."""

    max_in_flight: Count
    max_queued: Annotated[int, Field(ge=0)] = 0
    queue_seconds: Seconds = 10.0


class LimitsSection(Section):
    """`limits:` What one key may use, unless it has limits of its own."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    concurrent_calls: Count | None = None


class JwtSection(Section):
    """`jwt:` Bearer tokens of an identity provider."""

    jwks_url: str | None = None
    jwks_file: str | None = None
    issuer: str
    audience: str
    algorithms: Annotated[list[str], Field(min_length=1)] = ["RS256", "ES256"]
    project_claim: str = "project"
    models_claim: str | None = None
    jwks_ttl_seconds: Seconds = 300.0


class WebhookSection(Section):
    """`alerts.webhooks[]:` Who is told."""

    url: str
    secret: str
    allow_private: Boolean = False


class AlertsSection(Section):
    """`alerts:` What needs a person's attention, and who is told."""

    consecutive_errors: Count = 5
    latency_factor: Annotated[float, Field(gt=1)] = 3.0
    latency_min_calls: Count = 20
    provider_down_seconds: Seconds = 60.0
    webhooks: list[WebhookSection] = []
