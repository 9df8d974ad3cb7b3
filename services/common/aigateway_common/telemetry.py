"""Hand-made spans: one object per service that makes them, exported by OTLP over gRPC when an endpoint is given.

Trace context travels as W3C `traceparent` and `tracestate`, in gRPC metadata and HTTP headers alike. Without an
endpoint everything here is a no-op on one shared object and no OpenTelemetry package is even imported; with one,
nothing here ever raises, whatever the collector does. Not for metrics (see `otlp_metrics`) or logs (see `otlp_logs`).
"""

from __future__ import annotations

import asyncio
import enum
import logging
from typing import TYPE_CHECKING, Any, ClassVar, Final

from typing_extensions import override

from aigateway_common import attributes, otlp
from aigateway_common.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

    _Metadata = Sequence[tuple[str, str | bytes]]

AttributeValue = str | bool | int | float | list[str]

_PROPAGATED: Final = ("traceparent", "tracestate")
_log = logging.getLogger(__name__)


class SpanKind(enum.Enum):
    """Which side of a call a span stands for; the values are those of OpenTelemetry's own SpanKind."""

    INTERNAL = 0
    SERVER = 1
    CLIENT = 2


class Span:
    """One timed step of a call. This class is the no-op that stands in when tracing is off."""

    __slots__ = ()

    @property
    def trace_id(self) -> str:
        """The trace, 32 hexadecimal digits; empty when tracing is off."""
        return ""

    @property
    def span_id(self) -> str:
        """This span, 16 hexadecimal digits; empty when tracing is off."""
        return ""

    def set(self, key: str, value: AttributeValue | None) -> None:
        """Note an attribute, named as in `attributes`; None is left out."""

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What the next hop needs to go on with this trace; nothing when tracing is off."""
        return ()

    def end(self, error: BaseException | None = None) -> None:
        """End the span; with `error`, mark it failed. Only the first call counts."""


NO_SPAN: Final = Span()


class _LiveSpan(Span):
    __slots__ = ("otel",)

    def __init__(self, otel: trace.Span) -> None:
        self.otel = otel

    @property
    @override
    def trace_id(self) -> str:
        return f"{self.otel.get_span_context().trace_id:032x}"

    @property
    @override
    def span_id(self) -> str:
        return f"{self.otel.get_span_context().span_id:016x}"

    @override
    def set(self, key: str, value: AttributeValue | None) -> None:
        if value is not None:
            self.otel.set_attribute(key, value)

    @override
    def metadata(self) -> tuple[tuple[str, str], ...]:
        context = self.otel.get_span_context()
        parent = ("traceparent", f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}")
        if context.trace_state:
            return (parent, ("tracestate", context.trace_state.to_header()))
        return (parent,)

    @override
    def end(self, error: BaseException | None = None) -> None:
        if error is not None and self.otel.is_recording():
            from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 -- loaded only when tracing

            self.otel.set_attribute(attributes.ERROR_TYPE, _error_type(error))
            self.otel.set_status(Status(StatusCode.ERROR, error.message if isinstance(error, GatewayError) else None))
        self.otel.end()


class Telemetry:
    """Makes the spans of one service.

    `endpoint` is an OTLP gRPC receiver such as `http://127.0.0.1:4317` (TLS with `https://`); without it tracing is
    off. `ratio` is the share of traces kept, 0 to 1; a caller who sends a trace context has decided already.
    """

    def __init__(self, service: str, endpoint: str | None = None, ratio: float = 1.0) -> None:
        self._export: _Export | None = None
        self._tracer: trace.Tracer | None = None
        if not endpoint:
            return
        try:
            provider = _provider(service, ratio)
            self._export = _Export.to(endpoint)
            provider.add_span_processor(self._export.processor)
            self._tracer = provider.get_tracer(otlp.SCOPE)
        except Exception:  # noqa: BLE001 -- telemetry never raises
            _log.exception("tracing is off: cannot set up the export to `%s`", endpoint)

    @classmethod
    def off(cls) -> Telemetry:
        """The no-op, one for everyone."""
        return _OFF

    @property
    def enabled(self) -> bool:
        """Whether spans are made."""
        return self._tracer is not None

    def span(self, name: str, *, kind: SpanKind = SpanKind.INTERNAL, parent: Span | _Metadata | None = None) -> Span:
        """Begin a span below `parent`: another span, or the metadata (or HTTP headers) of an incoming call."""
        if self._tracer is None:
            return NO_SPAN
        try:
            return _begin(self._tracer, name, kind, parent)
        except Exception:  # noqa: BLE001 -- telemetry never raises
            _log.exception("cannot make the span `%s`", name)
            return NO_SPAN

    async def shutdown(self) -> None:
        """Make no more spans, and export what is left, for at most a few seconds.

        Services of one process that trace to the same endpoint share its export, which the last of them ends.
        """
        export, self._export, self._tracer = self._export, None, None
        if export is not None and export.released():
            await otlp.end(export.processor.shutdown, export.exporter)


class _Export:
    """The queue, thread and connection to one endpoint, however many services share the process."""

    _open: ClassVar[dict[str, _Export]] = {}

    def __init__(self, endpoint: str) -> None:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 -- loaded only when tracing
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 -- as above

        self.exporter: SpanExporter = OTLPSpanExporter(**otlp.connection(endpoint))
        self.processor: BatchSpanProcessor = BatchSpanProcessor(self.exporter)
        self._endpoint = endpoint
        self.users = 0

    @classmethod
    def to(cls, endpoint: str) -> _Export:
        """The export to `endpoint`, counted as in use once more."""
        export = cls._open.get(endpoint) or cls(endpoint)
        cls._open[endpoint] = export
        export.users += 1
        return export

    def released(self) -> bool:
        """Count one use less; True when that was the last."""
        self.users -= 1
        if self.users:
            return False
        del self._open[self._endpoint]
        return True


_OFF: Final = Telemetry("off")


def _provider(service: str, ratio: float) -> TracerProvider:
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 -- loaded only when tracing
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415 -- as above

    return TracerProvider(
        sampler=ParentBasedTraceIdRatio(ratio),
        resource=otlp.resource(service),
        shutdown_on_exit=False,  # `shutdown` does it, bounded in time
    )


def _begin(tracer: trace.Tracer, name: str, kind: SpanKind, parent: Span | _Metadata | None) -> Span:
    from opentelemetry import trace  # noqa: PLC0415 -- loaded only when tracing

    return _LiveSpan(tracer.start_span(name, context=_context(parent), kind=trace.SpanKind(kind.value)))


def _context(parent: Span | _Metadata | None) -> Context:
    """The context that a span begins in: never the ambient one, so that a parent is always said."""
    from opentelemetry import trace  # noqa: PLC0415 -- loaded only when tracing
    from opentelemetry.context import Context  # noqa: PLC0415 -- as above
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415 -- as above

    if isinstance(parent, _LiveSpan):
        return trace.set_span_in_context(parent.otel, Context())
    if parent is None or isinstance(parent, Span):
        return Context()
    carrier: dict[str, Any] = {key.lower(): value for key, value in parent if key.lower() in _PROPAGATED}
    return TraceContextTextMapPropagator().extract(carrier, Context())


def _error_type(error: BaseException) -> str:
    if isinstance(error, GatewayError):
        return error.reason.name
    if isinstance(error, asyncio.CancelledError):
        return "CANCELLED"
    return type(error).__qualname__
