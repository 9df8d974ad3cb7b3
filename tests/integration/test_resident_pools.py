"""A pool that goes by where the model is in memory, end to end: HTTP in, real services, two boxes of Ollama behind."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.gateway import Gateway, environment
from support.ollama_box import MODEL, Box

CONFIG = """
providers:
  attic: {kind: ollama, base_url: "ATTIC"}
  cellar: {kind: ollama, base_url: "CELLAR"}
pools:
  boxes: {members: {attic: 1, cellar: 1}, strategy: resident}
"""
CHAT = "/v1/chat/completions"
CALLS = 20
"""So many go to one of two boxes by chance once in half a million times."""


@pytest.fixture
def boxes() -> Iterator[tuple[Box, Box]]:
    with Box("attic", loaded=True) as attic, Box("cellar") as cellar:
        yield attic, cellar


@pytest.fixture(params=["embedded", "split"])
def gateway(request: pytest.FixtureRequest, tmp_path: Path, boxes: tuple[Box, Box]) -> Iterator[Gateway]:
    attic, cellar = boxes
    config = tmp_path / "aigateway.yaml"
    config.write_text(CONFIG.replace("ATTIC", attic.url).replace("CELLAR", cellar.url))
    with Gateway(request.param, tmp_path, environment(None), ("--config", str(config))) as started:
        yield started


async def test_calls_go_where_the_model_is_in_memory_and_fewest_calls_are_under_way(
    gateway: Gateway, boxes: tuple[Box, Box]
) -> None:
    attic, cellar = boxes
    async with httpx.AsyncClient(base_url=gateway.http, timeout=30) as client:
        await asyncio.gather(attic.asked(1), cellar.asked(1))
        await until(client, "attic", in_a_row=10)
        assert await answers(client, CALLS) == {"attic"}

        attic.loaded, cellar.loaded = False, True
        await asyncio.gather(*(box.asked(box.looks + 1) for box in boxes))
        await until(client, "cellar", in_a_row=10)
        assert await answers(client, CALLS) == {"cellar"}

        attic.loaded = True
        await attic.asked(attic.looks + 1)
        await until(client, "attic", in_a_row=1)
        quieter, busier = await held(client, boxes, 3)
        assert (quieter.held, busier.held) == (1, 2)

        busier.stop()
        assert await answers(client, CALLS) == {quieter.name}


async def held(client: httpx.AsyncClient, boxes: tuple[Box, Box], calls: int) -> tuple[Box, Box]:
    """The boxes, the one with fewer calls first, once so many were under way; who is asked meanwhile is looked at."""
    async with contextlib.AsyncExitStack() as streams:
        for box in boxes:
            box.holding = True
        for _ in range(calls):
            await streams.enter_async_context(client.stream("POST", CHAT, json=body(stream=True)))
        quieter, busier = sorted(boxes, key=lambda box: box.held)
        assert await answers(client, CALLS) == {quieter.name}
    return quieter, busier


async def until(client: httpx.AsyncClient, name: str, *, in_a_row: int) -> None:
    """Call until so many answers one after the other come from `name`: it was asked, and the router is being told."""
    end, found = time.monotonic() + 10, 0
    while found < in_a_row:
        assert time.monotonic() < end, f"calls do not go to {name}"
        found = found + 1 if await answers(client, 1) == {name} else 0


async def answers(client: httpx.AsyncClient, calls: int) -> set[str]:
    """Who answered so many calls, one after the other."""
    found: set[str] = set()
    for _ in range(calls):
        response = await client.post(CHAT, json=body(stream=False))
        assert response.status_code == 200, response.text
        name = response.json()["choices"][0]["message"]["content"]
        assert response.headers["x-provider"] == name
        found.add(name)
    return found


def body(*, stream: bool) -> dict[str, object]:
    return {"model": f"boxes/{MODEL}", "stream": stream, "messages": [{"role": "user", "content": "Who are you?"}]}
