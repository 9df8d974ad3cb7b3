"""`kill -9` of the usage service during 500 calls: after restart the ledger holds every answered call exactly once."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from aigateway_common.serving import grpc_channel
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.cases import CASES
from support.gateway import Gateway, environment
from support.ledger import rows, wait_for
from support.replay import Upstream

CALLS = 500
KILLS = (100, 250, 400)


async def kill(gateway: Gateway, name: str) -> None:
    """`kill -9` a service of `up --split`, once it serves: an earlier kill may not be over yet."""
    async with grpc_channel(gateway.running[-1].grpc(name)) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=30)
    parent = psutil.Process(gateway.running[-1].process.pid)
    (found,) = [child for child in parent.children() if name in child.cmdline()]
    os.kill(found.pid, signal.SIGKILL)


@pytest.mark.timeout(180)
async def test_every_answered_call_is_recorded_exactly_once(tmp_path: Path) -> None:
    case = CASES[0]
    answered: list[str] = []
    with Upstream(case.whole) as upstream, Gateway("split", tmp_path, environment(upstream.url, "openai")) as gateway:
        async with httpx.AsyncClient(base_url=gateway.http, timeout=60) as client:
            gate = asyncio.Semaphore(16)

            async def call(number: int) -> None:
                async with gate:
                    body = {"model": case.name, "messages": [{"role": "user", "content": "Hi"}]}
                    headers = {"x-request-id": f"kill-{number}"}
                    answer = await client.post("/v1/chat/completions", json=body, headers=headers)
                    assert answer.status_code == 200, answer.text
                    answered.append(answer.headers["x-request-id"])
                    if len(answered) in KILLS:
                        await kill(gateway, "usage")

            await asyncio.gather(*(call(number) for number in range(CALLS)))
        recorded = wait_for(gateway.data, CALLS, seconds=60)
    assert sorted(row["request_id"] for row in recorded) == sorted(answered)
    assert len(rows(gateway.data)) == CALLS, "nothing came twice afterwards"
    assert "starting it again" in gateway.running[-1].text()
