"""Fetches the pictures, sound and documents that a call names by web address, for providers that take bytes only.

The addresses are the caller's choice, so nothing here is trusted: they are reached through `aigateway_common.web`,
redirects are followed by hand and checked again, and size, time, number and type are limited. Nothing is logged.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import aiohttp
from aigateway.v1 import message_pb2
from aigateway_common import web
from aigateway_common.errors import GatewayError, invalid
from aigateway_common.web import RefusedError

from aigateway_providers.media_types import media_type
from aigateway_providers.media_urls import inlined, wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aigateway.v1 import chat_pb2
    from aiohttp.abc import AbstractResolver
    from yarl import URL

    from aigateway_providers.adapter import CallContext
    from aigateway_providers.media_urls import Takes, Wanted
    from aigateway_providers.settings import ProviderSettings

MAX_REDIRECTS: Final = 3
MAX_FETCHES: Final = 16
"""Addresses that one adapter fetches at the same time; further ones wait, and their waiting counts as theirs."""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HEADERS: Final = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "aigateway"}


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
        except RefusedError as error:
            raise _failed(item, str(error)) from None
        except TimeoutError as error:
            raise _failed(item, f"did not arrive within {self._timeout:g} seconds") from error
        except aiohttp.ClientConnectorError as error:
            raise _failed(item, web.NOT_PUBLIC if web.is_refused(error) else "cannot be reached") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _failed(item, "could not be fetched") from error

    async def _follow(self, item: Wanted, budget: _Budget) -> message_pb2.Media:
        url = self._checked(web.parsed(item.url))
        for _ in range(MAX_REDIRECTS + 1):
            async with self._client().get(url, allow_redirects=False) as response:
                if response.status not in _REDIRECTS:
                    return await self._read(response, item, budget)
                url = self._checked(url.join(web.parsed(response.headers.get("location", ""))))
        raise RefusedError(f"redirects more than {MAX_REDIRECTS} times")

    def _checked(self, url: URL) -> URL:
        return web.checked(url, internal=self._internal)

    async def _read(self, response: aiohttp.ClientResponse, item: Wanted, budget: _Budget) -> message_pb2.Media:
        if response.status != 200:
            raise RefusedError(f"was answered with status {response.status}")
        if response.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
            raise RefusedError("came compressed, though that was not asked for")
        budget.expect(response.content_length or 0)
        parts: list[bytes] = []
        async for part in response.content.iter_any():
            budget.take(len(part))
            parts.append(part)
        data = b"".join(parts)
        kind = media_type(data, response.headers.get("content-type", ""))
        if kind not in item.types:
            raise RefusedError(f"is {kind or 'of no type that is known'}; taken are {', '.join(sorted(item.types))}")
        return message_pb2.Media(data=data, media_type=kind)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = web.connector(internal=self._internal, limit=MAX_FETCHES, resolver=self._resolver)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                headers=_HEADERS,
                auto_decompress=False,
            )
        return self._session


class _Budget:
    """The bytes that one call may still fetch."""

    __slots__ = ("_left", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit

    def expect(self, size: int) -> None:
        """Refuse early what says that it is too large."""
        if size > self._left:
            raise RefusedError(f"goes beyond the {self._limit} bytes that may be fetched for one call")

    def take(self, size: int) -> None:
        """Count what has arrived."""
        self.expect(size)
        self._left -= size


def _failed(item: Wanted, why: str) -> GatewayError:
    return invalid(item.param, f"`{item.param}` {why}")
