"""What attempts cost, checked by hand and against genai-prices' own calculator."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from aigateway.v1 import usage_service_pb2
from aigateway_common import metrics
from aigateway_usage import catalog, pricing
from aigateway_usage.pricing import Pricer
from aigateway_usage.rates import Price, Rates, cost
from aigateway_usage.rows import to_row
from aigateway_usage.settings import PriceOverride, UsageSettings
from aigateway_usage.tables import TOKEN_CLASSES, TOKEN_SPLITS
from genai_prices import Usage
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from support.attempts import NOON, attempt

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "gemini": "google", "groq": "groq"}


def priced(overrides: Mapping[str, PriceOverride], **changes: Any) -> tuple[float | None, str | None]:
    row = to_row(attempt(**changes), 0)
    Pricer(UsageSettings("unused", price_overrides=overrides)).price(row)
    return row["cost_usd"], row["price_source"]


def tokens(**counts: int) -> dict[str, int | None]:
    return dict.fromkeys((*TOKEN_CLASSES, *TOKEN_SPLITS)) | counts


# By hand: the price stands in the test, the sum in a comment.


@pytest.mark.parametrize(
    ("provider", "model", "price", "usage", "dollars"),
    [
        # 1000 x 2.50 + 200 x 1.25 + 500 x 10 = 2500 + 250 + 5000, in millionths
        (
            "openai",
            "gpt-4o-2024-08-06",
            PriceOverride(input=2.5, output=10, cache_read=1.25),
            {"input_uncached": 1000, "input_cache_read": 200, "output_text": 500},
            0.00775,
        ),
        # 10 x 3 + 4000 x 0.30 + 100 x 3.75 + 50 x 6 + 300 x 15 = 30 + 1200 + 375 + 300 + 4500
        (
            "anthropic",
            "claude-sonnet-4-5-20250929",
            PriceOverride(input=3, output=15, cache_read=0.3, cache_write=3.75, cache_write_1h=6),
            {
                "input_uncached": 10,
                "input_cache_read": 4000,
                "input_cache_write_5m": 100,
                "input_cache_write_1h": 50,
                "output_text": 300,
            },
            0.006405,
        ),
        # 1000 x 0.30 + 40 x 0.30 (tools) + 100 x 0.03 + 20 x 2.50 + 700 x 2.50 (thinking) = 300 + 12 + 3 + 50 + 1750
        (
            "gemini",
            "gemini-2.5-flash",
            PriceOverride(input=0.3, output=2.5, cache_read=0.03),
            {
                "input_uncached": 1000,
                "tool_use_prompt": 40,
                "input_cache_read": 100,
                "output_text": 20,
                "output_reasoning": 700,
            },
            0.002115,
        ),
        # 1000 x 0.59 + 100 x 0.79 = 590 + 79
        (
            "groq",
            "llama-3.3-70b-versatile",
            PriceOverride(input=0.59, output=0.79),
            {"input_uncached": 1000, "output_text": 100},
            0.000669,
        ),
    ],
)
def test_a_paid_call_costs_what_arithmetic_says(
    provider: str, model: str, price: PriceOverride, usage: dict[str, int], dollars: float
) -> None:
    changes = {"provider": provider, "answered_model": model, "usage": usage}
    assert priced({f"{provider}/{model}": price}, **changes) == (dollars, "override")
    # The published price of these long-settled models is the same, so it must come to the same.
    amount, source = priced({}, **changes)
    assert amount == dollars
    assert str(source).startswith("genai-prices ")


def test_one_embedding_token_is_not_rounded_away() -> None:
    amount, _ = priced(
        {"acme/*": PriceOverride(input=0.02, output=0)},
        operation=usage_service_pb2.OPERATION_EMBED,
        usage={"input_uncached": 1},
    )
    assert amount == 2e-8


def test_classes_without_a_price_cost_as_the_plainer_one() -> None:
    rates = Rates(input=Price(Decimal(2)), output=Price(Decimal(3)))
    counts = tokens(input_cache_read=1, input_cache_write_5m=1, input_cache_write_1h=1, output_reasoning=1)
    assert cost(rates, counts, has_output=True) == Decimal("0.000009")


def test_long_prompts_cost_the_tier_price_for_all_tokens() -> None:
    rates = Rates(Price(Decimal(1), ((200, Decimal(2)),)), Price(Decimal(10), ((200, Decimal(15)),)))
    assert cost(rates, tokens(input_uncached=200, output_text=1), has_output=True) == Decimal("0.00021")
    below = tokens(input_uncached=100, input_cache_read=101, output_text=1)
    assert cost(rates, below, has_output=True) == Decimal("0.000417")


# Who decides.


def test_an_exact_override_wins_over_a_pattern_and_a_free_provider() -> None:
    overrides = {"OLLAMA/*": PriceOverride(1, 1), "ollama/llama3:8b": PriceOverride(2, 2)}
    assert priced(overrides, provider="ollama", answered_model="llama3:8b") == (0.00022, "override")
    assert priced(overrides, provider="ollama", answered_model="Other") == (0.00011, "override")


@pytest.mark.parametrize("usage", [None, {"input_uncached": 5}])
def test_local_models_are_free_whatever_they_report(usage: dict[str, int] | None) -> None:
    assert priced({}, provider="ollama", usage=usage) == (0.0, "free")


def test_the_answering_model_is_priced_before_the_sent_one() -> None:
    overrides = {"acme/sent": PriceOverride(1, 1), "acme/answered": PriceOverride(2, 2)}
    assert priced(overrides, sent_model="sent", answered_model="answered") == (0.00022, "override")
    assert priced(overrides, sent_model="sent", answered_model="news-to-us") == (0.00011, "override")
    assert priced(overrides, sent_model="sent", answered_model="") == (0.00011, "override")


@pytest.mark.parametrize(
    "changes",
    [
        {},  # nobody knows acme
        {"provider": "openai", "answered_model": "no-such-model", "sent_model": "nor-this"},
        {"provider": "openai", "answered_model": "gpt-4o", "usage": None},
        {"provider": "openai", "answered_model": "gpt-4o", "usage": {"input_uncached": 5}},
        {"provider": "openai", "answered_model": "gpt-4o", "usage": {"output_text": 5}},
    ],
)
def test_what_is_unknown_is_null_counted_and_logged_once(changes: dict[str, Any]) -> None:
    pricer, provider = Pricer(UsageSettings("unused")), changes.get("provider", "acme")
    before = _unpriced(provider)
    with capture_logs() as lines:
        for number in range(3):
            row = to_row(attempt(number, **changes), 0)
            pricer.price(row)
            pricer.tell(row)
            assert (row["cost_usd"], row["price_source"]) == (None, None)
    assert _unpriced(provider) == before + 3
    assert [line["event"] for line in lines] == ["cost unknown"]


def test_a_failure_without_tokens_has_no_cost_and_makes_no_noise() -> None:
    before = _unpriced("acme")
    with capture_logs() as lines:
        pricer, row = (
            Pricer(UsageSettings("unused")),
            to_row(attempt(usage=None, status=usage_service_pb2.ATTEMPT_STATUS_ERROR), 0),
        )
        pricer.price(row)
        pricer.tell(row)
    assert (row["cost_usd"], row["price_source"]) == (None, None)
    assert (lines, _unpriced("acme")) == ([], before)


def test_models_kept_at_hand_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pricing, "MAX_MODELS", 3)
    pricer = Pricer(UsageSettings("unused", free_providers=frozenset({"acme"})))
    for number in range(10):
        pricer.price(to_row(attempt(answered_model=f"m{number}"), 0))
    assert len(pricer._found) == 3


def _unpriced(provider: str) -> float:
    return metrics.REGISTRY.get_sample_value("aigateway_unpriced_attempts_total", {"provider": provider}) or 0


# Against genai-prices.


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-5.2"),
        ("openai", "gpt-5-mini-2025-08-07"),
        ("openai", "text-embedding-3-small"),
        ("anthropic", "claude-opus-4-5-20251101"),
        ("anthropic", "claude-haiku-4-5"),
        ("gemini", "gemini-2.5-pro"),
        ("gemini", "gemini-3-pro-preview"),
        ("gemini", "gemini-embedding-001"),
        ("groq", "openai/gpt-oss-120b"),
        ("groq", "llama-3.1-8b-instant"),
    ],
)
def test_current_models_have_a_published_price(provider: str, model: str) -> None:
    listed = catalog.find(provider, model)
    assert listed is not None
    assert listed.rates(datetime.now(UTC)).input is not None


def _models() -> list[tuple[str, str]]:
    """The chat models of our providers: those priced by text tokens both ways."""
    return [
        (ours, model.id)
        for ours, theirs in _PROVIDERS.items()
        for provider in get_snapshot().providers
        if provider.id == theirs
        for model in provider.models
        if (found := catalog.find(ours, model.id))
        and (rates := found.rates(datetime.fromtimestamp(NOON / 1e6, UTC))).input
        and rates.output
    ]


_COUNT = st.just(0) | st.integers(0, 400_000)  # plain text alone is a case of its own


@given(
    of=st.sampled_from(_models()),
    uncached=_COUNT,
    read=_COUNT,
    write_5m=_COUNT,
    write_1h=_COUNT,
    text=_COUNT,
    reasoning=_COUNT,
    days=st.integers(-500, 200),
)
def test_our_arithmetic_is_that_of_genai_prices(
    of: tuple[str, str],
    *,
    uncached: int,
    read: int,
    write_5m: int,
    write_1h: int,
    text: int,
    reasoning: int,
    days: int,
) -> None:
    provider, model = of
    at = datetime.fromtimestamp(NOON / 1e6, UTC) + timedelta(days=days)
    theirs = get_snapshot().calc(
        Usage(
            input_tokens=uncached + read + write_5m + write_1h,
            cache_read_tokens=read,
            cache_write_tokens=write_5m + write_1h,
            cache_write_5m_tokens=write_5m,
            cache_write_1h_tokens=write_1h,
            output_tokens=text + reasoning,
            output_reasoning_tokens=reasoning,
        ),
        model,
        _PROVIDERS[provider],
        None,
        at,
    )
    listed = catalog.find(provider, model)
    assert listed is not None
    counts = tokens(
        input_uncached=uncached,
        input_cache_read=read,
        input_cache_write_5m=write_5m,
        input_cache_write_1h=write_1h,
        output_text=text,
        output_reasoning=reasoning,
    )
    assert cost(listed.rates(at), counts, has_output=True) == theirs.total_price


def test_audio_costs_as_genai_prices_says() -> None:
    listed = catalog.find("gemini", "gemini-2.5-flash")
    assert listed is not None
    at = datetime.fromtimestamp(NOON / 1e6, UTC)
    usage = Usage(
        input_tokens=1000, input_audio_tokens=300, cache_read_tokens=400, cache_audio_read_tokens=100, output_tokens=5
    )
    theirs = get_snapshot().calc(usage, "gemini-2.5-flash", "google", None, at)
    counts = tokens(
        input_uncached=600, input_cache_read=400, input_audio=300, input_cache_read_audio=100, output_text=5
    )
    assert cost(listed.rates(at), counts, has_output=True) == theirs.total_price
