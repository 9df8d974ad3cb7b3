"""What the attempts of a ledger say of providers and their models, one attempt after the other; pure but for the clock.

What is remembered is bounded: of more subjects than `MAX_SUBJECTS` the ones longest unused are forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, TypeVar

from aigateway_usage.alerts.pace import Pace
from aigateway_usage.alerts.signs import CONSECUTIVE_ERRORS, LATENCY_SPIKE, PROVIDER_DOWN, Sign
from aigateway_usage.alerts.streaks import Streak, outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from aigateway_usage.alerts.streaks import Outcome
    from aigateway_usage.rows import Row
    from aigateway_usage.settings import AlertSettings

MAX_SUBJECTS: Final = 1000
"""Models that are remembered, and as many providers; a model takes up to 10 kB."""
MIN_DOWN: Final = 3
"""Attempts at a provider that must have failed before it counts as down, however long ago the first was."""
SEEN: Final = (
    "provider",
    "sent_model",
    "operation",
    "status",
    "error_reason",
    "upstream_status",
    "started_at_us",
    "duration_us",
    "first_event_us",
)
"""The columns of an attempt that are looked at."""

_K = TypeVar("_K", bound="Hashable")
_V = TypeVar("_V")


class _Model:
    """What is remembered of a provider's model; whole answers and first events of streams are different things."""

    __slots__ = ("first", "name", "streak", "whole")

    def __init__(self, name: str, settings: AlertSettings) -> None:
        self.name = name
        self.streak = Streak()
        self.whole = Pace(settings.latency_min_calls, settings.latency_factor)
        self.first = Pace(settings.latency_min_calls, settings.latency_factor)


class Detectors:
    """Everything that is found in attempts.

    Args:
        settings: From where on something is wrong.
        clock: Now, in microseconds since the Unix epoch; attempts of a router whose clock is ahead ended now.
    """

    def __init__(self, settings: AlertSettings, clock: Callable[[], int]) -> None:
        self._settings = settings
        self._clock = clock
        self._models: OrderedDict[tuple[str, str], _Model] = OrderedDict()
        self._providers: OrderedDict[str, Streak] = OrderedDict()

    def see(self, row: Row) -> list[Sign]:
        """What an attempt says; of one that changes nothing too, for whoever remembers what is open."""
        signs: list[Sign] = []
        at_us = min(row["started_at_us"] + row["duration_us"], self._clock())
        how = outcome(row)
        provider, name = row["provider"], row["sent_model"]
        if how != "unknown":
            self._see_provider(provider, how, at_us, row, signs)
        if name:
            model = _kept(
                self._models, (provider, name), lambda: _Model(f"{provider}/{name}", self._settings), MAX_SUBJECTS
            )
            self._see_errors(model, how, at_us, row, signs)
            if how == "worked":
                self._see_pace(model, row, at_us, signs)
        return signs

    def _see_provider(self, provider: str, how: Outcome, at_us: int, row: Row, signs: list[Sign]) -> None:
        streak = _kept(self._providers, provider, Streak, MAX_SUBJECTS)
        if how != "failed":
            if streak.worked(at_us):
                signs.append(Sign(PROVIDER_DOWN, provider, wrong=False, at_us=at_us))
            return
        streak.failed(at_us)
        if streak.count >= MIN_DOWN and streak.lasts_us() >= self._settings.provider_down * 1e6:
            message = (
                f"every attempt at `{provider}` has failed for {streak.lasts_us() / 1e6:.0f} seconds, "
                f"{streak.count} in all; the last with {row['error_reason']}"
            )
            signs.append(Sign(PROVIDER_DOWN, provider, wrong=True, at_us=streak.first_us, message=message))

    def _see_errors(self, model: _Model, how: Outcome, at_us: int, row: Row, signs: list[Sign]) -> None:
        streak = model.streak
        if how == "worked":
            if streak.worked(at_us):
                signs.append(Sign(CONSECUTIVE_ERRORS, model.name, wrong=False, at_us=at_us))
        elif how == "failed":
            streak.failed(at_us)
            if streak.count >= self._settings.consecutive_errors:
                message = (
                    f"{streak.count} calls to `{model.name}` failed one after the other; "
                    f"the last with {row['error_reason']}"
                )
                signs.append(Sign(CONSECUTIVE_ERRORS, model.name, wrong=True, at_us=streak.first_us, message=message))

    def _see_pace(self, model: _Model, row: Row, at_us: int, signs: list[Sign]) -> None:
        streamed = row["operation"] == "stream_chat"
        taken = row["first_event_us"] if streamed else row["duration_us"]
        if taken is None or row["status"] != "ok":
            return
        pace, other = (model.first, model.whole) if streamed else (model.whole, model.first)
        slow = pace.add(taken, at_us)
        if slow:
            what = "the first event of a stream" if streamed else "an answer"
            message = (
                f"`{model.name}` takes {pace.median_us() / 1e6:.2f} seconds for {what}; "
                f"{pace.usual_us() / 1e6:.2f} are usual"
            )
            signs.append(Sign(LATENCY_SPIKE, model.name, wrong=True, at_us=at_us, message=message))
        elif slow is False and not other.slow:
            signs.append(Sign(LATENCY_SPIKE, model.name, wrong=False, at_us=at_us))


def _kept(cache: OrderedDict[_K, _V], key: _K, make: Callable[[], _V], most: int) -> _V:
    """The value of a key, made when missing; the key longest unused makes room."""
    found = cache.get(key)
    if found is None:
        found = cache[key] = make()
        if len(cache) > most:
            cache.popitem(last=False)
    else:
        cache.move_to_end(key)
    return found
