"""Usage events from NATS JetStream into the ledger: an event is acknowledged after its transaction has been committed.

So one that was recorded and not acknowledged comes again, and the ledger knows it by its id. Events that the ledger can
never take are kept in a stream of their own and hold up no other.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from aigateway.v1 import usage_service_pb2
from aigateway_common import logs, metrics
from aigateway_common.errors import GatewayError
from aigateway_common.event_stream import REFUSED, REFUSED_SUBJECT
from aigateway_common.jetstream import Link, refused
from google.protobuf.message import DecodeError
from nats.js.api import Header

from aigateway_usage.pull import Pull

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aigateway_common.event_stream import EventStream
    from aigateway_common.jetstream import Connection
    from nats.aio.msg import Msg

    from aigateway_usage.recording import Recorder

    _Event = tuple[Msg, usage_service_pb2.Attempt]

OPERATION: Final = "ConsumeAttempts"
"""The name of it in the metric of calls."""
_MIN_PAUSE: Final = 0.1
_MAX_PAUSE: Final = 5.0
_SLICE: Final = 50
"""Events acknowledged before other calls get their turn; about a millisecond."""

_log = logs.get("usage")


class Consumer:
    """Takes events for as long as it runs; of several usage services each takes some."""

    def __init__(self, stream: EventStream, recorder: Recorder) -> None:
        self._link = Link(stream, "aigateway usage")
        self._replicas = stream.replicas
        self._recorder = recorder
        self._task: asyncio.Task[None] | None = None
        self._pull: Pull | None = None
        self._stopping = asyncio.Event()
        self._pause = _MIN_PAUSE
        self._told = False

    def log_in(self, stream: EventStream | None) -> None:
        """As `Link` has it."""
        self._link.log_in(stream)

    def start(self) -> None:
        """Begin to take events; needs a running event loop, and no server yet."""
        self._task = asyncio.create_task(self._run(), name="usage-events")

    async def stop(self, grace: float) -> None:
        """Finish what is being written, for at most `grace` seconds; what is not acknowledged then comes again."""
        self._stopping.set()
        if self._pull is not None:
            self._pull.leave()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=grace)
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._link.close()

    async def _run(self) -> None:
        """Until stopped; whatever fails is tried again, for nothing else would."""
        while not self._stopping.is_set():
            try:
                await self._follow()
            except Exception as error:  # noqa: BLE001 -- a fault here must not end recording
                await self._link.close()
                self._tell("usage events cannot be fetched; it is tried again", str(error) or type(error).__name__)
                await self._wait()

    async def _follow(self) -> None:
        """Take events over one connection."""
        connection = await self._link.connected()
        pull = self._pull = Pull(connection)
        await pull.open()
        self._well("usage events are fetched")
        try:
            while not self._stopping.is_set():
                if batch := await pull.next():
                    await self._take(batch, connection)
        finally:
            await pull.close()

    async def _take(self, batch: Sequence[Msg], connection: Connection) -> None:
        events: list[_Event] = []
        for message in batch:
            try:
                events.append((message, usage_service_pb2.Attempt.FromString(message.data)))
            except DecodeError:
                await self._refuse(message, "it is no usage event", connection)
        if events:
            await self._record(events, connection)

    async def _record(self, events: Sequence[_Event], connection: Connection) -> None:
        """Write events down and acknowledge them; when one of them is invalid, find it and refuse that one alone."""
        begun = time.perf_counter()
        try:
            await self._recorder.record([attempt for _, attempt in events])
        except GatewayError as error:
            metrics.call_finished("usage", OPERATION, "", error.reason.name, time.perf_counter() - begun)
            if error.reason.name != "INVALID_REQUEST":
                await self._give_back(events, error)
            elif len(events) == 1:
                await self._refuse(events[0][0], error.message, connection)
            else:
                half = len(events) // 2
                await self._record(events[:half], connection)
                await self._record(events[half:], connection)
            return
        metrics.call_finished("usage", OPERATION, "", metrics.OK, time.perf_counter() - begun)
        self._well("usage events are recorded")
        for number, (message, _) in enumerate(events, 1):
            await message.ack()
            if number % _SLICE == 0:
                await asyncio.sleep(0)

    async def _give_back(self, events: Sequence[_Event], error: GatewayError) -> None:
        """Have events come again after a pause, here or to another service, and take none meanwhile."""
        self._tell("usage events cannot be recorded; they wait in the stream", error.message)
        for message, _ in events:
            await message.nak(delay=self._pause)
        await self._wait()

    async def _refuse(self, message: Msg, why: str, connection: Connection) -> None:
        """Keep an event apart that no ledger takes, and have it never come again."""
        await refused(connection.context, self._replicas)
        number = message.metadata.sequence.stream
        headers = {Header.MSG_ID.value: f"refused-{number}"}
        await connection.context.publish(REFUSED_SUBJECT, message.data, stream=REFUSED, headers=headers)
        await message.term()
        _log.error("an event that the ledger cannot take was set aside", stream=REFUSED, number=number, error=why)

    def _tell(self, what: str, why: str) -> None:
        """Log a failure, once until things are well again."""
        metrics.event_stream(available=False)
        if not self._told:
            _log.error(what, error=why)
        self._told = True

    def _well(self, what: str) -> None:
        metrics.event_stream(available=True)
        if self._told:
            _log.info(f"{what} again")
        self._told, self._pause = False, _MIN_PAUSE

    async def _wait(self) -> None:
        """A pause, longer each time, or until told to stop."""
        pause, self._pause = self._pause, min(self._pause * 2, _MAX_PAUSE)
        try:
            await asyncio.wait_for(self._stopping.wait(), pause)
        except TimeoutError:
            return
