"""httpx's transport over aiohttp's connections, without what aiohttp's client does around each request.

`httpx-aiohttp` hands every request to `aiohttp.ClientSession`, which makes a URL, a request, a payload, cookies, timers
and a response object for it: half of what a small call costs a bare proxy in all. Nearly every request of an adapter is
a `POST` of some bytes to its one provider and needs none of that; here it is written to a connection of the same pool
directly. Whatever else is asked (another method, a body in slices, a proxy, a password in the address) goes the way of
`httpx-aiohttp`.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from httpx_aiohttp import AiohttpTransport
from httpx_aiohttp.transport import map_aiohttp_exceptions
from typing_extensions import override
from yarl import URL

from aigateway_providers.answer import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.connector import Connection

_UNSAFE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""Bytes that no header has, or that end one: https://www.rfc-editor.org/rfc/rfc9110#section-5.5"""
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
"""Headers that the transport alone may write: what they say decides where the request ends."""


class _Protocol(ResponseHandler):
    """A connection that brings an `Answer` to a request of ours, and else what aiohttp asked for itself."""

    answer: Answer | None = None

    @override
    def set_response_params(self, **params: Any) -> None:
        self.answer = None
        super().set_response_params(**params)

    @override
    def data_received(self, data: bytes) -> None:
        if self.answer is not None:
            self.answer.feed(data)
        else:
            super().data_received(data)

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        answer, self.answer = self.answer, None
        if answer is not None:
            answer.lost(exc)
        super().connection_lost(exc)


class Connector(aiohttp.TCPConnector):
    """aiohttp's pool of connections to one provider."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = cast("partial[ResponseHandler]", partial(_Protocol, loop=self._loop))


class DirectTransport(AiohttpTransport):
    """The transport to one provider.

    Args:
        session: Makes the session whose connections are used, once there is an event loop.
        headers: Those of nearly every request. They are written out once for all requests that have this very object,
            so it must not change any more.
        proxy: The proxy to go through.
        connect_timeout: Seconds for opening a connection.
    """

    def __init__(
        self,
        session: Callable[[], aiohttp.ClientSession],
        headers: httpx.Headers,
        proxy: httpx.Proxy | None,
        connect_timeout: float,
    ) -> None:
        super().__init__(verify=False, client=session, proxy=proxy)
        self._headers = headers
        self._lines = _lines(headers)
        self._hosted = "host" in headers
        self._timeout = aiohttp.ClientTimeout(sock_connect=connect_timeout)
        self._pool: aiohttp.BaseConnector | None = None
        self._address: aiohttp.ClientRequest | None = None
        """A request that is never sent: the pool takes one to know where a connection has to lead."""

    def rewrite(self, headers: httpx.Headers) -> None:
        """Take `headers` for those of nearly every request from now on. Raises ValueError, and then has not."""
        self._lines = _lines(headers)
        self._hosted = "host" in headers
        self._headers = headers

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if (
            request.method != "POST"
            or not self.reaches(request.url)
            or not isinstance(request.stream, httpx.ByteStream)
        ):
            return await super().handle_async_request(request)
        answer = await self.post(request.url, request.headers, request.content)
        return httpx.Response(answer.status, headers=answer.headers, stream=answer, request=request)

    def reaches(self, url: httpx.URL) -> bool:
        """Whether `post` can be used for `url`."""
        return self.proxy is None and not url.userinfo

    async def post(self, url: httpx.URL, headers: httpx.Headers, content: bytes) -> Answer:
        """Send a request without making httpx's objects of it and its answer. Raises httpx's and aiohttp's errors."""
        connection = await self._connect(url)
        try:
            return await _exchange(connection, self._written(url, headers, content))
        except BaseException:
            connection.close()
            with map_aiohttp_exceptions():
                raise

    async def _connect(self, url: httpx.URL) -> Connection:
        if self._pool is None or self._address is None:
            if not isinstance(self.client, aiohttp.ClientSession):
                self.client = self.get_client()
            self._pool = self.client.connector
            loop = asyncio.get_running_loop()
            self._address = aiohttp.ClientRequest("POST", URL(str(url)), loop=loop, session=self.client)
            return await self._connect(url)
        try:
            return await self._pool.connect(self._address, [], self._timeout)
        except TimeoutError as error:
            late = aiohttp.ConnectionTimeoutError("no connection in time")
            late.__cause__ = error
            raise httpx.ConnectTimeout(str(late)) from late
        except aiohttp.ClientError:
            with map_aiohttp_exceptions():
                raise

    def _written(self, url: httpx.URL, headers: httpx.Headers, content: bytes) -> bytes:
        """The whole request."""
        usual = headers is self._headers
        lines = self._lines if usual else _lines(headers)
        hosted = self._hosted if usual else "host" in headers
        host = b"" if hosted else b"host: %b\r\n" % url.netloc
        return b"POST %b HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n%b" % (
            url.raw_path,
            host,
            lines,
            len(content),
            content,
        )


async def _exchange(connection: Connection, written: bytes) -> Answer:
    """The answer, whose head has come, to what is `written`."""
    protocol = connection.protocol
    if not isinstance(protocol, _Protocol) or protocol.transport is None:
        raise aiohttp.ServerDisconnectedError
    answer = protocol.answer = Answer(connection, protocol)
    protocol.transport.write(written)
    await answer.head()
    return answer


def _lines(headers: httpx.Headers) -> bytes:
    """The headers as they are sent. Raises ValueError for one that would break out of its line."""
    lines = []
    for name, value in headers.raw:
        if _UNSAFE.search(name) or _UNSAFE.search(value):
            raise ValueError(f"the header {name!r} holds characters that no header has")
        if name.lower() not in _FRAMING:
            lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)
