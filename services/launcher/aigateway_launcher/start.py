"""`aigateway up` and `aigateway serve`: from a command line to running services and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aigateway_common import allocator, logs, scheduling
from aigateway_common.settings import ConfigurationError, Problem
from aigateway_providers.registry import PROVIDERS

from aigateway_launcher import groups
from aigateway_launcher.held_files import HeldFiles
from aigateway_launcher.plan import Overrides, Plan, make
from aigateway_launcher.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aigateway_launcher.groups import Addresses

YOUNG: Final = 5000
"""New objects that set off a collection. Calls in flight hold more than Python's 700, so with those a busy gateway
collects all the time and finds nothing: calls leave no cycles behind."""


def up(overrides: Overrides, *, split: bool, ready_fd: int | None, lifeline_fd: int | None) -> None:
    """Run the whole gateway until a signal ends it."""
    for descriptor in (ready_fd, lifeline_fd):
        if descriptor is not None:  # they are ours alone, not our children's
            os.set_inheritable(descriptor, False)
    source = Source(overrides)
    plan = _prepared(overrides, source.files)
    if split and plan.workers > 1:
        text = f"`--split` runs one process per service, so it cannot have {plan.workers} workers; choose one of them"
        raise ConfigurationError([Problem("--workers", text)])
    _check_data_dir(plan, groups.everything(plan))

    def ready(addresses: Addresses) -> None:
        from aigateway_launcher import banner  # noqa: PLC0415 - rich comes with it, which no service needs

        _settle()
        _tell(ready_fd, addresses)
        banner.show(plan, addresses, split=split)

    async def run(stop: asyncio.Event) -> None:
        if split or plan.workers > 1:
            from aigateway_launcher import supervisor  # noqa: PLC0415 - not needed embedded

            await supervisor.run(plan, os.environ, ready, stop, split=split)
        else:
            await _run(source, plan, groups.everything(plan), ready, stop)

    _until_stopped(run, lifeline_fd)


def serve(
    services: str, overrides: Overrides, *, ready_fd: int | None, lifeline_fd: int | None, worker: str | None
) -> None:
    """Run some services in this process until a signal ends it."""
    source = Source(overrides, Worker.parse(worker) if worker else None)
    plan = source.of(_prepared(overrides, source.files))
    group = groups.parse_group(services, plan)
    _check_data_dir(plan, group)
    log = logs.get("launcher")

    def ready(addresses: Addresses) -> None:
        _settle()
        _tell(ready_fd, addresses)
        log.info("ready", services=list(group.names), http=addresses.http, grpc=addresses.grpc)

    async def run(stop: asyncio.Event) -> None:
        await _run(source, plan, group, ready, stop)

    _until_stopped(run, lifeline_fd)


@dataclass(frozen=True, slots=True)
class Source:
    """Where the plan comes from, beside file and environment, which are read again when a file changes."""

    overrides: Overrides
    worker: Worker | None = None
    files: HeldFiles = field(default_factory=HeldFiles)

    def of(self, plan: Plan) -> Plan:
        """`plan` as this process goes by it."""
        return self.worker.plan(plan) if self.worker else plan


async def _run(
    source: Source, plan: Plan, group: groups.Group, ready: Callable[[Addresses], None], stop: asyncio.Event
) -> None:
    """Run `group` until `stop`, following the configuration file and the files of keys, where there are any."""
    from aigateway_launcher import topology  # noqa: PLC0415 - brings gRPC, which the parent of others has no need of

    process = topology.Process(plan, group, source.worker)

    async def follow() -> None:
        if not (plan.config_file or source.files.paths) or not (group.router or group.providers or group.usage):
            return
        from aigateway_launcher import reload  # noqa: PLC0415 - only where there is a file

        def fresh() -> Plan:
            found = "ollama" in plan.providers
            return source.of(make(source.overrides, os.environ, ollama_found=lambda: found, files=source.files))

        await reload.follow(plan, fresh, source.files, process.reload, stop)

    await topology.run(process, ready, stop, plan.drain_seconds, follow)


def ollama_found() -> bool:
    """Whether something listens at Ollama's default address."""
    url = urlsplit(PROVIDERS["ollama"].base_url)
    try:
        with socket.create_connection((url.hostname, url.port or 11434), timeout=0.3):
            return True
    except OSError:
        return False


def _prepared(overrides: Overrides, files: HeldFiles) -> Plan:
    plan = make(overrides, os.environ, ollama_found=ollama_found, files=files)
    logs.configure(plan.log_level, json=not sys.stderr.isatty())
    if plan.batch_scheduling:
        scheduling.set_batch_scheduling()
    scheduling.install_uvloop()
    allocator.use_one_arena()
    return plan


def _check_data_dir(plan: Plan, group: groups.Group) -> None:
    """Refuse to start where the data folder cannot hold what `group` keeps in it: the ledger's file, and the outbox."""
    outbox = group.router and (group.usage or plan.targets.usage is not None)
    if not outbox and not (group.usage and str(plan.data_dir) in plan.usage.database_url):
        return
    try:
        plan.data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=plan.data_dir):
            pass
    except OSError as error:
        hint = "choose another with --data-dir; a container needs a volume there"
        text = f"nothing can be kept there: {error.strerror}; {hint}"
        raise ConfigurationError([Problem(str(plan.data_dir), text)]) from error


def _until_stopped(run: Callable[[asyncio.Event], Awaitable[None]], lifeline_fd: int | None) -> None:
    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if lifeline_fd is not None:
            loop.add_reader(lifeline_fd, stop.set)
        giving = asyncio.create_task(allocator.give_back(), name="give memory back")
        await run(stop)
        giving.cancel()

    asyncio.run(main())


def _settle() -> None:
    """Let the collector run again, and never look at what the start has made, most of which stays for good."""
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
    gc.enable()


def _tell(descriptor: int | None, addresses: Addresses) -> None:
    if descriptor is None:
        return
    # Who waited may be gone; the lifeline says what follows from that.
    with contextlib.suppress(BrokenPipeError), os.fdopen(descriptor, "wb", buffering=0) as pipe:
        pipe.write(json.dumps(asdict(addresses)).encode())
