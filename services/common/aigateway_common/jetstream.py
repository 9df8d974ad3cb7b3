"""The connection to NATS and its stream of usage events, as routers and the ledger both need them.

A connection that is lost is not mended but made anew by whoever needs it next, so that there is one rule for when to
try again (the caller's), nothing is sent later that nobody waits for any more, and a server that refuses a password
today may take it tomorrow, while nats-py's own reconnecting would give up for good.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aigateway_common import logs
from aigateway_common.event_stream import (
    MAX_EVENT,
    REFUSED,
    REFUSED_SUBJECT,
    SETTING,
    STREAM,
    SUBJECT,
    address,
    same_servers,
)
from aigateway_common.settings import ConfigurationError, Problem

try:
    from nats.aio.client import Client
    from nats.errors import Error
    from nats.js import api
    from nats.js.errors import APIError, BadRequestError, NotFoundError, ServiceUnavailableError
except ModuleNotFoundError as missing:
    problem = Problem("usage.nats_url", "needs the client of NATS: `pip install nats-py`")
    raise ConfigurationError([problem]) from missing

if TYPE_CHECKING:
    from nats.js import JetStreamContext

    from aigateway_common.event_stream import EventStream

CONNECT_TIMEOUT: Final = 5
REQUEST_TIMEOUT: Final = 5.0
"""Seconds that the server may take to answer about a stream or a consumer."""
PING_INTERVAL: Final = 10
"""Seconds between signs of life; a server that misses two is given up."""
DUPLICATE_WINDOW: Final = 600.0
"""Seconds that the stream knows the ids of events, and stores none of them twice. The ledger knows them for ever."""
LOOK: Final = 1.0
"""Seconds between looks, while something is waited for, at whether there still is a connection."""
STREAM_BYTES: Final = 1024 * 1024 * 1024
"""Bytes of a stream that we make; a full one takes no more, and events then wait with the routers."""
REFUSED_BYTES: Final = 64 * 1024 * 1024
MESSAGE_OVERHEAD: Final = 1024
"""Bytes for the headers of a message, which count too."""

_MADE_MEANWHILE: Final = frozenset({10058, 10065})
"""Somebody has just made the stream with other settings, or is making it (nats-server's `JSStreamNameExistErr` and
`JSStreamSubjectOverlapErr`)."""
_DENIED: Final = "authorization violation"
"""A word of the protocol itself (https://docs.nats.io/reference/reference-protocols/nats-protocol#okerr), for which
nats-py has no type when it comes in answer to CONNECT."""
_CLOSE_TIMEOUT: Final = 2.0
"""Seconds for the end of a connection; nats-py waits for ever when TLS could not be begun on it."""

_log = logs.get("aigateway.events")


class StreamError(Exception):
    """NATS cannot be used as things are; says which setting it is about, and no secret."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection as long as it lasts."""

    client: Client
    context: JetStreamContext
    lost: asyncio.Future[None]
    """Done once it has ended, if nats-py says so: where data could not be sent its own end fails halfway."""
    said: list[str]
    """What the server complained of last, as of a subject that this user may not use; tells why there is no answer."""

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.client.is_connected and not self.lost.done()


class Link:
    """One connection, made at the first use, and at the next use after it was lost.

    Args:
        stream: The setting.
        name: What the connection is called in the server's own lists.
    """

    def __init__(self, stream: EventStream, name: str) -> None:
        self._given = stream
        self._address = address(stream.url)
        self._replicas = stream.replicas
        self._name = name
        self._connecting = asyncio.Lock()
        self._connection: Connection | None = None

    def log_in(self, stream: EventStream | None) -> None:
        """Show user, password or token of `stream` at the next connection. Other servers are no login."""
        if stream is not None and same_servers(stream, self._given):
            self._given, self._address = stream, address(stream.url)

    async def connected(self) -> Connection:
        """The connection, and its stream there.

        Raises:
            StreamError: There is no way to it, or the stream would lose events.
        """
        async with self._connecting:
            if self._connection is None or not self._connection.alive:
                await self.close()
                self._connection = await self._connect()
            return self._connection

    async def close(self) -> None:
        """End the connection, sending what waits to be sent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await _close(connection.client)

    async def _connect(self) -> Connection:
        client, lost = Client(), asyncio.get_running_loop().create_future()
        latest: list[Exception] = []
        said: list[str] = []

        async def note(error: Exception) -> None:
            latest[:], said[:] = [error], [f"; it said: {error}"]

        async def end() -> None:
            if not lost.done():
                lost.set_result(None)

        try:
            await client.connect(**self._options(), error_cb=note, closed_cb=end)
            context = client.jetstream(timeout=REQUEST_TIMEOUT)
            kept = await _stream(context, self._replicas)
        except BaseException as error:
            await _close(client)
            if isinstance(error, Error | OSError):
                raise StreamError(f"{SETTING}: {self._what(latest[0] if latest else error)}") from error
            raise
        _log.info("usage events go through NATS", server=self._shown, stream=STREAM, replicas=kept)
        return Connection(client, context, lost, said)

    def _options(self) -> dict[str, Any]:
        given = self._address
        return {
            "servers": list(given.servers),
            "user": given.user,
            "password": given.password,
            "token": given.token,
            "name": self._name,
            "connect_timeout": CONNECT_TIMEOUT,
            "ping_interval": PING_INTERVAL,
            # Each server is tried twice, at once; then it is the caller's turn to wait.
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0,
        }

    @property
    def _shown(self) -> str:
        return ",".join(self._address.servers)

    def _what(self, error: BaseException) -> str:
        match error:
            case Error() if _DENIED in str(error).lower():
                return f"`{self._shown}` refuses the user, password or token in it, or there is none"
            case ConnectionResetError() | BrokenPipeError():  # its word of why may be lost with the connection
                return f"`{self._shown}` ends the connection at once; is the user, password or token in it right?"
            case ServiceUnavailableError(description=None):
                return f"`{self._shown}` has no JetStream (nats-server needs `-js`)"
            case APIError():
                return f"`{self._shown}`: {error.description}"
            case TimeoutError():
                return f"`{self._shown}` does not answer, or this user may not ask for `$JS.API.>`"
            case _:
                return f"`{self._shown}` cannot be reached: {str(error) or type(error).__name__}"


async def _close(client: Client) -> None:
    """End a connection; one that is broken has ended, whatever becomes of what was still to be sent."""
    with suppress(TimeoutError, OSError, Error):
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await client.close()


async def _stream(context: JetStreamContext, replicas: int) -> int:
    """See that the stream is there, and that it would keep what it acknowledges; how many servers keep it."""
    try:
        found = await context.stream_info(STREAM)
    except NotFoundError:
        try:
            found = await context.add_stream(events(replicas))
        except BadRequestError as error:
            if error.err_code not in _MADE_MEANWHILE:
                raise
            try:
                found = await context.stream_info(STREAM)
            except NotFoundError:  # another stream has the subject
                raise error from None
    if what := faults(found.config):
        raise StreamError(f"{SETTING}: the stream `{STREAM}` there {what}")
    return found.config.num_replicas or 1


async def refused(context: JetStreamContext, replicas: int) -> None:
    """See that the stream of refused events is there."""
    try:
        await context.stream_info(REFUSED)
    except NotFoundError:
        await context.add_stream(
            api.StreamConfig(
                name=REFUSED,
                description="Usage events that the ledger can never take",
                subjects=[REFUSED_SUBJECT],
                storage=api.StorageType.FILE,
                max_bytes=REFUSED_BYTES,
                num_replicas=replicas,
                duplicate_window=DUPLICATE_WINDOW,
            )
        )


def events(replicas: int) -> api.StreamConfig:
    """The stream as we make it: each event stays until the ledger has it, and no event goes to make room."""
    return api.StreamConfig(
        name=STREAM,
        description="Usage events on their way to the ledger",
        subjects=[SUBJECT],
        retention=api.RetentionPolicy.WORK_QUEUE,
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.NEW,
        max_bytes=STREAM_BYTES,
        max_msg_size=MAX_EVENT + MESSAGE_OVERHEAD,
        num_replicas=replicas,
        duplicate_window=DUPLICATE_WINDOW,
    )


def faults(config: api.StreamConfig) -> str | None:
    """Why a stream that an operator made would lose events that it has acknowledged; None when it would not."""
    if config.storage != api.StorageType.FILE:
        return "is kept in memory; make it anew with file storage"
    if config.retention == api.RetentionPolicy.INTEREST:
        return "keeps events only while somebody wants them; make it anew with work-queue or limits retention"
    if config.no_ack:
        return "acknowledges nothing; set `no_ack` to false"
    bounds = (config.max_bytes, config.max_msgs, config.max_msgs_per_subject)
    if config.discard != api.DiscardPolicy.NEW and any((bound or 0) > 0 for bound in bounds):
        return "gives up its oldest events when it is full; set `discard` to new"
    return None
