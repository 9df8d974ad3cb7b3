"""A stretch of time as whole days, whole hours and what is left over; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aigateway_usage.rollups import DAY_US, HOUR_US

_LAST_US: Final = 2**63 - 1
"""The last time that a database holds."""
_NEVER_US: Final = (_LAST_US // DAY_US + 1) * DAY_US
"""The end of its day."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """From `first`, before `end`."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Parts:
    """Stretches that overlap nowhere; of days and hours since 1970, and of microseconds."""

    days: tuple[Stretch, ...]
    hours: tuple[Stretch, ...]
    rest: tuple[Stretch, ...]


def parts(from_us: int | None, until_us: int | None) -> Parts:
    """What lies between two times; None for what has no end on that side."""
    first, end = from_us or 0, _NEVER_US if until_us is None else until_us
    days = _whole(first, end, DAY_US)
    hours, rest = list[Stretch](), list[Stretch]()
    for outer_first, outer_end in ((first, days.first * DAY_US), (days.end * DAY_US, end)) if days else ((first, end),):
        inner = _whole(outer_first, outer_end, HOUR_US)
        if inner is None:
            rest.append(Stretch(outer_first, outer_end))
        else:
            hours.append(inner)
            rest += [Stretch(outer_first, inner.first * HOUR_US), Stretch(inner.end * HOUR_US, outer_end)]
    return Parts((days,) if days else (), tuple(hours), tuple(_held(rest)))


def _held(rest: list[Stretch]) -> list[Stretch]:
    return [Stretch(each.first, min(each.end, _LAST_US)) for each in rest if each.first < each.end]


def _whole(first: int, end: int, unit: int) -> Stretch | None:
    """The whole units between two times, if there are any."""
    found = Stretch(-(-first // unit), end // unit)
    return found if found.first < found.end else None
