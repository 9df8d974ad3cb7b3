"""An OTLP collector on loopback that keeps the spans, metrics and log records it gets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from typing_extensions import override

SIGNALS = ("traces", "metrics", "logs")
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Export:
    """One export of metrics: who sent it, and the metrics by name."""

    resource: dict[str, str]
    metrics: dict[str, Any]

    @property
    def service(self) -> str:
        return self.resource["service.name"]


class Receiver:
    """What arrived: spans and log records beside the name of the service that made them, and exports of metrics."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        self.exports: list[Export] = []
        self.logs: list[tuple[str, Any]] = []
        self.requests = dict.fromkeys(SIGNALS, 0)
        """How many there were of each signal, also of those that it knows nothing of."""
        self._changed = threading.Condition()

    def take(self, signal: str, keep: Callable[[], None]) -> None:
        """Count a request in, and `keep` what it brought."""
        with self._changed:
            self.requests[signal] += 1
            keep()
            self._changed.notify_all()

    def wait(self, services: set[str]) -> list[tuple[str, Any]]:
        """All spans, once there are some of each of `services`."""
        return self.when(lambda: self.spans, lambda found: services <= {name for name, _ in found})

    def wait_trace(self, trace_id: str, parent: str, services: set[str]) -> list[tuple[str, Any]]:
        """One trace's spans, once there are some of each of `services` and all lead to the span `parent`."""

        def whole(found: list[tuple[str, Any]]) -> bool:
            known = {span.span_id.hex() for _, span in found} | {parent}
            return services <= {name for name, _ in found} and {one.parent_span_id.hex() for _, one in found} <= known

        return self.when(lambda: [one for one in self.spans if one[1].trace_id.hex() == trace_id], whole)

    def wait_requests(self, signal: str, number: int) -> None:
        """Until there were `number` requests of `signal`."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.requests[signal] >= number, 30), self.requests

    def when(self, chosen: Callable[[], list[_Found]], enough: Callable[[list[_Found]], bool]) -> list[_Found]:
        """What is `chosen`, once it is `enough`."""
        with self._changed:
            assert self._changed.wait_for(lambda: enough(chosen()), 30), chosen()
            return list(chosen())


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    @override
    def Export(self, request: Any, context: Any) -> Any:
        found = [
            (text_of(resource.resource.attributes)["service.name"], span)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        self._receiver.take("traces", lambda: self._receiver.spans.extend(found))
        return trace_service_pb2.ExportTraceServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    @override
    def Export(self, request: Any, context: Any) -> Any:
        found = [
            Export(text_of(resource.resource.attributes), {metric.name: metric for metric in scope.metrics})
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
        ]
        self._receiver.take("metrics", lambda: self._receiver.exports.extend(found))
        return metrics_service_pb2.ExportMetricsServiceResponse()


class _Logs(logs_service_pb2_grpc.LogsServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    @override
    def Export(self, request: Any, context: Any) -> Any:
        found = [
            (text_of(resource.resource.attributes)["service.name"], record)
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]
        self._receiver.take("logs", lambda: self._receiver.logs.extend(found))
        return logs_service_pb2.ExportLogsServiceResponse()


class _Unknown(grpc.GenericRpcHandler):
    """Counts what no service here answers; it is UNIMPLEMENTED."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    @override
    def service(self, handler_call_details: Any) -> None:
        for signal, word in zip(SIGNALS, ("Trace", "Metrics", "Logs"), strict=True):
            if f".{word}Service/" in handler_call_details.method:
                self._receiver.take(signal, lambda: None)


def text_of(pairs: Any) -> dict[str, Any]:
    """Attributes by name; each value as the type that it came in."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}


@contextmanager
def collector(signals: Collection[str] = SIGNALS) -> Iterator[tuple[Receiver, str]]:
    """A running collector, and its address as `host:port`; what is not of `signals` it knows nothing of."""
    receiver = Receiver()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    if "traces" in signals:
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(receiver), server)  # type: ignore[no-untyped-call] # generated without types
    if "metrics" in signals:
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(receiver), server)  # type: ignore[no-untyped-call] # generated without types
    if "logs" in signals:
        logs_service_pb2_grpc.add_LogsServiceServicer_to_server(_Logs(receiver), server)  # type: ignore[no-untyped-call] # generated without types
    server.add_generic_rpc_handlers((_Unknown(receiver),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield receiver, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
