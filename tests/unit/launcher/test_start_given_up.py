"""A start that is given up half-way, at whatever moment, leaves nothing running and says nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest
from aigateway_launcher import topology
from aigateway_launcher.groups import everything, parse_group
from aigateway_launcher.plan import Overrides, make
from aigateway_launcher.topology import Process

ENVIRONMENT = {"GATEWAY_API_KEY": "gw-key-0123456789abcdef", "OPENAI_API_KEY": "key-of-openai"}


class UpTo:
    """Runs `work` and cancels the task that awaits it when it waits for the `last` time; none of its own tasks."""

    def __init__(self, work: Coroutine[Any, Any, None], last: int) -> None:
        self._work = work
        self._left = last
        self.cancelled = False

    def __await__(self) -> Generator[Any, Any, None]:
        inner, failure = self._work.__await__(), None
        while True:
            try:
                waited_for = inner.throw(failure) if failure else next(inner)
            except StopIteration:
                return
            failure = None
            self._left -= 1
            if self._left == 0:
                self.cancelled = True
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                yield waited_for
            except BaseException as error:  # noqa: BLE001 - handed on
                failure = error


def process(folder: Path, services: str) -> Process:
    plan = make(Overrides(port=0, grpc_port=0, data_dir=folder), ENVIRONMENT, ollama_found=lambda: False)
    return Process(plan, parse_group(services, plan) if services else everything(plan))


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one is not threading.main_thread()]


@pytest.mark.parametrize("services", ["", "usage", "edge,router,provider:openai", "provider:openai"])
async def test_a_start_is_cancelled_wherever_it_waits(
    services: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    started, last = False, 0
    while not started:
        last += 1
        one = process(tmp_path / str(last), services)
        start = UpTo(one.start(), last)

        async def run(start: UpTo = start) -> None:
            await start

        task = asyncio.create_task(run())
        await asyncio.wait((task,))
        started = not start.cancelled
        if started:
            await one.stop(1)
        assert task.cancelled() is not started, task.exception()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not [name for name in threads() if "connection_worker" in name]
    gc.collect()
    assert last > 1
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert "Traceback" not in capfd.readouterr().err


async def test_a_process_that_is_told_to_stop_while_it_starts_is_never_ready(tmp_path: Path) -> None:
    def ready(_: object) -> None:
        raise AssertionError("it was to stop")

    stop = asyncio.Event()
    stop.set()
    await asyncio.wait_for(topology.run(process(tmp_path, "usage"), ready, stop, grace=30), 20)


async def test_a_process_that_cannot_say_that_it_is_ready_stops_what_it_has_started(tmp_path: Path) -> None:
    def ready(_: object) -> None:
        raise ValueError("nobody to tell")

    with pytest.raises(ValueError, match="nobody to tell"):
        await topology.run(process(tmp_path, ""), ready, asyncio.Event(), grace=1)
    assert asyncio.all_tasks() == {asyncio.current_task()}
