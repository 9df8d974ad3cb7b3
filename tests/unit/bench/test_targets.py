"""Whether a target is met follows from a run's figures, and is not claimed where a figure is missing."""

from __future__ import annotations

from bench.results import Line, Run
from bench.targets import TARGETS, TOPOLOGIES, Limit, Outcome, Target, outcome, tracing


def line(row: str, case: str, group: str = "main", **figures: float) -> Line:
    about: Line = {"group": group, "row": row, "title": row, "case": case}
    return about | figures


RUN = Run(
    {},
    [
        line("embedded", "unary-32", cpu_ms=0.3),
        line("portkey", "unary-32", cpu_ms=1.2),
        line("embedded", "ttft-1", ttft_p50_ms=1.25),
        line("direct", "ttft-1", ttft_p50_ms=0.05),
        line("embedded", "start", seconds=1.0),
        line("embedded-main", "unary-32", "features embedded", cpu_ms=2.0),
        line("embedded-traced-10", "unary-32", "features embedded", cpu_ms=2.5),
    ],
)
CALL, STREAM, TTFT, MEMORY, START = TARGETS


def found(target: Target) -> list[Outcome]:
    return [outcome(RUN, target, "embedded", limit) for limit in target.limits["embedded"]]


def test_a_ratio_is_to_another_row_and_met_at_its_limit() -> None:
    portkey, litellm = found(CALL)
    assert portkey == Outcome(0.25, "portkey", 0.3 / 1.2)
    assert portkey.met
    assert litellm == Outcome(1 / 35, "litellm", None)
    assert litellm.met is None


def test_what_is_added_is_more_than_without_a_gateway() -> None:
    (added,) = found(TTFT)
    assert added == Outcome(1, "", 1.2)
    assert added.met is False


def test_other_figures_stand_for_themselves() -> None:
    assert found(START) == [Outcome(1, "", 1.0)]
    assert found(MEMORY) == [Outcome(110, "", None)]


def test_tracing_is_compared_within_its_own_group() -> None:
    assert tracing(RUN, "embedded", "unary-32") == Outcome(0.15, "", 0.25)
    assert tracing(RUN, "split", "unary-32") == Outcome(0.15, "", None)


def test_every_topology_has_limits_for_every_target() -> None:
    assert [list(target.limits) for target in TARGETS] == [list(TOPOLOGIES)] * 5
    assert STREAM.limits["split"] == [Limit(2, "portkey"), Limit(1 / 5, "litellm")]
