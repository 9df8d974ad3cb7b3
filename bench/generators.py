"""Load generators as processes: wrk for whole calls, our own for streams, for gRPC, and where there is no wrk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol, Self

from bench import load
from bench.bodies import body
from bench.cases import Case
from bench.rows import Row
from bench.servers import ROOT, Server, end

WRK: Final = shutil.which("wrk")
HOW_TO_GET_WRK: Final = "wrk is not here (Debian: apt-get install wrk); whole calls are made by bench/load.py instead"


class LoadError(RuntimeError):
    """A call failed, or could not be made, so the figures would be of something else."""


class Generator(Protocol):
    """Load that goes on until it is finished; a context manager that ends its process."""

    process: subprocess.Popen[str]

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    def units(self) -> int:
        """Whole calls, or records of streams, so far."""

    def finish(self) -> dict[str, Any]:
        """Stop, and say what the callers saw."""


def generator(row: Row, server: Server, case: Case, warm: float, ramp: float, answered: Callable[[], int]) -> Generator:
    """The load of `case` on `server`; `answered` is how many of its calls the mock has answered."""
    payload = body(case.body, server.model.format(case.model), stream=case.stream)
    file = server.folder / f"{case.name}.request"
    server.folder.mkdir(parents=True, exist_ok=True)
    if row.over == "grpc":
        file.write_bytes(payload)
        key = server.headers["authorization"].removeprefix("Bearer ")
        return _Own("bench.grpc_load", [server.grpc, str(file), "--key", key], case, warm, ramp)
    if case.stream or not WRK:
        file.write_bytes(load.request(payload, server.headers))
        return _Own("bench.load", [str(server.port), str(file)], case, warm, ramp)
    file.write_bytes(payload)
    return _Wrk(server, case, file, answered)


class _Own:
    """One of ours; see `bench.tally`."""

    def __init__(self, module: str, target: list[str], case: Case, warm: float, ramp: float) -> None:
        self._line = [sys.executable, "-m", module, *target]
        self._line += ["--at-once", str(case.at_once), "--warm", str(warm + ramp), "--ramp", str(ramp)]

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(self._line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._read() != "ready\n":
            self.__exit__()
            raise LoadError("the load generator could not connect")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        end(self.process)

    def units(self) -> int:
        """So far."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        said = _parsed(self._read())
        _check(said["failure"])
        return int(said["units"])

    def finish(self) -> dict[str, Any]:
        """Close its input and read the last line."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        said = _parsed(self._read())
        _check(said.pop("failure"))
        return said

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


class _Wrk:
    """https://github.com/wg/wrk. Its one thread keeps all connections busy; an interrupt makes it stop and report."""

    def __init__(self, server: Server, case: Case, file: Path, answered: Callable[[], int]) -> None:
        headers = file.with_suffix(".headers")
        lines = [f"{name}: {value}\n" for name, value in server.headers.items()]
        headers.write_text("".join([*lines, "content-type: application/json\n"]))
        url = f"http://127.0.0.1:{server.port}{load.PATH}"
        script = str(ROOT / "bench/post.lua")
        self._line = [WRK or "wrk", "-t1", f"-c{case.at_once}", "-d600s", "--timeout", "60s", "-s", script, url]
        self._environment = os.environ | {"BODY": str(file), "HEADERS": str(headers)}
        self.units = answered

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._line, env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        end(self.process)

    def finish(self) -> dict[str, Any]:
        """Interrupt it and read its last line."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.stdout is not None
        said = _parsed(self.process.stdout.read().strip().rpartition("\n")[2])
        refused, broken = said.pop("refused"), said.pop("broken")
        _check(f"{refused} calls were refused, {broken} connections broke" if refused or broken else "")
        return said


def _parsed(line: str) -> dict[str, Any]:
    try:
        said: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise LoadError(f"the load generator said {line!r}") from error
    return said


def _check(failure: str) -> None:
    if failure:
        raise LoadError(failure)
