"""Which of gRPC's two ways to read sockets the services use: the one that wakes fewer threads.

gRPC's event engine reads in threads of its own, which wake the thread that grpc.aio waits in, which wakes the event
loop. Without it the waiting thread reads the socket itself: fewer switches between threads, and less CPU for each hop,
see docs/performance.md. Both ways are in grpcio and work the same for whoever calls.
"""

from __future__ import annotations

import os
from typing import Final

VARIABLE: Final = "GRPC_EXPERIMENTS"
"""Names what gRPC does differently from its defaults; it is read when grpcio is loaded."""
WITHOUT_EVENT_ENGINE: Final = "-event_engine_client,-event_engine_listener"


def read_where_it_waits() -> None:
    """Choose it, unless the environment says otherwise. Call it before anything else is imported."""
    os.environ.setdefault(VARIABLE, WITHOUT_EVENT_ENGINE)
