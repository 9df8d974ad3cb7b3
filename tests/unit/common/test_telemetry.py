"""Spans, received by a real OTLP gRPC server on loopback."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from aigateway_common import attributes
from aigateway_common.errors import GatewayError
from aigateway_common.telemetry import NO_SPAN, Span, SpanKind, Telemetry
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that arrive, by service and name."""

    def __init__(self) -> None:
        self.spans: dict[tuple[str, str], trace_pb2.Span] = {}
        self._gate = threading.Event()
        self._gate.set()
        self._arrived: Callable[[], object] = lambda: None
        self._server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call] # generated without types
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    @override
    def Export(self, request: Any, context: Any) -> trace_service_pb2.ExportTraceServiceResponse:
        self._arrived()
        self._gate.wait(30)
        for resource in request.resource_spans:
            names = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans |= {(names["service.name"], span.name): span for span in scope.spans}
        return trace_service_pb2.ExportTraceServiceResponse()

    @contextmanager
    def held(self, loop: asyncio.AbstractEventLoop, arrived: asyncio.Event) -> Iterator[None]:
        """Answer nothing meanwhile; `arrived` is set once something is sent."""
        self._arrived = lambda: loop.call_soon_threadsafe(arrived.set)
        self._gate.clear()
        try:
            yield
        finally:
            self._arrived = lambda: None
            self._gate.set()

    def stop(self) -> None:
        self._server.stop(0).wait()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.stop()


async def test_a_trace_goes_on_over_spans_and_metadata(collector: Collector) -> None:
    edge, router = Telemetry("edge", collector.endpoint), Telemetry("router", collector.endpoint)
    incoming: list[tuple[str, str | bytes]] = [
        ("Accept", "x"),
        ("Traceparent", f"00-{TRACE}-{PARENT}-01"),
        ("tracestate", "vendor=1"),
        ("k-bin", b""),
    ]
    server = edge.span("POST /v1/chat/completions", kind=SpanKind.SERVER, parent=incoming)
    client = edge.span("Chat", kind=SpanKind.CLIENT, parent=server)
    attempt = router.span("attempt", parent=client.metadata())
    for span in (attempt, client, server):
        span.end()
    await edge.shutdown()
    await router.shutdown()

    first, second, third = (
        collector.spans["aigateway-edge", "POST /v1/chat/completions"],
        collector.spans["aigateway-edge", "Chat"],
        collector.spans["aigateway-router", "attempt"],
    )
    assert {span.trace_id.hex() for span in (first, second, third)} == {TRACE} == {server.trace_id}
    assert first.parent_span_id.hex() == PARENT
    assert second.parent_span_id == first.span_id
    assert third.parent_span_id == second.span_id
    assert [span.kind for span in (first, second, third)] == [
        trace_pb2.Span.SPAN_KIND_SERVER,
        trace_pb2.Span.SPAN_KIND_CLIENT,
        trace_pb2.Span.SPAN_KIND_INTERNAL,
    ]
    assert client.span_id == second.span_id.hex()
    assert client.metadata() == (
        ("traceparent", f"00-{TRACE}-{second.span_id.hex()}-01"),
        ("tracestate", "vendor=1"),
    )


async def test_attributes_and_errors_arrive(collector: Collector) -> None:
    telemetry = Telemetry("router", collector.endpoint)
    span = telemetry.span("chat")
    span.set(attributes.REQUEST_MODEL, "m")
    span.set(attributes.INPUT_TOKENS, 7)
    span.set(attributes.FINISH_REASONS, ["stop"])
    span.set(attributes.RESPONSE_MODEL, None)
    span.end(GatewayError("RATE_LIMITED", "slow down"))
    span.end()
    cancelled = telemetry.span("cancelled")
    cancelled.end(asyncio.CancelledError())
    telemetry.span("broken").end(ValueError("secret"))
    await telemetry.shutdown()

    chat = collector.spans["aigateway-router", "chat"]
    assert {pair.key: pair.value.WhichOneof("value") for pair in chat.attributes} == {
        "gen_ai.request.model": "string_value",
        "gen_ai.usage.input_tokens": "int_value",
        "gen_ai.response.finish_reasons": "array_value",
        "error.type": "string_value",
    }
    assert (chat.status.code, chat.status.message) == (trace_pb2.Status.STATUS_CODE_ERROR, "slow down")
    types = {
        name: next(pair.value.string_value for pair in span.attributes if pair.key == "error.type")
        for (_, name), span in collector.spans.items()
    }
    assert types == {"chat": "RATE_LIMITED", "cancelled": "CANCELLED", "broken": "ValueError"}
    assert collector.spans["aigateway-router", "broken"].status.message == ""


async def test_a_callers_decision_not_to_sample_holds(collector: Collector) -> None:
    telemetry = Telemetry("edge", collector.endpoint)
    span = telemetry.span("quiet", parent=(("traceparent", f"00-{TRACE}-{PARENT}-00"),))
    span.set("k", "v")
    span.end()
    await telemetry.shutdown()

    assert collector.spans == {}
    assert span.trace_id == TRACE
    assert span.metadata()[0][1].endswith("-00")


async def test_a_trace_that_is_not_kept_is_told_to_every_hop(collector: Collector) -> None:
    edge, router = (Telemetry(name, collector.endpoint, ratio=0) for name in ("edge", "router"))
    first = edge.span("first")
    second = edge.span("second", parent=first)
    third = router.span("third", parent=second.metadata())
    for span in (third, second, first):
        span.set("k", "v")
        span.end(ValueError("x"))
    await edge.shutdown()
    await router.shutdown()

    assert collector.spans == {}
    assert not third.recording
    assert first.trace_id == second.trace_id == third.trace_id
    ((name, header),) = third.metadata()
    assert name == "traceparent"
    assert re.fullmatch(f"00-{first.trace_id}-[0-9a-f]{{16}}-00", header)


async def test_whether_a_trace_is_kept_follows_from_its_id(collector: Collector) -> None:
    telemetry = Telemetry("edge", collector.endpoint, ratio=0.3)
    spans = {f"span {number}": telemetry.span(f"span {number}") for number in range(200)}
    for span in spans.values():
        span.end()
    await telemetry.shutdown()

    kept = {name for name, span in spans.items() if int(span.trace_id[16:], 16) < 0.3 * 2**64}
    assert 0 < len(kept) < len(spans)
    assert {name for _, name in collector.spans} == kept
    assert {name for name, span in spans.items() if span.metadata()[0][1].endswith("-01")} == kept


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (f"00-{TRACE}-{PARENT}-03", True),
        (f"00-{TRACE}-{PARENT}-02", False),
        (f" 00-{TRACE}-{PARENT}-ff\t", True),
        (f"cc-{TRACE}-{PARENT}-01-what-comes-later", True),
        (f"cc-{TRACE}-{PARENT}-10-what-comes-later", False),
    ],
)
async def test_a_trace_context_of_any_version_is_gone_on_with(collector: Collector, header: str, kept: bool) -> None:
    telemetry = Telemetry("edge", collector.endpoint, ratio=0 if kept else 1)
    span = telemetry.span("x", parent={"traceparent": header})
    span.end()
    await telemetry.shutdown()

    assert span.trace_id == TRACE
    assert [one.parent_span_id.hex() for one in collector.spans.values()] == [PARENT] * kept


async def test_a_trace_state_that_is_none_is_left_out(collector: Collector) -> None:
    telemetry = Telemetry("edge", collector.endpoint)
    context = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    states = {"a=1, b=2": "a=1,b=2", "A=1": "", "a=1,a=2": "", "a=" + "x" * 600: ""}
    spans = {name: telemetry.span(name[:9], parent=context | {"tracestate": name}) for name in states}
    for span in spans.values():
        span.end()
    await telemetry.shutdown()

    assert {name: dict(span.metadata()).get("tracestate", "") for name, span in spans.items()} == states
    assert [span.trace_state for span in collector.spans.values()] == list(states.values())


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00-xyz",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"ff-{TRACE}-{PARENT}-01",
    ],
)
async def test_a_malformed_trace_context_begins_a_new_trace(collector: Collector, header: str) -> None:
    telemetry = Telemetry("edge", collector.endpoint)
    span = telemetry.span("new", parent=(("traceparent", header),))
    span.end()
    await telemetry.shutdown()

    assert collector.spans["aigateway-edge", "new"].parent_span_id == b""
    assert len(span.trace_id) == 32
    assert span.trace_id != TRACE


async def test_values_arrive_with_their_types_and_parents_with_their_place(collector: Collector) -> None:
    telemetry = Telemetry("edge", collector.endpoint)
    values: dict[str, Any] = {"text": "x", "yes": True, "one": 1, "float": 1.0, "list": ["a", "b"], "empty": ""}
    server = telemetry.span("server", parent={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    inner = telemetry.span("inner", parent=server)
    for key, value in values.items():
        inner.set(key, value)
    inner.set("bad", "\ud800")
    inner.end()
    inner.set("late", "x")
    server.end()
    began = time.time_ns()
    await telemetry.shutdown()

    spans = {name: span for (_, name), span in collector.spans.items()}
    got = {pair.key: pair.value for pair in spans["inner"].attributes}
    assert {key: value.WhichOneof("value") for key, value in got.items()} == {
        "text": "string_value",
        "yes": "bool_value",
        "one": "int_value",
        "float": "double_value",
        "list": "array_value",
        "empty": "string_value",
    }
    assert (got["text"].string_value, got["yes"].bool_value, got["one"].int_value) == ("x", True, 1)
    assert (got["float"].double_value, [each.string_value for each in got["list"].array_value.values]) == (
        1.0,
        ["a", "b"],
    )
    assert 0 < spans["server"].start_time_unix_nano <= spans["inner"].start_time_unix_nano
    assert spans["inner"].end_time_unix_nano <= spans["server"].end_time_unix_nano <= began
    assert (spans["server"].flags, spans["inner"].flags) == (0x300, 0x100)


async def test_a_queue_that_is_full_drops_spans_and_no_calls(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    arrived = asyncio.Event()
    telemetry = Telemetry("edge", collector.endpoint)
    with collector.held(asyncio.get_running_loop(), arrived):
        for number in range(4):
            telemetry.span(f"span {number}").end()
        await asyncio.wait_for(arrived.wait(), 30)
        for number in range(4, 14):
            telemetry.span(f"span {number}").end()
    await telemetry.shutdown()

    assert {name for _, name in collector.spans} == {f"span {number}" for number in (0, 1, 2, 3, 10, 11, 12, 13)}
    assert "Queue full" in caplog.text


async def test_tracing_is_off_where_opentelemetry_is(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    telemetry = Telemetry("edge", collector.endpoint)

    assert not telemetry.enabled
    assert telemetry.span("x") is NO_SPAN


async def test_a_ratio_of_zero_keeps_nothing_of_its_own(collector: Collector) -> None:
    telemetry = Telemetry("edge", collector.endpoint, ratio=0)
    telemetry.span("dropped").end()
    telemetry.span("kept", parent=(("traceparent", f"00-{TRACE}-{PARENT}-01"),)).end()
    await telemetry.shutdown()

    assert set(collector.spans) == {("aigateway-edge", "kept")}


async def test_a_collector_that_is_away_costs_calls_nothing(unused_endpoint: str) -> None:
    telemetry = Telemetry("edge", unused_endpoint)
    began = time.perf_counter()
    for _ in range(100):
        telemetry.span("x").end()

    assert time.perf_counter() - began < 1
    await telemetry.shutdown()
    assert time.perf_counter() - began < 15
    await telemetry.shutdown()


async def test_spans_that_nobody_takes_are_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aigateway_common.otlp.EXPORT_TIMEOUT", 60)
    monkeypatch.setattr("aigateway_common.otlp.END_TIMEOUT", 0.05)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        telemetry = Telemetry("edge", f"http://127.0.0.1:{silent.getsockname()[1]}")
        for _ in range(2000):
            telemetry.span("x").end()
        connection, _ = await asyncio.to_thread(silent.accept)
        async with asyncio.timeout(30):
            with connection:
                await telemetry.shutdown()

    assert not [thread for thread in threading.enumerate() if "Batch" in thread.name]


async def test_services_of_one_process_share_one_export(collector: Collector) -> None:
    services = [Telemetry(name, collector.endpoint) for name in ("edge", "router", "usage")]
    exporters = [thread for thread in threading.enumerate() if "Batch" in thread.name]
    for telemetry in services:
        telemetry.span("x").end()
    for telemetry in services:
        await telemetry.shutdown()
        assert telemetry.span("late") is NO_SPAN

    assert len(exporters) == 1
    assert {service for service, _ in collector.spans} == {"aigateway-edge", "aigateway-router", "aigateway-usage"}
    assert not exporters[0].is_alive()


@pytest.fixture
def unused_endpoint() -> str:
    collector = Collector()
    collector.stop()
    return collector.endpoint


def test_spans_of_a_stopped_telemetry_are_no_ops() -> None:
    telemetry = Telemetry("edge", "not an endpoint at all", ratio=7)

    assert not telemetry.enabled
    assert telemetry.span("x") is NO_SPAN


def test_off_is_one_shared_no_op() -> None:
    telemetry = Telemetry.off()
    span = telemetry.span("x", kind=SpanKind.SERVER, parent=(("traceparent", f"00-{TRACE}-{PARENT}-01"),))
    span.set("k", "v")
    span.end(ValueError("x"))

    assert telemetry is Telemetry.off()
    assert span is Telemetry("edge").span("y", parent=span)
    assert type(span) is Span
    assert (span.trace_id, span.span_id, span.metadata()) == ("", "", ())


def test_off_imports_no_opentelemetry() -> None:
    code = (
        "import sys; from aigateway_common import attributes, telemetry\n"
        "telemetry.Telemetry('edge').span('x').end()\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_attribute_names_are_those_of_the_semantic_conventions() -> None:
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes  # noqa: PLC0415 -- of this test alone

    known = {value for name, value in vars(gen_ai_attributes).items() if name.isupper() and isinstance(value, str)}
    ours = {value for name, value in vars(attributes).items() if name.isupper() and str(value).startswith("gen_ai.")}

    assert ours <= known
    assert attributes.provider_name("gemini") == "gcp.gemini"
    assert attributes.provider_name("groq") == "groq"
