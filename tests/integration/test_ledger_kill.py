"""`kill -9` of the usage service during 500 calls: after restart the ledger holds every answered call exactly once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from support.cases import CASES
from support.chaos.services import kill, wait_serving
from support.gateway import Gateway, environment
from support.ledger import rows, wait_for
from support.replay import Upstream

CALLS = 500
KILLS = (100, 250, 400)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("topology", ["split", "workers"])
async def test_every_answered_call_is_recorded_exactly_once(tmp_path: Path, topology: str) -> None:
    case = CASES[0]
    answered: list[str] = []
    with Upstream(case.whole) as upstream, Gateway(topology, tmp_path, environment(upstream.url, "openai")) as gateway:
        async with httpx.AsyncClient(base_url=gateway.http, timeout=60) as client:
            gate, killing = asyncio.Semaphore(16), asyncio.Lock()

            async def call(number: int) -> None:
                async with gate:
                    body = {"model": case.name, "messages": [{"role": "user", "content": "Hi"}]}
                    headers = {"x-request-id": f"kill-{number}"}
                    answer = await client.post("/v1/chat/completions", json=body, headers=headers)
                    assert answer.status_code == 200, answer.text
                    answered.append(answer.headers["x-request-id"])
                    if len(answered) in KILLS:
                        async with killing:  # an earlier kill may not be over yet
                            await wait_serving(gateway.running[-1], "usage")
                            kill(gateway, "usage")

            await asyncio.gather(*(call(number) for number in range(CALLS)))
        recorded = wait_for(gateway.data, CALLS, seconds=60)
    assert sorted(row["request_id"] for row in recorded) == sorted(answered)
    assert len(rows(gateway.data)) == CALLS, "nothing came twice afterwards"
    summed = "SELECT sum(attempts) AS hours, (SELECT sum(attempts) FROM attempt_days) AS days FROM attempt_hours"
    assert rows(gateway.data, summed) == [{"hours": CALLS, "days": CALLS}]
    assert "starting it again" in gateway.running[-1].text()
