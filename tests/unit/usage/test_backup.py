"""Backups as the documents say, taken while attempts are recorded: what comes back goes on where it was."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aigateway_usage.rows import to_row
from sqlalchemy import make_url
from support.accounts import Books, books
from support.attempts import attempt
from support.postgres import Postgres

ROOT = Path(__file__).resolve().parents[3]
COUNT = "SELECT count(*) FROM requests"
SUMS = (
    "SELECT count(*), sum(duration_us) FROM attempts",
    "SELECT sum(attempts), sum(duration_us) FROM attempt_hours",
    "SELECT sum(attempts), sum(duration_us) FROM attempt_days",
)


async def record(kept: Books, *numbers: int) -> int:
    return (await kept.ledger.record([to_row(attempt(number), 0) for number in numbers])).new


@asynccontextmanager
async def recording(url: str) -> AsyncIterator[Books]:
    """A ledger of a hundred attempts and more, that is written to all the time."""
    async with books(url) as kept:
        await record(kept, *range(100))

        async def more() -> None:
            for number in range(100, 100_000):
                await record(kept, number)

        task = asyncio.create_task(more())
        yield kept
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def goes_on(url: str) -> None:
    """What was backed up is there whole, known events count no second time, and new ones are taken."""
    async with books(url) as kept:
        sums = [await kept.rows(query) for query in SUMS]
        assert sums[0] == sums[1] == sums[2]
        ((before,),) = await kept.rows(COUNT)
        assert before >= 100
        assert await record(kept, *range(100), 1_000_000) == 1
        assert await kept.rows(COUNT) == [(before + 1,)]


async def test_an_sqlite_ledger_is_restored_from_its_own_backup(tmp_path: Path) -> None:
    statement = "VACUUM INTO 'backup.db'"
    assert f'sqlite3 data/ledger.db "{statement}"' in (ROOT / "docs/ledger.md").read_text()
    ledger, copy = tmp_path / "ledger.db", tmp_path / "backup.db"
    url = f"sqlite+aiosqlite:///{ledger}"
    async with recording(url):
        with sqlite3.connect(ledger, timeout=30) as connection:
            connection.execute(statement.replace("backup.db", str(copy)))
        connection.close()
    for name in ("ledger.db-wal", "ledger.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    copy.replace(ledger)
    await goes_on(url)


async def test_a_postgresql_ledger_is_restored_by_its_own_programs(postgres: Postgres, tmp_path: Path) -> None:
    url, other = await postgres.create(), await postgres.create()
    dump = tmp_path / "ledger.dump"
    names = [str(make_url(each).database) for each in (url, other)]
    async with recording(url):
        await run(postgres.program("pg_dump", names[0], "--format=custom", f"--file={dump}"))
    await run(postgres.program("pg_restore", names[1], "--exit-on-error", str(dump)))
    await goes_on(other)


async def run(command: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
