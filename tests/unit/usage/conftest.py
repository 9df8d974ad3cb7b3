"""A new database for a test, of each kind that a ledger may lie in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import postgres as servers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Postgres]:
    with servers.running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'ledger.db'}"
    server: servers.Postgres = request.getfixturevalue("postgres")
    return await server.create()
