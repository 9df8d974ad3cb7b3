"""The password of the ledger's database changes under a gateway that runs; it needs no restart and loses no call."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
from support import postgres
from support.accounts import books
from support.certificates import Secret
from support.gateway import Gateway, environment

OLD, NEW = "old-database-password", "new-database-password"
BODY = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "Hi"}]}
COUNT = "SELECT count(*) FROM requests WHERE status = 'ok'"


async def recorded(url: str, calls: int) -> None:
    """Wait until the ledger has `calls` calls."""
    async with books(url) as kept, asyncio.timeout(30):
        while await kept.rows(COUNT) != [(calls,)]:  # noqa: ASYNC110 -- nobody says when an outbox is empty
            await asyncio.sleep(0.05)


async def test_a_changed_password_of_the_database_is_used_for_the_next_connection(tmp_path: Path) -> None:
    with postgres.running() as server:
        url = await server.create()

        def content(password: str) -> dict[str, bytes]:
            return {"DATABASE_URL": url.replace("postgres@", f"{postgres.GUARDED}:{password}@").encode()}

        await server.guard(OLD)
        secret = Secret(tmp_path / "secret", content(OLD))
        env = environment(None, DATABASE_URL_FILE=str(secret.folder / "DATABASE_URL"))
        with Gateway("split", tmp_path, env) as gateway:
            async with httpx.AsyncClient(base_url=gateway.http, timeout=30) as client:
                (await client.post("/v1/chat/completions", json=BODY)).raise_for_status()
                await recorded(url, 1)
                secret.swap(content(NEW))
                await asyncio.to_thread(gateway.running[-1].wait_text, "configuration taken")
                await server.guard(NEW)
                await server.cut()
                (await client.post("/v1/chat/completions", json=BODY)).raise_for_status()
                await recorded(url, 2)
            log = "".join(one.text() for one in gateway.running)
    assert '"needs_restart":[]' in log
    assert OLD not in log
    assert NEW not in log
