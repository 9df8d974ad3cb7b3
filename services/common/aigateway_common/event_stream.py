"""Where usage events wait in NATS JetStream, and the names that routers and the ledger know there.

Pure, and imports no client of NATS: that is `jetstream`, which only processes load that have such a URL.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

SETTING: Final = "`usage.nats_url` (NATS_URL)"
STREAM: Final = "AIGATEWAY_USAGE"
SUBJECT: Final = "aigateway.usage.attempts"
"""One message is one `Attempt` in protobuf, and its `Nats-Msg-Id` the attempt's id."""
CONSUMER: Final = "ledger"
"""The durable consumer that all usage services share."""
REFUSED: Final = "AIGATEWAY_USAGE_REFUSED"
"""The stream of events that the ledger can never take, for people to look at."""
REFUSED_SUBJECT: Final = "aigateway.usage.refused"
MAX_EVENT: Final = 1024 * 1024
"""Bytes of one event; no outbox takes a larger one."""
SCHEMES: Final = ("nats", "tls")
MAX_REPLICAS: Final = 5
"""JetStream has no more (https://docs.nats.io/nats-concepts/jetstream/streams)."""


@dataclass(frozen=True, slots=True)
class EventStream:
    """NATS as a setting names it."""

    url: str = field(repr=False)
    """`nats://` or `tls://`, with user and password or a token if need be; several servers of one cluster with commas
    between."""
    replicas: int = 1
    """Servers that keep each event, in a stream that is not there yet."""


@dataclass(frozen=True, slots=True)
class Address:
    """A URL taken apart."""

    servers: tuple[str, ...]
    """Without user, password and token: to be shown."""
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)


def address(url: str) -> Address:
    """Take a URL apart.

    Raises:
        ValueError: That says what it must be, and nothing of what it is.
    """
    parts = [_split(part) for part in url.split(",")]
    servers = tuple(f"{part.scheme}://{part.netloc.rpartition('@')[2]}" for part in parts)
    named = next((part for part in parts if part.username), None)
    if named is None:
        return Address(servers)
    if named.password is None:
        return Address(servers, token=unquote(named.username or ""))
    return Address(servers, user=unquote(named.username or ""), password=unquote(named.password))


def same_servers(one: EventStream | None, other: EventStream | None) -> bool:
    """Whether both are streams, and differ at most in the user, password or token by which they are reached."""
    if one is None or other is None or one.replicas != other.replicas:
        return False
    return address(one.url).servers == address(other.url).servers


def has_secret(url: str) -> bool:
    """Whether the URL holds a password or a token."""
    return "@" in url


def _split(part: str) -> SplitResult:
    try:
        split = urlsplit(part.strip())
        more = split.path.strip("/") or split.query or split.fragment
        bad = bool(split.scheme not in SCHEMES or not split.hostname or more or split.port == 0)
    except ValueError:
        bad = True
    if bad:
        raise ValueError(
            "must be nats://host:4222 or tls://host:4222, with user:password@ or token@ before the host if need be"
            " (what is special in them as %40 and the like), and several of them with commas between"
        )
    return split
