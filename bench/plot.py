"""Line charts as SVG: a few series over a few loads, both axes logarithmic, each line labelled at its end. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH, HEIGHT = 860, 480
LEFT, RIGHT, TOP, BOTTOM = 70, 280, 60, 54
LABEL: Final = 17.0
"""The least distance of two labels."""
COLOURS: Final = (
    *("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#b8651b", "#12806a"),
    *("#6b7677", "#b5338a", "#5d4037", "#34495e", "#7c7a12"),
)
Point = tuple[float, float]


@dataclass(frozen=True)
class _Scale:
    """Where a point of the chart stands."""

    xs: Sequence[float]
    low: float
    high: float

    def x(self, value: float) -> float:
        share = math.log(value / self.xs[0]) / math.log(self.xs[-1] / self.xs[0])
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def chart(title: str, across: str, up: str, series: Mapping[str, Sequence[Point]]) -> str:
    """The chart of `series`: names to points, from left to right.

    All values are above 0, and there are two loads or more. A series without points takes its colour and nothing else,
    so that several charts can have the same ones.
    """
    values = [y for points in series.values() for _, y in points]
    low, high = _bounds(min(values), max(values))
    scale = _Scale(sorted({x for points in series.values() for x, _ in points}), low, high)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
    lines = [
        f'{head} font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="26" font-size="16" font-weight="bold">{escape(title)}</text>',
        f'<text x="{LEFT}" y="46" fill="#555555">{escape(up)}</text>',
        *_grid(scale),
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.1f}" y="{HEIGHT - 12}" text-anchor="middle">{escape(across)}</text>',
    ]
    heights = _apart({name: scale.y(points[-1][1]) for name, points in series.items() if points})
    for (name, points), colour in zip(series.items(), itertools.cycle(COLOURS), strict=False):
        if points:
            lines += _line(name, points, colour, heights[name], scale)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _grid(scale: _Scale) -> Iterator[str]:
    for value in _ticks(scale.low, scale.high):
        y = scale.y(value)
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    for value in scale.xs:
        x = scale.x(value)
        yield f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#eeeeee"/>'
        yield f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{value:g}</text>'


def _line(name: str, points: Sequence[Point], colour: str, height: float, scale: _Scale) -> Iterator[str]:
    """A series, and its name with its last value at `height`."""
    places = [(scale.x(x), scale.y(y)) for x, y in points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for x, y in places:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
    x, y = places[-1]
    yield f'<path d="M{x + 4:.1f} {y:.1f}L{x + 18:.1f} {height:.1f}" stroke="{colour}" fill="none"/>'
    text = f"{escape(name)}: {points[-1][1]:.3g}"
    yield f'<text x="{x + 22:.1f}" y="{height + 4:.1f}" fill="{colour}">{text}</text>'


def _bounds(least: float, most: float) -> tuple[float, float]:
    """The ticks around all values."""
    ticks = list(_ticks(least / 5, most * 5))
    return max(one for one in ticks if one <= least), min(one for one in ticks if one > most)


def _ticks(low: float, high: float) -> Iterator[float]:
    """1, 2 and 5 times every power of ten from `low` to `high`."""
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for step in (1, 2, 5):
            value = float(f"{step}e{power}")
            if low <= value <= high:
                yield value


def _apart(wanted: Mapping[str, float]) -> dict[str, float]:
    """Heights near the wanted ones, none nearer to another than a label is high, and none below the chart."""
    placed: dict[str, float] = {}
    last = -math.inf
    for name, y in sorted(wanted.items(), key=lambda pair: pair[1]):
        placed[name] = last = max(y, last + LABEL)
    limit = HEIGHT - BOTTOM + LABEL
    for name, y in sorted(placed.items(), key=lambda pair: -pair[1]):
        placed[name] = limit = min(y, limit - LABEL)
    return placed
