"""Settings of the router."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from aigateway_common.event_stream import EventStream


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a failed attempt is made again. Nothing is ever made again once the caller has got some of an answer."""

    attempts: int = 3
    """Attempts at one target, the first included."""
    base: float = 0.25
    """Seconds of the first pause at most; each further one is twice as long, and drawn at random from 0 to that."""
    longest: float = 8.0
    """Seconds of a pause at most. A provider that asks for a longer one is not asked again."""
    budget_ratio: float = 0.2
    """Retries at a provider per call to it, so that retries never become a storm."""
    budget_per_second: float = 1.0
    """Retries at a provider that are allowed beside that, however few calls there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a provider's model is left alone for a while."""

    enabled: bool = True
    """Whether there are breakers at all."""
    window: float = 30.0
    """Seconds that are looked back."""
    min_calls: int = 20
    """Calls in the window below which nothing is concluded."""
    failure_ratio: float = 0.5
    """The share of failures from which on the breaker opens. Rate limits and the caller's mistakes are none."""
    open_seconds: float = 15.0
    """Seconds until one call is let through to see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Several upstreams, or keys, of one provider under one name."""

    members: Mapping[str, float]
    """Names of providers, each with its weight; a weight of 0 takes calls only when no other member can."""
    strategy: Literal["weighted", "least_latency", "resident"] = "weighted"
    """By weight alone; the quicker of two drawn by weight; or one that has the model in memory, and of those the one
    with the fewest calls under way here."""
    sticky: Literal["none", "session", "prefix"] = "none"
    """Keep calls of one `x-session-id`, or of one beginning of the prompt, with one member, for its cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyLimit:
    """How many calls a provider is given at the same time."""

    max_in_flight: int
    """Calls under way."""
    max_queued: int = 0
    """Calls that wait, taken in turn from each project; more are refused at once."""
    queue_seconds: float = 10.0
    """Seconds that a call may wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """What one key may use; None: no limit."""

    requests_per_minute: int | None = None
    """Calls a minute."""
    tokens_per_minute: int | None = None
    """Tokens a minute, prompt and answer together."""
    concurrent_calls: int | None = None
    """Calls under way at the same time, at each router; at all workers of one gateway together."""

    @property
    def is_set(self) -> bool:
        """Whether there is a limit at all."""
        return not (self.requests_per_minute is self.tokens_per_minute is self.concurrent_calls is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtSettings:
    """Bearer tokens of an identity provider, taken beside keys."""

    jwks_url: str | None = None
    """Where its public keys are."""
    jwks_file: Path | None = None
    """A file with its public keys, instead."""
    issuer: str
    """The `iss` that a token must have."""
    audience: str
    """The `aud` that a token must have."""
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    """The signature algorithms taken; none that needs a shared secret."""
    project_claim: str = "project"
    """The claim that names the project."""
    models_claim: str | None = None
    """The claim that lists the models allowed."""
    jwks_ttl: float = 300.0
    """Seconds that the public keys are kept; an unknown key id asks for them anew, at most every 10 seconds."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a router shares with others like it on this machine, the workers of one gateway."""

    worker: int
    """Which of them it is, from 0 on."""
    workers: int
    """How many there are."""
    folder: Path
    """Where limits are counted that hold for all of them; nothing in it need outlive them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """Who may call, what names mean, how long calls may take, and how the outbox keeps usage events."""

    outbox_dir: Path
    """The folder of the usage events that are not delivered yet; one gateway at a time may use it."""
    share: Share | None = None
    """What it shares with other routers on this machine; None: it is alone."""
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    """The keys that callers may use. Empty: anybody may call, which the launcher allows on loopback only."""
    admin_keys: tuple[str, ...] = field(default=(), repr=False)
    """The keys of operators. Empty: the administrative services answer nobody."""
    jwt: JwtSettings | None = None
    """Tokens that are taken beside keys."""
    key_grace: float = 300.0
    """Seconds that keys already seen work on while the accounts cannot be asked."""
    key_limits: CallLimits = CallLimits()
    """What each key of the configuration may use, and each issued key that has no limits of its own."""
    redis_url: str | None = field(default=None, repr=False)
    """Where limits are counted when several routers share them; each router counts for itself without."""
    events: EventStream | None = None
    """Where usage events are sent for the ledger to take them from; by gRPC to the usage service without."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Names of the operator's own: alias to `provider/model`, or to another alias."""
    disabled: Mapping[str, str] = field(default_factory=dict)
    """Providers that are known but not enabled, each with the hint that enables it (`set OPENAI_API_KEY`)."""
    groq_models: tuple[str, ...] = ()
    """Model names that go to groq without being told so, beside those known from its documentation."""
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What stands in for a name, in order, when its own target fails; by alias or name as callers write it."""
    pools: Mapping[str, Pool] = field(default_factory=dict)
    """Providers that share calls under one name, which routes like a provider's."""
    hedging: Mapping[str, float] = field(default_factory=dict)
    """Seconds without a first answer after which a second attempt starts beside the first; named as in `fallbacks`."""
    retries: RetryPolicy = RetryPolicy()
    """When a failed attempt is made again."""
    breaker: BreakerPolicy = BreakerPolicy()
    """When a provider's model is left alone for a while."""
    concurrency: Mapping[str, ConcurrencyLimit] = field(default_factory=dict)
    """How many calls a provider is given at the same time, by its name."""
    default_timeout: float = 600.0
    """Seconds that a call may take when its caller sets no deadline."""
    models_ttl: float = 60.0
    """Seconds that a provider's list of models is kept."""
    models_timeout: float = 5.0
    """Seconds that a provider may take to list its models before it counts as unavailable."""
    outbox_max_bytes: int = 1024 * 1024 * 1024
    """Bytes of undelivered usage events beyond which new calls are refused; never are events dropped."""
    outbox_segment_bytes: int = 4 * 1024 * 1024
    """Bytes of one outbox file; a file is deleted once all of it is delivered."""
    outbox_batch: int = 1000
    """Usage events delivered at once at most; the usage service takes 10,000."""
    outbox_linger: float = 0.1
    """Seconds that a usage event may wait for others to be delivered with; no answer waits for that."""
    outbox_fsync: bool = False
    """Force each event to the disk itself before the answer ends: survives a power cut, and costs a disk write a call.

    Without it an event survives any end of the process, but not of the machine.
    """

    @property
    def own_outbox(self) -> Path:
        """The folder of this router's own events: one of several workers has a folder to itself, but for the first."""
        return worker_outbox(self.outbox_dir, self.share.worker if self.share else 0)


def worker_outbox(folder: Path, worker: int) -> Path:
    """Where a worker keeps its events within the outbox `folder`."""
    return folder / f"worker-{worker}" if worker else folder
