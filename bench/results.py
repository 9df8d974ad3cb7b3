"""The lines of a run: medians over its rounds, written and read. Knows no process."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def merged(rounds: Sequence[Mapping[str, Any]]) -> Line:
    """The median of every figure; of CPU also the least and the most."""
    found: Line = {}
    for name in rounds[0]:
        values = [one[name] for one in rounds if name in one]
        if isinstance(values[0], Mapping):
            found[name] = merged(values)
        else:
            found[name] = statistics.median(values)
    if "cpu_ms" in found:
        cpu = [one["cpu_ms"] for one in rounds]
        found["cpu_ms_least"], found["cpu_ms_most"] = min(cpu), max(cpu)
    return found


@dataclass(frozen=True)
class Run:
    """A run's lines, each found by what it is about."""

    about: Line
    lines: Sequence[Line]

    def cell(self, row: str, case: str, group: str = "main") -> Line | None:
        """The figures of a cell; None when it was not measured."""
        wanted = (group, row, case)
        found = (one for one in self.lines if (one["group"], one["row"], one["case"]) == wanted)
        return next((one for one in found if "failed" not in one), None)

    def value(self, row: str, case: str, figure: str, group: str = "main") -> float | None:
        """One figure of a cell."""
        cell = self.cell(row, case, group)
        return None if cell is None else cell.get(figure)

    def rows(self, group: str) -> dict[str, str]:
        """Keys and titles of a group's rows, in order."""
        return {one["row"]: one["title"] for one in self.lines if one["group"] == group and "left_out" not in one}

    def failures(self) -> list[Line]:
        """Rounds of cells in which a call failed, so that they count for nothing."""
        return [one for one in self.lines if "failed" in one]

    def left_out(self) -> dict[str, str]:
        """Titles of the rows that were not measured, and why."""
        return {one["title"]: one["left_out"] for one in self.lines if "left_out" in one}


def write(file: Path, about: Line, lines: Sequence[Line]) -> None:
    """One line of JSON for each, what the run is about first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(one) + "\n" for one in [about, *lines]))


def read(file: Path) -> Run:
    """A run that was written."""
    about, *lines = [json.loads(line) for line in file.read_text().splitlines()]
    return Run(about, lines)


def others(folder: Path) -> dict[str, list[Line]]:
    """Results of benchmarks that run by themselves (`name`, `value`, `unit` a line), by the name of their file."""
    found: dict[str, list[Line]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        lines = [json.loads(line) for line in file.read_text().splitlines() if line]
        if lines and all({"name", "value", "unit"} <= line.keys() for line in lines):
            found[file.stem] = lines
    return found
