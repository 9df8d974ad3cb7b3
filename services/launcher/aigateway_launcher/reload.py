"""Takes changes of the configuration file into a running process: keys, names and fallbacks at once, the rest later.

A file with mistakes changes nothing; they are logged, and the settings in force stay.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Final

from aigateway_common import logs
from aigateway_common.settings import ConfigurationError
from watchfiles import awatch

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

    from aigateway_router.settings import RouterSettings

    from aigateway_launcher.plan import Plan

LIVE: Final = ("api_keys", "aliases", "groq_models", "fallbacks")
"""Settings of the router that calls beginning from now on go by; all others are read at start."""

_log = logs.get("launcher")


async def follow(
    path: Path, current: Plan, plan: Callable[[], Plan], apply: Callable[[RouterSettings], None], stop: asyncio.Event
) -> None:
    """Until `stop`, take each change of the file at `path`.

    Args:
        path: The configuration file; its folder is watched, since editors and mounted volumes replace files.
        current: The plan in force.
        plan: Reads the file anew. Raises ConfigurationError.
        apply: Hands new settings to the router. Raises ValueError, and then has changed nothing.
        stop: Ends the watch.
    """
    async for _ in awatch(path.parent, recursive=False, stop_event=stop, watch_filter=None):
        try:
            fresh = plan()
            if fresh == current:
                continue
            apply(fresh.router)
        except (ConfigurationError, ValueError) as error:
            _log.error("configuration not taken: it has mistakes", file=str(path), mistakes=str(error).split("\n"))
            continue
        waiting = pending(current, fresh)
        _log.info("configuration taken", file=str(path), needs_restart=waiting)
        current = fresh


def pending(current: Plan, fresh: Plan) -> list[str]:
    """The parts that changed and that only a restart takes."""
    live = {name: getattr(fresh.router, name) for name in LIVE}
    taken = replace(current, router=replace(current.router, **live))
    return [item.name for item in fields(fresh) if getattr(taken, item.name) != getattr(fresh, item.name)]
