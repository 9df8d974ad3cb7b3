"""Starting and ending what is measured: processes on loopback, each ended by its own handle, whatever happens."""

from __future__ import annotations

import http.client
import random
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

ROOT: Final = Path(__file__).resolve().parents[1]
START_SECONDS: Final = 90
STOP_SECONDS: Final = 20
_given: Final[set[int]] = set()


def free_port() -> int:
    """A port that nobody listens on, that was not given before, and none of outgoing connections or of `up --split`."""
    for port in random.sample(range(12_000, 20_000), 1000):
        with socket.socket() as probe:
            if port not in _given and probe.connect_ex(("127.0.0.1", port)) != 0:
                _given.add(port)
                return port
    raise RuntimeError("no port is free")


@dataclass(frozen=True)
class Command:
    """One process to start."""

    name: str
    """As tables call it."""
    line: Sequence[str]
    environment: Mapping[str, str]


@dataclass
class Server:
    """Processes that answer together; a context manager that starts them at once and ends them."""

    folder: Path
    commands: Sequence[Command]
    port: int
    """Where HTTP is spoken."""
    headers: Mapping[str, str]
    """What a call must carry."""
    model: str = "{}"
    """What it calls the mock's model {}."""
    grpc: str = ""
    """Where the router speaks gRPC."""
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            for command in self.commands:
                with (self.folder / f"{command.name}.log").open("ab") as log:
                    self.running[command.name] = subprocess.Popen(
                        command.line,
                        env=dict(command.environment),
                        cwd=self.folder,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.tell_to_end()
        for process in self.running.values():
            end(process)
        self.running.clear()

    def tell_to_end(self) -> None:
        """Without waiting for it."""
        for process in self.running.values():
            process.terminate()

    @property
    def roots(self) -> dict[str, int]:
        """The processes that were started, by name."""
        return {name: process.pid for name, process in self.running.items()}

    def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """One call; its status (0 when nobody listens) and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {"content-type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (ConnectionError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def until(self, status: int, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Ask until the answer has `status`, and return it."""
        stop, answer = time.monotonic() + START_SECONDS, (0, b"")
        while time.monotonic() < stop:
            if (answer := self.ask(method, path, body, headers))[0] == status:
                return answer[1]
            self._look()
            time.sleep(0.005)
        raise RuntimeError(f"{self.folder.name} does not answer: {answer}")

    def last_words(self) -> str:
        """The ends of its logs."""
        texts = ((name, (self.folder / f"{name}.log").read_text(errors="replace")) for name in self.running)
        return "\n".join(f"{name}: {text[-3000:]}" for name, text in texts)

    def _look(self) -> None:
        for name, process in self.running.items():
            if process.poll() is not None:
                raise RuntimeError(f"{self.folder.name}: {name} ended with {process.returncode}:\n{self.last_words()}")


class Counting:
    """A helper process that prints its port, and a number for each line it gets: the mock, or the span receiver."""

    def __init__(self, line: Sequence[str]) -> None:
        self._line = line

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(self._line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = self._number()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        end(self.process)

    def count(self) -> int:
        """The number."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return self._number()

    def _number(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


def end(process: subprocess.Popen[Any]) -> None:
    """Wait for the end of a process that was told to end; kill it when it takes too long."""
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
