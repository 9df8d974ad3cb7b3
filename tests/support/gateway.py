"""The real gateway in real processes, started as a user starts it, in each topology."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

START_SECONDS = 60
STOP_SECONDS = 60
PROVIDER_KEYS = {
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL", "/v1"),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", ""),
    "gemini": ("GEMINI_API_KEY", "GEMINI_BASE_URL", ""),
    "groq": ("GROQ_API_KEY", "GROQ_BASE_URL", ""),
    "ollama": (None, "OLLAMA_URL", ""),
}
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "SYSTEMROOT")


def environment(upstream: str | None, *providers: str, **more: str) -> dict[str, str]:
    """A clean environment in which `providers` (all when none is named) are found at `upstream`."""
    result = {name: os.environ[name] for name in KEPT if name in os.environ}
    if upstream:
        for name in providers or PROVIDER_KEYS:
            key, url, suffix = PROVIDER_KEYS[name]
            result[url] = upstream + suffix
            if key:
                result[key] = f"test-key-of-{name}"
    return result | more


@dataclass
class Running:
    """One process of the gateway."""

    process: subprocess.Popen[bytes]
    addresses: dict[str, Any]
    log: Path

    @property
    def http(self) -> str:
        return f"http://{self.addresses['http']}"

    def grpc(self, service: str) -> str:
        return str(self.addresses["grpc"][service])

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)

    def wait_text(self, text: str, seconds: float = 10) -> str:
        """The log, once `text` stands in it."""
        end = time.monotonic() + seconds
        while text not in self.text() and time.monotonic() < end:
            time.sleep(0.02)
        return self.text()

    def text(self) -> str:
        return self.log.read_text()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error::DeprecationWarning:aigateway", "-m", "aigateway_launcher", *arguments]


def start(
    folder: Path,
    env: dict[str, str],
    *arguments: str,
    before: Sequence[str] = (),
    program: Callable[..., list[str]] | None = None,
) -> Running:
    """Start `aigateway ARGUMENTS…`, `before` standing before the command, and wait until it says that it is ready.

    `program` makes the command of the arguments, where it is not this checkout's; the last one is the file descriptor
    at which the gateway says it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = (
        folder / f"{'-'.join(a for a in arguments[:2] if not a.startswith('-')).replace(':', '-')}-{time.time_ns()}.log"
    )
    reader, writer = os.pipe()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*before, *(program or command)(*arguments, "--ready-fd", str(writer))],
            env=env,
            cwd=folder,
            pass_fds=(writer,),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    os.close(writer)
    try:
        addresses = _addresses(reader, START_SECONDS)
    finally:
        os.close(reader)
    if addresses is None:
        process.kill()
        process.wait()
        raise AssertionError(f"the gateway did not start:\n{log.read_text()}")
    return Running(process, addresses, log)


def _addresses(reader: int, seconds: float) -> dict[str, Any] | None:
    """What the gateway writes once it is ready; who else holds the pipe may hold it on."""
    end, data = time.monotonic() + seconds, b""
    while select.select([reader], [], [], max(0, end - time.monotonic()))[0]:
        piece = os.read(reader, 65536)
        if not piece:
            return None
        data += piece
        with contextlib.suppress(json.JSONDecodeError):  # there is more to come
            found: dict[str, Any] = json.loads(data)
            return found
    return None


@dataclass
class Gateway:
    """A whole gateway in one of its topologies; a context manager that stops it and checks that it ends well."""

    topology: str
    folder: Path
    env: dict[str, str]
    options: tuple[str, ...] = ()
    running: list[Running] = field(default_factory=list)
    """What others need first; the process with the edge last."""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        codes = self._stop()
        if kind is None:
            assert codes == [0] * len(codes), "\n".join(one.text() for one in self.running)

    @property
    def http(self) -> str:
        return self.running[-1].http

    @property
    def grpc(self) -> str:
        return self.running[-1].grpc("router")

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def _start(self) -> None:
        common = ("--data-dir", str(self.data), "--grpc-port", "0")
        match self.topology:
            case "embedded":
                self._add("up", "--port", "0", *common, *self.options)
            case "split":
                self._add("up", "--split", "--port", "0", *common, *self.options)
            case "workers":
                self._add("up", "--workers", "2", "--port", "0", *common, *self.options)
            case "edge,router":
                self._start_in_parts(common)
            case _:
                raise AssertionError(self.topology)

    def _start_in_parts(self, common: tuple[str, ...]) -> None:
        self._add("serve", "usage", *common)
        targets = {"AIGATEWAY_USAGE_TARGET": self.running[0].grpc("usage")}
        providers = [name for name, (_, url, _) in PROVIDER_KEYS.items() if url in self.env] or ["sandbox"]
        for name in providers:
            self._add("serve", f"provider:{name}", *common)
        pairs = [f"{n}={one.grpc(f'provider:{n}')}" for n, one in zip(providers, self.running[1:], strict=True)]
        hidden = {name for key, url, _ in PROVIDER_KEYS.values() for name in (key, url)}
        env = {k: v for k, v in self.env.items() if k not in hidden}
        env |= targets | {"AIGATEWAY_PROVIDER_TARGETS": ",".join(pairs)}
        self.running.append(start(self.folder, env, "serve", "edge,router", "--port", "0", *common, *self.options))

    def _add(self, *arguments: str) -> None:
        self.running.append(start(self.folder, self.env, *arguments))

    def _stop(self) -> list[int]:
        return [one.stop() for one in reversed(self.running)]
