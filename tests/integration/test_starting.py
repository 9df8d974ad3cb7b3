"""Starts that are ended by a signal or by what they find: an exit code, at most their own words, and no traceback."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.gateway import command, environment

FREE = ("--port", "0", "--grpc-port", "0")
UNWANTED = ("Traceback", "Exception ignored", "never awaited", "Warning", "was never retrieved")


@contextmanager
def starting(folder: Path, *arguments: str, **more: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A gateway that is starting, and the descriptor at which it will say that it has."""
    folder.mkdir()
    reader, writer = os.pipe()
    env = environment(None, PYTHONWARNINGS="always::ResourceWarning", **more)
    line = command(*arguments, "--data-dir", str(folder / "data"), "--ready-fd", str(writer))
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(line, env=env, cwd=folder, pass_fds=(writer,), text=True, **pipes) as process:  # type: ignore[call-overload] # mypy cannot see through the dict
        os.close(writer)
        try:
            yield process, reader
        finally:
            process.kill()
            os.close(reader)


def ended(process: subprocess.Popen[str]) -> str:
    """What it had to say when it was told to stop, and did."""
    process.terminate()
    _, said = process.communicate(timeout=30)
    # Before it has a loop to stop, the signal ends it by itself.
    assert process.returncode in {0, -signal.SIGTERM}, said
    assert not [word for word in UNWANTED if word in said], said
    return said


@pytest.mark.parametrize(
    ("how", "moments"), [((), (0.3, 0.5, 0.7, 0.8, 0.9)), (("--split",), (0.5, 0.8))], ids=["one process", "split"]
)
def test_a_signal_at_any_moment_of_a_start_ends_it_in_silence(
    how: tuple[str, ...], moments: tuple[float, ...], tmp_path: Path
) -> None:
    with starting(tmp_path / "whole", "up", *how, *FREE) as (process, reader):
        began = time.monotonic()
        assert os.read(reader, 1) == b"{"
        took = time.monotonic() - began
        ended(process)
    for moment in moments:
        with starting(tmp_path / f"{moment:.0%}", "up", *how, *FREE) as (process, reader):
            select.select([reader], [], [], took * moment)  # or until it is ready, should that come first
            ended(process)


@pytest.mark.parametrize("arguments", [("up", *FREE), ("serve", "usage", "--grpc-port", "0")], ids=["up", "usage"])
def test_a_signal_while_a_database_does_not_answer_ends_the_start(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        url = f"postgresql://user@127.0.0.1:{silent.getsockname()[1]}/ledger?ssl=disable"
        with starting(tmp_path / "gateway", *arguments, DATABASE_URL=url) as (process, _):
            connection, _ = silent.accept()
            with connection:
                assert ended(process) == ""
                assert process.returncode == 0


def test_whoever_waits_for_a_gateway_to_be_ready_may_leave(tmp_path: Path) -> None:
    with starting(tmp_path / "gateway", "up", *FREE) as (process, reader):
        with Path(os.devnull).open() as nobody:
            os.dup2(nobody.fileno(), reader)
        assert process.stderr is not None
        for line in process.stderr:
            if "is ready" in line:
                break
        ended(process)
        assert process.returncode == 0
