"""Writing: exactly once, in groups, bounded, and nobody fails for another's sake."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from aigateway_common.errors import GatewayError
from aigateway_usage.database import MAX_QUERIES, Database
from aigateway_usage.ledger import Ledger, Recorded
from aigateway_usage.rows import Row, to_row
from sqlalchemy import text
from support.accounts import books
from support.attempts import attempt
from support.postgres import Postgres
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from sqlalchemy import Connection

_T = TypeVar("_T")


class Watched(Database):
    """A database that counts transactions and can be held before the next one."""

    def __init__(self, url: str) -> None:
        super().__init__(url, busy_timeout=10)
        self.writes = 0
        self.written: list[str] = []
        self.free = asyncio.Event()
        self.free.set()

    @override
    async def write(self, work: Callable[[Connection], _T]) -> _T:
        self.writes += 1
        await self.free.wait()
        return await super().write(work)


@asynccontextmanager
async def ledger(url: str, max_queued: int = 1000) -> AsyncIterator[tuple[Ledger, Watched]]:
    database = Watched(url)
    await database.open()
    one = Ledger(
        database, max_queued=max_queued, written=lambda row: database.written.append(row["request_id"] or "nameless")
    )
    try:
        yield one, database
    finally:
        await one.flush()
        await database.close()


def in_file(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder / 'ledger.db'}"


async def stored(url: str, sql: str = "SELECT * FROM requests") -> list[tuple[Any, ...]]:
    async with books(url) as kept:
        return await kept.rows(sql)


def rows(*numbers: int, **changes: Any) -> list[Row]:
    return [to_row(attempt(number, **changes), 0) for number in numbers]


async def test_known_events_change_nothing(database_url: str) -> None:
    async with ledger(database_url) as (one, database):
        assert await one.record(rows(1, 2)) == Recorded(2, 0)
        assert await one.record(rows(2, 3, provider="other")) == Recorded(1, 1)
        assert await one.record(rows(4, 4)) == Recorded(1, 1)
        assert await one.record([]) == Recorded(0, 0)
    assert database.written == ["call-1", "call-2", "call-3", "call-4"]
    assert await stored(database_url, "SELECT provider FROM attempts ORDER BY event_id") == [
        ("acme",),
        ("acme",),
        ("other",),
        ("acme",),
    ]


async def test_the_same_events_from_many_at_once_are_counted_once(database_url: str) -> None:
    async with ledger(database_url, 100_000) as (one, database):
        batches = [[(start + step) % 300 for step in range(40)] for start in range(0, 300, 7)] * 2
        answers = await asyncio.gather(*(one.record(rows(*batch)) for batch in batches))
    assert sum(answer.new for answer in answers) == 300
    assert [answer.new + answer.duplicates for answer in answers] == [40] * len(batches)
    assert len(await stored(database_url)) == 300
    assert sorted(database.written) == sorted(f"call-{number}" for number in range(300))


async def test_however_many_come_together_each_is_written_once(database_url: str) -> None:
    async with ledger(database_url) as (one, database):
        start = 0
        for many in (1, 2, 3, 63, 64, 65, 127, 200):
            assert await one.record(rows(*range(start, start + many))) == Recorded(many, 0)
            start += many
        assert await one.record(rows(*range(start - 100, start + 30))) == Recorded(30, 100)
    assert len(database.written) == len(set(database.written)) == start + 30
    found = await stored(database_url, "SELECT request_id, duration_us, project FROM attempts")
    assert sorted(found) == sorted(
        (row["request_id"], row["duration_us"], row["project"]) for row in rows(*range(start + 30))
    )


async def test_what_waits_is_written_in_one_transaction(database_url: str) -> None:
    async with ledger(database_url) as (one, database):
        database.free.clear()
        first = asyncio.create_task(one.record(rows(0)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        rest = [asyncio.create_task(one.record(rows(number, number + 100))) for number in range(1, 51)]
        await asyncio.sleep(0)
        database.free.set()
        assert await asyncio.gather(first, *rest) == [Recorded(1, 0), *[Recorded(2, 0)] * 50]
        assert database.writes == 2


async def test_a_full_queue_refuses_at_once_and_recovers(database_url: str) -> None:
    async with ledger(database_url, max_queued=3) as (one, database):
        database.free.clear()
        first = asyncio.create_task(one.record(rows(0)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting = asyncio.create_task(one.record(rows(1, 2)))
        await asyncio.sleep(0)
        with pytest.raises(GatewayError) as caught:
            await one.record(rows(3, 4))
        assert (caught.value.reason.name, caught.value.retry_after) == ("OVERLOADED", 1)
        database.free.set()
        assert [await first, await waiting] == [Recorded(1, 0), Recorded(2, 0)]
        assert await one.record(rows(3, 4)) == Recorded(2, 0)


async def test_one_bad_request_does_not_fail_those_beside_it(database_url: str) -> None:
    async with ledger(database_url) as (one, database):
        poison = rows(2)
        poison[0]["request_id"] = None  # what validation keeps out: the database itself refuses it
        database.free.clear()
        tasks = [asyncio.create_task(one.record(batch)) for batch in (rows(0), rows(1), poison, rows(3))]
        await asyncio.sleep(0)
        database.free.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [answers[0], answers[1], answers[3]] == [Recorded(1, 0)] * 3
    assert isinstance(answers[2], GatewayError)
    assert len(await stored(database_url)) == 3


async def test_a_caller_that_went_away_harms_nobody(database_url: str) -> None:
    async with ledger(database_url) as (one, database):
        database.free.clear()
        gone, stays = asyncio.create_task(one.record(rows(1))), asyncio.create_task(one.record(rows(2)))
        await asyncio.sleep(0)
        gone.cancel()
        database.free.set()
        assert await stays == Recorded(1, 0)
    assert len(await stored(database_url)) == 2


async def test_a_database_that_fails_is_reported_and_tried_again(tmp_path: Path) -> None:
    async with ledger(in_file(tmp_path)) as (one, database):
        await database.write(lambda connection: connection.execute(text("ALTER TABLE attempts RENAME TO away")))
        with pytest.raises(GatewayError) as caught:
            await one.record(rows(1))
        assert caught.value.reason.retryable
        await database.write(lambda connection: connection.execute(text("ALTER TABLE away RENAME TO attempts")))
        assert await one.record(rows(1)) == Recorded(1, 0)


async def test_a_database_that_is_away_is_asked_once_for_all_who_wait(tmp_path: Path) -> None:
    async with ledger(in_file(tmp_path)) as (one, database):
        await database.write(lambda connection: connection.execute(text("ALTER TABLE attempts RENAME TO away")))
        database.writes = 0
        answers = await asyncio.gather(*(one.record(rows(number)) for number in range(20)), return_exceptions=True)
        assert database.writes == 1
    assert [isinstance(answer, GatewayError) and answer.reason.name for answer in answers] == ["UNAVAILABLE"] * 20


async def test_a_connection_that_postgresql_ends_is_reported_and_made_anew(postgres: Postgres) -> None:
    """As when the server is restarted, or another takes its place."""
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    url = await postgres.create()
    async with ledger(url) as (one, _):
        assert await one.record(rows(1)) == Recorded(1, 0)
        await stored(url, f"SELECT pg_terminate_backend(pid) {others}")
        with pytest.raises(GatewayError) as caught:
            await one.record(rows(2))
        assert caught.value.reason.name == "UNAVAILABLE"
        assert await one.record(rows(1, 2)) == Recorded(1, 1)


async def test_a_postgresql_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    database = Database(f"postgresql://me@/ledger?host={tmp_path}", busy_timeout=1)
    with pytest.raises(GatewayError) as caught:
        await database.open()
    await database.close()
    assert caught.value.reason.name == "UNAVAILABLE"


async def test_too_many_questions_are_refused_at_once(database_url: str) -> None:
    async with ledger(database_url) as (_, database):
        async with database._readers, database._readers:
            running = [asyncio.create_task(database.read(one_row)) for _ in range(MAX_QUERIES)]
            await asyncio.sleep(0)
            with pytest.raises(GatewayError) as caught:
                await database.read(one_row)
            assert caught.value.reason.name == "OVERLOADED"
        assert await asyncio.gather(*running) == [1] * MAX_QUERIES
        assert await database.read(one_row) == 1


async def test_questions_whose_askers_went_away_leave_no_trace(database_url: str) -> None:
    async with ledger(database_url) as (one, database):
        for _ in range(5):
            asked = [asyncio.create_task(database.read(slow)) for _ in range(6)]
            await asyncio.sleep(0.01)  # some run, some wait
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        assert await one.record(rows(1)) == Recorded(1, 0)
        assert await asyncio.gather(*(database.read(one_row) for _ in range(6))) == [1] * 6


async def test_an_endless_question_ends_when_its_asker_goes_away(tmp_path: Path) -> None:
    async with ledger(in_file(tmp_path)) as (one, database):
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def endless(connection: Connection) -> None:
            loop.call_soon_threadsafe(begun.set)
            connection.execute(
                text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n")
            )

        asked = [asyncio.create_task(database.read(endless)), asyncio.create_task(database.write(endless))]
        await begun.wait()
        for each in asked:
            each.cancel()
        assert [type(each) for each in await asyncio.gather(*asked, return_exceptions=True)] == [
            asyncio.CancelledError,
            asyncio.CancelledError,
        ]
        assert await database.read(one_row) == 1
        assert await one.record(rows(1)) == Recorded(1, 0)


async def test_a_closed_database_says_so(database_url: str) -> None:
    async with ledger(database_url) as (one, database):
        assert await one.record(rows(1)) == Recorded(1, 0)
        await database.close()
        for late in (one.record(rows(2)), database.read(one_row)):
            with pytest.raises(GatewayError) as caught:
                await late
            assert caught.value.reason.name == "UNAVAILABLE"


async def test_a_failed_write_is_undone_whole(database_url: str) -> None:
    async with ledger(database_url) as (one, database):

        def fails(connection: Connection) -> None:
            connection.execute(text("DELETE FROM attempts"))
            raise ValueError("halfway")

        await one.record(rows(1))
        with pytest.raises(ValueError, match="halfway"):
            await database.write(fails)
        assert await one.record(rows(1, 2)) == Recorded(1, 1)


def one_row(connection: Connection) -> int:
    return len(connection.execute(text("SELECT 1")).all())


def slow(connection: Connection) -> None:
    """About a tenth of a second."""
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT sum(i) FROM n"
    connection.execute(text(numbers)).all()
