"""The durable outbox: usage events are kept on disk before their answer ends, and delivered to the ledger after.

`append` is on the path of every call and costs one write; delivery runs beside it in one task, which lets events
gather for `outbox_linger` seconds or until a batch is full: a delivery costs as much for one event as for dozens. It
reads back from the files, so memory stays the same however long the usage service is away.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aigateway.v1 import usage_service_pb2
from aigateway_common import logs, metrics
from aigateway_common.errors import GatewayError
from google.protobuf.message import DecodeError
from grpc import aio

from aigateway_router import records
from aigateway_router.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from aigateway_router.delivery.transport import Transport
    from aigateway_router.settings import RouterSettings
    from aigateway_router.store import Batch

_MIN_PAUSE: Final = 0.05
_MAX_PAUSE: Final = 5.0
_PROBE_INTERVAL: Final = 1.0
"""Seconds between looks at a disk that took no more."""
_TYPICAL_RECORD: Final = 300
"""Bytes, to guess how many events an earlier process left."""

_log = logs.get("aigateway.outbox")


class Outbox:
    """Keeps usage events and hands each on to the ledger at least once; the ledger counts each once by its id.

    When `outbox_max_bytes` are waiting, or the disk takes no more, `admit` refuses new calls; calls under way are still
    kept. Only `stop` and `start` may be awaited by more than one task.

    Args:
        settings: See there.
        transport: What carries events to the ledger; an event is forgotten once that says it is kept elsewhere.
        folder: The folder to use instead of the router's own; what waits there is not measured.
    """

    def __init__(self, settings: RouterSettings, transport: Transport, folder: Path | None = None) -> None:
        self._settings = settings
        self._folder = folder or settings.own_outbox
        self._measured = folder is None
        self._transport = transport
        self._store: Store | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        """No more lingering: a batch is full, or the end is near."""
        self._stopping = asyncio.Event()
        self._empty = asyncio.Event()
        self._events = 0
        self._oldest_us = 0
        self._failing = False
        self._probe_after = 0.0

    async def start(self) -> None:
        """Open the folder and deliver what an earlier process left.

        Raises:
            OutboxLockedError: Another process has the folder.
            OSError: The folder cannot be made or read.
        """
        self._store = Store(
            self._folder,
            segment_bytes=self._settings.outbox_segment_bytes,
            fsync=self._settings.outbox_fsync,
        )
        self._events = -(-self._store.backlog_bytes // _TYPICAL_RECORD)
        self._task = asyncio.create_task(self._run(self._store), name="outbox delivery")

    async def stop(self, grace: float) -> None:
        """Deliver what is left for at most `grace` seconds, less when the ledger is away, and close.

        What is not delivered stays on disk for the next start.
        """
        task, self._task = self._task, None
        if task is not None:
            self._stopping.set()
            self._wake.set()
            self._hurry.set()
            await asyncio.wait({task}, timeout=grace)
            task.cancel()
            await asyncio.wait({task})
        if self._store is not None:
            self._store.close()
            self._store = None

    async def emptied(self) -> None:
        """Wait until everything is delivered that was there at the start."""
        await self._empty.wait()

    def admit(self) -> None:
        """Check, before a call is made, that its event can be kept.

        Raises:
            GatewayError: OVERLOADED, when too much is waiting or the disk takes no more.
        """
        store = self._opened()
        if self._failing and not self._works_again(store):
            raise GatewayError("OVERLOADED", "usage events cannot be written to disk; see the logs", retry_after=2)
        if store.backlog_bytes >= self._settings.outbox_max_bytes:
            raise GatewayError(
                "OVERLOADED",
                "too many usage events wait for the usage service; it must come back before new calls are taken",
                retry_after=5,
            )

    def append(self, attempt: usage_service_pb2.Attempt) -> None:
        """Keep `attempt`; once this returns, an answer may end.

        Raises:
            GatewayError: OVERLOADED, when it cannot be written; then the answer must not be given.
        """
        try:
            self._opened().append(attempt.SerializeToString())
        except OSError as error:
            self._failing = True
            _log.error("outbox: cannot write", error=str(error), event_id=attempt.event_id)
            raise GatewayError(
                "OVERLOADED", "the usage event of this call cannot be written to disk", retry_after=2
            ) from error
        self._events += 1
        self._wake.set()
        if self._events >= self._settings.outbox_batch:
            self._hurry.set()

    def _opened(self) -> Store:
        if self._store is None:
            raise GatewayError("OVERLOADED", "the gateway is starting or stopping", retry_after=1)
        return self._store

    def _works_again(self, store: Store) -> bool:
        now = time.monotonic()
        if now < self._probe_after:
            return False
        self._probe_after = now + _PROBE_INTERVAL
        self._failing = not store.is_writable()
        return not self._failing

    async def _run(self, store: Store) -> None:
        """Deliver until stopped; whatever fails is tried again, for nothing else would."""
        pause = _MIN_PAUSE
        while True:
            try:
                more = await self._deliver_next(store)
            except Exception as error:  # noqa: BLE001 -- a fault here must not end delivery
                self._measure(store)
                if self._stopping.is_set():
                    return
                _log.warning("outbox: delivery failed, trying again", error=_brief(error), waiting=store.backlog_bytes)
                await self._pause(pause)
                pause = min(pause * 2, _MAX_PAUSE)
                continue
            pause = _MIN_PAUSE
            if not more:
                self._empty.set()
                if self._stopping.is_set():
                    return
                self._wake.clear()
                await self._wake.wait()
            await self._gather()

    async def _gather(self) -> None:
        """Let events come together; one timer per batch."""
        if self._stopping.is_set() or self._events >= self._settings.outbox_batch:
            return
        self._hurry.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.outbox_linger):
                await self._hurry.wait()

    async def _deliver_next(self, store: Store) -> bool:
        """Deliver one batch; False when nothing was left."""
        batch = store.read(self._settings.outbox_batch)
        attempts = self._parse(batch, store)
        if attempts:
            self._oldest_us = attempts[0].started_at_us
            await self._hand_on(attempts, store)
        store.acknowledge(batch)
        self._oldest_us = 0
        self._events = max(0, self._events - len(batch.payloads)) if store.backlog_bytes else 0
        self._measure(store)
        return bool(batch.payloads) or store.backlog_bytes > 0

    def _parse(self, batch: Batch, store: Store) -> list[usage_service_pb2.Attempt]:
        attempts: list[usage_service_pb2.Attempt] = []
        for number, payload in enumerate(batch.payloads):
            try:
                attempts.append(usage_service_pb2.Attempt.FromString(payload))
            except DecodeError:
                path = store.set_aside(f"unreadable-{batch.segment}-{batch.offset}-{number}.bin", payload)
                _log.error("outbox: unreadable event set aside", file=str(path))
        return attempts

    async def _hand_on(self, attempts: list[usage_service_pb2.Attempt], store: Store) -> None:
        """Deliver; what is not taken, and never will be, is set aside."""
        for rejected in await self._transport.deliver(attempts):
            record = records.encode(rejected.attempt.SerializeToString())
            path = store.set_aside(f"rejected-{rejected.attempt.event_id}.bin", record)
            _log.error("outbox: the ledger refused an event, set aside", file=str(path), error=rejected.why)

    async def _pause(self, seconds: float) -> None:
        """Wait with some jitter, or until told to stop: then one more try is made."""
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds * random.uniform(0.5, 1))  # noqa: S311 -- no secret
        except TimeoutError:
            return

    def _measure(self, store: Store) -> None:
        if not self._measured:
            return
        lag = max(0.0, time.time() - self._oldest_us / 1e6) if self._oldest_us else 0.0
        metrics.outbox(self._events, store.backlog_bytes, lag)


def _brief(error: Exception) -> str:
    if isinstance(error, aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}"
