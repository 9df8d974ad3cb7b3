"""What exporters say again and again is shown once a minute; everything else is shown."""

from __future__ import annotations

import logging

from aigateway_common.seldom import SECONDS, Seldom

EXPORTER = "opentelemetry.exporter.otlp.proto.grpc.exporter"
FAILED = "Failed to export %s to %s, error code: %s"


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def record(name: str, message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "x.py", 1, message, arguments, None)


def test_a_complaint_comes_once_a_minute_for_each_signal() -> None:
    time = Time()
    seldom = Seldom(time)

    def shown(signal: str) -> bool:
        return seldom.filter(record(EXPORTER, FAILED, signal, "collector:4317", "UNAVAILABLE"))

    assert [shown("logs"), shown("metrics"), shown("logs"), shown("metrics")] == [True, True, False, False]
    time.now += SECONDS - 1
    assert not shown("logs")
    time.now += 1
    assert [shown("logs"), shown("logs")] == [True, False]


def test_another_complaint_is_not_held_back() -> None:
    seldom = Seldom(Time())
    assert seldom.filter(record(EXPORTER, FAILED, "logs"))
    assert seldom.filter(record(EXPORTER, "Queue full, dropping %s.", "Log"))
    assert seldom.filter(record("opentelemetry.sdk", FAILED, "logs"))


def test_others_may_repeat_themselves() -> None:
    seldom = Seldom(Time())
    assert all(seldom.filter(record(name, "again")) for name in ("grpc", "opentelemetryish", "grpc"))


def test_complaints_that_differ_each_time_are_not_remembered_for_good() -> None:
    seldom = Seldom(Time())
    assert all(seldom.filter(record(EXPORTER, f"number {number}")) for number in range(1000))
    assert len(seldom._said) <= 100
