"""What a process sends to a collector: only what was asked for, each once, and never at the cost of serving."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from aigateway_common import logs, metrics
from aigateway_common.telemetry import Telemetry
from aigateway_launcher.exports import Exports
from aigateway_launcher.groups import Group
from aigateway_launcher.plan_telemetry import TelemetrySettings
from support.collector import Receiver, collector

if TYPE_CHECKING:
    from collections.abc import Iterator

EMBEDDED = Group(edge=True, router=True, usage=True, providers=("openai",))

pytestmark = pytest.mark.usefixtures("logging_restored")


@pytest.fixture
def receiver() -> Iterator[tuple[Receiver, str]]:
    with collector() as (receiver, address):
        yield receiver, f"http://{address}"


def settings(endpoint: str | None, *, metrics: bool = True, logs: bool = True, ratio: float = 1.0) -> TelemetrySettings:
    return TelemetrySettings(endpoint, ratio, metrics=metrics, logs=logs, metric_export_seconds=3600)


@pytest.mark.parametrize(
    ("group", "service"), [(EMBEDDED, "aigateway"), (Group(providers=("openai",)), "aigateway-provider-openai")]
)
async def test_metrics_of_a_process_are_exported_once_under_its_name(
    receiver: tuple[Receiver, str], group: Group, service: str
) -> None:
    exports = Exports(settings(receiver[1]), group)
    exports.start()
    metrics.limited("requests")
    await exports.stop()
    await exports.stop()

    (got,) = receiver[0].exports
    assert got.service == service
    assert "aigateway_limited_calls_total" in got.metrics


async def test_spans_and_lines_of_a_service_have_one_name(receiver: tuple[Receiver, str]) -> None:
    logs.configure("info", json=True)
    exports = Exports(settings(receiver[1], metrics=False), EMBEDDED)
    exports.start()
    span = exports.traced("router").span("chat")
    logs.get("aigateway.router").info("a line", trace_id=span.trace_id, span_id=span.span_id)
    span.end()
    await exports.stop()

    ((made, sent),) = receiver[0].spans
    ((wrote, got),) = receiver[0].logs
    assert made == wrote == "aigateway-router"
    assert (got.trace_id, got.span_id) == (sent.trace_id, sent.span_id)


@pytest.mark.parametrize(("wanted", "sent"), [((True, False), ["metrics"]), ((False, True), ["logs"])])
async def test_what_was_not_asked_for_is_not_sent(
    receiver: tuple[Receiver, str], wanted: tuple[bool, bool], sent: list[str]
) -> None:
    logs.configure("info", json=True)
    exports = Exports(settings(receiver[1], metrics=wanted[0], logs=wanted[1], ratio=0), EMBEDDED)
    exports.start()
    assert exports.traced("edge") is Telemetry.off()
    logs.get("edge").info("a line")
    await exports.stop()

    assert [signal for signal, number in receiver[0].requests.items() if number] == sent


async def test_an_export_that_cannot_be_set_up_is_told_and_the_others_go_on(
    receiver: tuple[Receiver, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_BLRP_MAX_QUEUE_SIZE", "-1")
    exports = Exports(settings(receiver[1]), EMBEDDED)
    exports.start()
    await exports.stop()

    assert "cannot set up an export to" in caplog.text
    assert "max_queue_size" in caplog.text
    assert len(receiver[0].exports) == 1


def test_nothing_asked_for_imports_no_opentelemetry() -> None:
    code = (
        "import asyncio, sys\n"
        "from aigateway_launcher.groups import Group\n"
        "from aigateway_launcher.plan_telemetry import TelemetrySettings\n"
        "from aigateway_launcher.topology import Exports\n"
        "given = TelemetrySettings(None, 1.0, metrics=False, logs=False, metric_export_seconds=60)\n"
        "exports = Exports(given, Group(edge=True, router=True))\n"
        "exports.start(); exports.traced('edge').span('x').end(); asyncio.run(exports.stop())\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
