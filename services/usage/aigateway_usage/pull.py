"""Usage events from the stream's durable consumer, as many at once as there are; what becomes of them is `consumer`'s.

nats-py's own `fetch` waits until a batch is full or its time is over, so that a single event would be late. Here one
request stays open, what it brings is given out at once, and what comes meanwhile waits here for the next batch.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aigateway_common.event_stream import CONSUMER, SETTING, STREAM, SUBJECT
from aigateway_common.jetstream import LOOK, StreamError
from nats.js import api
from nats.js.errors import BadRequestError, NotFoundError

if TYPE_CHECKING:
    from aigateway_common.jetstream import Connection
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

BATCH: Final = 500
"""Events asked for at once, and so at most as many that wait here."""
BATCH_BYTES: Final = 4 * 1024 * 1024
"""Bytes of these at most."""
MAX_ACK_PENDING: Final = 10_000
"""Events given out to all usage services together that are not in the ledger yet; the stream keeps back the rest."""
ACK_WAIT: Final = 30.0
"""Seconds until an event is given out again whose service said nothing of it."""
EXPIRES: Final = 10.0
"""Seconds that a request stays open at the server."""
GRACE: Final = 5.0
"""Seconds beyond that until a server that says nothing is taken for lost."""
_NEXT: Final = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{CONSUMER}"
_REQUEST: Final = json.dumps({"batch": BATCH, "max_bytes": BATCH_BYTES, "expires": int(EXPIRES * 1e9)}).encode()


class Pull:
    """An open request on one connection. `open` before use, `close` after."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inbox = connection.client.new_inbox()
        self._here: list[Msg] = []
        self._due = 0
        """Events that the open request may still bring."""
        self._ended = ""
        """Why the server ended the last request, unless that is nothing unusual."""
        self._change = asyncio.Event()
        self._closing = False
        self._listening: Subscription | None = None

    async def open(self) -> None:
        """See that the consumer is there, and listen. Raises StreamError when it is of no use, or nats-py's errors."""
        await _consumer(self._connection)
        self._connection.lost.add_done_callback(lambda _: self._change.set())
        self._listening = await self._connection.client.subscribe(self._inbox, cb=self._arrived)

    async def next(self) -> list[Msg]:
        """What is here, once there is something; nothing when the time of a request is over, or after `leave`.

        Raises:
            StreamError: The connection is lost, or the server gives out nothing.
        """
        if not self._here and not self._closing:
            if self._due <= 0:
                await self._ask()
            await self._wait()
        if self._here:
            here, self._here = self._here, []
            return here
        if not self._connection.alive:
            raise StreamError(f"{SETTING}: the connection was lost")
        if self._ended:
            raise StreamError(f"{SETTING}: the server gives out no events: {self._ended}")
        return []

    def leave(self) -> None:
        """Wait for no more events."""
        self._closing = True
        self._change.set()

    async def close(self) -> None:
        """Give back what was not asked for yet, so that another service gets it at once.

        Listen no more first, or the server would give it to the request that is open here. It notices that nobody
        listens to that one when it is asked for the state of the consumer; nats-server 2.9 would otherwise try the
        request, and give the event out late.
        """
        self._closing = True
        if not self._connection.alive:
            return
        if self._listening is not None:
            await self._listening.unsubscribe()
        if self._here:
            await self._connection.context.consumer_info(STREAM, CONSUMER)
        for message in self._here:
            await message.nak()
        self._here = []

    async def _wait(self) -> None:
        """Until something has changed, or the connection is no more."""
        loop = asyncio.get_running_loop()
        end = loop.time() + EXPIRES + GRACE
        while self._connection.alive and not self._change.is_set():
            if loop.time() > end:
                said = "".join(self._connection.said)
                raise StreamError(f"{SETTING}: the server does not answer a request for events{said}")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._change.wait()
        self._change.clear()

    async def _ask(self) -> None:
        self._due, self._ended = BATCH, ""
        await self._connection.client.publish(_NEXT, _REQUEST, reply=self._inbox)

    async def _arrived(self, message: Msg) -> None:
        """Take an event, or the word that the request is over, which nobody can acknowledge."""
        if not message.reply:
            self._due = 0
            self._ended = _unusual(message)
        else:
            self._due -= 1
            self._here.append(message)
        self._change.set()


def _unusual(message: Msg) -> str:
    """Why a request ended, in the server's words; nothing when its time was over, or it had brought its bytes."""
    headers = message.headers or {}
    status, text = headers.get("Status", ""), headers.get("Description", "")
    full = "MaxBytes" in text and headers.get("Nats-Pending-Bytes") != str(BATCH_BYTES)
    return "" if status == "408" or full else f"{status} {text}".strip()


async def _consumer(connection: Connection) -> None:
    """The durable consumer, made where it is missing; one that an operator made stays as it is."""
    context = connection.context
    try:
        found = await context.consumer_info(STREAM, CONSUMER)
    except NotFoundError:
        config = api.ConsumerConfig(
            durable_name=CONSUMER,
            description="Takes usage events into the ledger",
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT,
            max_ack_pending=MAX_ACK_PENDING,
            filter_subject=SUBJECT,
        )
        try:
            found = await context.add_consumer(STREAM, config)
        except BadRequestError as error:
            raise StreamError(f"{SETTING}: no consumer can be made: {error.description}") from error
    if found.config.deliver_subject or found.config.ack_policy != api.AckPolicy.EXPLICIT:
        text = f"the consumer `{CONSUMER}` of `{STREAM}` must be a pull consumer with explicit acks"
        raise StreamError(f"{SETTING}: {text}")
