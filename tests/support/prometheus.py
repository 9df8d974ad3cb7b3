"""A real Prometheus that scrapes what a test starts: the one on PATH (Debian's package `prometheus`)."""

from __future__ import annotations

import contextlib
import math
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from support.envoy import free_port

SCRAPE_SECONDS = 1
WAIT_SECONDS = 60


@dataclass
class Prometheus:
    """A running server."""

    url: str

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The vector that an expression gives now; fails when it is refused."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=30)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"]["result"])

    def numbers(self, expression: str) -> list[float]:
        """The values of it that are numbers."""
        values = [float(sample["value"][1]) for sample in self.ask(expression)]
        return [value for value in values if not math.isnan(value)]

    def scraped(self) -> None:
        """Wait until every target has been scraped twice from now on."""
        for _ in range(2):
            now = time.time()
            self.until(f'min(timestamp(up{{job="aigateway"}})) > {now}')

    def until(self, expression: str) -> None:
        """Wait until an expression gives something."""
        end = time.monotonic() + WAIT_SECONDS
        while not self.ask(expression):
            assert time.monotonic() < end, f"still nothing: {expression}"
            time.sleep(0.1)


@contextlib.contextmanager
def running(folder: Path, config: Path, targets: dict[str, list[str]]) -> Iterator[Prometheus]:
    """Prometheus with the jobs of `config`, whose addresses are `targets` instead of what a name server says."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not on PATH (Debian has it in the package prometheus)")
    settings = yaml.safe_load(config.read_text())
    settings["global"] = {"scrape_interval": f"{SCRAPE_SECONDS}s", "scrape_timeout": f"{SCRAPE_SECONDS}s"}
    settings["rule_files"] = []
    for job in settings["scrape_configs"]:
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": targets[job["job_name"]]}]
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(settings))
    port = free_port("127.0.0.1")
    command = [program, f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        server = Prometheus(f"http://127.0.0.1:{port}")
        end = time.monotonic() + WAIT_SECONDS
        while not _ready(server.url):
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            assert time.monotonic() < end, "Prometheus is not ready"
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready").status_code == 200
    except httpx.TransportError:
        return False
