"""Which upstreams have a model in memory: asked again and again, and forgotten when nobody answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aigateway.v1 import model_pb2
from aigateway_common.errors import GatewayError
from aigateway_router.policy.residency import Residency


class Boxes:
    """Upstreams whose models a test loads and lets go."""

    def __init__(self) -> None:
        self.loaded: dict[str, set[str]] = {"one": set(), "two": set()}
        self.away: set[str] = set()
        self.slept = asyncio.Semaphore(0)
        self.look = asyncio.Event()

    async def ask(self, name: str) -> Sequence[model_pb2.Model]:
        if name in self.away:
            raise GatewayError("UNAVAILABLE", "away")
        return [
            model_pb2.Model(id=one, residency=model_pb2.Residency(loaded=one in self.loaded[name]))
            for one in ("llama3.2:latest", "qwen3:8b")
        ]

    async def sleep(self, _seconds: float) -> None:
        self.slept.release()
        await self.look.wait()

    async def looked(self) -> None:
        """Wait until each was asked once more."""
        waited, self.look = self.look, asyncio.Event()
        waited.set()
        for _ in self.loaded:
            await self.slept.acquire()


async def test_what_is_loaded_is_known_by_its_name_with_and_without_the_default_tag_until_it_is_not() -> None:
    boxes = Boxes()
    boxes.loaded["one"] = {"llama3.2:latest"}
    residency = Residency(boxes.loaded, boxes.ask, sleep=boxes.sleep)
    residency.start()
    await boxes.looked()
    names = ("llama3.2", "llama3.2:latest", "qwen3:8b", "qwen3")
    assert [residency.has("one", name) for name in names] == [True, True, False, False]
    assert not any(residency.has("two", name) for name in names)
    boxes.loaded = {"one": set(), "two": {"qwen3:8b"}}
    await boxes.looked()
    assert not residency.has("one", "llama3.2")
    assert residency.has("two", "qwen3:8b")
    await residency.stop()


async def test_an_upstream_that_does_not_answer_has_nothing_and_is_asked_again() -> None:
    boxes = Boxes()
    boxes.loaded["one"] = {"qwen3:8b"}
    residency = Residency(boxes.loaded, boxes.ask, sleep=boxes.sleep)
    residency.start()
    await boxes.looked()
    boxes.away.add("one")
    await boxes.looked()
    assert not residency.has("one", "qwen3:8b")
    boxes.away.clear()
    await boxes.looked()
    assert residency.has("one", "qwen3:8b")
    await residency.stop()


async def test_nobody_is_asked_where_no_pool_goes_by_it() -> None:
    residency = Residency((), Boxes().ask)
    residency.start()
    assert not residency.has("one", "qwen3:8b")
    await residency.stop()
