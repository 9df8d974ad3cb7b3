"""Two usage services on one PostgreSQL, as the component `postgres` runs them, of which one is killed under load."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import httpx
import pytest
from support import postgres
from support.accounts import books
from support.cases import CASES
from support.gateway import Running, environment, start
from support.replay import Upstream

CASE = CASES[0]
CALLS = 200
BODY = {"model": CASE.name, "messages": [{"role": "user", "content": "Hi"}]}
SUMS = "SELECT (SELECT sum(attempts) FROM attempt_hours), (SELECT sum(attempts) FROM attempt_days)"


@pytest.mark.servers
async def test_the_other_takes_what_a_killed_one_did_not_acknowledge_and_counts_none_twice(tmp_path: Path) -> None:
    with postgres.running() as database, Upstream(CASE.whole) as upstream, contextlib.ExitStack() as opened:
        url = await database.create()
        env = environment(upstream.url, "openai", DATABASE_URL=url)

        def process(name: str, env: dict[str, str], *arguments: str) -> Running:
            folder = tmp_path / name
            running = start(folder, env, *arguments, "--data-dir", str(folder / "data"), "--grpc-port", "0")
            opened.callback(running.stop)
            return running

        ledgers = [process(f"usage-{number}", env, "serve", "usage") for number in range(2)]
        target = "ipv4:" + ",".join(one.grpc("usage") for one in ledgers)
        gateway = env | {"AIGATEWAY_USAGE_TARGET": target}
        edge = process("edge", gateway, "serve", "edge,router,provider:openai", "--port", "0")
        answered: list[str] = []
        async with httpx.AsyncClient(base_url=edge.http, timeout=60) as client:
            gate = asyncio.Semaphore(8)

            async def one(number: int) -> None:
                async with gate:
                    headers = {"x-request-id": f"call-{number}"}
                    answer = await client.post("/v1/chat/completions", json=BODY, headers=headers)
                    assert answer.status_code == 200, answer.text
                    answered.append(answer.headers["x-request-id"])
                    if len(answered) == CALLS // 2:
                        assert ledgers[0].stop(signal.SIGKILL) == -signal.SIGKILL

            await asyncio.gather(*(one(number) for number in range(CALLS)))
        async with books(url) as kept, asyncio.timeout(60):
            while await kept.rows("SELECT count(*) FROM requests") != [(CALLS,)]:  # noqa: ASYNC110 -- nobody says when
                await asyncio.sleep(0.05)
            recorded = [str(row[0]) for row in await kept.rows("SELECT request_id FROM requests")]
            assert sorted(recorded) == sorted(answered)
            assert await kept.rows(SUMS) == [(CALLS, CALLS)]
        assert ledgers[0].process.poll() == -signal.SIGKILL
        assert ledgers[1].process.poll() is None
