"""`python -m bench.page`: puts the last results into `docs/performance.md`, between its markers. Measures nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MARKED = re.compile(r"(<!-- bench -->\n).*?(<!-- end -->)", re.DOTALL)
COLUMNS = {
    "name": "what",
    "cpu_ms_per_call": "CPU ms a call",
    "call_ratio": "of the floor",
    "cpu_ms_per_stream": "CPU ms a stream",
    "stream_ratio": "of the floor",
    "ttft_added_ms": "TTFT added, ms",
    "calls_per_second": "calls/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "memory_mb": "memory MB",
    "cold_start_s": "cold start s",
    "host_loop_ms": "host loop ms",
}


def rows() -> list[dict[str, Any]]:
    """The last results, with their ratios to the floor."""
    results = [json.loads(line) for line in (ROOT / "bench/results/latest.jsonl").read_text().splitlines()]
    floor = next(row for row in results if row["name"] == "floor")
    for row in results:
        row["call_ratio"] = row["cpu_ms_per_call"] / floor["cpu_ms_per_call"]
        row["stream_ratio"] = row["cpu_ms_per_stream"] / floor["cpu_ms_per_stream"]
    return results


def block(results: list[dict[str, Any]]) -> str:
    """The machine and the table, as Markdown."""
    about = results[0]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    lines = [f"{about['date']}, {about['machine']}, Python {about['python']}, {versions}.", ""]
    lines += ["| " + " | ".join(COLUMNS.values()) + " |", "|---" * len(COLUMNS) + "|"]
    lines += ["| " + " | ".join(_cell(name, row) for name in COLUMNS) + " |" for row in results]
    return "\n".join(lines) + "\n"


def _cell(name: str, row: dict[str, Any]) -> str:
    value = row[name]
    if isinstance(value, str):
        return value
    shown = f"{value:.3g}" if value < 1000 else f"{value:.0f}"  # no exponents
    spread = row.get(f"{name}_spread")
    return f"{shown} ± {spread / 2:.2g}" if spread else shown


def main() -> None:
    """Rewrite the block."""
    page = ROOT / "docs/performance.md"
    page.write_text(MARKED.sub(lambda found: found[1] + block(rows()) + found[2], page.read_text()))


if __name__ == "__main__":
    main()
