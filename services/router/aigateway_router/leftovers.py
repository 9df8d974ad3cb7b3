"""Delivers what workers left in their outboxes that the gateway no longer has: it runs with fewer of them now.

The first worker does it, or the only router. A folder stays, empty, for the worker that may come back to it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aigateway_common import logs

from aigateway_router.outbox import Outbox
from aigateway_router.store import OutboxLockedError

if TYPE_CHECKING:
    from pathlib import Path

    from aigateway_router.delivery.transport import Transport
    from aigateway_router.settings import RouterSettings

_PAUSE: Final = 1.0
"""Seconds between two looks at a folder that another process still has."""
_GRACE: Final = 1.0
"""Seconds to close a folder from which everything is delivered."""

_log = logs.get("aigateway.outbox")


class Leftovers:
    """The outboxes of workers that are no more."""

    def __init__(self, settings: RouterSettings, transport: Transport) -> None:
        self._settings = settings
        self._transport = transport
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to deliver; needs a running event loop."""
        for folder in self._folders():
            task = asyncio.create_task(self._deliver(folder), name=f"delivery from {folder.name}")
            self._tasks.append(task)

    async def stop(self) -> None:
        """Deliver no more; the rest stays where it is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _folders(self) -> list[Path]:
        share = self._settings.share
        if share is not None and share.worker != 0:
            return []
        workers = share.workers if share else 1
        found = ((path, path.name.removeprefix("worker-")) for path in self._settings.outbox_dir.glob("worker-*"))
        return [path for path, number in found if number.isdecimal() and int(number) >= workers]

    async def _deliver(self, folder: Path) -> None:
        outbox = Outbox(self._settings, self._transport, folder)
        while True:
            try:
                await outbox.start()
                break
            except OutboxLockedError:  # that worker is still stopping
                await asyncio.sleep(_PAUSE)
            except OSError as error:
                _log.error("outbox: cannot be read", folder=str(folder), error=error.strerror)
                return
        try:
            await outbox.emptied()
            _log.info("outbox: what another worker left is delivered", folder=str(folder))
        finally:
            await outbox.stop(_GRACE)
