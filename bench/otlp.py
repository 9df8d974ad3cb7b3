"""An OTLP receiver in a process of its own: takes every span, keeps none, and says how many there were.

Run as `python -m bench.otlp`; it prints its port, and for each line on its standard input the number of spans so far.
"""

from __future__ import annotations

import sys
from concurrent import futures

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from typing_extensions import override


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """The service."""

    spans = 0

    @override
    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Count the spans."""
        self.spans += sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
        return trace_service_pb2.ExportTraceServiceResponse()


def main() -> None:
    """Serve until standard input ends."""
    receiver = Receiver()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call] # generated without types
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    for _ in sys.stdin:
        print(receiver.spans, flush=True)
    server.stop(0).wait()


if __name__ == "__main__":
    main()
