"""The one upstream HTTP client: the only place where adapters do I/O.

httpx's transport interface over aiohttp's connections (`transport`), called below httpx's client layer, which would
cost more than the request itself. Foreign exceptions become `GatewayError` here, by type, and nowhere else. It never
retries or follows redirects. How long a call may wait is `Watch`'s business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Self
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined] # not in the stubs

import aiohttp
import httpx
from aigateway_common.errors import GatewayError
from aigateway_common.web import ssl_context

from aigateway_providers.answer import Answer
from aigateway_providers.transport import Connector, DirectTransport
from aigateway_providers.watch import Watch, passed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from types import TracebackType

    from aigateway_providers.adapter import CallContext
    from aigateway_providers.settings import ProviderSettings

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
"""The largest whole answer taken, the same as the largest gRPC message."""
_OK: Final = 200
_SLICE: Final = 256 * 1024
"""Bytes of a body that are written at once; a larger one goes in slices, and other calls go on between them."""

_JSON_HEADERS: Final = (
    ("content-type", "application/json"),
    ("accept", "application/json, text/event-stream, application/x-ndjson"),
    ("accept-encoding", "identity"),
    ("user-agent", "aigateway"),
)


RawHeaders = Sequence[tuple[bytes, bytes]]


class UpstreamResponse:
    """An answer whose status is known and whose body is still to be read. Close it, or use it as a context manager."""

    __slots__ = ("_encoded", "_head", "_place", "_settings", "_stream", "_watch", "media_type", "status")

    def __init__(
        self,
        status: int,
        head: RawHeaders,
        stream: httpx.AsyncByteStream,
        settings: ProviderSettings,
        watch: Watch,
        place: asyncio.Semaphore,
    ) -> None:
        self._head = head
        self._stream = stream
        self._place: asyncio.Semaphore | None = place
        self._settings = settings
        self._watch = watch
        self._encoded = False
        self.status = status
        self.media_type = ""
        """What the body says it is, such as `text/event-stream`: in lower case, without parameters; may be empty."""
        for name, value in head:
            lowered = name.lower()
            if lowered == b"content-type":
                self.media_type = value.partition(b";")[0].strip().lower().decode("latin-1")
            elif lowered == b"content-encoding":
                self._encoded = True

    @property
    def headers(self) -> Mapping[str, str]:
        """By name in whichever case."""
        return httpx.Headers(self._head)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives: one item per read, content-encoding undone."""
        watch, read = self._watch, self._reader()
        try:
            with watch:
                chunk = await read()
                watch.answered()
                while chunk:
                    watch.rests()
                    yield chunk
                    watch.waits()
                    chunk = await read()
        except _FOREIGN as error:
            raise _mapped(error, self._settings) from error

    def shorten(self, take: Callable[[bytes], bool]) -> None:
        """Show `take` each piece that comes while `chunks` waits: one for which it answers True is not in `chunks`.

        It must not wait or raise. It saves waking the task that reads, and is not called where that cannot be.
        """
        stream, watch = self._stream, self._watch
        if not isinstance(stream, Answer) or self._encoded:
            return

        def shown(piece: bytes) -> bool:
            if not take(piece):
                return False
            watch.answered()
            watch.waits()
            return True

        stream.shortcut = shown

    def _reader(self) -> Callable[[], Awaitable[bytes]]:
        """What reads some of the body, and nothing at its end."""
        stream = self._stream
        if isinstance(stream, Answer) and not self._encoded:
            return stream.read
        decoded = httpx.Response(self.status, headers=self._head, stream=stream).aiter_bytes
        source = aiter(decoded() if self._encoded else stream)

        async def read() -> bytes:
            async for chunk in source:
                if chunk:
                    return chunk
            return b""

        return read

    async def read(self) -> bytes:
        """The whole body."""
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise GatewayError(
                    "UPSTREAM_INVALID",
                    f"{self._settings.name} sent an answer of over {MAX_BODY_BYTES} bytes",
                    details={"provider": self._settings.name},
                )
            parts.append(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def aclose(self) -> None:
        """Give the connection back, or close it when the body was not read to its end."""
        self._watch.stop()
        try:
            await self._stream.aclose()
        finally:
            place, self._place = self._place, None
            if place is not None:
                place.release()


class Upstream:
    """A pooled client of one provider."""

    def __init__(self, settings: ProviderSettings, headers: Mapping[str, str]) -> None:
        self._settings = settings
        self._base_url = settings.base_url.rstrip("/")
        self._headers = self._all(headers)
        self._extensions = {"timeout": {"connect": settings.connect_timeout}}
        self._urls: dict[str, httpx.URL] = {}
        # aiohttp's own limit gives a free connection to whoever asks next, and those who wait may do so for ever.
        self._places = asyncio.Semaphore(settings.max_connections)
        self._transport = DirectTransport(
            self._session, self._headers, _proxy(self._base_url), settings.connect_timeout
        )

    def rekey(self, headers: Mapping[str, str]) -> None:
        """Have `headers` in the place of those given at first, in requests that begin from now on.

        Raises ValueError for one that cannot be sent; then nothing has changed.
        """
        fresh = self._all(headers)
        self._transport.rewrite(fresh)
        self._headers = fresh

    def _all(self, headers: Mapping[str, str]) -> httpx.Headers:
        return httpx.Headers([*_JSON_HEADERS, *headers.items(), *self._settings.headers.items()])

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
        url, fields = self._url(path), self._fields(headers)
        await self._places.acquire()
        try:
            return await self._send(method, url, fields, body or b"", context)
        except BaseException:
            self._places.release()
            raise

    async def _send(
        self, method: str, url: httpx.URL, fields: httpx.Headers, body: bytes, context: CallContext
    ) -> UpstreamResponse:
        watch = Watch(self._settings)
        started = time.perf_counter_ns()
        try:
            with watch:
                status, head, stream = await self._exchange(method, url, fields, body)
        except _FOREIGN as error:
            raise _mapped(error, self._settings) from error
        finally:
            context.upstream_ns += time.perf_counter_ns() - started
        context.upstream_status = status
        return UpstreamResponse(status, head, stream, self._settings, watch, self._places)

    async def _exchange(
        self, method: str, url: httpx.URL, fields: httpx.Headers, body: bytes
    ) -> tuple[int, RawHeaders, httpx.AsyncByteStream]:
        """Status, headers and body of the answer."""
        if method == "POST" and len(body) <= _SLICE and self._transport.reaches(url):
            answer = await self._transport.post(url, fields, body)
            return answer.status, answer.headers, answer
        response = await self._transport.handle_async_request(self._request(method, url, fields, body))
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - the transport is asynchronous
        return response.status_code, response.headers.raw, response.stream

    async def fetch(
        self,
        method: str,
        path: str,
        *,
        context: CallContext,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send one request and read the whole answer: status, headers and body; no headers where it succeeded."""
        response = await self.send(method, path, context=context, body=body, headers=headers)
        started = time.perf_counter_ns()
        async with response:
            content = await response.read()
        context.upstream_ns += time.perf_counter_ns() - started
        return response.status, {} if response.status == _OK else response.headers, content

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    def _fields(self, more: Mapping[str, str] | None) -> httpx.Headers:
        return httpx.Headers([*self._headers.multi_items(), *more.items()]) if more else self._headers

    def _request(self, method: str, url: httpx.URL, fields: httpx.Headers, body: bytes) -> httpx.Request:
        """The request; aiohttp adds `host`, and the length of what goes in one piece.

        Given as `content`, a body has httpx look through all headers for each request, which takes ten microseconds.
        """
        if len(body) > _SLICE:
            sized = [*fields.multi_items(), ("content-length", str(len(body)))]
            return httpx.Request(method, url, headers=sized, content=_slices(body), extensions=self._extensions)
        request = httpx.Request(method, url, stream=httpx.ByteStream(body), extensions=self._extensions)
        request.headers = fields
        request.read()
        return request

    def _url(self, path: str) -> httpx.URL:
        url = self._urls.get(path)
        if url is None:
            url = httpx.URL(self._base_url + path)
            if len(self._urls) < 1000:
                self._urls[path] = url
        return url

    def _session(self) -> aiohttp.ClientSession:
        secure = self._base_url.startswith("https:")
        connector = Connector(limit=0, keepalive_timeout=60, ssl=ssl_context() if secure else False)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


async def _slices(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _SLICE):
        yield body[start : start + _SLICE]


def _proxy(url: str) -> httpx.Proxy | None:
    """The proxy that the environment names for `url`; asked once, since aiohttp would ask for each call in a thread."""
    target = httpx.URL(url)
    proxy = getproxies_environment().get(target.scheme)
    if not proxy or proxy_bypass_environment(target.host):
        return None
    return httpx.Proxy(proxy)


_FOREIGN: Final = (httpx.TransportError, httpx.DecodingError, aiohttp.ClientError, TimeoutError, OSError)


def _mapped(error: Exception, settings: ProviderSettings) -> GatewayError:
    cause = error if isinstance(error, aiohttp.ClientError) else error.__cause__ or error
    provider = settings.name
    details = {"provider": provider}
    if isinstance(error, httpx.DecodingError | httpx.RemoteProtocolError | aiohttp.ClientResponseError):
        return GatewayError("UPSTREAM_INVALID", f"{provider} sent what is no HTTP answer", details=details)
    if isinstance(cause, aiohttp.ConnectionTimeoutError):
        return passed(settings, "connect_timeout", "accepted no connection within", nothing=True)
    if isinstance(cause, TimeoutError):  # the operating system's own
        return GatewayError("UPSTREAM_TIMEOUT", f"the connection to {provider} timed out", details=details)
    if isinstance(cause, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | aiohttp.ClientOSError) and not (
        isinstance(cause, aiohttp.ClientConnectorError)
    ):
        return GatewayError("UPSTREAM_INVALID", f"{provider} closed the connection in mid-answer", details=details)
    return GatewayError("UPSTREAM_UNREACHABLE", f"{provider} cannot be reached", details=details)
