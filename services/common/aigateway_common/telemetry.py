"""Hand-made spans: one object per service that makes them, exported by OTLP over gRPC when an endpoint is given.

Trace context travels as W3C `traceparent` and `tracestate`, in gRPC metadata and HTTP headers alike. Whether a trace is
kept is decided once, where it begins, by its id, and told to every hop; a call that is not kept costs next to nothing.
Without an endpoint everything here is a no-op on one shared object and no OpenTelemetry package is even imported; with
one, nothing here ever raises, whatever the collector does. Not for metrics (see `otlp_metrics`) or logs (see
`otlp_logs`), nor for how spans are sent (see `span_export`).
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import re
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, ClassVar, Final

from typing_extensions import override

from aigateway_common import attributes, otlp
from aigateway_common.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aigateway_common.span_export import Source

    _Metadata = dict[str, str] | Iterable[tuple[str, str | bytes]]

AttributeValue = str | bool | int | float | list[str]

_PARENT: Final = re.compile(
    r"[ \t]*(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]([0-9a-f])(-.*)?[ \t]*"
)
"""A `traceparent` (https://www.w3.org/TR/trace-context/#traceparent-header): version, trace, span, the half of the
flags that says whether the trace is kept, and what a later version may add."""
_KEPT: Final = frozenset("13579bdf")
"""That half with its last bit set."""
_MAX_STATE: Final = 512
"""Characters of the longest `tracestate` taken, which is what the W3C asks for at least."""
_IDS: Final = 1 << 64
"""What the later half of a trace's id lies below, by which a trace is kept or not, as OpenTelemetry's SDKs do."""
_log = logging.getLogger(__name__)


class SpanKind(enum.Enum):
    """Which side of a call a span stands for; the values are those of OpenTelemetry's own SpanKind."""

    INTERNAL = 0
    SERVER = 1
    CLIENT = 2


class Span:
    """One timed step of a call. This class is the no-op that stands in when tracing is off."""

    __slots__ = ()

    recording: ClassVar[bool] = False
    """Whether anybody will see what is set."""
    trace_id: str = ""
    """The trace, 32 hexadecimal digits; empty when tracing is off."""
    span_id: str = ""
    """This span, 16 hexadecimal digits; empty when it is not kept."""

    def set(self, key: str, value: AttributeValue | None) -> None:
        """Note an attribute, named as in `attributes`; None is left out."""

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What the next hop needs to go on with this trace; nothing when tracing is off."""
        return ()

    def end(self, error: BaseException | None = None) -> None:
        """End the span; with `error`, mark it failed. Only the first call counts."""


NO_SPAN: Final = Span()


class _QuietSpan(Span):
    """A step of a trace that is not kept, and all the steps below it in this process: it only says so to the next."""

    __slots__ = ("_metadata", "trace_id")

    def __init__(self, trace_id: str, span_id: str, state: str) -> None:
        self.trace_id = trace_id
        parent = ("traceparent", f"00-{trace_id}-{span_id}-00")
        self._metadata = (parent, ("tracestate", state)) if state else (parent,)

    @override
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata


class _LiveSpan(Span):
    """A step that is kept. It is what is exported: see `span_export.Ended` for what its fields are."""

    __slots__ = (
        "attributes",
        "end_ns",
        "failed",
        "kind",
        "message",
        "name",
        "parent_id",
        "remote",
        "source",
        "span_id",
        "start_ns",
        "state",
        "trace_id",
    )

    recording: ClassVar[bool] = True
    context: ClassVar = SimpleNamespace(trace_flags=SimpleNamespace(sampled=True))
    """Asked for by the SDK's queue."""

    def __init__(
        self,
        source: Source,
        name: str,
        kind: SpanKind,
        trace_id: str,
        span_id: str,
        parent_id: str = "",
        state: str = "",
        *,
        remote: bool = False,
    ) -> None:
        self.source = source
        self.name = name
        self.kind: int = kind.value
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_id = parent_id
        self.remote = remote
        self.state = state
        self.attributes: dict[str, AttributeValue] = {}
        self.failed = False
        self.message = ""
        self.end_ns = 0
        self.start_ns = time.time_ns()

    @override
    def set(self, key: str, value: AttributeValue | None) -> None:
        if value is not None and not self.end_ns:  # once it has ended the export's thread reads it
            self.attributes[key] = value

    @override
    def metadata(self) -> tuple[tuple[str, str], ...]:
        parent = ("traceparent", f"00-{self.trace_id}-{self.span_id}-01")
        return (parent, ("tracestate", self.state)) if self.state else (parent,)

    @override
    def end(self, error: BaseException | None = None) -> None:
        if self.end_ns:
            return
        if error is not None:
            self.attributes[attributes.ERROR_TYPE] = _error_type(error)
            self.failed = True
            self.message = error.message if isinstance(error, GatewayError) else ""
        self.end_ns = time.time_ns()
        try:
            self.source.put(self)
        except Exception:  # noqa: BLE001 -- telemetry never raises
            _log.exception("the span `%s` is lost", self.name)


class Telemetry:
    """Makes the spans of one service.

    `endpoint` is an OTLP gRPC receiver such as `http://127.0.0.1:4317` (TLS with `https://`); without it tracing is
    off. `ratio` is the share of traces kept, 0 to 1; a caller who sends a trace context has decided already.
    """

    def __init__(self, service: str, endpoint: str | None = None, ratio: float = 1.0) -> None:
        self._source: Source | None = None
        self._kept_below = round(ratio * _IDS)
        if not endpoint:
            return
        try:
            self._source = _source(service, endpoint, ratio)
        except Exception:  # noqa: BLE001 -- telemetry never raises
            _log.exception("tracing is off: cannot set up the export to `%s`", endpoint)

    @classmethod
    def off(cls) -> Telemetry:
        """The no-op, one for everyone."""
        return _OFF

    @property
    def enabled(self) -> bool:
        """Whether spans are made."""
        return self._source is not None

    def span(self, name: str, *, kind: SpanKind = SpanKind.INTERNAL, parent: Span | _Metadata | None = None) -> Span:
        """Begin a span below `parent`: another span, or the metadata (or HTTP headers) of an incoming call.

        The keys of a dict are in lower case.
        """
        source = self._source
        if source is None:
            return NO_SPAN
        try:
            if isinstance(parent, _QuietSpan):
                return parent
            if isinstance(parent, _LiveSpan):
                return _LiveSpan(source, name, kind, parent.trace_id, _new_id(), parent.span_id, parent.state)
            gone_on = None if parent is None or isinstance(parent, Span) else _after(source, name, kind, parent)
            return gone_on or self._first(source, name, kind)
        except Exception:  # noqa: BLE001 -- telemetry never raises
            _log.exception("cannot make the span `%s`", name)
            return NO_SPAN

    def _first(self, source: Source, name: str, kind: SpanKind) -> Span:
        """Begin a trace, and decide whether it is kept."""
        ids = os.urandom(24)
        trace_id, span_id = ids[:16].hex(), ids[16:].hex()
        if int.from_bytes(ids[8:16], "big") < self._kept_below:
            return _LiveSpan(source, name, kind, trace_id, span_id)
        return _QuietSpan(trace_id, span_id, "")

    async def shutdown(self) -> None:
        """Make no more spans, and export what is left, for at most a few seconds.

        Services of one process that trace to the same endpoint share its export, which the last of them ends.
        """
        source, self._source = self._source, None
        if source is not None and source.released():
            await otlp.end(source.shutdown, source.exporter)


_OFF: Final = Telemetry("off")


def _source(service: str, endpoint: str, ratio: float) -> Source | None:
    """Where spans go; None where OpenTelemetry is disabled. Raises ValueError for a ratio that is none."""
    from aigateway_common import span_export  # noqa: PLC0415 -- brings OpenTelemetry's SDK along

    if not 0 <= ratio <= 1:
        raise ValueError(f"the share of traces that are kept is from 0 to 1, not {ratio}")
    return None if span_export.disabled() else span_export.Source(service, endpoint)


def _after(source: Source, name: str, kind: SpanKind, metadata: _Metadata) -> Span | None:
    """Go on with the trace that a call came with, which has decided whether it is kept; None without such a trace."""
    if not isinstance(metadata, dict):
        metadata = {key.lower(): value for key, value in metadata if isinstance(value, str)}
    header = metadata.get("traceparent")
    found = _PARENT.fullmatch(header) if header else None
    if found is None:
        return None
    version, trace_id, span_id, kept, more = found.groups()
    if more and version == "00":
        return None
    state = metadata.get("tracestate")
    state = _state(state) if state else ""
    if kept in _KEPT:
        return _LiveSpan(source, name, kind, trace_id, _new_id(), span_id, state, remote=True)
    return _QuietSpan(trace_id, span_id, state)


def _new_id() -> str:
    return os.urandom(8).hex()


def _state(header: str) -> str:
    """What can be understood of a `tracestate`, as it goes on."""
    from opentelemetry.trace import TraceState  # noqa: PLC0415 -- loaded only when tracing

    return TraceState.from_header([header]).to_header() if len(header) <= _MAX_STATE else ""


def _error_type(error: BaseException) -> str:
    if isinstance(error, GatewayError):
        return error.reason.name
    if isinstance(error, asyncio.CancelledError):
        return "CANCELLED"
    return type(error).__qualname__
