"""When a webhook that was not delivered is tried again, and when it is given up; pure."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, Literal

FIRST: Final = 5.0
"""Seconds until the second try; each further one takes twice as long, up to `LONGEST`."""
LONGEST: Final = 3600.0
GIVE_UP: Final = 86_400.0
"""Seconds for which a delivery is tried."""

Verdict = Literal["delivered", "again", "never"]


def verdict(status: int) -> Verdict:
    """What a status says: 2xx is success, 408, 429 and 5xx may pass, and what else the receiver says is final.

    Redirects are not followed: they are for whoever configured the address.
    """
    if 200 <= status < 300:
        return "delivered"
    return "again" if status in {408, 429} or status >= 500 else "never"


def pause(tries: int, jitter: float, retry_after: float | None) -> float:
    """Seconds until the next try.

    Args:
        tries: How often it was tried.
        jitter: 0 to 1, at random: up to half of the pause is left out.
        retry_after: What the receiver asked for, in seconds; it is waited for at least as long.
    """
    usual = min(FIRST * 2.0 ** min(tries - 1, 30), LONGEST) * (1 - jitter / 2)
    return max(usual, retry_after or 0.0)


def next_try_us(now_us: int, made_us: int, seconds: float) -> int | None:
    """When to try again, at the very end once more; None to give up."""
    end = made_us + int(GIVE_UP * 1e6)
    return None if now_us >= end else min(now_us + int(seconds * 1e6), end)


def retry_after(value: str | None, now_us: int) -> float | None:
    """A Retry-After header in seconds, at most `GIVE_UP`; None when there is none, or nonsense."""
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), GIVE_UP)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(0.0, moment.timestamp() - now_us / 1e6), GIVE_UP)
