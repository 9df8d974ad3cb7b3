"""What is known of models: the provider's word first, our table next, published data last, and nothing guessed."""

from __future__ import annotations

import pytest
from aigateway.v1 import model_pb2
from aigateway_common import model_facts
from aigateway_providers.registry import PROVIDERS

MODALITIES = {"text", "image", "audio", "video", "file", "embedding"}


def completed(provider: str, name: str, **known: object) -> model_pb2.Model:
    model = model_pb2.Model(id=f"{provider}/{name}", upstream_model=name, **known)  # type: ignore[arg-type] # fields
    model_facts.complete(model, provider)
    return model


def test_a_bare_entry_is_completed_from_the_table_and_the_published_prices() -> None:
    assert completed("openai", "gpt-4o-mini") == model_pb2.Model(
        id="openai/gpt-4o-mini",
        upstream_model="gpt-4o-mini",
        context_window=128000,
        max_output_tokens=16384,
        input_modalities=["text", "image"],
        output_modalities=["text"],
        tools=True,
        reasoning=False,
        structured_output=True,
        input_usd_per_mtok=0.15,
        output_usd_per_mtok=0.6,
    )


def test_what_the_provider_says_is_never_overruled() -> None:
    said = {
        "context_window": 1,
        "max_output_tokens": 2,
        "input_modalities": ["text"],
        "output_modalities": ["audio"],
        "tools": False,
        "reasoning": True,
        "structured_output": False,
        "input_usd_per_mtok": 0.0,
        "output_usd_per_mtok": 9.0,
    }
    expected = model_pb2.Model(id="openai/gpt-4o", upstream_model="gpt-4o", **said)  # type: ignore[arg-type] # fields
    assert completed("openai", "gpt-4o", **said) == expected


@pytest.mark.parametrize(("provider", "name"), [("openai", "no-such-model-at-all"), ("elsewhere", "thing")])
def test_what_nobody_knows_stays_absent(provider: str, name: str) -> None:
    assert completed(provider, name) == model_pb2.Model(id=f"{provider}/{name}", upstream_model=name)


def test_a_model_with_a_tiered_price_shows_that_of_short_prompts() -> None:
    model = completed("gemini", "gemini-2.5-pro")
    assert (model.input_usd_per_mtok, model.output_usd_per_mtok) == (1.25, 10.0)


def test_the_special_row_of_a_family_stands_before_the_general_one() -> None:
    assert completed("gemini", "gemini-2.5-flash-image").output_modalities == ["text", "image"]
    assert not completed("gemini", "gemini-2.5-flash-image").HasField("tools")
    assert completed("openai", "gpt-4o-2024-05-13").max_output_tokens == 4096


@pytest.mark.parametrize("provider", model_facts.table())
def test_every_row_is_of_a_provider_that_exists_and_says_something_sensible(provider: str) -> None:
    assert provider in PROVIDERS
    seen: set[str] = set()
    for row in model_facts.table()[provider]:
        assert row.models
        assert seen.isdisjoint(row.models), row.models
        seen |= set(row.models)
        assert MODALITIES.issuperset(row.input + row.output)
        assert (row.max_output_tokens or 1) <= (row.context_window or 10**9)
