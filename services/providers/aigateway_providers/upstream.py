"""The one upstream HTTP client: the only place where adapters do I/O.

aiohttp itself, since any layer over it costs a third of the request (ADR 5). Foreign exceptions become `GatewayError`
here, by type, and nowhere else. It never retries or follows redirects.
"""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Final, Self
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined] # not in the stubs

import aiohttp
from aigateway_common.errors import GatewayError
from multidict import CIMultiDict
from yarl import URL

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    from aigateway_providers.adapter import CallContext
    from aigateway_providers.settings import ProviderSettings

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
"""The largest whole answer taken, the same as the largest gRPC message."""
_SLICE: Final = 256 * 1024
"""Bytes of a body that are written at once; a larger one goes in slices, and other calls go on between them."""

_JSON_HEADERS: Final = (
    ("content-type", "application/json"),
    ("accept", "application/json, text/event-stream, application/x-ndjson"),
    ("accept-encoding", "identity"),
    ("user-agent", "aigateway"),
)


@cache
def ssl_context() -> ssl.SSLContext:
    """One context for all providers: loading the root certificates takes some 20 ms."""
    import httpx  # noqa: PLC0415 -- for its choice of root certificates, when there is something to encrypt

    return httpx.create_ssl_context()


class UpstreamResponse:
    """An answer whose status is known and whose body is still to be read. Close it, or use it as a context manager."""

    __slots__ = ("_provider", "_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, provider: str) -> None:
        self._response = response
        self._provider = provider
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives: one item per read, content-encoding undone."""
        content = self._response.content
        try:
            while chunk := await content.readany():
                yield chunk
        except _FOREIGN as error:
            raise _mapped(error, self._provider) from error

    async def read(self) -> bytes:
        """The whole body."""
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise GatewayError(
                    "UPSTREAM_INVALID",
                    f"{self._provider} sent an answer of over {MAX_BODY_BYTES} bytes",
                    details={"provider": self._provider},
                )
            parts.append(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def aclose(self) -> None:
        """Give the connection back, or close it when the body was not read to its end."""
        await self._response.__aexit__(None, None, None)


class Upstream:
    """A pooled client of one provider."""

    def __init__(self, settings: ProviderSettings, headers: Mapping[str, str]) -> None:
        self._provider = settings.name
        self._base_url = settings.base_url.rstrip("/")
        self._headers = CIMultiDict([*_JSON_HEADERS, *headers.items(), *settings.headers.items()])
        self._limit = settings.max_connections
        self._timeout = aiohttp.ClientTimeout(
            connect=settings.read_timeout, sock_connect=settings.connect_timeout, sock_read=settings.read_timeout
        )
        self._urls: dict[str, URL] = {}
        self._proxy, self._proxy_auth = _proxy(self._base_url)
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self,
        method: str,
        path: str,
        *,
        context: CallContext,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> UpstreamResponse:
        """Send one request and answer as soon as the status and headers are here.

        Args:
            method: `GET` or `POST`.
            path: What follows the base URL, query included, such as `/v1/messages`.
            context: The call; what it waited for is written to it.
            body: JSON.
            headers: Headers of this request alone.

        Raises:
            GatewayError: UPSTREAM_UNREACHABLE or UPSTREAM_TIMEOUT.
        """
        fields = self._headers
        large = body is not None and len(body) > _SLICE
        if headers or large:
            fields = fields.copy()
            fields.extend(headers or {})
        if body is not None and large:
            fields["content-length"] = str(len(body))
        session = self._session or self._open()
        started = time.perf_counter_ns()
        try:
            response = await session.request(
                method,
                self._url(path),
                headers=fields,
                data=_slices(body) if body is not None and large else body or None,
                allow_redirects=False,
                timeout=self._timeout,
                proxy=self._proxy,
                proxy_auth=self._proxy_auth,
            )
        except _FOREIGN as error:
            raise _mapped(error, self._provider) from error
        finally:
            context.upstream_ns += time.perf_counter_ns() - started
        context.upstream_status = response.status
        return UpstreamResponse(response, self._provider)

    async def fetch(
        self,
        method: str,
        path: str,
        *,
        context: CallContext,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send one request and read the whole answer: status, headers and body."""
        response = await self.send(method, path, context=context, body=body, headers=headers)
        started = time.perf_counter_ns()
        async with response:
            content = await response.read()
        context.upstream_ns += time.perf_counter_ns() - started
        return response.status, response.headers, content

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    def _url(self, path: str) -> URL:
        url = self._urls.get(path)
        if url is None:
            url = URL(self._base_url + path)
            if len(self._urls) < 1000:
                self._urls[path] = url
        return url

    def _open(self) -> aiohttp.ClientSession:
        secure = self._base_url.startswith("https:")
        connector = aiohttp.TCPConnector(
            limit=self._limit, keepalive_timeout=60, ssl=ssl_context() if secure else False
        )
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session


async def _slices(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _SLICE):
        yield body[start : start + _SLICE]


def _proxy(url: str) -> tuple[URL | None, aiohttp.BasicAuth | None]:
    """The proxy that the environment names for `url`; asked once, since aiohttp would ask for each call in a thread."""
    target = URL(url)
    named = getproxies_environment().get(target.scheme)
    if not named or proxy_bypass_environment(target.host or ""):
        return None, None
    proxy = URL(named if "://" in named else f"http://{named}")
    auth = aiohttp.BasicAuth(proxy.user, proxy.password or "") if proxy.user else None
    return proxy.with_user(None), auth


_FOREIGN: Final = (aiohttp.ClientError, TimeoutError, OSError)


def _mapped(error: Exception, provider: str) -> GatewayError:
    details = {"provider": provider}
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return GatewayError("UPSTREAM_UNREACHABLE", f"{provider} did not accept a connection in time", details=details)
    if isinstance(error, TimeoutError):
        return GatewayError("UPSTREAM_TIMEOUT", f"{provider} did not answer in time", details=details)
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | aiohttp.ClientOSError) and not (
        isinstance(error, aiohttp.ClientConnectorError)
    ):
        return GatewayError("UPSTREAM_INVALID", f"{provider} closed the connection in mid-answer", details=details)
    return GatewayError("UPSTREAM_UNREACHABLE", f"{provider} cannot be reached", details=details)
