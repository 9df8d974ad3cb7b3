"""The terminal's view of a run: one readable table of the main rows. `bench.page` has all of it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from bench.results import Run

COLUMNS = (
    ("calls/s 32", "unary-32", "calls_per_s"),
    ("p50 32", "unary-32", "latency_p50_ms"),
    ("p99 32", "unary-32", "latency_p99_ms"),
    ("CPU 1", "unary-1", "cpu_ms"),
    ("CPU 32", "unary-32", "cpu_ms"),
    ("CPU 128", "unary-128", "cpu_ms"),
    ("CPU 9 KB", "tools-32", "cpu_ms"),
    ("CPU 1 MB", "image-8", "cpu_ms"),
    ("CPU burst", "burst-64", "cpu_ms"),
    ("CPU paced", "paced-64", "cpu_ms"),
    ("TTFT", "ttft-1", "ttft_p50_ms"),
    ("gap p99", "paced-64", "gap_p99_ms"),
    ("MB idle", "idle", "memory_mb"),
    ("MB after", "loaded", "memory_mb"),
    ("start s", "start", "seconds"),
)
"""Heading, case and figure."""


def short(value: float | None) -> str:
    """Three digits, no exponents; nothing for what was not measured."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def show(run: Run, console: Console) -> None:
    """Print the table and what is missing in it."""
    table = Table(title=f"Milliseconds; {run.about['machine']}, {run.about['date']}")
    table.add_column("", min_width=30)
    for heading, _, _ in COLUMNS:
        table.add_column(heading, justify="right")
    for row, title in run.rows("main").items():
        table.add_row(title, *(short(run.value(row, case, figure)) for _, case, figure in COLUMNS))
    console.print(table)
    for title, reason in run.left_out().items():
        console.print(f"Left out: {title}: {reason}")
