"""`make bench`: embedded, partly split and split, against the same mock upstream, in one run.

CPU is the operating system's own account of each gateway's whole process tree; the mock and the load are other
processes.
Prints a table, and one JSON line per cell to `bench/results/`.
"""

from __future__ import annotations

import contextlib
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import httpx
import psutil
import uvloop
from rich.console import Console
from rich.table import Table

from bench import load

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from support.gateway import Gateway, environment  # noqa: E402 - found by the line above

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


def tree(gateway: Gateway) -> list[psutil.Process]:
    """Every process of the gateway."""
    roots = [psutil.Process(one.process.pid) for one in gateway.running]
    return [*roots, *(child for root in roots for child in root.children(recursive=True))]


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Processor time that they have used, user and system."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def memory_mb(processes: list[psutil.Process]) -> float:
    """Their proportional set size, shared pages counted once."""
    return sum(process.memory_full_info().pss for process in processes) / 1e6


def measured(gateway: Gateway, payload: bytes, calls: int, at_once: int) -> tuple[float, load.Result]:
    """CPU milliseconds per call, and what the caller saw."""
    port = int(gateway.http.rpartition(":")[2])
    processes = tree(gateway)
    uvloop.run(load.run(port, payload, calls=max(at_once, calls // 10), concurrency=at_once))
    before = cpu_seconds(processes)
    result = uvloop.run(load.run(port, payload, calls=calls, concurrency=at_once))
    return (cpu_seconds(processes) - before) / calls * 1000, result


def first_answer(gateway: Gateway) -> None:
    """Wait for the first good answer."""
    key = {"authorization": f"Bearer {load.KEY}"}
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    while httpx.post(gateway.http + PATH, json=body, headers=key, timeout=30).status_code != 200:
        time.sleep(0.01)


def direct_ttft(port: int) -> float:
    """Milliseconds to the first byte of a stream without a gateway; one caller."""
    payload = load.request(PATH, "mock", "bench-model", stream=True)
    result = uvloop.run(load.run(port, payload, calls=SINGLES // 3, concurrency=1))
    return statistics.median(result.first_bytes) * 1000


def measure(topology: str, whole_port: int, stream_port: int, base_ttft: float) -> Row:
    """One topology, from a cold start."""
    row = Row(topology)
    whole = load.request(PATH, "gateway", MODEL, stream=False)
    stream = load.request(PATH, "gateway", MODEL, stream=True)
    with tempfile.TemporaryDirectory() as folder:
        env = environment(f"http://127.0.0.1:{whole_port}", "openai", GATEWAY_API_KEY=load.KEY)
        began = time.perf_counter()
        with Gateway(topology, Path(folder), env) as gateway:
            first_answer(gateway)
            row.cold_start_s = time.perf_counter() - began
            rounds = [measured(gateway, whole, WHOLE_CALLS, WHOLE_AT_ONCE) for _ in range(ROUNDS)]
            cpu = [one[0] for one in rounds]
            row.cpu_ms_per_call, row.cpu_ms_per_call_spread = statistics.median(cpu), max(cpu) - min(cpu)
            latencies = sorted(value for one in rounds for value in one[1].latencies)
            row.p50_ms, row.p99_ms = latencies[len(latencies) // 2] * 1000, latencies[len(latencies) * 99 // 100] * 1000
            row.calls_per_second = statistics.median(one[1].calls / one[1].seconds for one in rounds)
    with tempfile.TemporaryDirectory() as folder:
        env = environment(f"http://127.0.0.1:{stream_port}", "openai", GATEWAY_API_KEY=load.KEY)
        with Gateway(topology, Path(folder), env) as gateway:
            first_answer(gateway)
            cpu = [measured(gateway, stream, STREAMS, STREAMS_AT_ONCE)[0] for _ in range(ROUNDS)]
            row.cpu_ms_per_stream, row.cpu_ms_per_stream_spread = statistics.median(cpu), max(cpu) - min(cpu)
            _, alone = measured(gateway, stream, 30, 1)
            row.ttft_ms = statistics.median(alone.first_bytes) * 1000
            row.ttft_added_ms = row.ttft_ms - base_ttft
            row.memory_mb = memory_mb(tree(gateway))
    return row


def main() -> None:
    """Measure everything and print it."""
    rows = []
    with mock(0) as whole_port, mock(GAP_MS) as stream_port:
        base = direct_ttft(whole_port)
        for topology in TOPOLOGIES:
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
