"""A second host: a network namespace of this machine, joined to it by a cable that can be cut.

This machine keeps its own network and gets one address more, on its end of the cable. Needs root and iproute2.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from typing import Final, Self

import pytest
from typing_extensions import override

from support.replay import Answer, Upstream

HERE: Final = "198.18.77.1"
THERE: Final = "198.18.77.2"
"""Addresses of the two ends, of those that are set aside for tests of networks (RFC 2544)."""
_CLONE_NEWNET: Final = 0x40000000


class Host:
    """The second host; a context manager that takes it away again."""

    def __init__(self) -> None:
        reason = _missing()
        if reason:
            pytest.skip(reason)
        self.name = f"aigw{os.getpid()}"
        self._cable = f"ag{os.getpid()}"[:13]

    def __enter__(self) -> Self:
        try:
            _ip("netns", "add", self.name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces are not permitted: {error.stderr.strip()}")
        try:
            _ip("link", "add", self._cable, "type", "veth", "peer", "name", "cable", "netns", self.name)
            _ip("addr", "add", f"{HERE}/30", "dev", self._cable)
            _ip("link", "set", self._cable, "up")
            for arguments in (
                ("addr", "add", f"{THERE}/30", "dev", "cable"),
                ("link", "set", "cable", "up"),
                ("link", "set", "lo", "up"),
            ):
                _ip("-n", self.name, *arguments)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        _ip("netns", "delete", self.name)  # which takes the cable with it

    @property
    def command(self) -> tuple[str, ...]:
        """What stands before a command that is to run there."""
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        """Cut the cable: what is sent is lost, and nobody is told."""
        _ip("-n", self.name, "link", "set", "cable", "down")

    def mend(self) -> None:
        """Join the hosts again."""
        _ip("-n", self.name, "link", "set", "cable", "up")


class UpstreamThere(Upstream):
    """A provider stand-in that listens on loopback of the second host."""

    def __init__(self, host: Host, *answers: Answer) -> None:
        super().__init__(*answers)
        self._host = host

    @override
    async def _start(self) -> None:
        # Runs in a thread of its own, and a thread may be in another network than its process.
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{self._host.name}") as namespace:  # noqa: ASYNC230, PTH123 -- no file on a disk
            if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        await super()._start()


def _missing() -> str:
    if sys.platform != "linux":
        return "only Linux has network namespaces"
    if os.geteuid() != 0:
        return "network namespaces need root"
    return "" if shutil.which("ip") else "`ip` is not on PATH (Debian has it in the package iproute2)"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
