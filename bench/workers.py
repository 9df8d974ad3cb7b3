"""`python -m bench.workers`: what a second worker gives, as one JSON line per figure (`name`, `value`, `unit`).

Load, mock upstream and gateway share this machine's cores, so a worker gets no core of its own here but a fixed share
of one, by a CPU quota (cgroup v1; needs root): one worker in its group, then two in a group each, the ledger's process
outside. So what is compared is the same work with once and twice the CPU. Without such quotas only CPU per call is
compared, and there are no calls a second. The load is `wrk`. Not for comparing topologies; that is `bench` itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from support.gateway import Gateway, environment, start  # noqa: E402 - found by the line above

QUOTAS: Final = Path("/sys/fs/cgroup/cpu")
PERIOD_US: Final = 20_000
SHARE: Final = 0.4
"""Of a core, for each worker."""
ROUNDS: Final = 5
SECONDS: Final = 6
CONNECTIONS: Final = 32
MODEL: Final = "openai/bench-model"
SCRIPT: Final = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = '{"model": "%s", "messages": [{"role": "user", "content": "Tell me about foxes."}]}'
"""


@dataclass
class Figures:
    """One set of workers; medians over the rounds."""

    calls_per_second: float | None
    cpu_ms_per_call: float
    """Of all workers and the ledger together."""
    cpu_ms_per_call_by_process: dict[str, float]


@dataclass
class Runs:
    """What was measured of one set of workers, by round."""

    calls_per_second: list[float] = field(default_factory=list)
    cpu: list[dict[str, float]] = field(default_factory=list)
    """Milliseconds a call, by process."""

    def figures(self, *, limited: bool) -> Figures:
        """The medians; calls a second only where CPU was limited."""
        by_process = {name: round(statistics.median(one[name] for one in self.cpu), 3) for name in self.cpu[0]}
        total = statistics.median(sum(one.values()) for one in self.cpu)
        rate = round(statistics.median(self.calls_per_second), 1) if limited else None
        return Figures(rate, round(total, 3), by_process)


class Quotas:
    """CPU quotas for processes, where the system lets us; a context manager that takes them away again."""

    def __init__(self) -> None:
        self._groups: list[Path] = []
        self.work = False

    def __enter__(self) -> Self:
        """Try whether there are quotas."""
        with contextlib.suppress(OSError):
            self._group("probe")
            self.work = True
        return self

    def __exit__(self, *_: object) -> None:
        """Take the groups away; their processes are gone."""
        for group in self._groups:
            group.rmdir()

    def limit(self, name: str, pid: int) -> None:
        """Put process `pid` into a group of its own."""
        if self.work:
            (self._group(name) / "cgroup.procs").write_text(str(pid))

    def _group(self, name: str) -> Path:
        group = QUOTAS / f"aigateway-bench-{os.getpid()}-{name}"
        group.mkdir()
        self._groups.append(group)
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(int(PERIOD_US * SHARE)))
        return group


@contextlib.contextmanager
def upstream() -> Iterator[str]:
    """The address of the mock upstream."""
    process = subprocess.Popen([sys.executable, "-m", "bench.mock_upstream"], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def one_worker(folder: Path, env: dict[str, str]) -> Iterator[tuple[str, dict[str, int]]]:
    """A worker and a ledger, as `up --workers` would start them: its address, and the processes."""
    common = ("--data-dir", str(folder / "data"), "--grpc-port", "0")
    with contextlib.ExitStack() as stack:
        usage = start(folder, env, "serve", "usage", *common)
        stack.callback(usage.stop)
        env = env | {"AIGATEWAY_USAGE_TARGET": usage.grpc("usage")}
        worker = start(folder, env, "serve", "edge,router,provider:openai", "--port", "0", *common)
        stack.callback(worker.stop)
        yield worker.http, {"worker-0": worker.process.pid, "usage": usage.process.pid}


@contextlib.contextmanager
def two_workers(folder: Path, env: dict[str, str]) -> Iterator[tuple[str, dict[str, int]]]:
    """`up --workers 2`: its address, and the processes that serve."""
    with Gateway("workers", folder, env) as gateway:
        found: dict[str, int] = {}
        for child in psutil.Process(gateway.running[-1].process.pid).children():
            line = child.cmdline()
            name = f"worker-{line[line.index('--worker') + 1][0]}" if "--worker" in line else "usage"
            found[name] = child.pid
        yield gateway.http, found


def load(address: str, folder: Path, seconds: int) -> tuple[int, float]:
    """Calls, and calls a second."""
    script = folder / "call.lua"
    script.write_text(SCRIPT % MODEL)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script), f"{address}/v1/chat/completions"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(text)
    calls, rate = re.search(r"(\d+) requests in", text), re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert calls is not None
    assert rate is not None
    return int(calls[1]), float(rate[1])


def measure(address: str, processes: dict[str, int], folder: Path, runs: Runs) -> None:
    """One round."""
    before = cpu(processes)
    calls, rate = load(address, folder, SECONDS)
    runs.calls_per_second.append(rate)
    runs.cpu.append({name: (spent - before[name]) * 1000 / calls for name, spent in cpu(processes).items()})


def cpu(processes: dict[str, int]) -> dict[str, float]:
    """CPU seconds of each process so far."""
    times = {name: psutil.Process(pid).cpu_times() for name, pid in processes.items()}
    return {name: one.user + one.system for name, one in times.items()}


def main() -> None:
    """Measure, and print the figures."""
    if shutil.which("wrk") is None:
        sys.exit("`wrk` is needed for the load")
    one, two = Runs(), Runs()
    with upstream() as provider, tempfile.TemporaryDirectory() as temporary, Quotas() as quotas:
        folder, env = Path(temporary), environment(provider, "openai")
        with one_worker(folder / "one", env) as (first, alone), two_workers(folder / "two", env) as (second, both):
            for label, processes in (("one", alone), ("two", both)):
                for name, pid in processes.items():
                    if name != "usage":
                        quotas.limit(f"{label}-{name}", pid)
            for address in (first, second):
                load(address, folder, 2)
            for _ in range(ROUNDS):
                measure(first, alone, folder, one)
                measure(second, both, folder, two)
    for name, value, unit in report(one, two, limited=quotas.work):
        print(json.dumps({"name": name, "value": value, "unit": unit}))
    if not quotas.work:
        print(f"no CPU quotas at {QUOTAS} (cgroup v1, root): only CPU per call was compared", file=sys.stderr)


def report(one: Runs, two: Runs, *, limited: bool) -> Iterator[tuple[str, float, str]]:
    """The figures. The two sets are measured in turn, so each round's ratio is of the same minute of the machine."""
    ratios = [both / alone for alone, both in zip(one.calls_per_second, two.calls_per_second, strict=True)]
    alone, both = one.figures(limited=limited), two.figures(limited=limited)
    if limited:
        yield "CPU quota of a worker", SHARE, "cores"
        yield "one worker", alone.calls_per_second or 0.0, "calls/s"
        yield "two workers", both.calls_per_second or 0.0, "calls/s"
        yield "calls with a second worker", round(statistics.median(ratios), 3), "times as many"
        yield "least of the rounds", round(min(ratios), 3), "times as many"
        yield "most of the rounds", round(max(ratios), 3), "times as many"
    for title, figures in (("one worker", alone), ("two workers", both)):
        yield f"{title}, CPU of a call", figures.cpu_ms_per_call, "ms"
        for name, spent in figures.cpu_ms_per_call_by_process.items():
            yield f"{title}, of it {name}", spent, "ms"


if __name__ == "__main__":
    main()
