"""The operating system's own accounts: processor time and memory of whole process trees, by process."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping

import psutil


def processes(roots: Mapping[str, int]) -> list[tuple[str, psutil.Process]]:
    """Every process of the trees below `roots` (names and process ids), each with what it is called in tables."""
    found = []
    for name, pid in roots.items():
        root = psutil.Process(pid)
        found.append((name, root))
        found += [(_name(child, name), child) for child in root.children(recursive=True)]
    return found


def _name(process: psutil.Process, parent: str) -> str:
    """A service by what it serves, any other child as a part of its parent."""
    command = process.cmdline()
    if "serve" in command[:-1]:
        return command[command.index("serve") + 1].partition(":")[0].replace("provider", "adapter")
    return f"{parent}'s"


def cpu_ms(of: Iterable[tuple[str, psutil.Process]]) -> dict[str, float]:
    """Milliseconds of processor time used so far, user and system, by name."""
    used: dict[str, float] = {}
    for name, process in of:
        used[name] = used.get(name, 0.0) + _seconds(process) * 1000
    return used


def _seconds(process: psutil.Process) -> float:
    """Processor time of all threads, those that have ended too.

    Linux has a clock for each process that counts nanoseconds, where `/proc` and `times` count hundredths of a second:
    https://man7.org/linux/man-pages/man3/clock_getcpuclockid.3.html. Its number is made as glibc makes it.
    """
    if sys.platform == "linux":
        return time.clock_gettime((~process.pid << 3) | 2)
    times = process.cpu_times()
    return times.user + times.system


def memory_mb(of: Iterable[tuple[str, psutil.Process]]) -> dict[str, float]:
    """Proportional set size by name, in millions of bytes: what processes share is counted once."""
    used: dict[str, float] = {}
    for name, process in of:
        used[name] = used.get(name, 0.0) + process.memory_full_info().pss / 1e6
    return used


def machine_cpu_ms() -> float:
    """What all processes of the machine have used so far, and what the host took away from it (steal)."""
    times = psutil.cpu_times()
    return (times.user + times.system + times.nice + times.irq + times.softirq + times.steal) * 1000


def loop_ms() -> float:
    """How fast the host is right now: processor time of a fixed loop, the best of three."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        total = 0
        for number in range(300_000):
            total += number * number
        best = min(best, time.process_time() - began)
    return best * 1000
