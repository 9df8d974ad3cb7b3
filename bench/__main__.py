"""`make bench`: embedded, partly split, split and the bare floor, against the same mock upstream, in one run.

CPU is the operating system's own account of each gateway's whole process tree; the mock and the load are other
processes.
Prints a table, and writes one JSON line per row to `bench/results/`; `bench.page` makes a document of it.
"""

from __future__ import annotations

import contextlib
import json
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Protocol, Self

import httpx
import psutil
import uvloop
from rich.console import Console
from rich.table import Table

from bench import load

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from support.gateway import Gateway, environment  # noqa: E402 - found by the line above

FLOOR = "floor"
TOPOLOGIES = ("embedded", "edge,router", "split")
WHOLE_CALLS, WHOLE_AT_ONCE = 3000, 32
STREAMS, STREAMS_AT_ONCE, GAP_MS = 384, 64, 10
SINGLES = 300
ROUNDS = 3
PATH, MODEL = "/v1/chat/completions", "openai/bench-model"


@dataclass
class Row:
    """One topology's figures; medians over the rounds, with the spread of the CPU ones."""

    name: str
    cpu_ms_per_call: float = 0.0
    cpu_ms_per_call_spread: float = 0.0
    calls_per_second: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    cpu_ms_per_stream: float = 0.0
    cpu_ms_per_stream_spread: float = 0.0
    ttft_ms: float = 0.0
    ttft_added_ms: float = 0.0
    memory_mb: float = 0.0
    cold_start_s: float = 0.0
    host_loop_ms: float = 0.0
    """CPU milliseconds of a fixed loop at the time: figures of two rows compare as well as these agree."""


@dataclass
class Process:
    """A process that is measured."""

    process: subprocess.Popen[bytes]


class Served(Protocol):
    """What can be called and measured."""

    @property
    def http(self) -> str:
        """Its address."""

    @property
    def running(self) -> list[Process]:
        """Its processes."""


@dataclass
class FloorProcess:
    """The bare proxy as a process; see `bench.floor`."""

    upstream_port: int
    http: str = ""
    running: list[Process] = field(default_factory=list)

    def __enter__(self) -> Self:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.http = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "bench.floor", f"http://127.0.0.1:{self.upstream_port}", str(port)]
        self.running.append(Process(subprocess.Popen(command, cwd=ROOT)))
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.running:
            one.process.kill()
            one.process.wait()


@contextlib.contextmanager
def mock(gap_ms: int) -> Iterator[int]:
    """A mock upstream; its port."""
    command = [sys.executable, "-m", "bench.mock_upstream", str(gap_ms)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def tree(gateway: Served) -> list[psutil.Process]:
    """Every process of the gateway."""
    roots = [psutil.Process(one.process.pid) for one in gateway.running]
    return [*roots, *(child for root in roots for child in root.children(recursive=True))]


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Processor time that they have used, user and system."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def memory_mb(processes: list[psutil.Process]) -> float:
    """Their proportional set size, shared pages counted once."""
    return sum(process.memory_full_info().pss for process in processes) / 1e6


def measured(gateway: Served, payload: bytes, calls: int, at_once: int) -> tuple[float, load.Result]:
    """CPU milliseconds per call, and what the caller saw."""
    port = int(gateway.http.rpartition(":")[2])
    processes = tree(gateway)
    uvloop.run(load.run(port, payload, calls=max(at_once, calls // 10), concurrency=at_once))
    before = cpu_seconds(processes)
    result = uvloop.run(load.run(port, payload, calls=calls, concurrency=at_once))
    return (cpu_seconds(processes) - before) / calls * 1000, result


def first_answer(gateway: Served) -> None:
    """Wait for the first good answer."""
    key = {"authorization": f"Bearer {load.KEY}"}
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    while True:
        with contextlib.suppress(httpx.ConnectError):
            if httpx.post(gateway.http + PATH, json=body, headers=key, timeout=30).status_code == 200:
                return
        time.sleep(0.01)


def direct_ttft(port: int) -> float:
    """Milliseconds to the first byte of a stream without a gateway; one caller."""
    payload = load.request(PATH, "mock", "bench-model", stream=True)
    result = uvloop.run(load.run(port, payload, calls=SINGLES // 3, concurrency=1))
    return statistics.median(result.first_bytes) * 1000


def host_loop_ms() -> float:
    """How fast the host is right now: the best of three runs of a fixed loop."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        total = 0
        for number in range(1_000_000):
            total += number * number
        best = min(best, time.process_time() - began)
    return best * 1000


@contextlib.contextmanager
def served(name: str, upstream_port: int) -> Iterator[Served]:
    """A topology, or the floor, in front of the mock."""
    if name == FLOOR:
        with FloorProcess(upstream_port) as floor:
            yield floor
        return
    with tempfile.TemporaryDirectory() as folder:
        env = environment(f"http://127.0.0.1:{upstream_port}", "openai", GATEWAY_API_KEY=load.KEY)
        with Gateway(name, Path(folder), env) as gateway:
            yield gateway  # type: ignore[misc] # its `running` holds more than a Process


def measure(name: str, whole_port: int, stream_port: int, base_ttft: float) -> Row:
    """One topology, or the floor, from a cold start."""
    row = Row(name, host_loop_ms=host_loop_ms())
    whole = load.request(PATH, "gateway", MODEL, stream=False)
    stream = load.request(PATH, "gateway", MODEL, stream=True)
    began = time.perf_counter()
    with served(name, whole_port) as gateway:
        first_answer(gateway)
        row.cold_start_s = time.perf_counter() - began
        rounds = [measured(gateway, whole, WHOLE_CALLS, WHOLE_AT_ONCE) for _ in range(ROUNDS)]
        cpu = [one[0] for one in rounds]
        row.cpu_ms_per_call, row.cpu_ms_per_call_spread = statistics.median(cpu), max(cpu) - min(cpu)
        latencies = sorted(value for one in rounds for value in one[1].latencies)
        row.p50_ms, row.p99_ms = latencies[len(latencies) // 2] * 1000, latencies[len(latencies) * 99 // 100] * 1000
        row.calls_per_second = statistics.median(one[1].calls / one[1].seconds for one in rounds)
    with served(name, stream_port) as gateway:
        first_answer(gateway)
        cpu = [measured(gateway, stream, STREAMS, STREAMS_AT_ONCE)[0] for _ in range(ROUNDS)]
        row.cpu_ms_per_stream, row.cpu_ms_per_stream_spread = statistics.median(cpu), max(cpu) - min(cpu)
        _, alone = measured(gateway, stream, 30, 1)
        row.ttft_ms = statistics.median(alone.first_bytes) * 1000
        row.ttft_added_ms = row.ttft_ms - base_ttft
        row.memory_mb = memory_mb(tree(gateway))
    row.host_loop_ms = (row.host_loop_ms + host_loop_ms()) / 2
    return row


def main() -> None:
    """Measure everything and print it."""
    rows = []
    with mock(0) as whole_port, mock(GAP_MS) as stream_port:
        base = direct_ttft(whole_port)
        for topology in (*TOPOLOGIES, FLOOR):
            rows.append(measure(topology, whole_port, stream_port, base))
            print(json.dumps(asdict(rows[-1])), file=sys.stderr)
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{psutil.cpu_count()} cores, {platform.machine()}, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("grpcio", "uvloop", "aiohttp", "protobuf", "fastapi")},
    }
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    lines = [json.dumps(about | asdict(row)) for row in rows]
    (results / "latest.jsonl").write_text("\n".join(lines) + "\n")
    table = Table(title=f"{about['machine']}, Python {about['python']}, {about['date']}")
    for column in asdict(rows[0]):
        table.add_column(column.replace("_", " "), justify="left" if column == "name" else "right")
    for row in rows:
        table.add_row(*(value if isinstance(value, str) else f"{value:.3g}" for value in asdict(row).values()))
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
