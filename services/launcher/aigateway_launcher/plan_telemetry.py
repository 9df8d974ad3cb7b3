"""From `telemetry` and OTEL_… to what is exported by OTLP and where to, with every mistake found on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from aigateway_common.settings import Problem

if TYPE_CHECKING:
    from aigateway_common.settings import Document

    from aigateway_launcher.config import TelemetrySection
    from aigateway_launcher.environment import Environment

_Signal = Literal["metrics", "logs"]

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
RATIO: Final = "OTEL_TRACES_SAMPLER_ARG"
INTERVAL: Final = "OTEL_METRIC_EXPORT_INTERVAL"
EXPORTERS: Final[dict[_Signal, str]] = {"metrics": "OTEL_METRICS_EXPORTER", "logs": "OTEL_LOGS_EXPORTER"}


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """What is exported by OTLP."""

    endpoint: str | None
    """Where it goes; None when nothing is exported."""
    sample_ratio: float
    """Share of calls that are traced."""
    metrics: bool
    logs: bool
    metric_export_seconds: float
    """Between two exports of the metrics."""


class TelemetryMaker:
    """Resolves the section; `problems` fills while it works."""

    def __init__(self, section: TelemetrySection, document: Document, environment: Environment) -> None:
        self.problems: list[Problem] = []
        self._section = section
        self._document = document
        self._env = environment

    def telemetry(self) -> TelemetrySettings:
        """The settings; what is wrong is as by default."""
        endpoint = self._section.otlp_endpoint or self._env.text(ENDPOINT)
        return TelemetrySettings(
            endpoint=endpoint,
            sample_ratio=self._sample_ratio(),
            metrics=self._exports("metrics", endpoint),
            logs=self._exports("logs", endpoint),
            metric_export_seconds=self._metric_export_seconds(),
        )

    def _sample_ratio(self) -> float:
        given = self._section.sample_ratio
        if "sample_ratio" in self._section.model_fields_set:
            return given
        ratio = self._env.number(RATIO)
        if ratio is not None and not 0 <= ratio <= 1:
            self.problems.append(Problem(RATIO, f"must be from 0 to 1, not {ratio}"))
        return given if ratio is None else ratio

    def _exports(self, signal: _Signal, endpoint: str | None) -> bool:
        """Whether `signal` is exported; any case will do in a variable, as OpenTelemetry has it."""
        name, variable = f"{signal}_exporter", EXPORTERS[signal]
        in_file = name in self._section.model_fields_set
        where = self._document.where(("telemetry", name)) if in_file else variable
        value = str(getattr(self._section, name)) if in_file else (self._env.text(variable) or "none").lower()
        if value not in {"otlp", "none"}:
            self.problems.append(Problem(where, f"must be otlp or none, not `{value}`"))
        elif value == "otlp" and not endpoint:
            text = f"`otlp` needs to know where to: set {ENDPOINT} or `telemetry.otlp_endpoint`"
            self.problems.append(Problem(where, text))
        return value == "otlp" and endpoint is not None

    def _metric_export_seconds(self) -> float:
        """Of the file in seconds, as all of its times are; of the variable in OpenTelemetry's milliseconds."""
        given = self._section.metric_export_seconds
        if "metric_export_seconds" in self._section.model_fields_set:
            return given
        interval = self._env.number(INTERVAL)
        if interval is None:
            return given
        if not 0 < interval < math.inf:
            self.problems.append(Problem(INTERVAL, f"must be milliseconds, more than 0, not {interval:g}"))
            return given
        return interval / 1000
