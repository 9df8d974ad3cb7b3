"""The public keys of an identity provider, from a URL or a file, kept for a while.

Not for tokens (see `jwt_tokens`).
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx
import jwt
from aigateway_common import logs
from aigateway_common.errors import GatewayError

if TYPE_CHECKING:
    from pathlib import Path

    from aigateway_router.settings import JwtSettings

MAX_BYTES: Final = 1024 * 1024
"""Of a document of keys; real ones have a few thousand."""
TIMEOUT: Final = 5.0
"""Seconds that the document may take."""
UNKNOWN_PAUSE: Final = 10.0
"""Seconds between two fetches because of a key id that nobody knows."""
_FILE_TTL: Final = 1.0
"""Seconds between two looks at whether a file has changed."""
_RETRY: Final = 5.0
"""Seconds between two tries while the document cannot be had."""

_HEADERS: Final = {"accept": "application/json", "accept-encoding": "identity"}
_CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "secp256k1": "ES256K"}

_log = logs.get("aigateway.router")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signs tokens."""

    key: Any
    algorithms: frozenset[str]
    """What it may be used with, whatever a token says."""


class Jwks:
    """The keys by their id.

    Args:
        settings: Where they are.
        grace: Seconds that they work on beyond their time while they cannot be had anew.
    """

    def __init__(self, settings: JwtSettings, grace: float) -> None:
        self._settings = settings
        self._grace = grace
        self._ttl = settings.jwks_ttl if settings.jwks_file is None else _FILE_TTL
        self._document = b""
        self._keys: dict[str, PublicKey] = {}
        self._fresh_until = 0.0
        self._ends = 0.0
        self._retry_at = 0.0
        self._unknown_at = 0.0
        self._fetching: asyncio.Task[None] | None = None
        self.generation = 0
        """Grows whenever the keys have changed: what was signed by one that is gone is worth nothing any more."""

    async def refresh(self) -> None:
        """Have the keys anew where they are old. Raises GatewayError UNAVAILABLE when there are none to go by."""
        now = time.monotonic()
        if now >= self._fresh_until and now >= self._retry_at:
            await self._fetch()
            now = time.monotonic()
        if now > self._ends:
            raise GatewayError(
                "UNAVAILABLE", "the keys that tokens are signed with cannot be had; try again", retry_after=_RETRY
            )

    async def find(self, kid: str | None) -> PublicKey | None:
        """The key called `kid`, or the only one there is when the token names none."""
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        if kid not in self._keys and time.monotonic() >= self._unknown_at:
            await self._fetch()
        return self._keys.get(kid)

    async def stop(self) -> None:
        """Ask no longer."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    async def _fetch(self) -> None:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._load(), name="fetch token keys")
        # Others may wait for the same keys: one that goes away does not take them from them.
        await asyncio.shield(self._fetching)

    async def _load(self) -> None:
        self._unknown_at = time.monotonic() + min(UNKNOWN_PAUSE, self._ttl)
        try:
            document = await self._read()
            if document != self._document:
                # On a thread: a document may hold many keys, and each takes a while to check.
                self._keys = await asyncio.to_thread(_parse, document)
                self._document = document
                self.generation += 1
            self._fresh_until = time.monotonic() + self._ttl
            self._ends = self._fresh_until + self._grace
        except (httpx.HTTPError, OSError, ValueError, TimeoutError, RecursionError) as error:
            self._retry_at = time.monotonic() + _RETRY
            _log.error("keys of tokens cannot be had", error=f"{type(error).__name__}: {error}"[:300])
        finally:
            self._fetching = None

    async def _read(self) -> bytes:
        if self._settings.jwks_file is not None:
            return await asyncio.to_thread(_read_file, self._settings.jwks_file)
        # Made on a thread: a client loads every certificate authority there is.
        client = await asyncio.to_thread(httpx.AsyncClient, timeout=TIMEOUT)
        async with client, asyncio.timeout(TIMEOUT):
            return await _download(client, self._settings.jwks_url or "")


async def _download(client: httpx.AsyncClient, url: str) -> bytes:
    async with client.stream("GET", url, headers=_HEADERS) as response:
        if response.status_code != 200:
            raise ValueError(f"HTTP {response.status_code}")
        document = bytearray()
        async for chunk in response.aiter_bytes():
            document += chunk
            if len(document) > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes")
        return bytes(document)


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        document = file.read(MAX_BYTES + 1)
    if len(document) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    return document


def _parse(document: bytes) -> dict[str, PublicKey]:
    """The keys that can verify signatures. Raises ValueError when there is none."""
    parsed = json.loads(document)
    entries = parsed.get("keys") if isinstance(parsed, dict) else None
    keys: dict[str, PublicKey] = {}
    for number, entry in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(entry, dict) and (key := _public_key(entry)) is not None:
            keys[str(entry.get("kid") or f"#{number}")] = key
    if not keys:
        raise ValueError("it holds no public key that verifies signatures")
    return keys


def _public_key(entry: dict[str, Any]) -> PublicKey | None:
    """A key of the document; None for one of another use or kind, secrets (`oct`) above all."""
    algorithms = _algorithms(entry)
    if not algorithms or entry.get("use", "sig") != "sig" or "d" in entry:
        return None
    try:
        return PublicKey(jwt.PyJWK(entry, algorithm=min(algorithms)).key, algorithms)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
        _log.warning("a key of tokens is left out", kid=str(entry.get("kid"))[:100], error=type(error).__name__)
        return None


def _algorithms(entry: dict[str, Any]) -> frozenset[str]:
    match entry.get("kty"):
        case "RSA":
            possible = {f"{family}{size}" for family in ("RS", "PS") for size in (256, 384, 512)}
        case "EC":
            possible = {_CURVES[curve]} if (curve := str(entry.get("crv"))) in _CURVES else set()
        case "OKP":
            possible = {"EdDSA"}
        case _:
            possible = set()
    return frozenset(possible & {entry["alg"]} if "alg" in entry else possible)
