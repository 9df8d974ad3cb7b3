"""What a caller's HTTP request says beside its body: key, ids, deadline, policy; and the reading of the body itself."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from aigateway.v1 import chat_pb2
from aigateway_common.errors import GatewayError, invalid

from aigateway_edge.header_values import sane_request_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope

    from aigateway_edge.settings import EdgeSettings

_MAX_KEY: Final = 4096
"""Bytes of the longest key taken; gRPC refuses metadata of over 8 KiB in all."""
_MAX_TRACE: Final = 512
"""Bytes of the longest trace header taken, as the W3C recommends for `tracestate`."""
_SESSION: Final = b"x-session-id"
_MAX_SESSION: Final = 256
_DRAIN_SECONDS: Final = 5.0
_DISCONNECT: Final = "http.disconnect"

_POLICIES: Final[Mapping[bytes, chat_pb2.TranslationPolicy.ValueType]] = {
    b"strict": chat_pb2.TRANSLATION_POLICY_STRICT,
    b"lenient": chat_pb2.TRANSLATION_POLICY_LENIENT,
}


class Held:
    """The bytes of unfinished bodies that all requests together hold: whoever never sends the end must not fill memory.

    A body that comes at once, as almost all do, is not counted.
    """

    __slots__ = ("_left",)

    def __init__(self, limit: int) -> None:
        self._left = limit

    def take(self, size: int) -> None:
        """Hold `size` bytes more. Raises GatewayError OVERLOADED when there is no room; nothing is held then."""
        if size > self._left:
            raise GatewayError("OVERLOADED", "too many large requests are coming in at once", retry_after=1)
        self._left -= size

    def give(self, size: int) -> None:
        """Hold `size` bytes less."""
        self._left += size


class ClientGoneError(Exception):
    """The caller closed the connection; there is nobody to answer."""


class Inbound:
    """One request's headers, read once."""

    __slots__ = ("_headers", "request_id")

    def __init__(self, scope: Scope) -> None:
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        given = self._headers.get(b"x-request-id")
        self.request_id: str = given.decode() if given and sane_request_id(given) else "req_" + os.urandom(16).hex()
        """The caller's id where it is sane, else one of ours."""

    def header(self, name: bytes) -> bytes:
        """A header of the caller's dialect, by its lower-case name; empty when absent."""
        return self._headers.get(name, b"")

    def trace_context(self) -> list[tuple[str, str]]:
        """The caller's trace, for the next hop or the span of this one."""
        found = ((name, self._headers.get(name.encode())) for name in ("traceparent", "tracestate"))
        return [(name, value.decode()) for name, value in found if value and len(value) <= _MAX_TRACE and _plain(value)]

    def session(self) -> tuple[tuple[str, str], ...]:
        """The caller's name for calls that belong together, where it is sane: what is always asked of one upstream."""
        given = self._headers.get(_SESSION)
        if not given or len(given) > _MAX_SESSION or not _plain(given):
            return ()
        return ((_SESSION.decode(), given.decode()),)

    def credentials(self) -> list[tuple[str, str]]:
        """The caller's keys as metadata, unread. They belong in no log.

        Raises:
            GatewayError: UNAUTHENTICATED, for what no key can be.
        """
        headers = self._headers
        found: list[tuple[str, str]] = []
        if authorization := headers.get(b"authorization"):
            found.append(("authorization", _key(authorization)))
        if key := headers.get(b"x-api-key") or headers.get(b"api-key"):
            found.append(("x-api-key", _key(key)))
        return found

    def timeout(self, settings: EdgeSettings) -> float:
        """Seconds that the call may take."""
        value = self._headers.get(b"x-gateway-timeout")
        if value is None:
            return settings.default_timeout
        try:
            seconds = float(value)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= settings.max_timeout:
            raise invalid(
                "X-Gateway-Timeout",
                f"header `X-Gateway-Timeout` must be seconds, more than 0 and at most {settings.max_timeout:g}",
            )
        return seconds

    def policy(self) -> chat_pb2.TranslationPolicy.ValueType:
        """What happens to what the provider cannot carry."""
        value = self._headers.get(b"x-gateway-translation-policy")
        if value is None:
            return chat_pb2.TRANSLATION_POLICY_LENIENT
        policy = _POLICIES.get(value.strip().lower())
        if policy is None:
            raise invalid(
                "X-Gateway-Translation-Policy", "header `X-Gateway-Translation-Policy` must be `strict` or `lenient`"
            )
        return policy

    async def body(self, receive: Receive, limit: int, held: Held) -> bytes:
        """The whole body.

        Raises:
            GatewayError: REQUEST_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, OVERLOADED.
            ClientGoneError: the caller left before it was complete.
        """
        self._check_media()
        length = self._headers.get(b"content-length")
        if length is not None and int(length) > limit:
            if b"expect" not in self._headers:
                await _drain(receive, limit)
            raise _too_large(limit)
        message = await receive()
        if message["type"] == _DISCONNECT:
            raise ClientGoneError
        first: bytes = message.get("body", b"")
        if not message.get("more_body") and len(first) <= limit:
            return first
        return await _rest(receive, first, limit, held)

    def _check_media(self) -> None:
        encoding = self._headers.get(b"content-encoding", b"identity")
        if encoding.strip().lower() not in (b"identity", b""):
            raise GatewayError("UNSUPPORTED_MEDIA_TYPE", "the body must not be compressed: remove `Content-Encoding`")
        # A web page may send any other type to any address without asking first, but not JSON.
        if b"origin" in self._headers and b"json" not in self._headers.get(b"content-type", b""):
            raise GatewayError("UNSUPPORTED_MEDIA_TYPE", "calls from web pages need `Content-Type: application/json`")


async def _rest(receive: Receive, first: bytes, limit: int, held: Held) -> bytes:
    pieces, size, more, holding = [first], len(first), True, 0
    try:
        while more and size <= limit:
            message = await receive()
            if message["type"] == _DISCONNECT:
                raise ClientGoneError
            piece: bytes = message.get("body", b"")
            held.take(len(piece))
            holding += len(piece)
            pieces.append(piece)
            size += len(piece)
            more = message.get("more_body", False)
    finally:
        held.give(holding)
    if size > limit:
        if more:
            await _drain(receive, limit)
        raise _too_large(limit)
    return b"".join(pieces)


async def _drain(receive: Receive, limit: int) -> None:
    """Read on for a while before refusing: many clients only read an answer once their body is sent."""
    size = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while size <= limit:
                message = await receive()
                if message["type"] == _DISCONNECT:
                    raise ClientGoneError
                size += len(message.get("body", b""))
                if not message.get("more_body"):
                    return
    except TimeoutError:
        return


def _too_large(limit: int) -> GatewayError:
    return GatewayError("REQUEST_TOO_LARGE", f"the body is larger than the {limit} bytes that this gateway takes")


def _key(value: bytes) -> str:
    if len(value) > _MAX_KEY or not _plain(value):
        raise GatewayError("UNAUTHENTICATED", "the key is too long, or holds characters that no key has")
    return value.decode()


def _plain(value: bytes) -> bool:
    return value.isascii() and value.decode().isprintable()
