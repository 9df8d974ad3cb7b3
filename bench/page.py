"""`python -m bench.page`: makes the measured part of `docs/performance.md`, and its charts, of a run's results.

What stands outside of the markers is written by hand and stays. Measures nothing.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench import plot, prose, results
from bench.results import Run
from bench.table import short
from bench.targets import TARGETS, TOPOLOGIES, Outcome, outcome, tracing

ROOT: Final = Path(__file__).resolve().parents[1]
MARKED: Final = re.compile(r"(<!-- bench -->\n).*?(<!-- end -->)", re.DOTALL)
UNARY: Final = ("unary-1", "unary-32", "unary-128")
LOADS: Final = (1, 32, 128)
CHARTS: Final = {
    "cost": ("Processor time of a call", "milliseconds of CPU, all processes", "cpu_ms"),
    "median": ("Latency of a call, median", "milliseconds", "latency_p50_ms"),
    "p99": ("Latency of a call, 99th percentile", "milliseconds", "latency_p99_ms"),
}
Column = tuple[str, Callable[[str], str]]


def block(run: Run, extras: Mapping[str, Sequence[results.Line]]) -> str:
    """The measured part, as Markdown."""
    parts = [
        prose.made(run),
        "### Targets\n\n" + prose.paragraphs(prose.TARGETS) + "\n" + _targets(run),
        "### Whole calls\n\n" + _calls(run) + "\n" + _charts(),
        "### Streams of 100 chunks\n\n" + _streams(run),
        "### Large requests\n\n" + _large(run),
        "### Memory and start\n\n" + _memory(run),
        "### Where the processor time goes\n\n" + prose.paragraphs(prose.PROCESSES) + "\n" + _processes(run),
        "### Features on and off\n\n" + prose.paragraphs(prose.FEATURES) + "\n" + _features(run),
        "### One route or a thousand\n\n" + prose.paragraphs(prose.ROUTES) + "\n" + _routes(run),
        *(f"### {name.capitalize()}\n\n" + _extra(lines) for name, lines in extras.items()),
        "### How it is measured\n\n" + prose.method(run),
    ]
    return "\n".join(parts)


def placed(page: str, measured: str) -> str:
    """The page with `measured` between its markers."""
    if not MARKED.search(page):
        raise ValueError("the page has no place for the results: `<!-- bench -->` to `<!-- end -->`")
    return MARKED.sub(lambda found: found[1] + measured + found[2], page)


def charts(run: Run) -> dict[str, str]:
    """Every chart by the name of its file."""
    return {
        f"{name}.svg": plot.chart(title, "connections, each with one call at a time", up, _series(run, figure))
        for name, (title, up, figure) in CHARTS.items()
    }


def _series(run: Run, figure: str) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for row, title in run.rows("main").items():
        points = [(at, run.value(row, case, figure)) for at, case in zip(LOADS, UNARY, strict=True)]
        found[title] = [(float(at), value) for at, value in points if value]  # without a gateway nothing is used
    return found


def _charts() -> str:
    return "\n".join(f"![{title}](performance/{name}.svg)" for name, (title, _, _) in CHARTS.items()) + "\n"


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(header)
    lines = ["| " + " | ".join(names) + " |", "|---" + "|---:" * (len(names) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(cells) + " |" for cells in rows)]) + "\n"


def _main(run: Run, columns: Sequence[Column], *, without: Sequence[str] = ()) -> str:
    """A line for each row of the main group."""
    header = ["", *(name for name, _ in columns)]
    rows = {key: title for key, title in run.rows("main").items() if key not in without}
    return _table(header, ([title, *(cell(key) for _, cell in columns)] for key, title in rows.items()))


def _figure(run: Run, case: str, figure: str) -> Callable[[str], str]:
    return lambda row: short(run.value(row, case, figure))


def _added(run: Run, case: str, figure: str) -> Callable[[str], str]:
    """What a row's figure is more than without a gateway."""

    def cell(row: str) -> str:
        value, base = run.value(row, case, figure), run.value("direct", case, figure)
        return "" if row == "direct" or value is None or base is None else short(value - base)

    return cell


def _cpu(run: Run, case: str, group: str = "main") -> Callable[[str], str]:
    """The median, and half of what lies between the least and the most."""

    def cell(row: str) -> str:
        found = run.cell(row, case, group)
        if found is None or row == "direct":
            return ""
        spread = (found["cpu_ms_most"] - found["cpu_ms_least"]) / 2
        return short(found["cpu_ms"]) + (f" ± {spread:.2g}" if spread else "")

    return cell


def _calls(run: Run) -> str:
    at = "unary-32"
    columns: list[Column] = [
        ("calls/s, 32 at once", _figure(run, at, "calls_per_s")),
        ("p50 ms", _figure(run, at, "latency_p50_ms")),
        ("p99 ms", _figure(run, at, "latency_p99_ms")),
        ("p50 added", _added(run, at, "latency_p50_ms")),
        ("added, 1 at once", _added(run, "unary-1", "latency_p50_ms")),
        *((f"CPU ms, {number}", _cpu(run, case)) for number, case in zip(LOADS, UNARY, strict=True)),
    ]
    return _main(run, columns)


def _streams(run: Run) -> str:
    columns: list[Column] = [
        ("TTFT added, ms", _added(run, "ttft-1", "ttft_p50_ms")),
        ("p99", _added(run, "ttft-1", "ttft_p99_ms")),
        ("streams/s, at once, 64", _figure(run, "burst-64", "calls_per_s")),
        ("CPU ms, at once, 1", _cpu(run, "burst-1")),
        ("64", _cpu(run, "burst-64")),
        ("CPU ms, 10 ms apart, 1", _cpu(run, "paced-1")),
        ("64", _cpu(run, "paced-64")),
        ("gap added, 1, ms", _added(run, "paced-1", "gap_p50_ms")),
        ("p99", _added(run, "paced-1", "gap_p99_ms")),
        ("gap added, 64, ms", _added(run, "paced-64", "gap_p50_ms")),
        ("p99", _added(run, "paced-64", "gap_p99_ms")),
    ]
    return _main(run, columns)


def _large(run: Run) -> str:
    columns: list[Column] = []
    for name, case in (("9 KB with tools, 32 at once", "tools-32"), ("1 MB with an image, 8 at once", "image-8")):
        columns += [
            (f"{name}: calls/s", _figure(run, case, "calls_per_s")),
            ("p50 ms", _figure(run, case, "latency_p50_ms")),
            ("p99 ms", _figure(run, case, "latency_p99_ms")),
            ("CPU ms", _cpu(run, case)),
        ]
    return _main(run, columns)


def _memory(run: Run) -> str:
    columns: list[Column] = [
        ("cold start, s", _figure(run, "start", "seconds")),
        ("idle, MB", _figure(run, "idle", "memory_mb")),
        ("after load, MB", _figure(run, "loaded", "memory_mb")),
    ]
    return _main(run, columns, without=("direct", "grpc"))


def _processes(run: Run) -> str:
    def parts(case: str, figure: str) -> Callable[[str], str]:
        def cell(row: str) -> str:
            found = run.cell(row, case) or {}
            return ", ".join(f"{name} {short(value)}" for name, value in found.get(figure, {}).items())

        return cell

    columns: list[Column] = [
        ("CPU ms of a call, 32 at once", parts("unary-32", "cpu_ms_by")),
        ("CPU ms of a stream, 64, 10 ms apart", parts("paced-64", "cpu_ms_by")),
        ("MB after load", parts("loaded", "memory_mb_by")),
    ]
    single = [row for row in run.rows("main") if len((run.cell(row, "loaded") or {}).get("memory_mb_by", {})) < 2]
    return _main(run, columns, without=single)


def _features(run: Run) -> str:
    titles = run.rows("features embedded") | run.rows("features split") | run.rows("features parts")
    variants = {key.partition("-")[2]: title for key, title in titles.items()}
    header = [
        "what is on",
        *(f"{run.rows('main').get(key, key)}: {what}" for key in TOPOLOGIES for what in ("call", "stream")),
    ]

    def cells(variant: str) -> Iterable[str]:
        for key in TOPOLOGIES:
            for case in ("unary-32", "paced-64"):
                yield _cpu(run, case, f"features {key}")(f"{key}-{variant}")

    return _table(header, ([title, *cells(variant)] for variant, title in variants.items()))


def _routes(run: Run) -> str:
    rows = []
    for topology in ("embedded", "split"):
        for key, title in run.rows(f"routes {topology}").items():
            rows.append([f"{topology}, {title}", *(_cpu(run, case, f"routes {topology}")(key) for case in UNARY)])
    return _table(["names", *(f"CPU ms, {number} at once" for number in LOADS)], rows)


def _extra(lines: Sequence[results.Line]) -> str:
    return _table(
        ["what", "value", "unit"], ([str(one["name"]), short(one["value"]), str(one["unit"])] for one in lines)
    )


def _targets(run: Run) -> str:
    header = ["", *(run.rows("main").get(key, key) for key in TOPOLOGIES)]
    rows = [
        [
            target.what,
            *(
                _judged([outcome(run, target, key, one) for one in target.limits[key]], target.unit)
                for key in TOPOLOGIES
            ),
        ]
        for target in TARGETS
    ]
    for what, case in (("a call", "unary-32"), ("a stream", "paced-64")):
        cells = (_judged([tracing(run, key, case)], "%") for key in TOPOLOGIES)
        rows.append([f"tracing of 10 % adds to the CPU of {what}", *cells])
    return _table(header, rows)


def _judged(outcomes: Sequence[Outcome], unit: str) -> str:
    return "; ".join(_words(one, unit) for one in outcomes)


def _words(one: Outcome, unit: str) -> str:
    names = {"portkey": "Portkey", "litellm": "LiteLLM"}
    factor = 100 if unit == "%" else 1
    most = f"1/{1 / one.most:.0f}" if one.of and one.most <= 0.5 else f"{one.most * factor:.3g}"
    aim = f"≤ {most} of {names[one.of]}" if one.of else f"≤ {most} {unit}"
    if one.found is None:
        return f"{aim}: not measured"
    shown = f"1/{1 / one.found:.1f}" if one.of and one.most <= 0.5 else short(one.found * factor)
    return f"{aim}: {shown}, **{'met' if one.met else 'not met'}**"


def main() -> None:
    """Write the page and its charts."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "bench/results/latest.jsonl")
    parser.add_argument("--into", type=Path, default=ROOT / "docs", help="the folder of performance.md [docs]")
    given = parser.parse_args()
    run, extras = results.read(given.results), results.others(given.results.parent)
    page = (ROOT / "docs/performance.md").read_text()
    (given.into / "performance").mkdir(parents=True, exist_ok=True)
    (given.into / "performance.md").write_text(placed(page, block(run, extras)))
    for name, drawing in charts(run).items():
        (given.into / "performance" / name).write_text(drawing)


if __name__ == "__main__":
    main()
