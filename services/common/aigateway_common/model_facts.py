"""What is known of a model beyond what its provider's list says: our own table, and what is published.

The provider's word comes first, then `model_facts.toml`, then the published data; what none of them says stays absent.
"""

from __future__ import annotations

from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from importlib.resources import files
from tomllib import loads
from typing import TYPE_CHECKING, Final

import msgspec

from aigateway_common import published

if TYPE_CHECKING:
    from decimal import Decimal

    from aigateway.v1 import model_pb2
    from genai_prices.types import ModelInfo, TieredPrices

_SCALARS: Final = ("context_window", "max_output_tokens", "tools", "reasoning", "structured_output")


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the table."""

    models: tuple[str, ...]
    """Patterns of the provider's own names."""
    context_window: int | None = None
    max_output_tokens: int | None = None
    input: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    tools: bool | None = None
    reasoning: bool | None = None
    structured_output: bool | None = None
    json_mode: bool | None = None
    """Whether it takes the response format `json_object`; models that follow a schema do, whatever stands here."""


@cache
def table() -> dict[str, tuple[Facts, ...]]:
    """The rows of each provider, in the order in which they are tried."""
    text = files("aigateway_common").joinpath("model_facts.toml").read_text(encoding="utf-8")
    return msgspec.convert(loads(text), dict[str, tuple[Facts, ...]])


@lru_cache(maxsize=1024)
def find(provider: str, name: str) -> Facts | None:
    """The row of a model: that of the provider's own name for it; None when nothing is known."""
    for row in table().get(provider, ()):
        if any(fnmatchcase(name, pattern) for pattern in row.models):
            return row
    return None


def complete(model: model_pb2.Model, provider: str) -> None:
    """Fill in what `model` leaves open. For a thread: the published data may have to be loaded first.

    Args:
        model: Changed in place; `upstream_model` is the name that is looked up.
        provider: The name by which the table and the published data know its provider.
    """
    if (row := find(provider, model.upstream_model)) is not None:
        for name in _SCALARS:
            value = getattr(row, name)
            if value is not None and not model.HasField(name):
                setattr(model, name, value)
        if not model.input_modalities:
            model.input_modalities.extend(row.input)
        if not model.output_modalities:
            model.output_modalities.extend(row.output)
    published.load()
    if (known := published.find(provider, model.upstream_model)) is not None:
        _publish(model, known)


def _publish(model: model_pb2.Model, known: ModelInfo) -> None:
    if known.context_window and not model.HasField("context_window"):
        model.context_window = known.context_window
    prices = known.get_prices(datetime.now(UTC))
    if prices.input_mtok is not None and not model.HasField("input_usd_per_mtok"):
        model.input_usd_per_mtok = _usd(prices.input_mtok)
    if prices.output_mtok is not None and not model.HasField("output_usd_per_mtok"):
        model.output_usd_per_mtok = _usd(prices.output_mtok)


def _usd(price: Decimal | TieredPrices) -> float:
    """The price; that of a short prompt where long ones cost more."""
    from genai_prices.types import TieredPrices  # noqa: PLC0415 -- slow to import

    return float(price.base if isinstance(price, TieredPrices) else price)
