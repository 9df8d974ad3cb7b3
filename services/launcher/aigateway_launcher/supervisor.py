"""`up --split`: one process per service on loopback, watched by one parent.

What a cluster does, on one machine: a service that dies is started again, alone, on its old address; stopping ends
them in order, the edge first. Children end by themselves when the parent is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import random
import socket
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aigateway_common import logs
from aigateway_providers.registry import PROVIDERS

from aigateway_launcher.topology import Addresses, Group, everything, parts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from aigateway_launcher.plan import Plan

MAX_BACKOFF: Final = 5.0
PRIVATE_PORTS: Final = range(20_000, 32_000)
STEADY_SECONDS: Final = 10.0
"""A child that lived this long starts again at once when it dies."""


@dataclass(slots=True)
class Child:
    """One service's process."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    process: asyncio.subprocess.Process | None = None
    addresses: Addresses = field(default_factory=Addresses)
    task: asyncio.Task[None] | None = None


class Supervisor:
    """Starts, watches and stops the children."""

    def __init__(self, plan: Plan, environment: Mapping[str, str]) -> None:
        self._plan = plan
        self._environment = environment
        self._log = logs.get("supervisor")
        self._stopping = False
        self._lifeline = os.pipe()
        """Children hold the reading end: it closes when this process is gone, however it went."""
        self.children = [self._child(group) for group in self._groups()]

    async def run(self, ready: Callable[[Addresses], None], stop: asyncio.Event) -> None:
        """Run until `stop`; `ready` is called once with where the services listen."""
        for child in self.children:
            child.task = asyncio.create_task(self._keep(child))
        try:
            if await self._all_ready(stop):
                ready(self._addresses())
                await stop.wait()
        finally:
            await self._stop()

    # Starting.

    def _groups(self) -> list[Group]:
        groups = parts(everything(self._plan))
        self._ports: dict[str, int] = {}
        for group in groups:
            for name in group.names:
                self._ports[name] = self._port(group)
        return groups

    def _port(self, group: Group) -> int:
        """The port of a service, chosen once: when it is started again, the others know the old one."""
        asked = self._plan.port if group.edge else self._plan.grpc_port if group.router else 0
        return asked or _free_port(self._ports.values())

    def _child(self, group: Group) -> Child:
        name = group.names[0]
        option = "--port" if group.edge else "--grpc-port"
        arguments = ["serve", name, option, str(self._ports[name]), "--data-dir", str(self._plan.data_dir)]
        if group.edge:
            arguments += ["--host", self._plan.host]
        if self._plan.metrics_port is not None:  # one port per process, from the given one upwards
            port = self._plan.metrics_port and self._plan.metrics_port + list(self._ports).index(name)
            arguments += ["--metrics-port", str(port)]
        if self._plan.config_file:
            arguments += ["--config", str(self._plan.config_file)]
        return Child(name, arguments, self._child_environment(group))

    def _child_environment(self, group: Group) -> dict[str, str]:
        """The environment of one service: the addresses of the others, and no key but its own."""
        secret = {key for row in PROVIDERS.values() if row.kind not in group.providers for key in row.key_env}
        if not group.router:
            secret |= {"REDIS_URL"}  # it may hold a password
        keep_all = self._plan.config_file is not None  # the file may name any variable
        result = {
            name: value
            for name, value in self._environment.items()
            if keep_all or name.removesuffix("_FILE") not in secret
        }
        if "ollama" in group.providers:
            result.setdefault("OLLAMA_URL", self._plan.providers["ollama"].base_url)
        if "sandbox" in self._plan.providers and "sandbox" in group.providers:
            result["AIGATEWAY_SANDBOX"] = "1"
        if group.router:
            targets = [f"{name}=127.0.0.1:{self._ports[f'provider:{name}']}" for name in self._plan.providers]
            result["AIGATEWAY_PROVIDER_TARGETS"] = ",".join(targets)
            if "usage" in self._ports:
                result["AIGATEWAY_USAGE_TARGET"] = f"127.0.0.1:{self._ports['usage']}"
        if group.edge:
            result["AIGATEWAY_ROUTER_TARGET"] = f"127.0.0.1:{self._ports['router']}"
        return result

    async def _all_ready(self, stop: asyncio.Event) -> bool:
        async def everyone() -> None:
            for child in self.children:
                await child.ready.wait()

        waits = asyncio.create_task(everyone()), asyncio.create_task(stop.wait())
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
            pass_fds=(writer, self._lifeline[0]),
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
        for child in self.children:
            result.http = child.addresses.http or result.http
            result.metrics |= child.addresses.metrics
            result.grpc |= child.addresses.grpc
        return result

    # Stopping.

    async def _stop(self) -> None:
        self._stopping = True
        for child in reversed(self.children):
            await self._end(child)
        for end in self._lifeline:
            os.close(end)

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


def _free_port(taken: Collection[int]) -> int:
    """A port that nobody listens on, none of those `taken`, below those that systems hand out by themselves.

    Linux takes the ports of outgoing connections from 32768 upwards: one chosen there may be gone before the service
    that it was chosen for has started.
    """
    for port in random.sample(PRIVATE_PORTS, len(PRIVATE_PORTS)):
        if port in taken:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(errno.EADDRINUSE, "no port is free for the services of the gateway")
