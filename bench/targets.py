"""The targets, and whether a run met them. Ratios are of processor time within one run. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.results import Run

TOPOLOGIES: Final = ("embedded", "parts", "split")
"""The columns, by the key of their row."""


@dataclass(frozen=True)
class Limit:
    """The most that a figure may be."""

    most: float
    of: str = ""
    """The row whose figure is 1, for a ratio."""
    added: bool = False
    """What the figure is more than without a gateway is meant."""


@dataclass(frozen=True)
class Target:
    """One figure with its limits for each topology."""

    what: str
    case: str
    figure: str
    unit: str
    limits: Mapping[str, Sequence[Limit]]


@dataclass(frozen=True)
class Outcome:
    """One limit held against a run."""

    most: float
    of: str
    found: float | None
    """None where the run lacks what it takes."""

    @property
    def met(self) -> bool | None:
        """Whether the figure is within its limit; None when nobody knows."""
        return None if self.found is None else self.found <= self.most


def _each(unit_limits: tuple[float, float, float], *, added: bool = False) -> dict[str, list[Limit]]:
    return {key: [Limit(most, added=added)] for key, most in zip(TOPOLOGIES, unit_limits, strict=True)}


TARGETS: Final = (
    Target(
        "CPU of a call, 32 at once",
        "unary-32",
        "cpu_ms",
        "",
        {
            "embedded": [Limit(1 / 4, "portkey"), Limit(1 / 35, "litellm")],
            "parts": [Limit(3 / 4, "portkey")],
            "split": [Limit(1.2, "portkey"), Limit(1 / 8, "litellm")],
        },
    ),
    Target(
        "CPU of a stream, 64 at once, chunks 10 ms apart",
        "paced-64",
        "cpu_ms",
        "",
        {
            "embedded": [Limit(1 / 2, "portkey"), Limit(1 / 20, "litellm")],
            "parts": [Limit(1.3, "portkey")],
            "split": [Limit(2, "portkey"), Limit(1 / 5, "litellm")],
        },
    ),
    Target("time to the first chunk added, one caller", "ttft-1", "ttft_p50_ms", "ms", _each((1, 2, 3), added=True)),
    Target("memory after load", "loaded", "memory_mb", "MB", _each((110, 220, 300))),
    Target("cold start to the first answer", "start", "seconds", "s", _each((1, 1.5, 2))),
)
TRACING: Final = 0.15
"""The share that tracing of 10 % of the calls may add to the CPU of a call and of a stream."""


def outcome(run: Run, target: Target, topology: str, limit: Limit) -> Outcome:
    """How a topology did."""
    found = run.value(topology, target.case, target.figure)
    base: float | None = 0.0
    if limit.added:
        base = run.value("direct", target.case, target.figure)
    elif limit.of:
        base = run.value(limit.of, target.case, target.figure)
    if found is None or base is None:
        return Outcome(limit.most, limit.of, None)
    return Outcome(limit.most, limit.of, found / base if limit.of else found - base)


def tracing(run: Run, topology: str, case: str) -> Outcome:
    """What tracing of 10 % adds, as a share."""
    group = f"features {topology}"
    plain = run.value(f"{topology}-main", case, "cpu_ms", group)
    traced = run.value(f"{topology}-traced-10", case, "cpu_ms", group)
    return Outcome(TRACING, "", None if plain is None or traced is None else traced / plain - 1)
