"""An OTLP collector on loopback that keeps the spans it gets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from typing_extensions import override


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """The service, with every span beside the name of the service that made it."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        self._changed = threading.Condition()

    @override
    def Export(self, request: Any, context: Any) -> Any:
        with self._changed:
            for resource in request.resource_spans:
                attributes = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
                for scope in resource.scope_spans:
                    self.spans += [(attributes["service.name"], span) for span in scope.spans]
            self._changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def wait(self, services: set[str]) -> list[tuple[str, Any]]:
        """All spans, once there are some of each of `services`."""
        return self._when(lambda: self.spans, lambda found: services <= {name for name, _ in found})

    def wait_trace(self, trace_id: str, parent: str, services: set[str]) -> list[tuple[str, Any]]:
        """One trace's spans, once there are some of each of `services` and all lead to the span `parent`."""

        def whole(found: list[tuple[str, Any]]) -> bool:
            known = {span.span_id.hex() for _, span in found} | {parent}
            return services <= {name for name, _ in found} and {one.parent_span_id.hex() for _, one in found} <= known

        return self._when(lambda: [one for one in self.spans if one[1].trace_id.hex() == trace_id], whole)

    def _when(
        self, chosen: Callable[[], list[tuple[str, Any]]], enough: Callable[[list[tuple[str, Any]]], bool]
    ) -> list[tuple[str, Any]]:
        with self._changed:
            assert self._changed.wait_for(lambda: enough(chosen()), 30), self.spans
            return list(chosen())


@contextmanager
def collector() -> Iterator[tuple[Receiver, str]]:
    """A running collector, and its address as `host:port`."""
    receiver = Receiver()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call] # generated without types
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield receiver, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
