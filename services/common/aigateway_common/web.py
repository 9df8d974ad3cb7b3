"""Reaching web addresses that somebody else chose, without being led inside the network.

Where a name leads is checked on all of its addresses, and once more on the very one that is connected to. Connections
go out directly, not through a proxy of the environment, which would resolve names by itself. Redirects are left to the
caller, who must check them like the first address.
"""

from __future__ import annotations

import socket
from functools import cache, partial
from typing import TYPE_CHECKING, Final

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver
from typing_extensions import override
from yarl import URL

from aigateway_common.addresses import is_allowed

if TYPE_CHECKING:
    import ssl

    from aiohttp.abc import ResolveResult
    from aiohttp.connector import AddrInfoType

NOT_PUBLIC: Final = "leads to an address that is not public"


class RefusedError(Exception):
    """Why an address is not asked, as the end of a sentence about it."""


class _RefusedAddressError(OSError):
    """An address that must not be connected to; an OSError so that it passes through aiohttp."""


@cache
def ssl_context() -> ssl.SSLContext:
    """One context for everybody: loading the root certificates takes some 20 ms."""
    return httpx.create_ssl_context()


def parsed(text: str) -> URL:
    """The address as it was written where that is plain enough: signed ones do not survive being quoted anew.

    Raises:
        RefusedError: It is no address.
    """
    try:
        url = URL(text, encoded=text.isascii() and text.isprintable() and " " not in text)
        _ = url.port  # read only when asked for
    except ValueError as error:
        raise RefusedError("is not a valid address") from error
    return url


def checked(url: URL, *, internal: bool) -> URL:
    """`url`, when it may be asked; names are checked once they are resolved.

    Raises:
        RefusedError: It may not.
    """
    host = url.raw_host
    if url.scheme not in {"http", "https"} or not host:
        raise RefusedError("leads to something that is not an http or https address")
    if url.raw_user is not None or url.raw_password is not None:
        raise RefusedError("has a user or password in it, which is not sent on")
    if (":" in host or _ends_in_number(host)) and not is_allowed(host, internal=internal):
        raise RefusedError(NOT_PUBLIC)
    return url


def connector(*, internal: bool, limit: int, resolver: AbstractResolver | None = None) -> aiohttp.TCPConnector:
    """Connections that lead nowhere else.

    Args:
        internal: Loopback and private networks may be reached, too (see `addresses.is_allowed`).
        limit: Connections at the same time; more wait.
        resolver: How names are resolved; the system's way when None.
    """
    return aiohttp.TCPConnector(
        resolver=_Resolver(resolver or aiohttp.ThreadedResolver(), internal=internal),
        use_dns_cache=False,
        ssl=ssl_context(),
        limit=limit,
        socket_factory=partial(guarded_socket, internal=internal),
    )


def is_refused(error: aiohttp.ClientConnectorError) -> bool:
    """Whether a connection failed because it would have led where it may not."""
    return isinstance(error.os_error, _RefusedAddressError)


def guarded_socket(info: AddrInfoType, *, internal: bool) -> socket.socket:
    """A socket for the address that is about to be connected to, however it was arrived at."""
    family, kind, protocol, _, address = info
    if not is_allowed(str(address[0]), internal=internal):
        raise _RefusedAddressError
    return socket.socket(family, kind, protocol)


class _Resolver(AbstractResolver):
    """Refuses a name when any of its addresses must not be connected to."""

    def __init__(self, inner: AbstractResolver, *, internal: bool) -> None:
        self._inner = inner
        self._internal = internal

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if not all(is_allowed(entry["host"], internal=self._internal) for entry in found):
            raise _RefusedAddressError
        return found

    @override
    async def close(self) -> None:
        await self._inner.close()


def _ends_in_number(host: str) -> bool:
    """Whether the system may take a host for an IPv4 address, in whatever spelling (`127.1`, `0x7f000001`)."""
    last = host.rstrip(".").rpartition(".")[2].lower()
    return last.isdigit() or last.startswith("0x")
