"""The measured part of docs/performance.md is made from results alone, and is the same each time."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench import page, results

HERE = Path(__file__).parent
RUN = results.read(HERE / "results.jsonl")
EXTRA = {"workers": [{"name": "calls/s with 4 workers", "value": 4321.0, "unit": "calls/s", "rounds": 3}]}


def test_the_whole_page_is_made_from_results() -> None:
    assert page.block(RUN, EXTRA) == (HERE / "page.md").read_text()


def test_what_is_written_by_hand_stays(tmp_path: Path) -> None:
    text = "# Title\n\n<!-- bench -->\nold\n<!-- end -->\n\n## What was tried\n\n| `\\1` | \\g<0> |\n"
    assert page.placed(text, "new \\1\n") == text.replace("old", "new \\1")


def test_a_page_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for the results: `<!-- bench -->` to `<!-- end -->`"):
        page.placed("# Title\n", "new\n")


def test_every_chart_that_the_page_shows_is_drawn() -> None:
    drawn = page.charts(RUN)
    text = page.block(RUN, {})
    assert [name for name in drawn if f"](performance/{name})" in text] == ["cost.svg", "median.svg", "p99.svg"]
    for drawing in drawn.values():
        assert ET.fromstring(drawing).tag == "{http://www.w3.org/2000/svg}svg"


def test_results_of_other_benchmarks_are_known_by_their_lines(tmp_path: Path) -> None:
    (tmp_path / "latest.jsonl").write_text((HERE / "results.jsonl").read_text())
    (tmp_path / "workers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in EXTRA["workers"]))
    (tmp_path / "empty.jsonl").write_text("")
    assert results.others(tmp_path) == EXTRA


def test_a_run_reads_as_it_was_written(tmp_path: Path) -> None:
    results.write(tmp_path / "new" / "run.jsonl", RUN.about, RUN.lines)
    assert results.read(tmp_path / "new" / "run.jsonl") == RUN


def test_rounds_become_medians_and_cpu_keeps_its_range() -> None:
    rounds = [
        {"cpu_ms": 3.0, "cpu_ms_by": {"edge": 1.0, "router": 2.0}, "ttft_p50_ms": 5.0},
        {"cpu_ms": 1.0, "cpu_ms_by": {"edge": 0.5, "router": 0.5}},
        {"cpu_ms": 2.0, "cpu_ms_by": {"edge": 0.7, "router": 1.3}, "ttft_p50_ms": 7.0},
    ]
    assert results.merged(rounds) == {
        "cpu_ms": 2.0,
        "cpu_ms_by": {"edge": 0.7, "router": 1.3},
        "ttft_p50_ms": 6.0,
        "cpu_ms_least": 1.0,
        "cpu_ms_most": 3.0,
    }
