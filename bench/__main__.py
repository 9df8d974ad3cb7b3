"""`make bench` and `make bench-peers`: gateways against the same mock upstream under the same load, in one run.

All servers of a group run at the same time and take turns, load by load and round by round, so that a noisy host hurts
all of them alike; only the cold start and the memory of an idle server are measured alone. Prints a table, and writes
one JSON line per cell to `bench/results/`; `bench.page` makes a document of it.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import account, cases, gateways, generators, machine, measure, results, rows, table
from bench.cases import Case, Span
from bench.generators import LoadError
from bench.measure import Measured
from bench.rows import Row, Site
from bench.servers import ROOT, Counting, Server

RESULTS = ROOT / "bench/results"


@dataclass
class Bench:
    """One run."""

    span: Span
    mock: Counting
    otlp: Counting
    lines: list[results.Line] = field(default_factory=list)
    host: list[float] = field(default_factory=list)
    """Milliseconds of a fixed loop, read again and again: how steady the host was."""

    def main_rows(self, folder: Path, chosen: Sequence[Row]) -> None:
        """Everything about the rows of the main tables."""
        site = self._site(folder)
        for row in chosen:
            if row.key != "direct" and not row.behind:
                self._alone(site, row)
        with self._started("main", site, chosen, cases.ALL) as measured:
            self._rounds("main", measured, cases.ALL, self.span.rounds)
            for one in measured:
                memory = account.memory_mb(one.processes)
                self._line("main", one.row, "loaded", {"memory_mb": sum(memory.values()), "memory_mb_by": memory})
        order = [row.key for row in chosen]
        self.lines.sort(key=lambda line: order.index(line["row"]))

    def group(self, name: str, folder: Path, chosen: Sequence[Row], loads: Sequence[Case]) -> None:
        """A group of rows of our own, and how many spans came of those that trace."""
        site = self._site(folder)
        with self._started(name, site, chosen, loads) as measured:
            self._rounds(name, measured, loads, self.span.feature_rounds)
        if any(row.features and row.features.tracing for row in chosen) and not self.otlp.count():
            raise RuntimeError("no span was received, so tracing was not measured")

    def _site(self, folder: Path) -> Site:
        return Site(folder, self.mock.port, self.otlp.port)

    def _alone(self, site: Site, row: Row) -> None:
        """Cold start and idle memory. Our own keys are made before, in a first start that is not measured."""
        self._say(f"{row.key}: cold start")
        server = row.build(site, row)
        if row.features and row.features.keys:
            with server:
                gateways.issue(server, row.features)
        seconds = []
        for _ in range(self.span.starts):
            began = time.perf_counter()
            with server:
                measure.first_answer(server)
                seconds.append(time.perf_counter() - began)
                time.sleep(self.span.settle)
                memory = account.memory_mb(account.processes(server.roots))
        site.servers[row.key] = server
        self._line("main", row, "start", results.merged([{"seconds": one} for one in seconds]))
        self._line("main", row, "idle", {"memory_mb": sum(memory.values()), "memory_mb_by": memory})

    @contextlib.contextmanager
    def _started(
        self, group: str, site: Site, chosen: Sequence[Row], loads: Sequence[Case]
    ) -> Iterator[list[Measured]]:
        """All servers, started together and warmed one by one."""
        with contextlib.ExitStack() as stack:
            for row in chosen:
                server = site.servers.get(row.key) or row.build(site, row)
                site.servers[row.key] = stack.enter_context(server)
            measured = []
            for row in chosen:
                server = site.servers[row.key]
                try:
                    self._answering(row, server, site)
                except RuntimeError as error:  # the other rows' figures are good all the same
                    self._say(f"{row.key} is left out: {error}\n{server.last_words()}")
                    self._line(group, row, "start", {"failed": str(error)})
                    continue
                found = account.processes(measure.roots(row, site.servers))
                measured.append(Measured(row, server, found, self.mock))
            with ThreadPoolExecutor() as pool:
                models = {case.model for case in loads if case.stream}
                list(pool.map(lambda pair: pair[0].count_records(pair[1]), itertools.product(measured, models)))
            yield measured
            for server in site.servers.values():
                server.tell_to_end()  # all at once; the stack waits

    def _answering(self, row: Row, server: Server, site: Site) -> None:
        """Wait for a server's first answer; with the key that it needs, which is made where there is none."""
        if row.features and not server.headers:
            gateways.issue(server, row.features)
        if row.behind and not server.headers:
            server.headers = site.servers[row.behind].headers
        measure.first_answer(server)

    def _rounds(self, group: str, measured: Sequence[Measured], loads: Sequence[Case], rounds: int) -> None:
        found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for one, case in itertools.product(measured, cases.WARMING):
            if case.model in one.records or not case.stream:
                one.cell(case, self.span)
        for number in range(rounds):
            for case in loads:
                self._say(f"{group}: round {number + 1}, {case.title}")
                self.host.append(account.loop_ms())
                turn = number % len(measured)
                for one in [*measured[turn:], *measured[:turn]]:
                    try:
                        found[one.row.key, case.name].append(one.cell(case, self.span))
                    except LoadError as error:  # the other cells' figures are good all the same
                        self._say(f"{one.row.key}, {case.name}: {error}\n{one.server.last_words()}")
                        self._line(group, one.row, case.name, {"failed": str(error)})
        for one, case in itertools.product(measured, loads):
            if found[one.row.key, case.name]:
                self._line(group, one.row, case.name, results.merged(found[one.row.key, case.name]))

    def _line(self, group: str, row: Row, case: str, figures: results.Line) -> None:
        self.lines.append({"group": group, "row": row.key, "title": row.title, "case": case} | figures)

    def _say(self, what: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def run(span: Span, *, peers: bool) -> tuple[results.Line, list[results.Line]]:
    """The whole benchmark: what it was run on, and its lines."""
    began = time.monotonic()
    wanted = [*rows.ROWS, *(rows.PEER_ROWS if peers else ())]
    chosen = [row for row in wanted if not row.missing()]
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Counting([sys.executable, "-m", "bench.mock_upstream"]) as mock,
        Counting([sys.executable, "-m", "bench.otlp"]) as otlp,
    ):
        bench = Bench(span, mock, otlp)
        bench.main_rows(Path(folder), chosen)
        for topology in rows.OURS:
            bench.group(f"features {topology}", Path(folder), rows.variant_rows(topology), cases.FEATURES)
        for topology in ("embedded", "split"):
            bench.group(f"routes {topology}", Path(folder), rows.route_rows(topology), cases.UNARY)
    for row in wanted:
        if row.missing():
            bench.lines.append(
                {"group": "main", "row": row.key, "title": row.title, "case": "", "left_out": row.missing()}
            )
    about = machine.about() | {
        "command": "make bench-peers" if peers else "make bench",
        "quick": span is cases.QUICK,
        "window_s": span.window,
        "rounds": span.rounds,
        "minutes": (time.monotonic() - began) / 60,
        "whole_calls_by": "wrk" if generators.WRK else "bench/load.py",
        "host_loop_ms": sorted(bench.host),
    }
    return about, bench.lines


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--peers", action="store_true", help="measure Portkey and LiteLLM too")
    parser.add_argument("--quick", action="store_true", help="a smoke run of all cells; its figures are for nobody")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every process is ended here too
    if not generators.WRK:
        print(generators.HOW_TO_GET_WRK, file=sys.stderr)
    about, lines = run(cases.QUICK if given.quick else cases.FULL, peers=given.peers)
    for name in (about["date"].replace(":", ""), "latest"):
        results.write(RESULTS / f"{name}.jsonl", about, lines)
    done = results.Run(about, lines)
    table.show(done, Console(width=200))
    if done.failures():
        sys.exit("some calls failed; see above")


if __name__ == "__main__":
    main()
