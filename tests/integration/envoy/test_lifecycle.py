"""Envoy's start and end: a parent that is gone, a certificate that is renewed, an orderly leave."""

from __future__ import annotations

import asyncio
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from support.certificates import Mounted
from support.envoy import FOLDER, Envoy, free_port, program, until
from support.replay import Answer, Upstream


@pytest.fixture
def edge() -> Iterator[Upstream]:
    with Upstream(Answer.of({})) as upstream:
        yield upstream


@pytest.fixture
def settings(edge: Upstream) -> dict[str, str]:
    return {"EDGES": urlsplit(edge.url).netloc, "ROUTERS": f"127.0.0.1:{free_port()}"}


def test_envoy_ends_with_the_process_that_started_it(settings: dict[str, str], tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells a process that its parent has ended")
    listen, folder = f"127.0.0.1:{free_port()}", tmp_path / "envoy"
    given = [f"{name}={value}" for name, value in settings.items()]
    given += [f"LISTEN={listen}", f"STATUS=127.0.0.1:{free_port()}", f"ADMIN=127.0.0.1:{free_port()}"]
    run = [sys.executable, str(FOLDER / "run.py"), "--envoy", program(), "--folder", str(folder), *given]
    parent = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", *run],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: _answers(f"http://{listen}"), "Envoy answers")
        (envoy,) = psutil.Process(parent.pid).children()
        assert envoy.name() == "envoy"
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    until(lambda: not psutil.pid_exists(envoy.pid) or envoy.status() == psutil.STATUS_ZOMBIE, "Envoy has ended")


def test_a_renewed_certificate_is_taken_up_without_a_restart(settings: dict[str, str], tmp_path: Path) -> None:
    mounted = Mounted(tmp_path / "mounted")
    paths = {"TLS_CERTIFICATE": str(mounted.certificate), "TLS_KEY": str(mounted.key)}
    with Envoy(tmp_path / "envoy", **settings, **paths) as envoy:
        host, _, port = envoy.address.rpartition(":")

        def shown() -> bytes:
            return ssl.get_server_certificate((host, int(port))).encode()

        assert shown() == mounted.certificate.read_bytes()
        renewed = mounted.renew()
        until(lambda: shown() == renewed, "the new certificate is shown")


async def test_draining_ends_once_the_last_stream_has(edge: Upstream, settings: dict[str, str], tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash on PATH")
    held = Answer.sse("data: 1\n\n", hold=True)
    edge.reset(script=lambda sent: held if sent.path == "/stream" else Answer.of({}))
    with Envoy(tmp_path / "envoy", **settings) as envoy:
        async with httpx.AsyncClient(base_url=envoy.http) as client, client.stream("GET", "/stream") as stream:
            records = stream.aiter_text()
            assert await anext(records) == "data: 1\n\n"
            port = envoy.settings["ADMIN"].rpartition(":")[2]
            drain = await asyncio.create_subprocess_exec(bash, str(FOLDER / "drain.sh"), port, "30")
            await asyncio.to_thread(until, lambda: httpx.get(f"{envoy.status}/ready").status_code == 503, "not ready")
            async with httpx.AsyncClient(base_url=envoy.http) as other:
                answer = await other.get("/any")
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            assert drain.returncode is None, "a stream is under way"
            assert not edge.hung_up.is_set()
        assert await drain.wait() == 0


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
