"""Usage events into NATS JetStream, which acknowledges each once it is in a file; the ledger takes them from there.

The id of an event is the id of its message, so that the stream stores none twice that is sent again within its window.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aigateway_common.event_stream import SETTING, STREAM, SUBJECT
from aigateway_common.jetstream import MESSAGE_OVERHEAD, Link, StreamError
from nats.errors import Error
from nats.js.api import Header
from nats.js.errors import APIError, NoStreamResponseError

from aigateway_router.delivery.transport import Rejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aigateway.v1 import usage_service_pb2
    from aigateway_common.event_stream import EventStream
    from aigateway_common.jetstream import Connection
    from nats.js.api import PubAck

_TIMEOUT: Final = 30.0
_SLICE: Final = 20
"""Events published before other calls get their turn; about a millisecond."""


class StreamTransport:
    """Delivers into a stream; connects at the first delivery. Call it in the event loop that is to serve."""

    def __init__(self, stream: EventStream) -> None:
        self._link = Link(stream, "aigateway router")

    async def deliver(self, attempts: Sequence[usage_service_pb2.Attempt]) -> Sequence[Rejected]:
        """As `Transport` has it.

        Raises:
            StreamError: Not every event was acknowledged.
        """
        rejected: list[Rejected] = []
        published: list[asyncio.Future[PubAck]] = []
        try:
            async with asyncio.timeout(_TIMEOUT):
                connection = await self._link.connected()
                room = connection.client.max_payload - MESSAGE_OVERHEAD
                for number, attempt in enumerate(attempts, 1):
                    payload = attempt.SerializeToString()
                    if len(payload) > room:
                        rejected.append(Rejected(attempt, f"the server takes no message of {len(payload)} bytes"))
                        continue
                    published.append(await _publish(connection, attempt.event_id, payload))
                    if number % _SLICE == 0:
                        await asyncio.sleep(0)
                await _acknowledged(published, connection.lost)
        except TimeoutError as error:
            raise StreamError(f"{SETTING}: events were not acknowledged within {_TIMEOUT:g} seconds") from error
        except Error as error:
            raise StreamError(f"{SETTING}: {_what(error)}") from error
        finally:
            _forget(published)
        return rejected

    async def close(self) -> None:
        """End the connection."""
        await self._link.close()


async def _publish(connection: Connection, event_id: str, payload: bytes) -> asyncio.Future[PubAck]:
    headers = {Header.MSG_ID.value: event_id}
    return await connection.context.publish_async(SUBJECT, payload, stream=STREAM, headers=headers)


async def _acknowledged(published: Sequence[asyncio.Future[PubAck]], lost: asyncio.Future[None]) -> None:
    """Wait until all are; no longer than the connection lasts."""

    def cut(_: object) -> None:
        for future in published:
            future.cancel()

    lost.add_done_callback(cut)
    try:
        if published:
            await asyncio.wait(published, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        lost.remove_done_callback(cut)
    if any(future.cancelled() for future in published):
        raise StreamError(f"{SETTING}: the connection was lost before all events were acknowledged")
    for future in published:
        if future.done():
            future.result()


def _forget(published: Sequence[asyncio.Future[PubAck]]) -> None:
    """Wait for none of these any more, and have none complain that nobody asked."""
    for future in published:
        if not future.cancel() and not future.cancelled():
            future.exception()


def _what(error: Error) -> str:
    match error:
        case NoStreamResponseError():
            return f"no stream takes the subject `{SUBJECT}`; add it to those of `{STREAM}`"
        case APIError():
            return f"the stream took an event not: {error.description}"
        case _:
            return str(error)
