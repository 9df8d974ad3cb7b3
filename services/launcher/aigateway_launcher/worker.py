"""What one worker of `up --workers` is told by its parent, beside what every process reads for itself."""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from aigateway_common.settings import ConfigurationError, Problem
from aigateway_router.settings import Share

from aigateway_launcher.acceptor import SharedSocket, Tally

if TYPE_CHECKING:
    from pathlib import Path

    from aigateway_launcher.plan import Plan

FOLDER: Final = "workers"
"""Inside the data folder: what workers share while they run. Nothing in it outlives them."""
TALLY: Final = "connections"
LIMITS: Final = "limits"


@dataclass(frozen=True, slots=True)
class Worker:
    """One of `count` workers on the socket `http_fd`."""

    index: int
    count: int
    http_fd: int

    @property
    def name(self) -> str:
        """What it is called in logs, folders and metrics."""
        return f"worker-{self.index}"

    @property
    def arguments(self) -> list[str]:
        """How `serve` is told."""
        return ["--worker", f"{self.index}/{self.count}/{self.http_fd}"]

    @classmethod
    def parse(cls, text: str) -> Worker:
        """From `--worker`. Raises ConfigurationError."""
        parts = text.split("/")
        if len(parts) != 3 or not all(part.isdecimal() for part in parts):
            raise ConfigurationError([Problem("--worker", "is for `up --workers` alone; use that")])
        return cls(*map(int, parts))

    def plan(self, plan: Plan) -> Plan:
        """`plan` as this worker goes by it."""
        share = Share(self.index, self.count, folder(plan) / LIMITS)
        return replace(plan, router=replace(plan.router, share=share))

    def shared_socket(self, plan: Plan) -> SharedSocket:
        """The HTTP socket."""
        listener = socket.socket(fileno=self.http_fd)
        listener.setblocking(False)
        return SharedSocket(listener, Tally(folder(plan) / TALLY, self.count), self.index)


def folder(plan: Plan) -> Path:
    """Where the workers of `plan` keep what they share."""
    return plan.data_dir / FOLDER
