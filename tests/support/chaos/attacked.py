"""One gateway that takes every attack, and the verdicts on them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from support.chaos.echo import MODELS, expected, prompt
from support.chaos.table import Table

if TYPE_CHECKING:
    from support.gateway import Gateway

KEY = "attacked-gateway-key-0123456789"
CHAT = "/v1/chat/completions"
AUTH = f"authorization: Bearer {KEY}"
JSON = "content-type: application/json"
MEMORY_MARGIN = 128 * 1024 * 1024
"""Bytes that its processes together may hold more of than before: some copies of the largest body."""
SECONDS_TO_LET_GO = 20.0


def chat(asked: str = "x 2 0", **changes: Any) -> dict[str, Any]:
    """A good call of the echoing stand-in."""
    return {"model": MODELS["openai"], "messages": [{"role": "user", "content": asked}]} | changes


@dataclass
class Attacked:
    """The gateway, and the memory that it held before."""

    gateway: Gateway
    before: int

    async def is_as_before(self, beyond: int = 0) -> None:
        """The gateway still does what it is for, in not much more memory than before and what may be `beyond` that."""
        headers = {"authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(base_url=self.gateway.http, headers=headers, timeout=10) as client:
            got = await client.post(CHAT, json=chat(prompt("still", 3)))
        assert got.status_code == 200, got.text
        assert got.json()["choices"][0]["message"]["content"] == expected("still", 3)
        more = await self._held(MEMORY_MARGIN + beyond)
        print(f"memory held: {self.before / 2**20:.0f} MiB before, {more / 2**20:+.0f} MiB")
        assert more < MEMORY_MARGIN + beyond

    async def _held(self, allowed: int) -> int:
        """The bytes held more than before, once `allowed` are enough: connections that broke off end one by one."""
        end = time.monotonic() + SECONDS_TO_LET_GO
        while (more := memory(self.gateway) - self.before) >= allowed and time.monotonic() < end:  # noqa: ASYNC110 -- memory has no event
            await asyncio.sleep(0.05)
        return more


def memory(gateway: Gateway) -> int:
    """Bytes held by all processes of a gateway."""
    parent = psutil.Process(gateway.running[-1].process.pid)
    return sum(one.memory_info().rss for one in (parent, *parent.children(recursive=True)))


@dataclass
class Verdicts:
    """The table of a group of attacks."""

    title: str
    bad: list[str] = field(default_factory=list)
    table: Table = field(init=False)

    def __post_init__(self) -> None:
        self.table = Table(self.title, ("attack", "allowed", "got", ""))

    def add(self, attack: str, allowed: object, got: object, *, good: bool) -> None:
        self.table.add(attack, allowed, got, "" if good else "NOT AS IT SHOULD BE")
        if not good:
            self.bad.append(f"{attack}: {got}")

    def conclude(self) -> None:
        print(self.table.text())
        assert not self.bad
