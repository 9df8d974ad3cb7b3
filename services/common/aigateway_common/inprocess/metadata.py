"""Metadata as gRPC takes it: what the wire would refuse or change is refused or changed here too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from grpc import aio

if TYPE_CHECKING:
    from collections.abc import Iterable

Pairs = tuple[tuple[str, str | bytes], ...]

_MAX_KEYS: Final = 256
_keys: Final[set[str]] = set()
"""Keys of text that were seen: one is looked through once."""


def pairs(metadata: Iterable[Any] | None) -> Pairs:
    """`metadata` as the other side sees it: a tuple of pairs; bytes under `-bin` keys, text under the others.

    Raises InternalError for keys that are not lower case and values that are not printable ASCII, as grpc.aio does.
    """
    if not metadata:
        return ()
    keys = _keys
    return tuple(
        [
            (key, value)
            if key in keys and isinstance(value, str) and value.isascii() and value.isprintable()
            else _pair(key, value)
            for key, value in metadata
        ]
    )


def _pair(key: str, value: str | bytes) -> tuple[str, str | bytes]:
    if not isinstance(value, str | bytes):
        raise TypeError(f"the metadata value of `{key}` is neither text nor bytes")
    if key != key.lower() or not key.isascii() or not key:
        raise aio.InternalError(f"metadata key {key!r} is not lower case")
    if key.endswith("-bin"):
        return (key, value.encode() if isinstance(value, str) else value)
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if not (text.isascii() and text.isprintable()):
        raise aio.InternalError(f"the metadata value of `{key}` is not printable ASCII")
    if len(_keys) < _MAX_KEYS:
        _keys.add(key)
    return (key, text)


def to_aio(metadata: Pairs | None) -> aio.Metadata:
    """What a client is handed."""
    return aio.Metadata(*(metadata or ()))
