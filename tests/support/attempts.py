"""Attempts as a router reports them, and a usage service to report them to."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aigateway.v1 import tokens_pb2, usage_service_pb2, usage_service_pb2_grpc
from aigateway_common.serving import grpc_channel, grpc_server
from aigateway_usage.server import UsageComponent
from aigateway_usage.settings import UsageSettings

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator
    from pathlib import Path

NOON = 1_784_894_400_000_000
"""24 July 2026, 12:00 UTC, in microseconds."""


def attempt(number: int = 0, **changes: Any) -> usage_service_pb2.Attempt:
    """A plain answered chat call; `usage` may be a dict."""
    usage = changes.pop("usage", {"input_uncached": 100, "output_text": 10})
    fields: dict[str, Any] = {
        "event_id": f"{number:032x}",
        "request_id": f"call-{number}",
        "attempt": 1,
        "project": "default",
        "operation": usage_service_pb2.OPERATION_CHAT,
        "provider": "acme",
        "requested_model": "smart",
        "sent_model": "acme-1",
        "answered_model": "acme-1-2026",
        "started_at_us": NOON + number,
        "duration_us": 250_000,
        "status": usage_service_pb2.ATTEMPT_STATUS_OK,
        "usage": None if usage is None else tokens_pb2.TokenUsage(**usage),
    }
    return usage_service_pb2.Attempt(**(fields | changes))


def varied(number: int, chance: random.Random) -> usage_service_pb2.Attempt:
    """An attempt with anything in it that attempts are told apart and summed up by."""
    names = ("input_uncached", "input_cache_read", "output_text", "output_reasoning")
    tokens = {name: chance.randrange(10_000) for name in names if chance.random() < 0.8}
    return attempt(
        number,
        project=chance.choice(("default", "search", "Größe")),
        provider=chance.choice(("acme", "other")),
        requested_model=chance.choice(("smart", "acme-1", "")),
        sent_model=chance.choice(("acme-1", "acme-2", "")),
        answered_model=chance.choice(("acme-1-2026", "acme-2", "")),
        key_id=chance.choice(("", "key-1", "key-2")),
        status=chance.choice(usage_service_pb2.AttemptStatus.values()[1:]),
        started_at_us=time_near(chance),
        duration_us=chance.randrange(1_000_000),
        request_id=f"call-{number // 2}",
        usage=tokens if chance.random() < 0.9 else None,
    )


def time_near(chance: random.Random) -> int:
    """A time within some days of `NOON`, often where an hour or a day ends."""
    hour = 3_600_000_000
    at = NOON - 12 * hour + chance.randrange(-3, 4) * 24 * hour + chance.choice((0, 0, chance.randrange(24))) * hour
    return at + chance.choice((-1, 0, 1, chance.randrange(hour)))


def settings(folder: Path, **more: Any) -> UsageSettings:
    return UsageSettings(f"sqlite+aiosqlite:///{folder / 'ledger.db'}", **more)


@asynccontextmanager
async def usage_service(of: UsageSettings) -> AsyncIterator[usage_service_pb2_grpc.UsageServiceAsyncStub]:
    """A stub of a usage service on a real gRPC port."""
    server = grpc_server([UsageComponent(of)], "127.0.0.1:0")
    await server.start()
    try:
        async with grpc_channel(f"127.0.0.1:{server.port}") as channel:
            yield usage_service_pb2_grpc.UsageServiceStub(channel)
    finally:
        await server.drain(5)


def record(*attempts: usage_service_pb2.Attempt) -> usage_service_pb2.RecordAttemptsRequest:
    return usage_service_pb2.RecordAttemptsRequest(attempts=attempts)
