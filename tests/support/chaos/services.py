"""The services of a running `up --split` by name: which process each is, ending one, and waiting until it is back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import psutil
from aigateway_common.serving import grpc_channel
from grpc_health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from support.gateway import Gateway, Running


def process_of(gateway: Gateway, name: str) -> psutil.Process | None:
    """The process of service `name`; None while it is being started again."""
    parent = psutil.Process(gateway.running[-1].process.pid)
    for child in parent.children():
        try:
            if name in child.cmdline():
                return child
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return None


def kill(gateway: Gateway, name: str) -> None:
    """`kill -9` service `name`, which must be there, and see it gone: what answers afterwards is a new one."""
    found = process_of(gateway, name)
    assert found is not None, f"{name} does not run"
    os.kill(found.pid, signal.SIGKILL)
    psutil.wait_procs([found], timeout=10)


async def wait_serving(running: Running, name: str, seconds: float = 30) -> None:
    """Until service `name` takes calls."""
    if name == "edge":
        await _wait_live(running.http, seconds)
        return
    async with grpc_channel(running.grpc(name)) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=seconds)


async def _wait_live(url: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    async with aiohttp.ClientSession(url) as session:
        while True:
            try:
                async with session.get("/live") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            assert time.monotonic() < end, "the edge did not come back"
            await asyncio.sleep(0.02)
