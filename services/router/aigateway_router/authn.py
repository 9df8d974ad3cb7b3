"""Keys by their digests: how callers may send one, and whether it is among ours, in constant time.

Not for whose key it is (see `callers`) or what it may do.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_KEY_HEADERS: Final = ("x-api-key", "api-key")
_BEARER: Final = "bearer "
_TOKEN_DOTS: Final = 2


class KeyRing:
    """Knows keys by their SHA-256 digests only.

    Raises ValueError for an empty key, which would let everybody in by mistake.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys: list[tuple[bytes, str]] = []
        for key in keys:
            if not key.strip():
                raise ValueError("a gateway key is empty; remove it, or give it a value")
            self._keys.append((digest(key), key_id(key)))

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, presented: bytes) -> str | None:
        """The visible id of the key whose digest is `presented`; None when there is none."""
        found: str | None = None
        for known, identity in self._keys:  # all of them, so that the time says nothing about the place
            if hmac.compare_digest(known, presented):
                found = identity
        return found


def key_id(key: str) -> str:
    """What stands for `key` in the ledger, spans and logs: 8 hexadecimal digits of its digest, never the key."""
    return f"key-{digest(key).hex()[:8]}"


def digest(key: str) -> bytes:
    """The SHA-256 digest of a key: all that is compared, kept or sent of it."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def presented(metadata: Mapping[str, str]) -> list[str]:
    """Every key that the caller sent; SDKs add a bearer header of their own beside the one that was set."""
    keys = [metadata[header].strip() for header in _KEY_HEADERS if header in metadata]
    authorization = metadata.get("authorization", "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        keys.append(authorization[len(_BEARER) :].strip())
    return [key for key in keys if key]


def looks_like_token(key: str) -> bool:
    """Whether what a caller sent has the form of a JWT: three parts, of which the first is JSON in base 64."""
    return key.startswith("ey") and key.count(".") == _TOKEN_DOTS
