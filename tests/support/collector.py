"""An OTLP collector on loopback that keeps the spans it gets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
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

    def wait(self, services: set[str], trace_id: str = "") -> list[tuple[str, Any]]:
        """All spans (of one trace, when it is named) once there are some of each of `services`."""

        def found() -> list[tuple[str, Any]]:
            return [one for one in self.spans if not trace_id or one[1].trace_id.hex() == trace_id]

        with self._changed:
            assert self._changed.wait_for(lambda: services <= {name for name, _ in found()}, 30), self.spans
            return found()


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
