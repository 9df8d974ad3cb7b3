"""What is exported by OTLP: the file over the environment, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
from aigateway_common.settings import ConfigurationError
from aigateway_launcher.plan import Overrides, Plan, make
from aigateway_launcher.plan_telemetry import TelemetrySettings
from aigateway_launcher.reload import pending

ENDPOINT = "http://collector:4317"


def plan(tmp_path: Path, text: str = "", /, **environment: str) -> Plan:
    file = tmp_path / "aigateway.yaml"
    file.write_text(text)
    return make(Overrides(file), environment, ollama_found=lambda: False)


def problems(tmp_path: Path, text: str = "", /, **environment: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        plan(tmp_path, text, **environment)
    return [str(problem) for problem in caught.value.problems]


def test_by_default_nothing_is_exported(tmp_path: Path) -> None:
    assert plan(tmp_path).telemetry == TelemetrySettings(None, 1.0, metrics=False, logs=False, metric_export_seconds=60)


def test_an_endpoint_alone_is_for_traces(tmp_path: Path) -> None:
    made = plan(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=ENDPOINT, OTEL_TRACES_SAMPLER_ARG="0.1").telemetry
    assert made == TelemetrySettings(ENDPOINT, 0.1, metrics=False, logs=False, metric_export_seconds=60)


def test_the_environment_switches_metrics_and_logs_each_by_itself(tmp_path: Path) -> None:
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_METRIC_EXPORT_INTERVAL": "1500"}
    both = plan(tmp_path, **given, OTEL_METRICS_EXPORTER="otlp", OTEL_LOGS_EXPORTER="OTLP").telemetry
    assert both == TelemetrySettings(ENDPOINT, 1.0, metrics=True, logs=True, metric_export_seconds=1.5)
    one = plan(tmp_path, **given, OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER="otlp").telemetry
    assert (one.metrics, one.logs) == (False, True)


def test_the_file_wins_over_the_environment(tmp_path: Path) -> None:
    lines = [
        "telemetry:",
        "  otlp_endpoint: http://other:4317",
        "  sample_ratio: 0.5",
        "  metrics_exporter: otlp",
        "  logs_exporter: none",
        "  metric_export_seconds: 10",
    ]
    given = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT,
        "OTEL_TRACES_SAMPLER_ARG": "1",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_METRIC_EXPORT_INTERVAL": "1",
    }
    made = plan(tmp_path, "\n".join(lines), **given).telemetry
    assert made == TelemetrySettings("http://other:4317", 0.5, metrics=True, logs=False, metric_export_seconds=10)


@pytest.mark.parametrize("variable", ["OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER"])
def test_without_an_endpoint_there_is_nowhere_to_go(tmp_path: Path, variable: str) -> None:
    need = "`otlp` needs to know where to: set OTEL_EXPORTER_OTLP_ENDPOINT or `telemetry.otlp_endpoint`"
    assert problems(tmp_path, **{variable: "otlp"}) == [f"{variable}: {need}"]
    setting = variable.removeprefix("OTEL_").lower()
    assert problems(tmp_path, f"telemetry:\n  {setting}: otlp\n") == [f"aigateway.yaml:2: {need}"]


def test_other_values_are_refused_with_those_that_exist(tmp_path: Path) -> None:
    given = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT,
        "OTEL_METRICS_EXPORTER": "prometheus",
        "OTEL_LOGS_EXPORTER": "otlp,console",
        "OTEL_METRIC_EXPORT_INTERVAL": "0",
    }
    assert problems(tmp_path, **given) == [
        "OTEL_METRICS_EXPORTER: must be otlp or none, not `prometheus`",
        "OTEL_LOGS_EXPORTER: must be otlp or none, not `otlp,console`",
        "OTEL_METRIC_EXPORT_INTERVAL: must be milliseconds, more than 0, not 0",
    ]
    assert problems(tmp_path, OTEL_METRIC_EXPORT_INTERVAL="a minute") == [
        "OTEL_METRIC_EXPORT_INTERVAL: must be a number, not `a minute`"
    ]
    assert problems(tmp_path, "telemetry:\n  metrics_exporter: console\n  metric_export_seconds: 0\n") == [
        "aigateway.yaml:2: `telemetry.metrics_exporter`: input should be 'otlp' or 'none'",
        "aigateway.yaml:3: `telemetry.metric_export_seconds`: input should be greater than 0",
    ]
    assert problems(tmp_path, "telemetry:\n  metric_exporter: otlp\n") == [
        "aigateway.yaml:2: `telemetry.metric_exporter` is not a setting; did you mean `metrics_exporter`?"
    ]


@pytest.mark.parametrize("value", ["-1", "inf", "nan"])
def test_an_interval_is_a_time(tmp_path: Path, value: str) -> None:
    assert problems(tmp_path, OTEL_METRIC_EXPORT_INTERVAL=value) == [
        f"OTEL_METRIC_EXPORT_INTERVAL: must be milliseconds, more than 0, not {value}"
    ]


def test_a_change_needs_a_restart(tmp_path: Path) -> None:
    before = plan(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=ENDPOINT)
    after = plan(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=ENDPOINT, OTEL_LOGS_EXPORTER="otlp")
    assert pending(before, after) == ["telemetry"]
