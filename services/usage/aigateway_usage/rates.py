"""What tokens cost, as arithmetic on prices; pure. Where prices come from is `pricing` and `catalog`."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from aigateway_usage.tables import INPUT_CLASSES, OUTPUT_CLASSES, TOKEN_CLASSES, TOKEN_SPLITS

if TYPE_CHECKING:
    from collections.abc import Mapping

_MILLION: Final = Decimal(1_000_000)
_NOTHING: Final = Decimal(0)
_inputs: Final = itemgetter(*INPUT_CLASSES)
_outputs: Final = itemgetter(*OUTPUT_CLASSES)
_PLAIN: Final = frozenset({"input_uncached", "output_text"})
_special: Final = itemgetter(*[name for name in (*TOKEN_CLASSES, *TOKEN_SPLITS) if name not in _PLAIN])
"""All counts but those of plain text."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens of one class."""

    base: Decimal
    tiers: tuple[tuple[int, Decimal], ...] = ()
    """Prompt tokens above which all tokens of the call cost another price, ascending (how Gemini and Claude price long
    prompts)."""

    def at(self, prompt_tokens: int) -> Decimal:
        """The price in a call with so many prompt tokens."""
        price = self.base
        for above, tier in self.tiers:
            if prompt_tokens > above:
                price = tier
        return price


@dataclass(frozen=True, slots=True)
class Rates:
    """A model's prices. A class without a price of its own costs as the plainer one it belongs to."""

    input: Price | None
    output: Price | None
    cache_read: Price | None = None
    cache_write: Price | None = None
    cache_write_1h: Price | None = None
    tool_use: Price | None = None
    reasoning: Price | None = None
    input_audio: Price | None = None
    input_image: Price | None = None
    cache_read_audio: Price | None = None
    output_audio: Price | None = None
    output_image: Price | None = None


Tokens = dict[str, int | None]
"""Counts by token class and split; None is unknown."""


def cost(rates: Rates, tokens: Mapping[str, int | None], *, has_output: bool) -> Decimal | None:
    """US dollars for one call; None when a count or a price that matters is unknown.

    `has_output` is False for embeddings, which have no output to count.
    """
    inputs = _inputs(tokens)
    if not _known(inputs) or (has_output and not _known(_outputs(tokens))):
        return None
    prompt = sum(filter(None, inputs))
    total = _NOTHING
    if any(_special(tokens)):
        parts = (*_input(rates, tokens), *_output(rates, tokens))
    else:  # as nearly always
        parts = ((tokens["input_uncached"] or 0, rates.input), (tokens["output_text"] or 0, rates.output))
    for count, price in parts:
        if not count:
            continue
        if price is None:
            return None
        total += price.at(prompt) * count
    return total / _MILLION


def most(rates: Rates, input_tokens: int, output_tokens: int) -> Decimal | None:
    """US dollars that a call of text with so many tokens costs at most; None when a price that matters is unknown.

    How much of a prompt a cache will serve or keep is not known beforehand, so all of it costs what its dearest class
    does.
    """
    prompt = (rates.input, rates.cache_read, rates.cache_write, rates.cache_write_1h, rates.tool_use)
    total = _NOTHING
    for count, needed, prices in (
        (input_tokens, rates.input, prompt),
        (output_tokens, rates.output, (rates.output, rates.reasoning)),
    ):
        if not count:
            continue
        if needed is None:
            return None
        total += max(price.at(input_tokens) for price in prices if price) * count
    return total / _MILLION


def _known(counts: tuple[int | None, ...]) -> bool:
    return counts.count(None) < len(counts)


def _input(rates: Rates, tokens: Mapping[str, int | None]) -> tuple[tuple[int, Price | None], ...]:
    cached = tokens["input_cache_read"] or 0
    cached_audio = min(tokens["input_cache_read_audio"] or 0, cached)
    plain = tokens["input_uncached"] or 0
    audio = min(max((tokens["input_audio"] or 0) - cached_audio, 0), plain)
    image = min(tokens["input_image"] or 0, plain - audio)
    cache_read = rates.cache_read or rates.input
    cache_write = rates.cache_write or rates.input
    return (
        (plain - audio - image, rates.input),
        (audio, rates.input_audio or rates.input),
        (image, rates.input_image or rates.input),
        (cached - cached_audio, cache_read),
        (cached_audio, rates.cache_read_audio or cache_read),
        (tokens["input_cache_write_5m"] or 0, cache_write),
        (tokens["input_cache_write_1h"] or 0, rates.cache_write_1h or cache_write),
        (tokens["tool_use_prompt"] or 0, rates.tool_use or rates.input),
    )


def _output(rates: Rates, tokens: Mapping[str, int | None]) -> tuple[tuple[int, Price | None], ...]:
    text = tokens["output_text"] or 0
    audio = min(tokens["output_audio"] or 0, text)
    image = min(tokens["output_image"] or 0, text - audio)
    return (
        (text - audio - image, rates.output),
        (audio, rates.output_audio or rates.output),
        (image, rates.output_image or rates.output),
        (tokens["output_reasoning"] or 0, rates.reasoning or rates.output),
    )
