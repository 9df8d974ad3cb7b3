"""What one process sends to an OpenTelemetry collector: the spans of each of its services, and its metrics and logs.

Of these only what the plan asks for is even imported. None of it ever stops a service from starting or serving.
"""

from __future__ import annotations

import asyncio
import logging
from importlib import import_module
from typing import TYPE_CHECKING

from aigateway_common.telemetry import Telemetry

from aigateway_launcher.groups import PROVIDER

if TYPE_CHECKING:
    from aigateway_common.otlp_logs import LogsExport
    from aigateway_common.otlp_metrics import MetricsExport

    from aigateway_launcher.groups import Group
    from aigateway_launcher.plan_telemetry import TelemetrySettings

_log = logging.getLogger(__name__)


class Exports:
    """The exports of a process that holds `group`, from its start to its end."""

    def __init__(self, settings: TelemetrySettings, group: Group) -> None:
        self._settings = settings
        self._services = [_service(name) for name in group.names]
        self._traces: list[Telemetry] = []
        self._metrics: MetricsExport | None = None
        self._logs: LogsExport | None = None

    def start(self) -> None:
        """Begin with metrics and logs: once for the process, however many services it holds."""
        endpoint = self._settings.endpoint
        if endpoint is None:
            return
        wanted = {self._begin_logs: self._settings.logs, self._begin_metrics: self._settings.metrics}
        for begin in (begin for begin, yes in wanted.items() if yes):
            try:
                begin(endpoint)
            except Exception:  # noqa: BLE001 -- telemetry never raises
                _log.exception("cannot set up an export to `%s`", endpoint)

    def _begin_logs(self, endpoint: str) -> None:
        self._logs = import_module("aigateway_common.otlp_logs").LogsExport(self._services, endpoint)

    def _begin_metrics(self, endpoint: str) -> None:
        alone = self._services[0] if len(self._services) == 1 else ""
        exporter = import_module("aigateway_common.otlp_metrics").MetricsExport
        self._metrics = exporter(alone, endpoint, self._settings.metric_export_seconds)

    def traced(self, service: str) -> Telemetry:
        """What makes the spans of `service`."""
        settings = self._settings
        if not settings.endpoint or settings.sample_ratio == 0:
            return Telemetry.off()
        telemetry = Telemetry(service, endpoint=settings.endpoint, ratio=settings.sample_ratio)
        self._traces.append(telemetry)
        return telemetry

    async def stop(self) -> None:
        """Export what is left, everything at once and for a few seconds at most."""
        parts = [part for part in (*self._traces, self._metrics, self._logs) if part is not None]
        self._traces, self._metrics, self._logs = [], None, None
        await asyncio.gather(*(part.shutdown() for part in parts))


def _service(name: str) -> str:
    """The name by which a service is traced."""
    return f"provider-{name.removeprefix(PROVIDER)}" if name.startswith(PROVIDER) else name
