"""Ended spans to an OTLP receiver over gRPC: the SDK's queue, thread and exporter, with an encoder of our own.

Imported only where there is tracing, since it brings OpenTelemetry's SDK along. Spans are encoded in the export's
thread. Not for making spans, nor for deciding which are made: that is `telemetry`.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, cast

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NoOpTracer
from typing_extensions import override

from aigateway_common import otlp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    _Single = str | bool | int | float

_HAS_PARENT_KIND: Final = 0x100
_PARENT_IS_REMOTE: Final = 0x200
"""Flags of a span (https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/trace/v1/trace.proto):
whether its parent is of another process is known; it is."""
_SCOPE: Final = common_pb2.InstrumentationScope(name=otlp.SCOPE)
_KINDS: Final = (
    trace_pb2.Span.SPAN_KIND_INTERNAL,
    trace_pb2.Span.SPAN_KIND_SERVER,
    trace_pb2.Span.SPAN_KIND_CLIENT,
)
_LONGEST: Final = SpanLimits().max_span_attribute_length
"""Characters of an attribute, by OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT; None, its default, for all there are."""
_SHORT: Final = 100
"""Characters of texts that are remembered."""
_log = logging.getLogger(__name__)


class Ended(Protocol):
    """What is exported of a span: ids in hexadecimal digits, times in nanoseconds since the Unix epoch."""

    source: Source
    name: str
    kind: int
    """By OpenTelemetry's SpanKind, which counts from 0."""
    trace_id: str
    span_id: str
    parent_id: str
    remote: bool
    """The parent is another process's."""
    state: str
    """The header `tracestate`."""
    start_ns: int
    end_ns: int
    attributes: dict[str, _Single | list[str]]
    failed: bool
    message: str
    """Of the failure, where it may be told."""


class Source:
    """What the spans of one service have in common, and their way to `endpoint`, open until it is released."""

    def __init__(self, service: str, endpoint: str) -> None:
        found = otlp.resource(service)
        pairs = [_key_value(key, value) for key, value in found.attributes.items()]
        self.resource = resource_pb2.Resource(attributes=pairs)
        self.schema_url = found.schema_url
        self._export = _Export.to(endpoint)

    @property
    def exporter(self) -> otlp.Exporter:
        """What to cut off where the end takes too long."""
        return self._export.exporter

    def put(self, span: Ended) -> None:
        """Take a span; the oldest is dropped where too many wait."""
        self._export.processor.on_end(cast("ReadableSpan", span))

    def released(self) -> bool:
        """Take no more spans; True for the last service that says so, which has to see to `shutdown`."""
        return self._export.released()

    def shutdown(self) -> None:
        """Export what is left, which takes seconds at most, and disconnect."""
        self._export.processor.shutdown()  # type: ignore[no-untyped-call] # the SDK says nothing of it


class _Export:
    """The queue, thread and connection to one endpoint, however many services share the process."""

    _open: ClassVar[dict[str, _Export]] = {}

    def __init__(self, endpoint: str) -> None:
        self.exporter = _Exporter(**otlp.connection(endpoint))
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


class _Exporter(OTLPSpanExporter):
    """The SDK's exporter with its connection, headers and repetitions; what it sends is made by `encoded`."""

    @override
    def _translate_data(self, data: Sequence[ReadableSpan]) -> trace_service_pb2.ExportTraceServiceRequest:
        return encoded(cast("Sequence[Ended]", data))


def disabled() -> bool:
    """Whether the SDK is to make no spans, by OTEL_SDK_DISABLED."""
    return isinstance(TracerProvider(shutdown_on_exit=False).get_tracer(otlp.SCOPE), NoOpTracer)


def encoded(spans: Sequence[Ended]) -> trace_service_pb2.ExportTraceServiceRequest:
    """One request with all spans, by service."""
    request = trace_service_pb2.ExportTraceServiceRequest()
    by_source: dict[Source, trace_pb2.ScopeSpans] = {}
    for span in spans:
        scope = by_source.get(span.source)
        if scope is None:
            whole = request.resource_spans.add(resource=span.source.resource, schema_url=span.source.schema_url)
            scope = by_source[span.source] = whole.scope_spans.add(
                scope=common_pb2.InstrumentationScope(name=otlp.SCOPE)
            )
        scope.spans.add().MergeFromString(_span(span))
    return request


def _span(span: Ended) -> bytes:
    head = trace_pb2.Span(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_id),
        trace_state=span.state,
        name=span.name,
        kind=_KINDS[span.kind],
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns,
        flags=_HAS_PARENT_KIND | (_PARENT_IS_REMOTE if span.remote else 0),
        status=_FAILED if span.failed else _UNSET,
    )
    if span.message:
        head.status.message = span.message
    parts = [head.SerializeToString()]
    for key, value in span.attributes.items():
        try:
            single = tuple(value) if isinstance(value, list) else value
            parts.append((_kept if _is_short(single) else _attribute)(key, single))
        except Exception:  # noqa: BLE001 -- the others are worth having
            _log.exception("the attribute `%s` cannot be exported", key)
    return b"".join(parts)  # messages one after the other are one message of all their fields


_UNSET: Final = trace_pb2.Status()
_FAILED: Final = trace_pb2.Status(code=trace_pb2.Status.STATUS_CODE_ERROR)


def _attribute(key: str, value: _Single | tuple[str, ...]) -> bytes:
    """A span of nothing but one attribute."""
    return trace_pb2.Span(attributes=[_key_value(key, value)]).SerializeToString()


_kept = lru_cache(4096, typed=True)(_attribute)
"""Most attributes are of few values, and making one takes ten times as long as finding it."""


def _is_short(value: _Single | tuple[str, ...]) -> bool:
    match value:
        case str():
            return len(value) <= _SHORT
        case tuple():
            return sum(map(len, value)) + len(value) <= _SHORT
        case _:
            return True


def _key_value(key: str, value: object) -> common_pb2.KeyValue:
    return common_pb2.KeyValue(key=key, value=_any(value))


def _any(value: object) -> common_pb2.AnyValue:
    match value:
        case str():
            return common_pb2.AnyValue(string_value=value[:_LONGEST])
        case bool():
            return common_pb2.AnyValue(bool_value=value)
        case int():
            return common_pb2.AnyValue(int_value=value)
        case float():
            return common_pb2.AnyValue(double_value=value)
        case tuple():
            return common_pb2.AnyValue(array_value=common_pb2.ArrayValue(values=map(_any, value)))
        case _:
            raise TypeError(f"no attribute can be of the type {type(value).__qualname__}")
