"""Two tries at the same thing, the second one started late; the first to succeed wins. Knows nothing of calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_T = TypeVar("_T")


async def first_of(
    first: Coroutine[None, None, _T],
    second: Callable[[], Coroutine[None, None, _T] | None],
    after: float,
    discard: Callable[[_T], None],
) -> _T:
    """The result of the first try that succeeds; the other one is cancelled, and has ended when this returns.

    Args:
        first: Starts at once.
        second: Starts when `first` has not ended within `after` seconds; None lets it be.
        after: Seconds.
        discard: Is given the result of a try that succeeded at the same moment as the winner.

    Raises what `first` raised when both fail.
    """
    tasks: list[asyncio.Future[_T]] = [asyncio.ensure_future(first)]
    winner: asyncio.Future[_T] | None = None
    try:
        done, _ = await asyncio.wait(tasks, timeout=after)
        if not done and (other := second()) is not None:
            tasks.append(asyncio.ensure_future(other))
        winner = await _winner(tasks)
        return winner.result()
    finally:
        await _end([task for task in tasks if task is not winner], discard)


async def _winner(tasks: list[asyncio.Future[_T]]) -> asyncio.Future[_T]:
    """The first of `tasks` that succeeds; the first of all when none does."""
    pending = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task in done and not task.cancelled() and task.exception() is None:
                return task
    return tasks[0]


async def _end(losers: list[asyncio.Future[_T]], discard: Callable[[_T], None]) -> None:
    for task in losers:
        task.cancel()
    for result in await asyncio.gather(*losers, return_exceptions=True):
        if not isinstance(result, BaseException):
            discard(result)
