"""The metrics of `metrics`, exported by OTLP over gRPC from time to time, from a thread of their own.

The registry that `/metrics` shows is the one source: what is exported is what a scrape would have read at that moment.
Each export holds everything since the start, so one that fails is made good by the next, and nothing piles up. To be
imported only when it is wanted, since OpenTelemetry comes with it. Not for what is counted.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from aigateway_common import otlp
from aigateway_common.metrics import REGISTRY
from aigateway_common.otlp_points import Clock, convert

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_log = logging.getLogger(__name__)


class MetricsExport:
    """Exports the metrics of one process, all its services together, until it is shut down.

    `service` is empty for a process of several; `interval` is in seconds.
    """

    def __init__(self, service: str, endpoint: str, interval: float, registry: CollectorRegistry = REGISTRY) -> None:
        self._registry = registry
        self._interval = min(interval, threading.TIMEOUT_MAX)
        self._resource = otlp.resource(service)
        self._began = time.time_ns()
        self._exporter = OTLPMetricExporter(**otlp.connection(endpoint))
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp-metrics", daemon=True)
        self._thread.start()

    async def shutdown(self) -> None:
        """Export once more, for at most a few seconds, and end."""
        await otlp.end(self._finish, self._exporter)

    def _finish(self) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(self._interval):
            self._export()
        self._export()
        self._exporter.shutdown()

    def _export(self) -> None:
        try:
            self._exporter.export(self._data())
        except Exception:  # noqa: BLE001 -- telemetry never raises
            _log.exception("metrics were not exported")

    def _data(self) -> MetricsData:
        metrics = convert(self._registry.collect(), Clock(self._began, time.time_ns()))
        scope = ScopeMetrics(InstrumentationScope(otlp.SCOPE), metrics, "")
        return MetricsData([ResourceMetrics(self._resource, [scope], "")])
