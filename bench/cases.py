"""The cells: every kind of load, how long it is measured, and which loads each group of rows gets. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bench.bodies import AT_ONCE, FIRST, PACED, Kind


@dataclass(frozen=True)
class Case:
    """One kind of load."""

    name: str
    title: str
    at_once: int
    """Connections, each with one call at a time."""
    stream: bool = False
    model: str = AT_ONCE
    body: Kind = "short"


UNARY: Final = tuple(Case(f"unary-{n}", f"unary, {n} at once", n) for n in (1, 32, 128))
BURSTS: Final = tuple(Case(f"burst-{n}", f"stream, chunks at once, {n}", n, stream=True) for n in (1, 64))
PACES: Final = tuple(Case(f"paced-{n}", f"stream, 10 ms apart, {n}", n, stream=True, model=PACED) for n in (1, 64))
TTFT: Final = Case("ttft-1", "stream, first word and then the others, 1", 1, stream=True, model=FIRST)
BIG: Final = (
    Case("tools-32", "9 KB with tools, 32 at once", 32, body="tools"),
    Case("image-8", "1 MB with an image, 8 at once", 8, body="image"),
)
ALL: Final = (*UNARY, TTFT, *BURSTS, *PACES, *BIG)
WARMING: Final = (UNARY[1], BURSTS[1])
"""Where they are among a group's loads, before the first round."""
FEATURES: Final = (UNARY[1], PACES[1])
"""What is measured with features on and off."""


@dataclass(frozen=True)
class Span:
    """How long each cell is measured, in seconds."""

    ramp: float
    """In which the callers of paced streams begin: as long as a stream takes, so that they do not march in step."""
    warm: float
    """Before measuring, after the last caller has begun."""
    window: float
    longest: float
    """A slow server warms and is measured for longer, until each caller has had an answer, and then two more, but for
    no longer than this each."""
    rounds: int
    starts: int
    """How often the cold start is measured."""
    settle: float
    """Before the memory of an idle server is read."""
    feature_rounds: int


FULL: Final = Span(ramp=1.0, warm=0.4, window=1.6, longest=10.0, rounds=3, starts=3, settle=2.0, feature_rounds=3)
QUICK: Final = Span(ramp=0.2, warm=0.1, window=0.3, longest=0.7, rounds=1, starts=1, settle=0.3, feature_rounds=1)
