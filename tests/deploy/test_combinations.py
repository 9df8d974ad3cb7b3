"""Options in every pair, and many at a time drawn by chance: they build, are valid, and hold together."""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path

import pytest
from support.kustomize import COMPONENTS, PROVIDERS, combination
from support.manifests import EXCLUSIVE, FRONTS, VERSIONS, go_together, holds_together, ordered, valid

pytestmark = pytest.mark.slow

OPTIONS = [name for name in COMPONENTS if name not in PROVIDERS and "/" not in name]
PAIRS = [
    ordered((*pair, "provider-openai"))
    for pair in combinations([name for name in OPTIONS if name not in FRONTS[1:]], 2)  # to others they are as `envoy`
    if not any(set(pair) >= apart for apart in EXCLUSIVE)
]
DRAWN = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kustomize")


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_any_two_options_go_together(folder: Path, pair: list[str]) -> None:
    built = combination(folder, *pair)
    for version in VERSIONS:
        valid(built, version)
    go_together(built)


def drawn(seed: int) -> list[str]:
    """Some of all options, each provider plain or with its key from outside, and scaled or not."""
    chance = random.Random(seed)
    chosen = [name for name in OPTIONS if chance.random() < 0.5]
    for apart in EXCLUSIVE:
        if apart <= set(chosen):
            chosen.remove(chance.choice(sorted(apart)))
    scaler = next((name for name in ("hpa", "keda") if name in chosen), None)
    ollama = chance.choice(("provider-ollama-gpu", "provider-ollama-external"))
    for name in PROVIDERS:
        if chance.random() < 0.3 or (name.startswith("provider-ollama") and name != ollama):
            continue
        outside = f"external-secrets/{name}"
        chosen.append(outside if outside in COMPONENTS and chance.random() < 0.5 else name)
        if f"{scaler}/{name}" in COMPONENTS:
            chosen.append(f"{scaler}/{name}")
    return ordered(chosen)


@pytest.mark.parametrize("seed", range(DRAWN))
def test_any_number_of_options_go_together(folder: Path, seed: int) -> None:
    chosen = drawn(seed)
    built = combination(folder, *chosen)
    for version in VERSIONS:
        valid(built, version)
    go_together(built)
    holds_together(built)
