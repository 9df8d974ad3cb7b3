"""Who calls: the gateway's own keys, compared in constant time. Not for what a caller may do."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from aigateway_common.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_KEY_HEADERS: Final = ("x-api-key", "api-key")
_BEARER: Final = "bearer "


class Authenticator:
    """Knows the keys by their SHA-256 digests only.

    Raises ValueError for an empty key, which would let everybody in by mistake.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys: list[tuple[bytes, str]] = []
        for key in keys:
            if not key.strip():
                raise ValueError("a gateway key is empty; remove it, or give it a value")
            self._keys.append((_digest(key), key_id(key)))

    def identify(self, metadata: Mapping[str, str]) -> str:
        """The visible id of the caller's key; empty when the gateway is open.

        Raises:
            GatewayError: UNAUTHENTICATED, when no key of ours is among those presented.
        """
        if not self._keys:
            return ""
        presented = _presented(metadata)
        if not presented:
            raise GatewayError(
                "UNAUTHENTICATED",
                "no gateway key given; send it as `authorization: Bearer KEY`, `x-api-key` or `api-key`",
            )
        for key in presented:
            if (found := self._match(key)) is not None:
                return found
        raise GatewayError(
            "UNAUTHENTICATED", "the gateway key is wrong; use one of the keys this gateway was started with"
        )

    def _match(self, key: str) -> str | None:
        digest = _digest(key)
        found: str | None = None
        for known, identity in self._keys:  # all of them, so that the time says nothing about the place
            if hmac.compare_digest(known, digest):
                found = identity
        return found


def key_id(key: str) -> str:
    """What stands for `key` in the ledger, spans and logs: 8 hexadecimal digits of its digest, never the key."""
    return f"key-{_digest(key).hex()[:8]}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _presented(metadata: Mapping[str, str]) -> list[str]:
    """Every key that the caller sent; SDKs add a bearer header of their own beside the one that was set."""
    keys = [metadata[header].strip() for header in _KEY_HEADERS if header in metadata]
    authorization = metadata.get("authorization", "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        keys.append(authorization[len(_BEARER) :].strip())
    return [key for key in keys if key]
