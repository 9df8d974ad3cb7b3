"""What the children of every layout have in common: their command line, their environment and their ports."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from aigateway_providers.registry import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aigateway_launcher.groups import Group
    from aigateway_launcher.plan import Plan

PRIVATE_PORTS: Final = range(20_000, 32_000)


def arguments(plan: Plan, group: Group, number: int) -> list[str]:
    """How the process of `group` is started, but for its ports; `number` says the how manyeth it is."""
    result = ["serve", ",".join(group.names), "--data-dir", str(plan.data_dir)]
    if group.edge:
        result += ["--host", plan.host]
    if plan.metrics_port is not None:  # one port per process, from the given one upwards
        result += ["--metrics-port", str(plan.metrics_port and plan.metrics_port + number)]
    if plan.config_file:
        result += ["--config", str(plan.config_file)]
    return result


def environment(plan: Plan, group: Group, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of the process of `group`: no secret but its own."""
    kinds = {plan.providers[name].kind for name in group.providers}
    secret = {key for row in PROVIDERS.values() if row.kind not in kinds for key in row.key_env}
    if not group.router:
        secret |= {"REDIS_URL"}  # it may hold a password
    if not group.usage:
        secret |= {"DATABASE_URL"}  # it too
        if not group.router:
            secret |= {"NATS_URL"}
    keep_all = plan.config_file is not None  # the file may name any variable
    result = {name: value for name, value in given.items() if keep_all or name.removesuffix("_FILE") not in secret}
    if "ollama" in group.providers:
        result.setdefault("OLLAMA_URL", plan.providers["ollama"].base_url)
    if "sandbox" in plan.providers and "sandbox" in group.providers:
        result["AIGATEWAY_SANDBOX"] = "1"
    return result


@dataclass(frozen=True)
class HeldPort:
    """A port for a child, and what keeps others from it: a context manager that lets it go."""

    number: int
    _socket: socket.socket

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Others may have it."""
        self._socket.close()


def hold_port(taken: Collection[int] = ()) -> HeldPort:
    """A port for a child on loopback: none of those `taken`, and below those that systems hand out by themselves.

    Linux takes the ports of outgoing connections from 32768 upwards: one chosen there may be gone before the service
    that it was chosen for has started. A socket is bound to it and never listens: while it is open, the child can have
    the port, as it asks with SO_REUSEADDR like every server, and no other gateway that starts in this moment takes it.
    Other systems than Linux would refuse the child as well, so that there the port is free again at once.
    """
    for port in random.sample(PRIVATE_PORTS, len(PRIVATE_PORTS)):
        if port in taken:
            continue
        with contextlib.ExitStack() as opened, contextlib.suppress(OSError):
            held = opened.enter_context(socket.socket())
            held.bind(("127.0.0.1", port))  # without SO_REUSEADDR: held ports of others are not free
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if sys.platform == "linux":
                opened.pop_all()
            return HeldPort(port, held)
    raise OSError(errno.EADDRINUSE, "no port is free for the services of the gateway")
