"""A process is set up before it serves."""

from __future__ import annotations

import subprocess
import sys


def test_a_process_can_be_set_up_for_throughput() -> None:
    code = (
        "import asyncio, os, sys; from aigateway_common import scheduling\n"
        "batch, uv = scheduling.set_batch_scheduling(), scheduling.install_uvloop()\n"
        "if batch: assert os.sched_getscheduler(0) == os.SCHED_BATCH\n"
        "async def loop(): return type(asyncio.get_running_loop()).__module__\n"
        "assert uv == asyncio.run(loop()).startswith('uvloop')\n"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
