"""What tests of every folder may ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.redis import RedisServer, running


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis for all tests that leave it running. What it holds is the last test's: empty it."""
    with running() as started:
        yield started
