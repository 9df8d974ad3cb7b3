"""Measures one cell once: a load goes on, and in the middle of it the accounts are read twice.

Between the two readings as many calls begin as end, so that no call is counted half; callers and mock are other
processes than what is measured.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import psutil

from bench import account, grpc_load
from bench.bodies import PACED, body
from bench.cases import Case, Span
from bench.generators import Generator, LoadError, generator
from bench.load import PATH
from bench.rows import Row
from bench.servers import Counting, Server

GIVE_UP: Final = 60.0
"""Seconds without an answer after which none is waited for."""


@dataclass(frozen=True)
class Measured:
    """What takes part in a measurement."""

    row: Row
    server: Server
    processes: list[tuple[str, psutil.Process]]
    mock: Counting
    records: dict[str, int] = field(default_factory=dict)
    """How many a stream of each model has."""

    def cell(self, case: Case, span: Span) -> dict[str, Any]:
        """The figures of one round.

        Raises:
            LoadError: A call failed, or a server ended.
        """
        per_call = self.records[case.model] if case.stream else 1
        ramp = span.ramp if case.model == PACED and case.at_once > 1 else 0.0
        so_far, count = self.mock.count(), self.mock.count
        with generator(self.row, self.server, case, span.warm, ramp, lambda: count() - so_far) as load:
            time.sleep(ramp + span.warm)
            try:
                self._get_into_step(load, case, span, per_call)
                found = self._window(load, case, span, per_call)
            except (psutil.NoSuchProcess, OSError) as error:
                raise LoadError(f"a process has ended: {error}") from error
            return found | load.finish()

    def _get_into_step(self, load: Generator, case: Case, span: Span, per_call: int) -> None:
        """Wait until as many calls are answered as are made at once: before that, more begin than end."""
        end = time.perf_counter() + span.longest
        while load.units() < case.at_once * per_call and time.perf_counter() < end:
            time.sleep(0.02)

    def _window(self, load: Generator, case: Case, span: Span, per_call: int) -> dict[str, Any]:
        others = [("mock", psutil.Process(self.mock.process.pid)), ("load", psutil.Process(load.process.pid))]
        machine, own, helped = account.machine_cpu_ms(), time.process_time(), account.cpu_ms(others)
        units, began, before = load.units(), time.perf_counter(), account.cpu_ms(self.processes)
        while True:
            time.sleep(span.window / 4)
            calls = (load.units() - units) / per_call  # in the order of the first reading
            seconds, after = time.perf_counter() - began, account.cpu_ms(self.processes)
            if (calls and seconds >= span.longest) or (seconds >= span.window and calls >= 2 * case.at_once):
                break
            if seconds >= GIVE_UP:
                raise LoadError(f"nothing was answered in {seconds:.0f} s")
        helpers, whole = account.cpu_ms(others), account.machine_cpu_ms()
        wall = time.perf_counter() - began
        used = {name: after[name] - before[name] for name in after}
        busy = {name: helpers[name] - helped[name] for name in helpers}
        known = sum(used.values()) + sum(busy.values()) + (time.process_time() - own) * 1000
        return {
            "calls_per_s": calls / seconds,
            "cpu_ms": sum(used.values()) / calls,
            "cpu_ms_by": {name: value / calls for name, value in used.items()},
            "mock_busy": busy["mock"] / wall / 1000,
            "load_busy": busy["load"] / wall / 1000,
            "others_busy": max(0.0, whole - machine - known) / wall / 1000 / (os.cpu_count() or 1),
        }

    def count_records(self, model: str) -> None:
        """Make one stream, look whether it is whole, and remember how many records it had."""
        self.records[model] = self._records(body("short", self.server.model.format(model), stream=True))

    def _records(self, payload: bytes) -> int:
        if self.row.over == "grpc":
            return grpc_load.records(self.server.grpc, payload, self.server.headers["authorization"])
        status, answer = self.server.ask("POST", PATH, payload, self.server.headers)
        if status != 200 or not answer.rstrip().endswith(b"data: [DONE]"):
            raise RuntimeError(f"{self.row.key}: a stream was not whole: {status} {answer[-500:]!r}")
        return answer.count(b"data: ")


def first_answer(server: Server) -> None:
    """Wait for the first good answer."""
    payload = body("short", server.model.format("bench-model"), stream=False)
    server.until(200, "POST", PATH, payload, server.headers)


def roots(row: Row, servers: Mapping[str, Server]) -> dict[str, int]:
    """The processes that count for `row`: its own, and those behind it."""
    behind = servers[row.behind].roots if row.behind else {}
    return behind | servers[row.key].roots
