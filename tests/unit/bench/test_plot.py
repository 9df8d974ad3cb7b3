"""A chart is valid SVG whose labels can be read."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree as ET

from bench.plot import HEIGHT, LABEL, chart

SVG = "{http://www.w3.org/2000/svg}"


def labels(drawing: str) -> dict[str, float]:
    """The labels of lines and how far down they stand."""
    texts = ET.fromstring(drawing).iter(f"{SVG}text")
    return {
        text.text or "": float(text.attrib["y"])
        for text in texts
        if text.attrib.get("fill", "").startswith("#") and ": " in (text.text or "")
    }


def test_labels_of_equal_lines_do_not_lie_on_each_other_nor_below_the_chart() -> None:
    series = {f"row {number}": [(1.0, 2.0), (128.0, 0.01)] for number in range(9)} | {"top": [(1.0, 5.0), (128.0, 9.0)]}
    heights = sorted(labels(chart("t", "x", "y", series)).values())
    assert len(heights) == 10
    assert all(after - before >= LABEL - 0.1 for before, after in pairwise(heights))
    assert heights[-1] < HEIGHT


def test_names_are_escaped_and_values_stand_beside_them() -> None:
    drawing = chart("a < b", "x", "y", {"edge & router": [(1.0, 1.0), (2.0, 3.14159)]})
    assert list(labels(drawing)) == ["edge & router: 3.14"]


def test_a_series_without_points_keeps_its_colour_for_the_other_charts() -> None:
    both = chart("t", "x", "y", {"one": [(1.0, 1.0), (2.0, 2.0)], "two": [(1.0, 3.0), (2.0, 4.0)]})
    second = chart("t", "x", "y", {"one": [], "two": [(1.0, 3.0), (2.0, 4.0)]})
    colour = next(line for line in both.splitlines() if ">two: 4<" in line).partition('fill="')[2][:7]
    assert f'fill="{colour}">two: 4<' in second
    assert ">one" not in second
