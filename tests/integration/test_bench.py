"""The benchmark measures real servers: what it counts was answered, and what fails is no figure."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench import account, cases, generators, measure
from bench.gateways import Features, gateway, issue
from bench.measure import Measured
from bench.rows import ROWS, Row, Site
from bench.servers import Counting, Server

SPAN = replace(cases.QUICK, warm=0.05, window=0.2, longest=5.0)
UNARY, STREAM = replace(cases.UNARY[1], at_once=4), replace(cases.BURSTS[1], at_once=4)


@pytest.fixture(autouse=True)
def without_wrk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every machine has it, and the results are to be the same."""
    monkeypatch.setattr(generators, "WRK", None)


@pytest.fixture
def mock() -> Iterator[Counting]:
    with Counting([sys.executable, "-m", "bench.mock_upstream"]) as running:
        yield running


def row(key: str) -> Row:
    return next(one for one in ROWS if one.key == key)


def measured(one: Row, server: Server, mock: Counting) -> Measured:
    measure.first_answer(server)
    return Measured(one, server, account.processes(server.roots), mock)


def test_whole_calls_are_counted_as_the_provider_counts_them(tmp_path: Path, mock: Counting) -> None:
    floor = row("floor")
    with floor.build(Site(tmp_path, mock.port, 0), floor) as server:
        one = measured(floor, server, mock)
        before = mock.count()
        found = one.cell(UNARY, SPAN)
        assert 0 <= mock.count() - before - found["calls"] <= UNARY.at_once  # those are cut off at the end
    assert found["calls_per_s"] > 0
    assert found["cpu_ms"] == pytest.approx(found["cpu_ms_by"]["floor"])
    assert 0 < found["latency_p50_ms"] <= found["latency_p99_ms"]


def test_streams_are_counted_by_their_chunks(tmp_path: Path, mock: Counting) -> None:
    floor = row("floor")
    with floor.build(Site(tmp_path, mock.port, 0), floor) as server:
        one = measured(floor, server, mock)
        one.count_records(STREAM.model)
        found = one.cell(STREAM, SPAN)
    assert one.records == {"bench-model": 101}
    assert found["calls_per_s"] > 0
    assert {"ttft_p50_ms", "gap_p99_ms"} <= found.keys()


def test_a_gateway_of_ours_is_called_with_a_key_of_its_ledger_over_http_and_grpc(
    tmp_path: Path, mock: Counting
) -> None:
    features = Features(budgets=True, routes=10)
    with gateway(tmp_path / "gateway", "embedded", features, mock.port, 0) as server:
        issue(server, features)
        one = measured(row("embedded"), server, mock)
        assert one.cell(UNARY, SPAN)["calls"] > 0
        over_grpc = replace(one, row=row("grpc"), records={})
        over_grpc.count_records(STREAM.model)
        assert over_grpc.records == {"bench-model": 100}  # start, 97 words, finish and usage
        assert over_grpc.cell(STREAM, SPAN)["calls_per_s"] > 0


def test_a_call_that_is_refused_makes_no_figure(tmp_path: Path, mock: Counting) -> None:
    features = Features()
    with gateway(tmp_path / "gateway", "embedded", features, mock.port, 0) as server:
        issue(server, features)
        one = measured(row("embedded"), server, mock)
        server.headers = {"authorization": "Bearer of-nobody"}
        with pytest.raises(generators.LoadError, match="401 Unauthorized"):
            one.cell(UNARY, SPAN)
