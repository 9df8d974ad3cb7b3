"""Log lines at a real OTLP receiver: what stands in them, whose they are, and no lines about lines."""

from __future__ import annotations

import json
import logging
import socket
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from aigateway_common import logs, otlp_logs
from aigateway_common.otlp_logs import LONGEST, LogsExport, record
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from support.collector import Receiver, collector, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
KEY = "sk-proj-abcdefghijklmnop1234567890"
EMBEDDED = ("edge", "router", "usage", "provider-openai", "provider-ollama")

pytestmark = pytest.mark.usefixtures("logging_restored")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "20")


@pytest.fixture
def receiver() -> Iterator[tuple[Receiver, str]]:
    with collector() as (receiver, address):
        yield receiver, f"http://{address}"


def exporting(endpoint: str, *services: str, json_lines: bool = True) -> LogsExport:
    """What exports the lines from now on, which are still written to standard error."""
    logs.configure("info", json=json_lines)
    return LogsExport(services, endpoint)


async def test_a_line_arrives_as_it_stands_on_standard_error(
    receiver: tuple[Receiver, str], capsys: pytest.CaptureFixture[str]
) -> None:
    export = exporting(receiver[1], "router")
    logs.bind(request_id="req_1", trace_id=TRACE, span_id=SPAN)
    logs.get("aigateway.router").warning("provider failed", provider="openai", tries=2, models=["a", {"b": None}])
    await export.shutdown()
    logs.get("aigateway.router").info("later")

    line, _ = [json.loads(text) for text in capsys.readouterr().err.splitlines()]
    ((service, got),) = receiver[0].logs
    assert service == "aigateway-router"
    assert got.body.string_value == line["event"] == "provider failed"
    assert (got.severity_text, got.severity_number) == (line["level"], logs_pb2.SEVERITY_NUMBER_WARN)
    assert (got.trace_id.hex(), got.span_id.hex()) == (TRACE, SPAN) == (line["trace_id"], line["span_id"])
    assert got.time_unix_nano == int(datetime.fromisoformat(line["time"]).timestamp() * 1e9)
    attributes = text_of(got.attributes)
    models = attributes.pop("models").values
    assert attributes == {"source": "aigateway.router", "request_id": "req_1", "provider": "openai", "tries": 2}
    assert (models[0].string_value, models[1].kvlist_value.values[0].key) == ("a", "b")


@pytest.mark.parametrize("json_lines", [True, False])
async def test_the_line_of_a_call_arrives_too(receiver: tuple[Receiver, str], json_lines: bool) -> None:
    export = exporting(receiver[1], "edge", json_lines=json_lines)
    logs.call(logs.get("edge"), "edge", "req_1", {"trace_id": TRACE, "span_id": "", "status": 200, "seconds": 0.25})
    await export.shutdown()

    ((service, got),) = receiver[0].logs
    assert (service, got.body.string_value, got.trace_id.hex(), got.span_id) == ("aigateway-edge", "call", TRACE, b"")
    assert text_of(got.attributes) == {"source": "edge", "request_id": "req_1", "status": 200, "seconds": 0.25}
    assert got.time_unix_nano


async def test_keys_and_prompts_are_no_more_in_records_than_in_lines(receiver: tuple[Receiver, str]) -> None:
    export = exporting(receiver[1], "router")
    log = logs.get("aigateway.router")
    text = f"with {KEY}"
    log.info(text, prompt="a secret prompt", note=f"Bearer {KEY}", deep={"messages": "a secret prompt"})
    logging.getLogger("httpx").warning("sent %s", KEY)
    log.error("failed", exc_info=ValueError(f"refused {KEY}"))
    logs.call(log, "aigateway.router", "req_1", {"model": KEY})
    await export.shutdown()

    assert len(receiver[0].logs) == 4
    assert KEY not in str(receiver[0].logs)
    assert "a secret prompt" not in str(receiver[0].logs)
    bodies = [got.body.string_value for _, got in receiver[0].logs]
    assert bodies == ["with ***", "sent ***", "failed", "call"]
    assert "ValueError: refused ***" in text_of(receiver[0].logs[2][1].attributes)["exception.stacktrace"]


@pytest.mark.parametrize(
    ("source", "fields", "service"),
    [
        ("edge", {}, "aigateway-edge"),
        ("aigateway.router", {"provider": "openai"}, "aigateway-router"),
        ("aigateway.outbox", {}, "aigateway-router"),
        ("aigateway.provider", {"provider": "openai"}, "aigateway-provider-openai"),
        ("aigateway.provider.ollama", {"provider": "ollama"}, "aigateway-provider-ollama"),
        ("aigateway.provider.ollama", {}, "aigateway"),
        ("usage", {}, "aigateway-usage"),
        ("launcher", {}, "aigateway"),
    ],
)
async def test_a_line_is_its_services_where_several_share_a_process(
    receiver: tuple[Receiver, str], source: str, fields: dict[str, str], service: str
) -> None:
    export = exporting(receiver[1], *EMBEDDED)
    logs.get(source).info("x", **fields)
    await export.shutdown()

    assert [name for name, _ in receiver[0].logs] == [service]


async def test_whatever_a_process_of_one_service_says_is_that_services(receiver: tuple[Receiver, str]) -> None:
    export = exporting(receiver[1], "provider-ollama")
    logs.get("launcher").info("x")
    logs.get("aigateway.provider.ollama").info("y")
    await export.shutdown()

    assert [name for name, _ in receiver[0].logs] == ["aigateway-provider-ollama"] * 2


async def test_all_services_of_a_process_share_one_queue_and_thread(receiver: tuple[Receiver, str]) -> None:
    export = exporting(receiver[1], *EMBEDDED)
    threads = [thread for thread in threading.enumerate() if "OtelBatch" in thread.name]
    await export.shutdown()

    assert len(threads) == 1
    assert not threads[0].is_alive()


async def test_what_the_exporter_says_is_shown_once_and_never_exported(capsys: pytest.CaptureFixture[str]) -> None:
    with collector({"traces"}) as (receiver, address):
        export = exporting(f"http://{address}", "edge")
        for number in range(1, 4):
            logs.get("edge").info("call", number=number)
            receiver.wait_requests("logs", number)
        await export.shutdown()

    lines = [json.loads(text) for text in capsys.readouterr().err.splitlines()]
    complaints = [line for line in lines if line["source"].startswith("opentelemetry")]
    assert [line["level"] for line in complaints] == ["error"]
    assert "UNIMPLEMENTED" in complaints[0]["event"]
    assert receiver.requests["logs"] == 3, "each line once, and none about lines"


async def test_what_is_logged_while_exporting_is_not_exported(
    receiver: tuple[Receiver, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loud(self: Any, batch: Any) -> Any:
        logging.getLogger("grpc").error("of the export itself")
        return quiet(self, batch)

    quiet: Callable[..., Any] = OTLPLogExporter.export
    monkeypatch.setattr(OTLPLogExporter, "export", loud)
    export = exporting(receiver[1], "edge")
    logs.get("edge").info("a line")
    receiver[0].wait_requests("logs", 1)
    await export.shutdown()

    assert [got.body.string_value for _, got in receiver[0].logs] == ["a line"]


async def test_the_queue_is_bounded_and_a_full_one_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_BLRP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "16")
    monkeypatch.setattr("aigateway_common.otlp.EXPORT_TIMEOUT", 60)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        export = exporting(f"http://127.0.0.1:{silent.getsockname()[1]}", "edge")
        for number in range(100):
            logs.get("edge").info("call", number=number)
        waiting = len(export._processor._batch_processor._queue)
        monkeypatch.setattr("aigateway_common.otlp.END_TIMEOUT", 0.05)
        await export.shutdown()

    shown = [json.loads(text) for text in capsys.readouterr().err.splitlines()]
    assert [line["number"] for line in shown if "number" in line] == list(range(100))
    assert 0 < waiting <= 16
    assert len([line for line in shown if "Queue full" in line["event"]]) == 1
    assert not [thread for thread in threading.enumerate() if "OtelBatch" in thread.name]


async def test_a_line_that_cannot_be_exported_is_told_once_and_harms_no_other(
    receiver: tuple[Receiver, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export = exporting(receiver[1], "edge")
    with monkeypatch.context() as broken:
        broken.setattr(otlp_logs, "_value", lambda value: 1 / 0)
        logs.get("edge").info("first")
    logs.get("edge").info("second")
    await export.shutdown()

    events = [json.loads(text)["event"] for text in capsys.readouterr().err.splitlines()]
    assert events == ["a log line was not exported", "first", "second"]
    assert [got.body.string_value for _, got in receiver[0].logs] == ["second"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["event", "level", "trace_id", "span_id", "exception", "x", "y"]), JSON))
def test_whatever_stands_in_a_line_can_be_sent(line: dict[str, Any]) -> None:
    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call] # it has no types
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.get_logger("x").emit(record(line))

    kept: tuple[ReadableLogRecord, ...] = exporter.get_finished_logs()
    (sent,) = encode_logs(kept).resource_logs[0].scope_logs[0].log_records
    sent.SerializeToString()
    assert {pair.key for pair in sent.attributes} == {
        {"exception": "exception.stacktrace"}.get(key, key)
        for key in line
        if line[key] is not None and key in {"exception", "x", "y"}
    }


@pytest.mark.parametrize("trace_id", ["", "t1", "z" * 32, None, 7, TRACE + "0"])
def test_an_id_that_is_none_makes_no_trace(trace_id: object) -> None:
    assert record({"event": "x", "trace_id": trace_id}).trace_id == 0


def test_values_are_cut_and_times_are_taken_over() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    got = record({"event": "x" * 9000, "time": moment, "level": "critical", "number": 2**70, "low": -(2**70)})
    assert got.timestamp == int(moment.timestamp() * 1e9)
    assert len(str(got.body)) == LONGEST
    assert got.severity_number is not None
    assert got.severity_number.name == "FATAL"
    assert got.attributes == {"number": str(2**70), "low": str(-(2**70))}
