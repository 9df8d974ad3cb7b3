"""Stores of limits: what they promise, they all promise."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aigateway_router.policy import shared_counters
from support.limit_stores import KINDS, SHARED, Store, opened


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A router that waits too long for Redis counts for itself; a slow machine is not to make that difference."""
    monkeypatch.setattr(shared_counters, "PATIENCE", 30.0)


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path, patience: None) -> AsyncIterator[Store]:
    """Each store of limits."""
    async with opened(request.param, tmp_path / "limits", _redis_url(request)) as made:
        yield made


@pytest.fixture(params=SHARED)
async def shared(request: pytest.FixtureRequest, tmp_path: Path, patience: None) -> AsyncIterator[Store]:
    """Each store of limits that several routers count in."""
    async with opened(request.param, tmp_path / "limits", _redis_url(request)) as made:
        yield made


def _redis_url(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("redis_server").url if request.param == "redis" else None
