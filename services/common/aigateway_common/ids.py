"""Identifiers that sort by the time they were made at."""

from __future__ import annotations

import os
import time


def new_id(at_ns: int | None = None) -> str:
    """A UUIDv7 (RFC 9562, section 5.7) in hexadecimal; the 12 bits after the version are parts of a millisecond.

    Args:
        at_ns: When it is made; nanoseconds since the Unix epoch, now when None.
    """
    milliseconds, nanoseconds = divmod(time.time_ns() if at_ns is None else at_ns, 1_000_000)
    fraction = (nanoseconds << 12) // 1_000_000
    tail = int.from_bytes(os.urandom(8), "big") >> 2 | 1 << 63
    return f"{milliseconds:012x}7{fraction:03x}{tail:016x}"


def made_at_us(made: str) -> int:
    """When an id of `new_id` was made, to the millisecond; microseconds since the Unix epoch."""
    return int(made[:12], 16) * 1000
