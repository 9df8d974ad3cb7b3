"""Takes changes of the configuration file, and of the files that hold keys, into a running process.

Keys, names and fallbacks are taken at once, and what database, Redis and NATS are shown when a connection is made; the
rest later. A file with mistakes changes nothing; they are logged, and the settings in force stay.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Final

from aigateway_common import logs
from aigateway_common.event_stream import same_servers
from aigateway_common.logins import same_place
from aigateway_common.settings import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from aigateway_launcher.held_files import HeldFiles
    from aigateway_launcher.plan import Plan

LIVE: Final = ("api_keys", "admin_keys", "aliases", "groq_models", "fallbacks")
"""Settings of the router that calls beginning from now on go by; all others are read at start."""
LOOK: Final = 1.0
"""Seconds between two looks at the files. Looking costs some microseconds, and sees every kind of change on every kind
of mount; the system's own notices would also come for each line of a log that lies beside the file."""

_log = logs.get("launcher")


async def follow(
    current: Plan, plan: Callable[[], Plan], files: HeldFiles, apply: Callable[[Plan], None], stop: asyncio.Event
) -> None:
    """Until `stop`, take each change of the configuration file of `current` and of `files`.

    Args:
        current: The plan in force.
        plan: Reads everything anew. Raises ConfigurationError.
        files: What it reads beside the configuration file.
        apply: Hands the new plan to the services. Raises ValueError; it is then not in force, and may be given again.
        stop: Ends the watch.
    """
    seen: dict[Path, object] = {}
    while not stop.is_set():
        stamps = _stamps(_paths(current, files))
        if stamps != seen:
            current = _taken(current, plan, apply)
            # As they were before they were read; those that are named only now are read again at the next look.
            seen = stamps
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK)


def pending(current: Plan, fresh: Plan) -> list[str]:
    """The parts that changed and that only a restart takes."""
    live = {name: getattr(fresh.router, name) for name in LIVE}
    providers = {
        name: replace(settings, api_key=fresh.providers[name].api_key) if name in fresh.providers else settings
        for name, settings in current.providers.items()
    }
    usage = current.usage
    if same_place(usage.database_url, fresh.usage.database_url):
        usage = replace(usage, database_url=fresh.usage.database_url)
    if same_place(current.router.redis_url, fresh.router.redis_url):
        live["redis_url"] = fresh.router.redis_url
    if same_servers(current.usage.events, fresh.usage.events):
        usage, live["events"] = replace(usage, events=fresh.usage.events), fresh.router.events
    taken = replace(current, router=replace(current.router, **live), providers=providers, usage=usage)
    return [item.name for item in fields(fresh) if getattr(taken, item.name) != getattr(fresh, item.name)]


def _taken(current: Plan, plan: Callable[[], Plan], apply: Callable[[Plan], None]) -> Plan:
    """The plan in force after a look at what it is made from."""
    file = str(current.config_file) if current.config_file else None
    try:
        fresh = plan()
        if fresh == current:
            return current
        apply(fresh)
    except (ConfigurationError, ValueError) as error:
        _log.error("configuration not taken: it has mistakes", file=file, mistakes=str(error).split("\n"))
        return current
    _log.info("configuration taken", file=file, needs_restart=pending(current, fresh))
    return fresh


def _paths(plan: Plan, files: HeldFiles) -> frozenset[Path]:
    return files.paths | ({plan.config_file.absolute()} if plan.config_file else set())


def _stamps(paths: Iterable[Path]) -> dict[Path, object]:
    """What changes whenever a file does."""
    result: dict[Path, object] = {}
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            result[path] = None
        else:
            result[path] = (status.st_mtime_ns, status.st_ino, status.st_size)
    return result
