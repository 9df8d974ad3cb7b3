"""The outbox's record on disk: magic, length, checksum, payload. Pure; `store` does the I/O.

A record is one append, so a crash leaves at most its beginning. The magic lets a reader find the next good record after
bytes that something else damaged.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Final

MAGIC: Final = b"\xa1GWU"
_HEADER: Final = struct.Struct("<4sII")
HEADER_BYTES: Final = _HEADER.size
MAX_PAYLOAD: Final = 1024 * 1024
"""Bytes of one event at most; a header that says more is damage."""


def encode(payload: bytes) -> bytes:
    """`payload` as one record. Raises ValueError when it is larger than `MAX_PAYLOAD`."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a usage event of {len(payload)} bytes is too large for the outbox")
    return _HEADER.pack(MAGIC, len(payload), _checksum(len(payload), payload)) + payload


@dataclass(slots=True)
class Scan:
    """What a run of bytes holds."""

    payloads: list[bytes] = field(default_factory=list)
    """The good records, in order."""
    damaged: list[tuple[int, bytes]] = field(default_factory=list)
    """Runs of bytes that are no record, each with its offset."""
    used: int = 0
    """Bytes dealt with."""


def scan(data: bytes, limit: int, *, last: bool) -> Scan:
    """Read at most `limit` records of `data`.

    `last` says that no bytes follow: only then is what is no record told apart into damage and its end searched for;
    else it is left unused, to be read again with all that follows.
    """
    result = Scan()
    position = 0
    while len(result.payloads) < limit and position < len(data):
        payload = _record(data, position)
        if payload is not None:
            result.payloads.append(payload)
            position += HEADER_BYTES + len(payload)
            continue
        if not last:
            break
        end = _next_record(data, position + 1)
        result.damaged.append((position, data[position:end]))
        position = end
    result.used = position
    return result


def is_torn(damage: bytes) -> bool:
    """Whether `damage` at the end of a file is what a crash in the middle of an append leaves."""
    if len(damage) < HEADER_BYTES:
        return MAGIC.startswith(damage[: len(MAGIC)])
    magic, length, _ = _HEADER.unpack_from(damage)
    return bool(magic == MAGIC and length <= MAX_PAYLOAD and HEADER_BYTES + length > len(damage))


def _record(data: bytes, position: int) -> bytes | None:
    """The payload of a whole and good record at `position`."""
    start = position + HEADER_BYTES
    if start > len(data):
        return None
    magic, length, checksum = _HEADER.unpack_from(data, position)
    if magic != MAGIC or length > MAX_PAYLOAD or start + length > len(data):
        return None
    payload = data[start : start + length]
    return payload if _checksum(length, payload) == checksum else None


def _next_record(data: bytes, position: int) -> int:
    """Where the next good record begins; the end of `data` when there is none."""
    while (position := data.find(MAGIC, position)) != -1:
        if _record(data, position) is not None:
            return position
        position += 1
    return len(data)


def _checksum(length: int, payload: bytes) -> int:
    return zlib.crc32(payload, length)
