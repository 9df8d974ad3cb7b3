"""Usage events into NATS JetStream, which acknowledges each once it is in a file; the ledger takes them from there.

The id of an event is the id of its message, so that the stream stores none twice that is sent again within its window.
nats-py's own `publish_async` is of no use: a refusal of the server's never reaches who waits for it.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aigateway_common.event_stream import SETTING, STREAM, SUBJECT
from aigateway_common.jetstream import LOOK, MESSAGE_OVERHEAD, Link, StreamError
from nats.errors import Error
from nats.js.api import Header

from aigateway_router.delivery.transport import Rejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aigateway.v1 import usage_service_pb2
    from aigateway_common.event_stream import EventStream
    from aigateway_common.jetstream import Connection
    from nats.aio.msg import Msg

ACKNOWLEDGED_WITHIN: Final = 30.0
"""Seconds for a delivery."""
_SLICE: Final = 20
"""Events published before other calls get their turn; about a millisecond."""
_NOBODY: Final = "503"
"""The status of an answer that says that nobody listens to a subject."""


class StreamTransport:
    """Delivers into a stream; connects at the first delivery."""

    def __init__(self, stream: EventStream) -> None:
        self._link = Link(stream, "aigateway router")

    def log_in(self, stream: EventStream | None) -> None:
        """As `Link` has it."""
        self._link.log_in(stream)

    async def deliver(self, attempts: Sequence[usage_service_pb2.Attempt]) -> Sequence[Rejected]:
        """As `Transport` has it.

        Raises:
            StreamError: Not every event was acknowledged.
        """
        connection = await self._link.connected()
        try:
            async with asyncio.timeout(ACKNOWLEDGED_WITHIN):
                return await _Publication(connection).publish(attempts)
        except TimeoutError as error:
            text = f"events were not acknowledged within {ACKNOWLEDGED_WITHIN:g} seconds{''.join(connection.said)}"
            raise StreamError(f"{SETTING}: {text}") from error
        except Error as error:
            raise StreamError(f"{SETTING}: {error}") from error

    async def close(self) -> None:
        """End the connection."""
        await self._link.close()


class _Publication:
    """The events of one delivery, and what the server says of each; all of them may be under way at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inbox = connection.client.new_inbox()
        self._missing: set[str] = set()
        """The numbers of events that are not acknowledged."""
        self._refusal = ""
        self._change = asyncio.Event()

    async def publish(self, attempts: Sequence[usage_service_pb2.Attempt]) -> Sequence[Rejected]:
        """Publish `attempts` and wait until all but those it names are acknowledged; raises StreamError."""
        client, lost = self._connection.client, self._connection.lost
        answers = await client.subscribe(f"{self._inbox}.*", cb=self._answered)
        lost.add_done_callback(self._wake)
        try:
            rejected = await self._send(attempts)
            while self._missing and not self._refusal and self._connection.alive:
                self._change.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK):
                        await self._change.wait()
        finally:
            lost.remove_done_callback(self._wake)
            if client.is_connected:
                await answers.unsubscribe()
        if self._refusal:
            raise StreamError(f"{SETTING}: {self._refusal}")
        if self._missing:
            raise StreamError(f"{SETTING}: the connection was lost before all events were acknowledged")
        return rejected

    async def _send(self, attempts: Sequence[usage_service_pb2.Attempt]) -> Sequence[Rejected]:
        client, rejected = self._connection.client, []
        room = client.max_payload - MESSAGE_OVERHEAD
        for number, attempt in enumerate(attempts):
            payload = attempt.SerializeToString()
            if len(payload) > room:
                rejected.append(Rejected(attempt, f"the server takes no message of {len(payload)} bytes"))
                continue
            if number and number % _SLICE == 0:
                await asyncio.sleep(0)
            headers = {Header.MSG_ID.value: attempt.event_id, Header.EXPECTED_STREAM.value: STREAM}
            self._missing.add(str(number))
            await client.publish(SUBJECT, payload, reply=f"{self._inbox}.{number}", headers=headers)
        return rejected

    async def _answered(self, message: Msg) -> None:
        if refusal := _refusal(message):
            self._refusal = refusal
        else:
            self._missing.discard(message.subject.rpartition(".")[2])
        self._wake()

    def _wake(self, _: object = None) -> None:
        self._change.set()


def _refusal(answer: Msg) -> str:
    """Why the server did not store an event; nothing when it did (or had done so before)."""
    if (answer.headers or {}).get(Header.STATUS.value) == _NOBODY:
        return f"no stream takes the subject `{SUBJECT}`; add it to those of `{STREAM}`"
    error = json.loads(answer.data).get("error")
    return f"the stream `{STREAM}` takes no event: {error.get('description')}" if error else ""
