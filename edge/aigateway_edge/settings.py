"""What can be set on the edge."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """Settings of the edge; the launcher reads them from configuration."""

    max_body_bytes: int = 32 * 1024 * 1024
    """The largest request body taken, in bytes; a larger one is answered 413. A gRPC message holds 64 MiB."""

    max_buffered_bytes: int = 256 * 1024 * 1024
    """Bytes of unfinished request bodies held for all callers together; beyond it large requests are answered 503."""

    max_calls: int = 5000
    """Requests under way beyond which calls are refused with OVERLOADED; when the process cannot keep up, earlier."""

    heartbeat_seconds: float = 15.0
    """A stream that is silent for so long gets an SSE comment, so that proxies keep it open."""

    default_timeout: float = 600.0
    """Seconds that a call may take when the caller sends no `X-Gateway-Timeout`."""

    max_timeout: float = 3600.0
    """The longest `X-Gateway-Timeout` taken, in seconds."""

    ready_timeout: float = 1.0
    """Seconds that `/ready` waits for the router's health."""

    cors_origins: tuple[str, ...] = ()
    """Web origins whose pages may call the gateway; `*` for all. None by default: a page holds no key safely."""

    docs: bool = True
    """Whether `/docs` and `/openapi.json` are served."""
