"""How long the chaos tests run, and from which seed; every one of them stops by itself.

Within the whole suite each runs for a few seconds. `make chaos` gives them a minute,
`AIGATEWAY_CHAOS_SECONDS` any time.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import httpx
import pytest
from support.chaos.attacked import CHAT, KEY, Attacked, chat, memory
from support.chaos.echo import echo
from support.gateway import Gateway, environment

SHORT_SECONDS = 5.0
MOST_SECONDS = 3600.0


@pytest.fixture(scope="session")
def seconds() -> float:
    """How long the load of one test lasts."""
    return min(float(os.environ.get("AIGATEWAY_CHAOS_SECONDS", SHORT_SECONDS)), MOST_SECONDS)


@pytest.fixture(scope="session")
def long(seconds: float) -> bool:
    """There is time for everything, not only for one of each sort."""
    return seconds > 2 * SHORT_SECONDS


@pytest.fixture
def seed() -> int:
    """Where the chances start; `AIGATEWAY_CHAOS_SEED` makes a run like an earlier one."""
    return int(os.environ.get("AIGATEWAY_CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))


@pytest.fixture(scope="session")
def echoing() -> Iterator[str]:
    """The address of a provider that answers each request with what it asked for."""
    with echo() as url:
        yield url


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory, echoing: str, long: bool) -> Iterator[Attacked]:
    env = environment(echoing, "openai", "gemini", "ollama", GATEWAY_API_KEY=KEY)
    with Gateway("split" if long else "embedded", tmp_path_factory.mktemp("attacked"), env) as gateway:
        for _ in range(20):  # what the first calls load stays for good
            httpx.post(gateway.http + CHAT, json=chat(), headers={"x-api-key": KEY}).raise_for_status()
        yield Attacked(gateway, memory(gateway))
