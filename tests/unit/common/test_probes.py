"""The probes beside the metrics: what they say, and of whom."""

from __future__ import annotations

import asyncio
import threading

import httpx
import pytest
from aigateway_common import metrics, probes
from aigateway_common.probes import Probes


class Ready:
    """What the loop says."""

    def __init__(self) -> None:
        self.value = False

    def __call__(self) -> bool:
        return self.value


async def status(port: int, path: str) -> int:
    return (await asyncio.to_thread(httpx.get, f"http://127.0.0.1:{port}{path}")).status_code


async def test_live_says_that_the_loop_runs_and_ready_that_all_of_it_serves() -> None:
    ready = Ready()
    server = metrics.serve("127.0.0.1", 0, Probes(asyncio.get_running_loop(), ready))
    try:
        assert (await status(server.port, "/live"), await status(server.port, "/ready")) == (200, 503)
        ready.value = True
        assert (await status(server.port, "/live"), await status(server.port, "/ready")) == (200, 200)
        assert await status(server.port, "/metrics") == 200
    finally:
        server.stop()


def test_a_loop_that_is_stuck_or_closed_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "ANSWER_SECONDS", 0.05)
    loop = asyncio.new_event_loop()
    server = metrics.serve("127.0.0.1", 0, Probes(loop, lambda: True))
    stuck, go = threading.Event(), threading.Event()

    def block() -> None:
        stuck.set()
        go.wait()

    loop.call_soon(block)
    loop.call_soon(loop.stop)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        stuck.wait()
        assert httpx.get(f"http://127.0.0.1:{server.port}/live").status_code == 503
        go.set()
        thread.join()
        loop.close()
        assert httpx.get(f"http://127.0.0.1:{server.port}/live").status_code == 503
        assert httpx.get(f"http://127.0.0.1:{server.port}/ready").status_code == 503
    finally:
        go.set()
        thread.join()
        server.stop()
