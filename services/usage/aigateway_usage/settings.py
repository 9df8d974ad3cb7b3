"""Settings of the usage service."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_common.event_stream import EventStream


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """What a model costs by the operator's word, in US dollars per million tokens."""

    input: float
    """Prompt tokens that no cache served."""
    output: float
    """Output tokens."""
    cache_read: float | None = None
    """Prompt tokens read from the provider's cache; the price of `input` when None."""
    cache_write: float | None = None
    """Prompt tokens written to a cache; the price of `input` when None."""
    cache_write_1h: float | None = None
    """Prompt tokens written to a cache kept for one hour; the price of `cache_write` when None."""
    reasoning: float | None = None
    """Output tokens spent on reasoning; the price of `output` when None."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Who is told of alerts."""

    url: str
    """An http or https address."""
    secret: str = field(repr=False)
    """What deliveries are signed with: `whsec_` and base64, as Standard Webhooks has it, or any text."""
    allow_private: bool = False
    """The address may be on loopback or a private network; never link-local, nor a cloud's metadata."""


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """What needs a person's attention, and who is told."""

    consecutive_errors: int = 5
    """Calls to a provider's model that failed one after the other, by the provider's fault."""
    latency_factor: float = 3.0
    """How many times as long as they used to calls to a provider's model take."""
    latency_min_calls: int = 20
    """Calls that must be known, before and now, until that is judged."""
    provider_down: float = 60.0
    """Seconds during which every attempt at a provider has failed."""
    webhooks: tuple[Webhook, ...] = ()
    """Who is told; no address twice."""


@dataclass(frozen=True, slots=True)
class UsageSettings:
    """One ledger: where it lies, what calls cost, and what needs attention."""

    database_url: str = field(repr=False)
    """An SQLAlchemy URL: `sqlite+aiosqlite:////var/lib/aigateway/ledger.db` or `postgresql+asyncpg://user@host/name`
    (the drivers may be left out). The folder of an SQLite file is made when missing."""
    price_overrides: Mapping[str, PriceOverride] = field(default_factory=dict)
    """Prices that win over the built-in ones, by `provider/model`. `*` and `?` stand for any text and any one
    character; a name without them wins over a pattern, and of several patterns the first that fits."""
    free_providers: frozenset[str] = frozenset({"ollama", "sandbox"})
    """Providers whose calls cost nothing, whatever they report."""
    max_queued_attempts: int = 100_000
    """Attempts that may wait to be written; beyond them a request is refused with OVERLOADED at once."""
    busy_timeout: float = 10.0
    """SQLite only: seconds to wait for another process that holds the file's write lock."""
    retention_days: int | None = None
    """For how many days attempts are kept, at least one; None for ever. Their sums by hour and by day stay."""
    alerts: AlertSettings = field(default_factory=AlertSettings)
    """What is an alert, and who is told."""
    events: EventStream | None = None
    """Where usage events are taken from, beside those that routers send by gRPC; None: from nowhere."""
