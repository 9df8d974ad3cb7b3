"""Following the configuration and the files of keys: what is read again, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aigateway_launcher import reload
from aigateway_launcher.held_files import HeldFiles
from aigateway_launcher.plan import Overrides, Plan, make


class Followed:
    """A configuration that is followed, and the plans that came of it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "aigateway.yaml"
        self.key = folder / "keys" / "openai"
        self.key.parent.mkdir()
        self.key.write_text("key-one")
        self.name(self.key)
        self.files = HeldFiles()
        self.taken: asyncio.Queue[Plan] = asyncio.Queue()
        self.refuse = False
        self.made = 0
        self.first = self.plan()

    def name(self, key: Path) -> None:
        self.file.write_text(f"providers: {{openai: {{api_key_file: {key}}}}}\n")

    def plan(self) -> Plan:
        self.made += 1
        return make(Overrides(self.file), {}, ollama_found=lambda: False, files=self.files)

    def apply(self, plan: Plan) -> None:
        if self.refuse:
            raise ValueError("not this one")
        self.taken.put_nowait(plan)

    async def key_taken(self) -> str:
        async with asyncio.timeout(20):
            return (await self.taken.get()).providers["openai"].api_key


@pytest.fixture
async def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Followed]:
    monkeypatch.setattr(reload, "LOOK", 0.05)
    followed, stop = Followed(tmp_path), asyncio.Event()
    task = asyncio.create_task(reload.follow(followed.first, followed.plan, followed.files, followed.apply, stop))
    yield followed
    stop.set()
    await task


async def test_a_key_that_changed_before_the_watch_began_is_taken(followed: Followed) -> None:
    followed.key.write_text("key-two")
    assert await followed.key_taken() == "key-two"


async def test_a_file_that_is_named_later_and_comes_later_still_is_taken(followed: Followed, tmp_path: Path) -> None:
    later = tmp_path / "later" / "openai"
    followed.name(later)
    async with asyncio.timeout(20):
        while later not in followed.files.paths:  # noqa: ASYNC110 -- nobody says when a refused plan was read
            await asyncio.sleep(0.01)
    later.parent.mkdir()
    later.write_text("key-later")
    assert await followed.key_taken() == "key-later"


async def test_what_was_refused_is_offered_again_with_the_next_change(followed: Followed) -> None:
    followed.refuse = True
    before = followed.made
    followed.key.write_text("key-two")
    async with asyncio.timeout(20):
        while followed.made == before:  # noqa: ASYNC110 -- nobody says when a plan was refused
            await asyncio.sleep(0.01)
    followed.refuse = False
    followed.key.write_text("key-three")
    assert await followed.key_taken() == "key-three"


def test_a_key_needs_no_restart_and_another_address_does(tmp_path: Path) -> None:
    followed = Followed(tmp_path)
    followed.key.write_text("key-two")
    assert reload.pending(followed.first, followed.plan()) == []
    followed.file.write_text(followed.file.read_text().replace("{api_key", "{base_url: 'http://x', api_key"))
    assert reload.pending(followed.first, followed.plan()) == ["providers"]


def test_other_logins_need_no_restart_and_other_places_do(tmp_path: Path) -> None:
    def plan(host: str, password: str) -> Plan:
        env = {
            "DATABASE_URL": f"postgresql://me:{password}@{host}/ledger",
            "REDIS_URL": f"redis://:{password}@{host}",
            "NATS_URL": f"nats://me:{password}@{host}:4222",
            "AIGATEWAY_DATA_DIR": str(tmp_path),
        }
        return make(Overrides(), env, ollama_found=lambda: False)

    assert reload.pending(plan("here", "one"), plan("here", "two")) == []
    assert reload.pending(plan("here", "one"), plan("there", "one")) == ["router", "usage"]
