"""Of two tries the first to succeed wins, and the other has ended when that is told."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest
from aigateway_router.race import first_of


class Try:
    """A try that ends when it is told to."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.cancelled = False

    async def run(self) -> str:
        self.started.set()
        try:
            return await self.outcome
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def never() -> str:
    raise AssertionError


async def test_a_quick_first_try_has_no_second() -> None:
    first = Try()
    first.outcome.set_result("first")

    def second() -> Coroutine[None, None, str]:
        raise AssertionError("nobody is slow")

    assert await first_of(first.run(), second, 30, discard=pytest.fail) == "first"


async def test_the_second_wins_and_the_first_has_been_cancelled() -> None:
    first, second = Try(), Try()
    second.outcome.set_result("second")
    assert await first_of(first.run(), second.run, 0, discard=pytest.fail) == "second"
    assert first.cancelled


async def test_a_second_that_fails_leaves_the_first_to_win() -> None:
    first, second = Try(), Try()
    task = asyncio.create_task(first_of(first.run(), second.run, 0, discard=pytest.fail))
    await second.started.wait()
    second.outcome.set_exception(ValueError("second"))
    first.outcome.set_result("first")
    assert await task == "first"


async def test_when_both_fail_the_first_failure_of_the_first_is_told() -> None:
    first, second = Try(), Try()
    task = asyncio.create_task(first_of(first.run(), second.run, 0, discard=pytest.fail))
    await second.started.wait()
    second.outcome.set_exception(ValueError("second"))
    first.outcome.set_exception(ValueError("first"))
    with pytest.raises(ValueError, match="first"):
        await task
    second.outcome.exception()


async def test_no_second_where_none_may_start() -> None:
    first = Try()
    task = asyncio.create_task(first_of(first.run(), lambda: None, 0, discard=pytest.fail))
    await first.started.wait()
    first.outcome.set_result("first")
    assert await task == "first"


async def test_what_came_at_the_same_moment_is_discarded() -> None:
    first, second = Try(), Try()
    discarded: list[str] = []
    task = asyncio.create_task(first_of(first.run(), second.run, 0, discard=discarded.append))
    await second.started.wait()
    first.outcome.set_result("first")
    second.outcome.set_result("second")
    assert (await task, discarded) == ("first", ["second"])


async def test_a_caller_that_leaves_ends_both() -> None:
    first, second = Try(), Try()
    task = asyncio.create_task(first_of(first.run(), second.run, 0, discard=pytest.fail))
    await second.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert first.cancelled
    assert second.cancelled


async def test_a_caller_that_leaves_while_the_loser_ends_leaves_no_winner_behind() -> None:
    first = Try()
    ending, over = asyncio.Event(), asyncio.Event()
    discarded: list[str] = []

    async def slow_to_end() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await over.wait()
        return "second"

    task = asyncio.create_task(first_of(first.run(), slow_to_end, 0, discard=discarded.append))
    await first.started.wait()
    await asyncio.sleep(0)
    first.outcome.set_result("first")
    await asyncio.wait_for(ending.wait(), 10)
    task.cancel()
    await asyncio.sleep(0)
    over.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert discarded == ["first"]
