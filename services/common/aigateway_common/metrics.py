"""Every Prometheus metric of the project, as functions to call.

Labels are bounded: there is none for models, keys or projects (the ledger answers those), an unknown status is `other`,
and a metric that has seen 200 combinations counts further ones as `other`. How they count is `counting`'s business. To
be called in the event loop's thread. Not for traces (see `telemetry`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

from aigateway_common.counting import OTHER, Count, Family, Level, Spread
from aigateway_common.reasons import REASONS

if TYPE_CHECKING:
    from threading import Thread
    from wsgiref.simple_server import WSGIServer

    from aigateway_common.probes import Probes

REGISTRY: Final = CollectorRegistry()
OK: Final = "ok"

_CALL_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_OVERHEAD_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
_STATUSES: Final = frozenset({OK, *REASONS})

FAMILIES: Final[list[Family]] = []
"""Every metric of ours."""


def _counter(name: str, text: str, *labels: str) -> Count:
    found = Count(REGISTRY, name, text, labels)
    FAMILIES.append(found)
    return found


def _gauge(name: str, text: str, *labels: str) -> Level:
    found = Level(REGISTRY, name, text, labels)
    FAMILIES.append(found)
    return found


def _histogram(name: str, text: str, bounds: tuple[float, ...], *labels: str) -> Spread:
    found = Spread(REGISTRY, name, text, bounds, labels)
    FAMILIES.append(found)
    return found


ProcessCollector(registry=REGISTRY)
_CALLS = _counter("aigateway_calls", "Calls, by how they ended.", "service", "operation", "provider", "status")
_SECONDS = _histogram(
    "aigateway_call_seconds", "How long calls took, whole.", _CALL_SECONDS, "service", "operation", "provider"
)
_FIRST_EVENT = _histogram(
    "aigateway_first_event_seconds", "How long streams took to their first event.", _CALL_SECONDS, "provider"
)
_OVERHEAD = _histogram(
    "aigateway_overhead_seconds", "What the gateway itself added to a call, by hop.", _OVERHEAD_SECONDS, "hop"
)
_TOKENS = _counter("aigateway_tokens", "Tokens, by disjoint class.", "provider", "token_class")
_UNPRICED = _counter("aigateway_unpriced_attempts", "Attempts recorded without a known price.", "provider")
_UPSTREAM_ERRORS = _counter("aigateway_upstream_errors", "Failures of providers, by reason.", "provider", "reason")
_UNKNOWN_ENDS = _counter(
    "aigateway_unknown_finish_reasons", "Answers that ended for a reason the adapter does not know.", "provider"
)
_PHASES = _histogram(
    "aigateway_upstream_phase_seconds",
    "How long a provider says a part of its work took: load, prompt or output.",
    _CALL_SECONDS,
    "provider",
    "phase",
)
_RETRIES = _counter("aigateway_retries", "Attempts made again, by what had failed before.", "provider", "reason")
_FALLBACKS = _counter(
    "aigateway_fallbacks", "Calls that went on to a stand-in, by what had failed.", "provider", "reason"
)
_HEDGES = _counter("aigateway_hedges", "Attempts started beside a slow one.", "provider")
_BREAKERS = _gauge("aigateway_breakers_open", "Models that are left alone for a while.", "provider")
_IN_FLIGHT = _gauge("aigateway_attempts_in_flight", "Attempts under way.", "provider")
_QUEUED = _gauge("aigateway_attempts_queued", "Attempts that wait for the provider's `concurrency`.", "provider")
_STREAMS = _gauge("aigateway_streams_in_flight", "Streams being answered.", "service")
_ALERTS = _counter("aigateway_alerts", "Alerts that opened, got worse or were resolved.", "kind", "event")
_WEBHOOKS = _counter(
    "aigateway_webhooks", "Webhooks sent: delivered, to be tried again, or abandoned for good.", "result"
)
_LIMITED = _counter("aigateway_limited_calls", "Calls refused by a limit: requests, tokens or concurrent.", "limit")
_CUT = _counter("aigateway_cut_calls", "Calls ended because their key was revoked.")
_SHARED_LIMITS = _gauge(
    "aigateway_shared_limits_available", "1 while limits are counted with other routers, 0 while each counts alone."
)
_ACCOUNTS = _gauge("aigateway_accounts_reachable", "1 while keys and budgets can be asked for, 0 while not.")
_EVENT_STREAM = _gauge(
    "aigateway_event_stream_available", "1 while usage events are taken from NATS into the ledger, 0 while not."
)
_OUTBOX_EVENTS = _gauge("aigateway_outbox_events", "Usage events not yet delivered.")
_OUTBOX_BYTES = _gauge("aigateway_outbox_bytes", "Size of the usage events not yet delivered.")
_OUTBOX_LAG = _gauge("aigateway_outbox_lag_seconds", "Age of the oldest usage event not delivered.")


def call_finished(service: str, operation: str, provider: str, status: str, seconds: float) -> None:
    """Count a call. `status` is `ok` or the name of a reason; `provider` is empty when none was chosen."""
    _CALLS.add((service, operation, provider, status if status in _STATUSES else OTHER))
    _SECONDS.observe((service, operation, provider), seconds)


def first_event(provider: str, seconds: float) -> None:
    """Note how long a stream took to its first event."""
    _FIRST_EVENT.observe((provider,), seconds)


def overhead(hop: str, seconds: float) -> None:
    """Note what one hop (`edge`, `router`, `adapter`) added to a call, less the hops below it."""
    _OVERHEAD.observe((hop,), seconds)


def tokens_used(provider: str, token_class: str, count: int) -> None:
    """Count tokens; `token_class` is a field of TokenUsage, one of the disjoint seven."""
    _TOKENS.add((provider, token_class), count)


def attempt_unpriced(provider: str) -> None:
    """Count an attempt whose price nobody knows."""
    _UNPRICED.add((provider,))


def upstream_error(provider: str, reason: str) -> None:
    """Count a provider's failure, by the name of its reason."""
    _UPSTREAM_ERRORS.add((provider, reason if reason in REASONS else OTHER))


def unknown_finish_reason(provider: str) -> None:
    """Count an answer whose provider gave a reason for its end that the adapter does not know."""
    _UNKNOWN_ENDS.add((provider,))


def upstream_phase(provider: str, phase: str, seconds: float) -> None:
    """Note how long a provider says one phase took: `load` (of the model), `prompt` or `output`."""
    _PHASES.observe((provider, phase), seconds)


def retried(provider: str, reason: str) -> None:
    """Count an attempt that is made again because one failed at `provider` for `reason`."""
    _RETRIES.add((provider, reason if reason in REASONS else OTHER))


def fell_back(provider: str, reason: str) -> None:
    """Count a call that leaves `provider` for a stand-in because it failed there for `reason`."""
    _FALLBACKS.add((provider, reason if reason in REASONS else OTHER))


def hedged(provider: str) -> None:
    """Count an attempt started at `provider` beside a slow one."""
    _HEDGES.add((provider,))


def breakers_open(provider: str, count: int) -> None:
    """Note how many of a provider's models are left alone."""
    _BREAKERS.set((provider,), count)


def provider_in_flight(provider: str, count: int) -> None:
    """Note how many attempts at a provider are under way."""
    _IN_FLIGHT.set((provider,), count)


def provider_queued(provider: str, count: int) -> None:
    """Note how many attempts wait until their provider may be given more."""
    _QUEUED.set((provider,), count)


def stream_opened(service: str) -> None:
    """Count a stream in."""
    _STREAMS.add((service,), 1)


def stream_closed(service: str) -> None:
    """Count it out again."""
    _STREAMS.add((service,), -1)


def limited(limit: str) -> None:
    """Count a call that a limit on `requests`, `tokens` or `concurrent` calls refused."""
    _LIMITED.add((limit,))


def call_unread(service: str) -> None:
    """Count a call that was refused before it was read, because the process had more than it could serve."""
    _CALLS.add((service, "unread", "", "OVERLOADED"))


def call_cut() -> None:
    """Count a call that ended because its key was revoked."""
    _CUT.add(())


def shared_limits(*, available: bool) -> None:
    """Note whether the limits that routers share can be counted."""
    _SHARED_LIMITS.set((), int(available))


def accounts(*, reachable: bool) -> None:
    """Note whether the usage service can be asked for keys and budgets."""
    _ACCOUNTS.set((), int(reachable))


def event_stream(*, available: bool) -> None:
    """Note whether usage events can be taken from NATS into the ledger."""
    _EVENT_STREAM.set((), int(available))


def outbox(events: int, size: int, lag: float) -> None:
    """Note what waits in the outbox: how many events, their bytes, and the age of the oldest in seconds."""
    _OUTBOX_EVENTS.set((), events)
    _OUTBOX_BYTES.set((), size)
    _OUTBOX_LAG.set((), lag)


def alert_changed(kind: str, event: str) -> None:
    """Count a change of an alert: `opened`, `worse` or `resolved`."""
    _ALERTS.add((kind, event))


def webhook_sent(result: str, number: int = 1) -> None:
    """Count what became of webhooks: `delivered`, `again` or `abandoned`."""
    _WEBHOOKS.add((result,), number)


class MetricsServer:
    """The HTTP server of `/metrics`, in a thread of its own."""

    def __init__(self, server: WSGIServer, thread: Thread) -> None:
        self._server = server
        self._thread = thread
        self.port: int = server.server_port
        """The port it listens on, also when 0 was asked for."""

    def stop(self) -> None:
        """Close the port and wait for the thread to end, within half a second."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve(host: str, port: int, probes: Probes | None = None) -> MetricsServer:
    """Serve metrics and probes on `host`:`port`; port 0 takes a free one. Raises OSError that names the address."""
    try:
        server, thread = start_http_server(port, addr=host, registry=REGISTRY)
    except OSError as error:
        raise OSError(error.errno, f"cannot serve metrics on {host}:{port}: {error.strerror}") from error
    app = server.get_app()
    if probes is not None and app is not None:
        server.set_app(probes.before(app))
    return MetricsServer(server, thread)
