"""Log lines as OTLP log records, exported over gRPC beside standard error.

What arrives here is what `logs` writes, keys and prompts already gone: the event becomes the body, the fields become
attributes, and `trace_id` and `span_id` those of the record. The queue is bounded and drops what is oldest. What the
exporter itself logs is not exported, or a collector that is away would make lines about lines. To be imported only when
it is wanted, since OpenTelemetry comes with it. The SDK's own `LoggingHandler` is deprecated, and sees neither our
fields nor what `logs` masks.
"""

from __future__ import annotations

import logging
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from typing_extensions import override

from aigateway_common import logs, otlp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk._logs.export import LogRecordExportResult

LONGEST: Final = 8192
"""Characters of one value that are exported: with the queue's length this bounds memory."""

_SEVERITIES: Final = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "critical": SeverityNumber.FATAL,
}
_ELSEWHERE: Final = frozenset({"event", "level", "time", "trace_id", "span_id"})
"""Fields of a line that a record has a place of its own for."""
_RENAMED: Final = {"exception": "exception.stacktrace"}
"""By https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-logs/."""
_SERVICES: Final = {"edge": "edge", "aigateway.router": "router", "aigateway.outbox": "router", "usage": "usage"}
"""Whose lines these are, by `source`."""
_LARGEST: Final = 2**63 - 1
_log = logging.getLogger(__name__)


class LogsExport:
    """Exports the lines of one process from now on. `services` are those that it holds, named as for `telemetry`.

    A line whose service is known is that service's, as its spans are; the others are the process's.
    """

    def __init__(self, services: Sequence[str], endpoint: str) -> None:
        self._exporter = _Exporter(**otlp.connection(endpoint))
        self._processor = BatchLogRecordProcessor(self._exporter)
        self._of_process = services[0] if len(services) == 1 else ""
        self._failing = False
        self._loggers = {name: self._logger(name) for name in (*services, self._of_process)}
        logs.forward(self._take)

    async def shutdown(self) -> None:
        """Take no more lines, and export those that are left, for at most a few seconds."""
        logs.forward(None)
        await otlp.end(self._processor.shutdown, self._exporter)

    def _logger(self, service: str) -> Logger:
        provider = LoggerProvider(otlp.resource(service), shutdown_on_exit=False)
        provider.add_log_record_processor(self._processor)
        return provider.get_logger(otlp.SCOPE)

    def _take(self, line: Mapping[str, Any]) -> None:
        if self._failing or _of_export(line) or threading.get_ident() == self._exporter.thread:
            return
        try:
            logger = self._loggers.get(_service(line)) or self._loggers[self._of_process]
            logger.emit(record(line))
        except Exception:  # noqa: BLE001 -- telemetry never raises
            self._failing = True  # what is said of it is not exported, lest that fail too
            _log.exception("a log line was not exported")
            self._failing = False


class _Exporter(OTLPLogExporter):
    thread: int = 0
    """The one that exports: whatever is logged in it is about the export."""

    @override
    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        self.thread = threading.get_ident()
        return super().export(batch)


def _of_export(line: Mapping[str, Any]) -> bool:
    return str(line.get("source", "")).partition(".")[0] == "opentelemetry"


def _service(line: Mapping[str, Any]) -> str:
    """Whose line it is, as far as it says so."""
    source = str(line.get("source", ""))
    if source.startswith("aigateway.provider"):
        return f"provider-{line.get('provider', '')}"
    return _SERVICES.get(source, "")


def record(line: Mapping[str, Any]) -> LogRecord:
    """The record of `line`, whose `time` is a datetime or the text of one."""
    level, time = str(line.get("level", "")), line.get("time")
    moment = time if isinstance(time, datetime) else datetime.fromisoformat(time) if time else None
    return LogRecord(
        timestamp=int(moment.timestamp() * 1e9) if moment else None,
        context=_context(line.get("trace_id"), line.get("span_id")),
        severity_text=level,
        severity_number=_SEVERITIES.get(level, SeverityNumber.UNSPECIFIED),
        body=_value(line.get("event", "")),
        attributes={
            _RENAMED.get(key, key): _value(value)
            for key, value in line.items()
            if key not in _ELSEWHERE and value is not None
        },
    )


def _context(trace_id: object, span_id: object) -> Context:
    """What makes the record one of the trace; never the ambient context."""
    span = trace.SpanContext(_number(trace_id, 32), _number(span_id, 16), is_remote=False)
    return trace.set_span_in_context(trace.NonRecordingSpan(span), Context())


def _number(text: object, digits: int) -> int:
    """The id that `text` is in hexadecimal; 0, which stands for none, when it is no such id."""
    try:
        return int(text, 16) if isinstance(text, str) and len(text) == digits else 0
    except ValueError:
        return 0


def _value(value: Any) -> Any:
    """`value` as the exporter can encode it: one that it cannot would take its whole batch along."""
    match value:
        case str():
            text = value[:LONGEST]
            return text if text.isascii() else text.encode(errors="replace").decode()
        case bool() | float() | None:
            return value
        case int():
            return value if -_LARGEST <= value <= _LARGEST else str(value)
        case dict():
            return {str(key): _value(item) for key, item in value.items()}
        case list() | tuple():
            return [_value(item) for item in value]
        case _:
            return str(value)[:LONGEST]
