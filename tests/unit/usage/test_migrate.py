"""The schema: from nothing, from older ones, again, by several at once, and the same as the tables the code knows."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from aigateway_common.errors import GatewayError
from aigateway_usage import migrate, snapshot
from aigateway_usage.database import Database, async_url
from aigateway_usage.migrate import HEAD, NewerSchemaError
from aigateway_usage.rows import to_row
from aigateway_usage.tables import metadata
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from support.accounts import books, on
from support.attempts import NOON, varied

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection


def database(folder: Path) -> Database:
    return Database(f"sqlite+aiosqlite:///{folder / 'deep' / 'ledger.db'}", busy_timeout=10)


async def opened(folder: Path) -> None:
    one = database(folder)
    try:
        await one.open()
    finally:
        await one.close()


async def test_the_schema_is_made_from_nothing_and_is_what_the_code_knows(database_url: str) -> None:
    one = Database(database_url, busy_timeout=10)
    await one.open()
    await one.close()
    await on(database_url, is_current)


def is_current(connection: Connection) -> None:
    """Partitions are no tables that the code knows."""

    def known(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or not (name or "").startswith(("attempts_2", "attempts_before_", "attempts_default"))

    context = MigrationContext.configure(connection, opts={"compare_type": True, "include_name": known})
    assert compare_metadata(context, metadata) == []
    assert context.get_current_revision() == HEAD
    assert ScriptDirectory.from_config(migrate.config(connection)).get_heads() == [HEAD]


async def test_a_ledger_of_the_first_release_keeps_its_attempts_and_its_view(database_url: str) -> None:
    known: dict[str, Any] = {"event_id": "e1", "request_id": "call-1", "attempt": 1, "project": "search"}
    known |= {"operation": "chat", "provider": "acme", "started_at_us": NOON, "duration_us": 1000, "status": "ok"}
    known |= {"cost_usd": 0.25, "usage_estimated": False}

    def of_the_first_release(connection: Connection) -> None:
        command.upgrade(migrate.config(connection), "0001")
        columns, values = ", ".join(known), ", ".join(f":{name}" for name in known)
        connection.execute(text(f"INSERT INTO attempts ({columns}) VALUES ({values})"), known)

    await on(database_url, of_the_first_release)
    async with books(database_url) as kept:
        (row,) = await kept.rows("SELECT id, project, cost_usd, fallback_from, hedge FROM requests")
        assert row == ("e1", "search", 0.25, None, False)
        assert await kept.rows("SELECT id FROM projects") == [("default",)]
        assert await kept.rows("SELECT revision FROM account_changes") == [(1,)]
        await kept.record(2, 1, fallback_from="acme/acme-1", hedge=True)
        (row,) = await kept.rows("SELECT fallback_from, hedge FROM requests WHERE request_id = 'call-2'")
        assert row == ("acme/acme-1", True)
    await on(database_url, is_current)


async def test_a_ledger_without_sums_gets_those_that_recording_its_attempts_gives(
    database_url: str, tmp_path: Path
) -> None:
    chance = random.Random(0)
    rows = [to_row(varied(number, chance), 0) for number in range(3000)]
    for row in rows:
        row["cost_usd"] = chance.choice((None, 0.0, 2e-8 * chance.randrange(10**6), 1e-5 * chance.random(), 1e15))
    rows[0] |= {"input_uncached": 2**63 - 1, "input_cache_read": 2**63 - 1, "duration_us": 2**63 - 1}
    rows[1] |= {"key_id": "key-9", "cost_usd": 2e-13}

    def of_the_second_release(connection: Connection) -> None:
        command.upgrade(migrate.config(connection), "0002")
        names = list(rows[0])
        values = ", ".join(f":{name}" for name in names)
        connection.execute(text(f"INSERT INTO attempts ({', '.join(names)}) VALUES ({values})"), rows)

    await on(database_url, of_the_second_release)
    async with books(database_url) as upgraded, books(f"sqlite:///{tmp_path / 'other.db'}") as recorded:
        for start in range(0, len(rows), 100):
            await recorded.ledger.record(rows[start : start + 100])
        for query in _SUMS:
            found, expected = await upgraded.rows(query), await recorded.rows(query)
            assert [row[:-1] for row in found] == [row[:-1] for row in expected]
            assert [row[-1] for row in found] == pytest.approx([row[-1] for row in expected], rel=1e-12)
            assert len(found) > 10 or "key" in query
        assert (await upgraded.ledger.record(rows[:5])).duplicates == 5
        assert (await upgraded.ledger.record([rows[0] | {"event_id": "another"}])).new == 1
        assert await upgraded.rows("SELECT count(*), count(DISTINCT digest) FROM attempt_series") == (
            await recorded.rows("SELECT count(*), count(*) FROM attempt_series")
        )


_SUMS = [
    "SELECT key_id, day, cost_nano FROM attempt_key_days ORDER BY 1, 2",
    *(
        f"SELECT digest, {unit}, attempts, unpriced, input_tokens, output_tokens, cost_nano, duration_us, cost_usd "
        f"FROM attempt_{unit}s JOIN attempt_series ON id = series ORDER BY 1, 2"
        for unit in ("hour", "day")
    ),
]


async def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    await opened(tmp_path)
    before = _schema(tmp_path)
    await opened(tmp_path)
    assert _schema(tmp_path) == before


def test_a_new_ledger_is_what_the_migrations_make() -> None:
    assert migrate.NEW.read_text() == snapshot.made(), "run `python -m aigateway_usage.snapshot`"


async def test_the_default_project_of_a_new_ledger_is_as_old_as_the_ledger(tmp_path: Path) -> None:
    began = time.time_ns() // 1000
    await opened(tmp_path)
    with sqlite3.connect(tmp_path / "deep" / "ledger.db") as connection:
        [(created,)] = connection.execute("SELECT created_at_us FROM projects").fetchall()
    connection.close()
    assert began <= created <= time.time_ns() // 1000


@pytest.mark.parametrize("ledger", ["new", "current"])
async def test_opening_a_ledger_that_needs_no_migration_does_not_load_alembic(tmp_path: Path, ledger: str) -> None:
    if ledger == "current":
        await opened(tmp_path)
    program = f"""
import asyncio, sys
from pathlib import Path
from aigateway_usage.server import UsageComponent
from aigateway_usage.settings import UsageSettings
component = UsageComponent(UsageSettings({f"sqlite+aiosqlite:///{tmp_path / 'deep' / 'ledger.db'}"!r}))
async def main():
    await component.start()
    await component.stop(1)
asyncio.run(main())
print([name for name in ("alembic", "genai_prices") if name in sys.modules])
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_several_that_open_at_once_make_one_schema(tmp_path: Path) -> None:
    program = f"""
import asyncio
from aigateway_usage.database import Database
async def main():
    one = Database({f"sqlite+aiosqlite:///{tmp_path / 'ledger.db'}"!r}, busy_timeout=30)
    await one.open()
    await one.close()
asyncio.run(main())
"""
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(subprocess.run, [sys.executable, "-c", program], capture_output=True) for _ in range(3)]
        assert [(run.result().returncode, run.result().stderr) for run in runs] == [(0, b"")] * 3


async def test_a_failed_migration_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    with sqlite3.connect(tmp_path / "deep" / "ledger.db") as connection:
        connection.execute("CREATE TABLE requests (mine)")  # in the way of the view, the last step
    connection.close()
    before = _schema(tmp_path)
    with pytest.raises(GatewayError):
        await opened(tmp_path)
    assert _schema(tmp_path) == before


async def test_a_newer_schema_is_refused_by_name(tmp_path: Path) -> None:
    await opened(tmp_path)
    with sqlite3.connect(tmp_path / "deep" / "ledger.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(NewerSchemaError, match="newer than this release"):
        await opened(tmp_path)


async def test_published_prices_are_loaded_without_being_asked_for(tmp_path: Path) -> None:
    program = f"""
import asyncio
from aigateway_common import published
from aigateway_usage import server
from aigateway_usage.settings import UsageSettings
server.WARM_UP_AFTER = 0
async def main():
    component = server.UsageComponent(UsageSettings({f"sqlite+aiosqlite:///{tmp_path / 'ledger.db'}"!r}))
    await component.start()
    print(published.loaded())
    await component._background[0]
    print(published.loaded())
    await component.stop(1)
asyncio.run(main())
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("sqlite:////a/b.db", "sqlite+aiosqlite:////a/b.db"),
        ("sqlite+aiosqlite:///b.db", "sqlite+aiosqlite:///b.db"),
        ("postgresql://me:secret@host:5433/name", "postgresql+asyncpg://me:secret@host:5433/name"),
        ("postgresql+asyncpg://me@host/name?ssl=require", "postgresql+asyncpg://me@host/name?ssl=require"),
        ("postgresql://host/name?sslmode=require", "postgresql+asyncpg://host/name?ssl=require"),
    ],
)
def test_urls_with_and_without_a_driver_mean_the_same(given: str, used: str) -> None:
    assert async_url(given).render_as_string(hide_password=False) == used


async def test_postgresql_without_its_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    one = Database("postgresql://host/name", busy_timeout=1)
    with pytest.raises(RuntimeError, match="`pip install asyncpg`"):
        await one.open()


@pytest.mark.parametrize(
    "url", ["mysql://host/x", "postgresql+psycopg://host/x", "sqlite://", "sqlite+aiosqlite:///:memory:"]
)
def test_what_cannot_be_a_ledger_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="ledger"):
        Database(url, busy_timeout=1)


async def test_a_folder_that_cannot_be_written_is_an_error_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").mkdir()
    one = Database(f"sqlite+aiosqlite:///{tmp_path / 'ledger.db'}", busy_timeout=1)
    with pytest.raises(GatewayError) as caught:
        await one.open()
    await one.close()
    assert caught.value.reason.name == "UNAVAILABLE"


def _schema(folder: Path) -> list[tuple[str, str]]:
    connection = sqlite3.connect(folder / "deep" / "ledger.db")
    found = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    connection.close()
    return found


def test_an_open_that_fails_leaves_no_thread_that_reports_to_a_loop_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").mkdir()

    async def fail() -> None:
        with pytest.raises(GatewayError):
            await Database(f"sqlite+aiosqlite:///{tmp_path / 'ledger.db'}", busy_timeout=1).open()

    before = threading.active_count()
    for _ in range(30):
        asyncio.run(fail())
    assert threading.active_count() == before
