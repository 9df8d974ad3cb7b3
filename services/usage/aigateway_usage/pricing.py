"""What an attempt cost: by the operator's word, else nothing for local models, else the published price, else unknown.

An unknown cost is NULL, counted and logged once per model, never 0.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, TypeVar

from aigateway_common import logs, metrics, published

from aigateway_usage import catalog
from aigateway_usage.rates import Price, Rates, cost, most
from aigateway_usage.tables import TOKEN_CLASSES

if TYPE_CHECKING:
    from aigateway_usage.catalog import Listed
    from aigateway_usage.rows import Row
    from aigateway_usage.settings import PriceOverride, UsageSettings

MAX_MODELS: Final = 4096
"""Models whose prices are kept at hand; names come from callers, so there may be any number."""

FREE: Final = "free"
OVERRIDE: Final = "override"
_log = logs.get("usage")
_K = TypeVar("_K", bound="tuple[str, ...]")
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class _Found:
    source: str
    rates: Rates | None = None
    listed: Listed | None = None


_UNKNOWN: Final = _Found("")
_FREE: Final = _Found(FREE)


class Pricer:
    """Prices rows."""

    def __init__(self, settings: UsageSettings) -> None:
        self._free = settings.free_providers
        self._overrides = {name.lower(): _override(price) for name, price in settings.price_overrides.items()}
        self._found: OrderedDict[tuple[str, str, str], _Found] = OrderedDict()
        self._told: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._loading: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Load the published prices without holding the event loop; returns at once when that has been done."""
        if published.loaded():
            return
        if self._loading is None:
            self._loading = asyncio.create_task(asyncio.to_thread(published.load), name="prices-load")
        await asyncio.shield(self._loading)

    def needs_published(self, provider: str) -> bool:
        """Whether a provider's attempts may need published prices."""
        return provider not in self._free

    def price(self, row: Row) -> None:
        """Set the row's `cost_usd` and `price_source`; both None when the cost is unknown.

        Takes a sixth of a second when it needs published prices and `load` has not been awaited.
        """
        amount = _amount(found := self._found_for(row), row)
        row["cost_usd"] = None if amount is None else float(amount)
        row["price_source"] = None if amount is None else found.source

    def estimate(self, provider: str, model: str, input_tokens: int, output_tokens: int) -> Decimal | None:
        """US dollars that a call now costs at most; None when its price is unknown. As slow as `price`."""
        found = self._find(provider, "", model)
        if found is _FREE:
            return Decimal(0)
        rates = _rates(found, datetime.now(UTC))
        return None if rates is None else most(rates, input_tokens, output_tokens)

    def tell(self, row: Row) -> None:
        """Count a priced row whose cost is unknown though it may have used tokens, and log the first of a model."""
        if not is_unpriced(row):
            return
        metrics.attempt_unpriced(row["provider"])
        key = (row["provider"], row["answered_model"] or row["sent_model"] or "")
        if key not in self._told:
            priced = self._found_for(row).source
            what = "no tokens were reported" if priced else "no price is known; set one under `prices`"
            _log.warning("cost unknown", provider=key[0], model=key[1], why=what)
            _keep(self._told, key, None)

    def _found_for(self, row: Row) -> _Found:
        return self._find(row["provider"], row["answered_model"] or "", row["sent_model"] or "")

    def _find(self, provider: str, answered: str, sent: str) -> _Found:
        key = (provider, answered, sent)
        found = self._found.get(key)
        if found is None:
            found = self._look_up(provider, answered, sent)
            _keep(self._found, key, found)
        return found

    def _look_up(self, provider: str, answered: str, sent: str) -> _Found:
        names = [name for name in (answered, sent) if name]
        for name in names:
            if rates := self._overridden(f"{provider}/{name}".lower()):
                return _Found(OVERRIDE, rates=rates)
        if provider in self._free:
            return _FREE
        for name in names:
            if listed := catalog.find(provider, name):
                return _Found(f"genai-prices {version('genai-prices')}", listed=listed)
        return _UNKNOWN

    def _overridden(self, name: str) -> Rates | None:
        if rates := self._overrides.get(name):
            return rates
        return next((rates for pattern, rates in self._overrides.items() if fnmatchcase(name, pattern)), None)


def is_unpriced(row: Row) -> bool:
    """Whether tokens were or may have been used and nobody knows what they cost: a failure without usage is not so."""
    if row["cost_usd"] is not None:
        return False
    return row["status"] != "error" or any(row[name] is not None for name in TOKEN_CLASSES)


def _keep(cache: OrderedDict[_K, _V], key: _K, value: _V) -> None:
    cache[key] = value
    if len(cache) > MAX_MODELS:
        cache.popitem(last=False)


def _amount(found: _Found, row: Row) -> Decimal | None:
    if found is _FREE:
        return Decimal(0)
    rates = _rates(found, datetime.fromtimestamp(row["started_at_us"] / 1e6, UTC))
    return None if rates is None else cost(rates, row, has_output=row["operation"] != "embed")


def _rates(found: _Found, at: datetime) -> Rates | None:
    return found.listed.rates(at) if found.listed else found.rates


def _override(price: PriceOverride) -> Rates:
    return Rates(
        input=_usd(price.input),
        output=_usd(price.output),
        cache_read=_usd(price.cache_read),
        cache_write=_usd(price.cache_write),
        cache_write_1h=_usd(price.cache_write_1h),
        reasoning=_usd(price.reasoning),
    )


def _usd(value: float | None) -> Price | None:
    return None if value is None else Price(Decimal(str(value)))
