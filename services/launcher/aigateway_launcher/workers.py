"""The processes of `up --workers N`: N whole gateways on one HTTP port and one gRPC port, and one ledger for them all.

The parent opens the HTTP socket and keeps it while workers come and go; `acceptor` says how they divide its
connections. A gRPC port cannot be handed down, so each worker has a socket of its own on it (SO_REUSEPORT) and the
kernel draws one for each connection; the parent keeps the port from others.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
from typing import TYPE_CHECKING

from aigateway_common.settings import ConfigurationError, Problem

from aigateway_launcher import children
from aigateway_launcher.acceptor import Tally
from aigateway_launcher.groups import Group
from aigateway_launcher.listener import listen
from aigateway_launcher.supervisor import Child
from aigateway_launcher.worker import LIMITS, TALLY, Worker, folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from aigateway_launcher.plan import Plan


class Workers:
    """The ledger, then the workers; see `Layout`.

    Raises:
        ConfigurationError: A port or the folder cannot be had.
    """

    in_turn = True

    def __init__(self, plan: Plan, environment: Mapping[str, str]) -> None:
        self._plan = plan
        self._environment = environment
        with contextlib.ExitStack() as opened:
            self._http = opened.enter_context(listen(plan.host, plan.port))
            self._grpc = opened.enter_context(_reserve(plan.grpc_host, plan.grpc_port))
            opened.callback(os.close, _fresh(folder(plan)))
            self._tally = Tally.make(folder(plan) / TALLY, plan.workers)
            opened.callback(self._tally.close)
            self._usage_port: int | None = None
            if plan.usage_enabled:
                held = opened.enter_context(children.hold_port((self._grpc_port,)))
                self._usage_port = held.number
            self._opened = opened.pop_all()
        self._workers = [Worker(index, plan.workers, self._http.fileno()) for index in range(plan.workers)]
        ledger = [] if self._usage_port is None else [self._ledger(self._usage_port)]
        self.stages: Sequence[Sequence[Child]] = [
            ledger,
            [self._child(worker, len(ledger)) for worker in self._workers],
        ]

    def ended(self, child: Child) -> None:
        """No other worker waits for one that is dead."""
        for worker in self._workers:
            if worker.name == child.name:
                self._tally.away(worker.index)

    def leave(self) -> None:
        """From now on the HTTP port is open for as long as a worker needs it."""
        self._http.close()

    def close(self) -> None:
        """Give up what was kept for the workers."""
        self._opened.close()

    @property
    def _grpc_port(self) -> int:
        port: int = self._grpc.getsockname()[1]
        return port

    def _ledger(self, port: int) -> Child:
        group = Group(usage=True)
        arguments = [*children.arguments(self._plan, group, 0), "--grpc-port", str(port)]
        return Child("usage", arguments, children.environment(self._plan, group, self._environment))

    def _child(self, worker: Worker, before: int) -> Child:
        plan = self._plan
        group = Group(edge=True, router=True, providers=tuple(plan.providers))
        variables = children.environment(plan, group, self._environment)
        if self._usage_port is not None:
            variables["AIGATEWAY_USAGE_TARGET"] = f"127.0.0.1:{self._usage_port}"
        ports = ["--port", str(self._http.getsockname()[1]), "--grpc-port", str(self._grpc_port)]
        arguments = [*children.arguments(plan, group, before + worker.index), *ports, *worker.arguments]
        return Child(worker.name, arguments, variables, (worker.http_fd,))


def _reserve(host: str, port: int) -> socket.socket:
    """The gRPC port, bound but not listened on: workers may share it, nobody else may take it.

    Raises ConfigurationError when somebody else has it.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port or None, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:  # alone, so that it fails where another gateway shares its port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            found = probe.getsockname()
        with contextlib.ExitStack() as opened:
            held = opened.enter_context(socket.socket(family))
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(found)
            opened.pop_all()
    except OSError as error:
        text = f"cannot listen: {error.strerror}; choose another with --grpc-port"
        raise ConfigurationError([Problem(f"{host}:{port}", text)]) from error
    return held


def _fresh(folder: Path) -> int:
    """The lock of `folder`, in which nothing of earlier workers is left. Raises ConfigurationError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise
    except OSError as error:
        busy = isinstance(error, BlockingIOError)
        text = "other workers use this data folder; choose another with --data-dir" if busy else str(error.strerror)
        raise ConfigurationError([Problem(str(folder), text)]) from error
    shutil.rmtree(folder / LIMITS, ignore_errors=True)
    return lock
