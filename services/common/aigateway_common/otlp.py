"""What traces, metrics and logs share on their way to an OTLP collector: the connection, who sends, and the end.

Only those that were asked for import this module's OpenTelemetry. Not for what they send: see `telemetry`,
`otlp_metrics` and `otlp_logs`.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import TYPE_CHECKING, Final, Protocol, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.resources import Resource

EXPORT_TIMEOUT: Final = 5
"""Seconds that one export may take, with all its attempts."""
END_TIMEOUT: Final = 3
"""Seconds that an end waits for what is left: parents give a process five more than its drain."""
SCOPE: Final = "aigateway"
"""The instrumentation scope of all that is ours."""

_INSTANCE: Final = str(uuid.uuid4())
"""Tells this process from its like: without it the counters of several workers would be one that jumps."""
_log = logging.getLogger(__name__)


class Connection(TypedDict):
    """What every exporter is made with."""

    endpoint: str
    insecure: bool
    timeout: float


class Exporter(Protocol):
    """What can be cut off."""

    def shutdown(self) -> None:
        """End the export under way, and make no more."""


def connection(endpoint: str) -> Connection:
    """How `endpoint` is spoken to: an OTLP gRPC receiver such as `http://127.0.0.1:4317`, TLS with `https://`."""
    return Connection(endpoint=endpoint, insecure=not endpoint.startswith("https://"), timeout=EXPORT_TIMEOUT)


def resource(service: str) -> Resource:
    """Who sends: `service.name`, an id of this process, and what OTEL_RESOURCE_ATTRIBUTES says.

    `service` is one of ours (`edge`, `provider-openai`); empty for a process of several.
    """
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 -- loaded only when something is exported

    name = f"aigateway-{service}" if service else "aigateway"
    return Resource({"service.instance.id": _INSTANCE}).merge(Resource.create({"service.name": name}))


async def end(finish: Callable[[], None], exporter: Exporter) -> None:
    """Run `finish`, which exports what is left, in a thread; after END_TIMEOUT seconds cut `exporter` off.

    Raises nothing.
    """
    finishing = asyncio.create_task(asyncio.to_thread(finish))
    try:
        done, _ = await asyncio.wait({finishing}, timeout=END_TIMEOUT)
        if not done:
            await asyncio.to_thread(exporter.shutdown)
        await finishing
    except Exception:  # noqa: BLE001 -- telemetry never raises
        _log.exception("what was left was not exported")
