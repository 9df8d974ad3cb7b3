"""Keeps glibc from holding on to memory that nobody uses any more. On systems without glibc it does nothing.

Python frees the body of a large call, but glibc keeps its pages for later, in an arena for each of gRPC's threads. So
there is one arena here, and what is free in it goes back to the system soon after it was needed. It frees nothing
that is in use, and knows nothing of calls.
"""

from __future__ import annotations

import asyncio
import ctypes
import resource
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE: Final = 1.0
"""Seconds between two looks."""
WORTH: Final = 512
"""Pages that the process has newly touched since memory was last given back: with fewer there is not much to give."""
_ARENA_MAX: Final = -8
"""`M_ARENA_MAX` of glibc's malloc.h: https://man7.org/linux/man-pages/man3/mallopt.3.html."""


def use_one_arena() -> bool:
    """Have all threads allocate from one arena; False where that cannot be asked for. Call it before they start.

    The interpreter lets one thread run at a time, so that hardly any waits for another here.
    """
    mallopt = _function("mallopt")
    return mallopt is not None and mallopt(_ARENA_MAX, 1) == 1


async def give_back() -> None:
    """Give free memory back to the system whenever the process has taken more of it, until cancelled."""
    trim = _function("malloc_trim")
    if trim is None:
        return
    given = 0
    while True:
        await asyncio.sleep(PAUSE)
        if _touched() - given >= WORTH:
            trim(0)
            given = _touched()


def _touched() -> int:
    """Pages that the process has touched for the first time, or again since they were given back."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _function(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where it has none of this name."""
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return found
