"""The processes of a running `up --workers`: which is which, ending one, and waiting until it is back."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.gateway import Gateway

TRIES = 1000
PAUSE = 0.02


def processes(gateway: Gateway) -> dict[str, psutil.Process]:
    """The children by name: `usage`, `worker-0` and so on."""
    found: dict[str, psutil.Process] = {}
    for child in psutil.Process(gateway.running[-1].process.pid).children():
        try:
            line = child.cmdline()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if "--worker" in line:
            found[f"worker-{line[line.index('--worker') + 1].split('/')[0]}"] = child
        elif "usage" in line:
            found["usage"] = child
    return found


def kill(gateway: Gateway, name: str, number: int = signal.SIGKILL) -> psutil.Process:
    """Send a signal to a child; the process that got it."""
    process = processes(gateway)[name]
    os.kill(process.pid, number)
    return process


def connections(process: psutil.Process, http: str) -> int:
    """How many callers `process` has on the HTTP port."""
    port = int(http.rpartition(":")[2])
    return sum(
        one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED for one in process.net_connections("tcp")
    )


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that nobody tells."""
    for _ in range(TRIES):
        if condition():
            return
        await asyncio.sleep(PAUSE)
    raise AssertionError("it did not come to that")


async def again(gateway: Gateway, name: str, before: psutil.Process) -> psutil.Process:
    """Child `name` once it has started again and takes connections: a caller is made to see it."""
    address, port = gateway.http.removeprefix("http://").split(":")
    for _ in range(TRIES):
        now = processes(gateway).get(name)
        if now is not None and now.pid != before.pid:
            _, writer = await asyncio.open_connection(address, port)
            await asyncio.sleep(PAUSE)
            serves = connections(now, gateway.http) > 0
            writer.close()
            await writer.wait_closed()
            if serves:
                return now
        await asyncio.sleep(PAUSE)
    raise AssertionError(f"`{name}` did not come back")
