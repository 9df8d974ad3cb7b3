"""The operating system's accounts, read of real processes."""

from __future__ import annotations

import os
import subprocess
import sys

from bench import account

BUSY = "sum(range(3_000_000)); print('done', flush=True); input()"


def test_the_time_of_another_process_is_read_finely_and_only_grows() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = account.processes({"busy": process.pid})
        used = account.cpu_ms(found)["busy"]
        assert 0 < used <= account.cpu_ms(found)["busy"]
        assert account.memory_mb(found)["busy"] > 1
        process.communicate(b"\n")


def test_children_are_called_by_the_service_that_they_are() -> None:
    script = (
        "import subprocess, sys\n"
        "wait = 'import sys; sys.stdin.read()'\n"
        "for more in (['serve', 'router'], ['serve', 'provider:openai', '--port', '1'], []):\n"
        "    subprocess.Popen([sys.executable, '-c', wait, *more])\n"
        "print('done', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert sorted(name for name, _ in account.processes({"parent": process.pid})) == [
            "adapter",
            "parent",
            "parent's",
            "router",
        ]
        process.communicate()


def test_what_the_machine_has_used_holds_what_this_process_has() -> None:
    assert account.machine_cpu_ms() > sum(os.times()[:2]) * 1000
    assert account.loop_ms() > 0
