"""The login at PostgreSQL: one that changes while the ledger is open, and one that is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aigateway_common.errors import GatewayError
from aigateway_usage.database import Database
from aigateway_usage.settings import UsageSettings
from sqlalchemy import text
from structlog.testing import capture_logs
from support.postgres import GUARDED, Postgres

OLD, NEW = "old-password", "new-password"
REFUSED = "the database refuses the new login: the former is in use"


def guarded(url: str, password: str) -> str:
    return url.replace("postgres@", f"{GUARDED}:{password}@")


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url, busy_timeout=1)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def user(database: Database) -> str:
    """Who writes."""
    return str(await database.write(lambda connection: connection.execute(text("SELECT current_user")).scalar()))


async def refused(database: Database) -> str:
    with pytest.raises(GatewayError) as caught:
        await user(database)
    return caught.value.reason.name


async def test_new_connections_show_the_new_password_and_open_ones_go_on(postgres: Postgres) -> None:
    url = await postgres.create()
    await postgres.guard(OLD)
    async with opened(guarded(url, OLD)) as database:
        assert await user(database) == GUARDED
        await postgres.guard(NEW)
        database.log_in(guarded(url, NEW))
        with capture_logs() as logs:
            assert await user(database) == GUARDED
            await postgres.cut()
            assert await refused(database) == "UNAVAILABLE"
            assert await user(database) == GUARDED
        assert REFUSED not in [one["event"] for one in logs]


async def test_the_former_password_is_shown_until_the_server_takes_the_new_one(postgres: Postgres) -> None:
    url = await postgres.create()
    await postgres.guard(OLD)
    async with opened(guarded(url, OLD)) as database:
        for password in ("one-that-is-never-taken", NEW):
            database.log_in(guarded(url, password))
        with capture_logs() as logs:
            assert await user(database) == GUARDED
            await postgres.cut()
            assert await refused(database) == "UNAVAILABLE"
            assert await user(database) == GUARDED
        assert [one["event"] for one in logs].count(REFUSED) >= 1
        assert not [one for one in logs if OLD in str(one) or NEW in str(one)]
        await postgres.guard(NEW)
        await postgres.cut()
        assert await refused(database) == "UNAVAILABLE"
        assert await user(database) == GUARDED


async def test_a_user_who_stands_behind_the_database_is_shown_too(postgres: Postgres) -> None:
    url = await postgres.create()
    await postgres.guard(NEW)
    async with opened(url.replace("postgres@", "") + f"&user={GUARDED}&password={NEW}") as database:
        assert await user(database) == GUARDED


async def test_another_database_is_no_login(postgres: Postgres) -> None:
    url, other = await postgres.create(), await postgres.create()
    async with opened(url) as database:
        database.log_in(guarded(other, NEW))
        assert await user(database) == "postgres"


async def test_a_ledger_that_may_not_be_used_just_now_is_unavailable(postgres: Postgres) -> None:
    """By a wrong password, for which there may be a right one in a moment; a database that is not there yet."""
    url = await postgres.create()
    await postgres.guard(NEW)
    for wrong in (guarded(url, OLD), postgres.url("nowhere")):
        with pytest.raises(GatewayError) as caught:
            async with opened(wrong):
                pass
        assert caught.value.reason.name == "UNAVAILABLE"


def test_a_login_is_not_shown() -> None:
    assert OLD not in repr(UsageSettings(f"postgresql://me:{OLD}@host/ledger"))
