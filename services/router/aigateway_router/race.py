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
    try:
        done, _ = await asyncio.wait(tasks, timeout=after)
        if not done and (other := second()) is not None:
            tasks.append(asyncio.ensure_future(other))
        winner = await _winner(tasks)
        tasks.remove(winner)
        try:
            await _end(tasks, discard)
        except BaseException:
            tasks = [winner]  # nobody is left to be given it
            raise
    except BaseException:
        await _end(tasks, discard)
        raise
    return winner.result()


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
    """Cancel `losers` and wait until they have ended, also when whoever waits is cancelled meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    for task in losers:
        task.cancel()
    while pending := [task for task in losers if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancelled = error
    for task in losers:
        if not task.cancelled() and task.exception() is None:
            discard(task.result())
    if cancelled is not None:
        raise cancelled
