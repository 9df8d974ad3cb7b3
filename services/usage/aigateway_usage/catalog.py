"""Published prices as rates; `aigateway_common.published` has the data.

The calculator of genai-prices takes 0.2 ms a call, half of what the gateway spends on a whole one, so only the look-up
is its, done once per model, and the arithmetic is `rates`' own (a test holds the two together).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigateway_common import published

from aigateway_usage.rates import Price, Rates

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices


class Listed:
    """A model with a published price, which may change with time."""

    def __init__(self, model: ModelInfo) -> None:
        self._model = model
        self._rates: dict[int, Rates] = {}

    def rates(self, at: datetime) -> Rates:
        """The prices at that time."""
        price = self._model.get_prices(at)
        found = self._rates.get(id(price))  # the model keeps its prices alive, so an id stays theirs
        if found is None:
            found = self._rates[id(price)] = _rates(price)
        return found


def find(provider: str, model: str) -> Listed | None:
    """The published price of a provider's model, or None."""
    found = published.find(provider, model)
    return None if found is None else Listed(found)


def _rates(price: ModelPrice) -> Rates:
    return Rates(
        input=_price(price.input_mtok),
        output=_price(price.output_mtok),
        cache_read=_price(price.cache_read_mtok),
        cache_write=_price(price.cache_write_5m_mtok) or _price(price.cache_write_mtok),
        cache_write_1h=_price(price.cache_write_1h_mtok),
        tool_use=_price(price.input_tool_mtok),
        reasoning=_price(price.output_reasoning_mtok),
        input_audio=_price(price.input_audio_mtok),
        input_image=_price(price.input_image_mtok),
        cache_read_audio=_price(price.cache_audio_read_mtok),
        output_audio=_price(price.output_audio_mtok),
        output_image=_price(price.output_image_mtok),
    )


def _price(value: Decimal | TieredPrices | None) -> Price | None:
    from genai_prices.types import TieredPrices  # noqa: PLC0415 -- slow to import

    match value:
        case None:
            return None
        case TieredPrices():
            return Price(value.base, tuple((tier.start, tier.price) for tier in value.tiers))
        case _:
            return Price(value)
