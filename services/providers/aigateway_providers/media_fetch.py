"""Fetches the pictures, sound and documents that a call names by web address, for providers that take bytes only.

The addresses are the caller's choice, so nothing here is trusted: where a name leads is checked on the very address
that is connected to, redirects are followed by hand and checked again, and size, time, number and type are limited.
It goes out directly, not through a proxy of the environment, which would resolve names by itself. Nothing is logged.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Final

import aiohttp
from aigateway.v1 import message_pb2
from aigateway_common.errors import GatewayError, invalid
from aiohttp.abc import AbstractResolver
from typing_extensions import override
from yarl import URL

from aigateway_providers.media_addresses import is_allowed
from aigateway_providers.media_types import media_type
from aigateway_providers.media_urls import inlined, wanted
from aigateway_providers.upstream import ssl_context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aigateway.v1 import chat_pb2
    from aiohttp.abc import ResolveResult
    from aiohttp.connector import AddrInfoType

    from aigateway_providers.adapter import CallContext
    from aigateway_providers.media_urls import Takes, Wanted
    from aigateway_providers.settings import ProviderSettings

MAX_REDIRECTS: Final = 3
MAX_FETCHES: Final = 16
"""Addresses that one adapter fetches at the same time; further ones wait, and their waiting counts as theirs."""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HEADERS: Final = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "aigateway"}


class _Refused(Exception):  # noqa: N818 - the end of one fetch, not an error of the program
    """Why an address was not fetched, as the end of a sentence about it."""


class _RefusedAddressError(OSError):
    """An address that must not be connected to; an OSError so that it passes through aiohttp."""


class MediaFetcher:
    """Fetches for one provider.

    Args:
        settings: The limits.
        takes: What the provider takes, and what it fetches by itself.
        resolver: How names are resolved; the system's way when None.
    """

    def __init__(self, settings: ProviderSettings, takes: Takes, resolver: AbstractResolver | None = None) -> None:
        self._max_bytes = settings.media_max_bytes
        self._timeout = settings.media_timeout
        self._internal = settings.media_allow_private
        self._takes = takes
        self._resolver = resolver
        self._slots = asyncio.Semaphore(MAX_FETCHES)
        self._session: aiohttp.ClientSession | None = None

    async def inline(self, call: chat_pb2.ChatCall, context: CallContext) -> chat_pb2.ChatCall:
        """`call` with the bytes of what must be fetched; `call` itself when there is nothing to fetch.

        Raises:
            GatewayError: INVALID_REQUEST that names the field and why it cannot be fetched.
        """
        items = wanted(call, self._takes)
        if not items:
            return call
        started = time.perf_counter_ns()
        try:
            return inlined(call, await self._fetch(items))
        finally:
            context.upstream_ns += time.perf_counter_ns() - started

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _fetch(self, items: Sequence[Wanted]) -> dict[str, message_pb2.Media]:
        """The media of each address; when one fails, or the call is cancelled, the other fetches end as well."""
        budget = _Budget(self._max_bytes)
        tasks = [asyncio.create_task(self._one(item, budget)) for item in items]
        try:
            found = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return {item.url: media for item, media in zip(items, found, strict=True)}

    async def _one(self, item: Wanted, budget: _Budget) -> message_pb2.Media:
        try:
            async with asyncio.timeout(self._timeout), self._slots:
                return await self._follow(item, budget)
        except _Refused as error:
            raise _failed(item, str(error)) from None
        except TimeoutError as error:
            raise _failed(item, f"did not arrive within {self._timeout:g} seconds") from error
        except aiohttp.ClientConnectorError as error:
            refused = isinstance(error.os_error, _RefusedAddressError)
            raise _failed(item, _NOT_PUBLIC if refused else "cannot be reached") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _failed(item, "could not be fetched") from error

    async def _follow(self, item: Wanted, budget: _Budget) -> message_pb2.Media:
        url = self._checked(_parsed(item.url))
        for _ in range(MAX_REDIRECTS + 1):
            async with self._client().get(url, allow_redirects=False) as response:
                if response.status not in _REDIRECTS:
                    return await self._read(response, item, budget)
                url = self._checked(url.join(_parsed(response.headers.get("location", ""))))
        raise _Refused(f"redirects more than {MAX_REDIRECTS} times")

    def _checked(self, url: URL) -> URL:
        """`url`, when it may be asked for; names are checked once they are resolved."""
        host = url.raw_host
        if url.scheme not in {"http", "https"} or not host:
            raise _Refused("leads to something that is not an http or https address")
        if url.raw_user is not None or url.raw_password is not None:
            raise _Refused("has a user or password in it, which is not sent on")
        if (":" in host or _ends_in_number(host)) and not is_allowed(host, internal=self._internal):
            raise _Refused(_NOT_PUBLIC)
        return url

    async def _read(self, response: aiohttp.ClientResponse, item: Wanted, budget: _Budget) -> message_pb2.Media:
        if response.status != 200:
            raise _Refused(f"was answered with status {response.status}")
        if response.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
            raise _Refused("came compressed, though that was not asked for")
        budget.expect(response.content_length or 0)
        parts: list[bytes] = []
        async for part in response.content.iter_any():
            budget.take(len(part))
            parts.append(part)
        data = b"".join(parts)
        kind = media_type(data, response.headers.get("content-type", ""))
        if kind not in item.types:
            raise _Refused(f"is {kind or 'of no type that is known'}; taken are {', '.join(sorted(item.types))}")
        return message_pb2.Media(data=data, media_type=kind)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=_Resolver(self._resolver or aiohttp.ThreadedResolver(), internal=self._internal),
                use_dns_cache=False,
                ssl=ssl_context(),
                limit=MAX_FETCHES,
                socket_factory=self._socket,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                headers=_HEADERS,
                auto_decompress=False,
            )
        return self._session

    def _socket(self, info: AddrInfoType) -> socket.socket:
        """A socket for the address that is about to be connected to, however it was arrived at."""
        family, kind, protocol, _, address = info
        if not is_allowed(str(address[0]), internal=self._internal):
            raise _RefusedAddressError
        return socket.socket(family, kind, protocol)


_NOT_PUBLIC: Final = "leads to an address that is not public"


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


class _Budget:
    """The bytes that one call may still fetch."""

    __slots__ = ("_left", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit

    def expect(self, size: int) -> None:
        """Refuse early what says that it is too large."""
        if size > self._left:
            raise _Refused(f"goes beyond the {self._limit} bytes that may be fetched for one call")

    def take(self, size: int) -> None:
        """Count what has arrived."""
        self.expect(size)
        self._left -= size


def _parsed(text: str) -> URL:
    """The address as it was written where that is plain enough: signed ones do not survive being quoted anew."""
    try:
        url = URL(text, encoded=text.isascii() and text.isprintable() and " " not in text)
        _ = url.port  # read only when asked for
    except ValueError as error:
        raise _Refused("is not a valid address") from error
    return url


def _ends_in_number(host: str) -> bool:
    """Whether the system may take a host for an IPv4 address, in whatever spelling (`127.1`, `0x7f000001`)."""
    last = host.rstrip(".").rpartition(".")[2].lower()
    return last.isdigit() or last.startswith("0x")


def _failed(item: Wanted, why: str) -> GatewayError:
    return invalid(item.param, f"`{item.param}` {why}")
