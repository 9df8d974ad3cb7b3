"""What no service uses is not loaded by any, and is there for whoever asks for it later."""

from __future__ import annotations

import subprocess
import sys

_SERVICES = """
import sys
from aigateway_launcher import spared

spared.leave_out()
from aigateway_launcher import start
import aigateway_edge.app, aigateway_providers.upstream, aigateway_router.server, aigateway_usage.server
import genai_prices

print(sorted({"greenlet", "pygments", "rich", "sqlalchemy.ext.asyncio", "sqlalchemy.orm"} & set(sys.modules)))
import greenlet, rich.console, sqlalchemy.ext.asyncio
"""

_PARENT = """
import sys
from aigateway_launcher import spared

spared.leave_out()
from aigateway_launcher import start, supervisor, split, workers

print(sorted({"fastapi", "google.protobuf", "grpc", "httpx", "sqlalchemy", "uvicorn"} & set(sys.modules)))
"""

_LOGS = """
from aigateway_launcher import spared

spared.leave_out()
from aigateway_common import logs

logs.configure("info", json=False)
try:
    raise ValueError("nothing works")
except ValueError:
    logs.get("launcher").exception("failed")
"""


def test_services_load_neither_command_lines_nor_the_orm() -> None:
    assert _run(_SERVICES).stdout == "[]\n"


def test_the_parent_of_several_processes_loads_nothing_that_serves() -> None:
    assert _run(_PARENT).stdout == "[]\n"


def test_logs_for_people_show_tracebacks_all_the_same() -> None:
    lines = _run(_LOGS).stderr.splitlines()
    assert "failed" in lines[0]
    assert lines[-1] == "ValueError: nothing works"


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
