"""gRPC without the wire: services that share a process and an event loop call each other through this.

The same generated stubs and servicers work on an `InProcessChannel` and `InProcessServer` as on grpc.aio's, which is
what makes topology a matter of configuration. Messages pass by reference, so a message must not change once sent;
deadlines, metadata, cancellation, status codes and back-pressure behave as on the wire, which one contract suite holds
both to. Not for client streaming, credentials, compression or interceptors, and not for another thread or loop.
"""

from aigateway_common.inprocess.channel import InProcessChannel
from aigateway_common.inprocess.server import InProcessServer

__all__ = ("InProcessChannel", "InProcessServer")
