"""URLs with a login, and without it."""

from __future__ import annotations

import pytest
from aigateway_common.logins import place, same_place


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://user:p%40ss@host:5432/ledger?ssl=require", "postgresql://host:5432/ledger?ssl=require"),
        ("postgresql://user:a/b?c#d@host/ledger", "postgresql://host/ledger"),
        ("postgresql+asyncpg://user@/ledger?host=/run/a@b", "postgresql+asyncpg:///ledger?host=/run/a@b"),
        ("postgresql://host/a@b", "postgresql://host/a@b"),
        ("sqlite+aiosqlite:////data/a@b/ledger.db", "sqlite+aiosqlite:////data/a@b/ledger.db"),
        ("redis://:secret@redis:6379/0", "redis://redis:6379/0"),
        ("unix://me:secret@/run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
    ],
)
def test_a_login_is_no_part_of_the_place(url: str, expected: str) -> None:
    assert place(url) == expected
    assert same_place(url, expected)


def test_no_url_is_nowhere() -> None:
    assert not same_place(None, None)
    assert not same_place("redis://one", None)
    assert not same_place("redis://a:b@one", "redis://a:b@two")
