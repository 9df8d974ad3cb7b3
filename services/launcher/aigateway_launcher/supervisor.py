"""One parent that starts, watches and stops several processes of the gateway: those of `--split` or of `--workers`.

A child that dies is started again, alone, on its old address; stopping ends them in order, those first that others have
no need of. Children end by themselves when the parent is gone. Which there are is `split`'s and `workers`' business.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from aigateway_common import logs

from aigateway_launcher.groups import Addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aigateway_launcher.plan import Plan

MAX_BACKOFF: Final = 5.0
STEADY_SECONDS: Final = 10.0
"""A child that lived this long starts again at once when it dies."""


@dataclass(slots=True)
class Child:
    """One process."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    descriptors: tuple[int, ...] = ()
    """What it inherits beside the pipes to its parent."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    process: asyncio.subprocess.Process | None = None
    addresses: Addresses = field(default_factory=Addresses)
    task: asyncio.Task[None] | None = None


class Layout(Protocol):
    """Which children there are."""

    stages: Sequence[Sequence[Child]]
    """Those that others need come first; what shares a stage is stopped together."""
    in_turn: bool
    """Whether a stage is started only once those before it are ready."""

    def ended(self, child: Child) -> None:
        """`child` has died, and starts again."""

    def leave(self) -> None:
        """The children are about to be stopped."""

    def close(self) -> None:
        """They are gone."""


async def run(
    plan: Plan,
    environment: Mapping[str, str],
    ready: Callable[[Addresses], None],
    stop: asyncio.Event,
    *,
    split: bool,
) -> None:
    """Run the gateway in several processes until `stop`. Raises ConfigurationError."""
    layout: Layout
    if split:
        from aigateway_launcher.split import Split  # noqa: PLC0415 - one of them is needed

        layout = Split(plan, environment)
    else:
        from aigateway_launcher.workers import Workers  # noqa: PLC0415 - one of them is needed

        layout = Workers(plan, environment)
    await Supervisor(plan, layout).run(ready, stop)


class Supervisor:
    """Starts, watches and stops the children of `layout`."""

    def __init__(self, plan: Plan, layout: Layout) -> None:
        self._plan = plan
        self._layout = layout
        self._log = logs.get("supervisor")
        self._stopping = False
        self._lifeline = os.pipe()
        """Children hold the reading end: it closes when this process is gone, however it went."""
        self._children = [child for stage in layout.stages for child in stage]

    async def run(self, ready: Callable[[Addresses], None], stop: asyncio.Event) -> None:
        """Run until `stop`; `ready` is called once with where the services listen."""
        try:
            if await self._start(stop):
                ready(self._addresses())
                await stop.wait()
        finally:
            await self._stop()

    # Starting.

    async def _start(self, stop: asyncio.Event) -> bool:
        """Start everything; False when it is to stop before all of it is ready."""

        async def everything() -> None:
            for stage in self._layout.stages:
                for child in stage:
                    child.task = asyncio.create_task(self._keep(child))
                if self._layout.in_turn:
                    await _ready(stage)
            await _ready(self._children)

        waits = asyncio.create_task(everything()), asyncio.create_task(stop.wait())
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        return waits[0] in done

    # Watching.

    async def _keep(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        backoff = 0.1
        while not self._stopping:
            began = loop.time()
            code = await self._once(child)
            if self._stopping:
                return
            self._layout.ended(child)
            backoff = 0.1 if loop.time() - began > STEADY_SECONDS else min(MAX_BACKOFF, backoff * 2)
            self._log.warning("service ended; starting it again", service=child.name, code=code, wait=backoff)
            await asyncio.sleep(backoff)

    async def _once(self, child: Child) -> int:
        reader, writer = os.pipe()
        arguments = [*child.arguments, "--ready-fd", str(writer), "--lifeline-fd", str(self._lifeline[0])]
        child.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "aigateway_launcher",
            *arguments,
            env=dict(child.environment),
            pass_fds=(writer, self._lifeline[0], *child.descriptors),
            start_new_session=True,
        )
        os.close(writer)
        await self._read_ready(child, reader)
        return await child.process.wait()

    async def _read_ready(self, child: Child, reader: int) -> None:
        stream = asyncio.StreamReader()
        pipe = os.fdopen(reader, "rb")
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), pipe)
        line = await stream.read()
        transport.close()
        if line:
            child.addresses = Addresses(**json.loads(line))
            child.ready.set()

    def _addresses(self) -> Addresses:
        result = Addresses()
        for child in self._children:
            result.http = child.addresses.http or result.http
            result.metrics |= child.addresses.metrics
            result.grpc |= child.addresses.grpc
        return result

    # Stopping.

    async def _stop(self) -> None:
        self._stopping = True
        self._layout.leave()
        for stage in reversed(self._layout.stages):
            await asyncio.gather(*(self._end(child) for child in stage))
        for end in self._lifeline:
            os.close(end)
        self._layout.close()

    async def _end(self, child: Child) -> None:
        process = child.process
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), self._plan.drain_seconds + 5)
            except TimeoutError:
                self._log.error("service did not stop in time", service=child.name)
                process.kill()
        if child.task is not None:
            child.task.cancel()
            await asyncio.gather(child.task, return_exceptions=True)


async def _ready(children: Sequence[Child]) -> None:
    for child in children:
        await child.ready.wait()
