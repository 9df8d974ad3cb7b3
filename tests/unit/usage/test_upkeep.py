"""Old attempts go, their sums stay; on PostgreSQL each month has a partition, and one service at a time sees to it."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import pytest
from aigateway.v1 import usage_service_pb2
from aigateway_common.errors import GatewayError
from aigateway_usage import migrate, retention, summaries, upkeep
from aigateway_usage.ledger import Recorded
from aigateway_usage.partitions import AHEAD, existing, make_ahead
from aigateway_usage.rollups import DAY_US
from aigateway_usage.rows import to_row
from aigateway_usage.upkeep import Upkeep
from alembic import command
from sqlalchemy import text
from support.accounts import Books, books, on
from support.attempts import NOON, varied
from support.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aigateway_usage.rows import Row
    from sqlalchemy import Connection

MONTHS: Final = ["attempts_2026_07", "attempts_2026_08", "attempts_2026_09", "attempts_2026_10"]


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Books]:
    async with books(database_url) as opened:
        yield opened


@pytest.fixture
async def on_postgres(postgres: Postgres) -> AsyncIterator[Books]:
    async with books(await postgres.create()) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "PAUSE", 0)


def looked_after(kept: Books, days: int | None, now: int = NOON) -> Upkeep:
    return Upkeep(kept.database, days, lambda: now)


def rows(count: int) -> list[Row]:
    chance = random.Random(1)
    return [to_row(varied(number, chance), 0) for number in range(count)]


async def summed(kept: Books) -> list[tuple[object, ...]]:
    by = summaries.grouping([usage_service_pb2.SUMMARY_KEY_DAY, usage_service_pb2.SUMMARY_KEY_PROJECT])
    parts = summaries.selects(usage_service_pb2.AttemptFilter(), by)
    return await kept.database.read(lambda connection: summaries.summary(connection, parts, by))


async def test_old_attempts_go_in_portions_and_their_sums_stay(ledger: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PORTION", 100)
    every = rows(800)
    await ledger.ledger.record(every)
    before = await summed(ledger)
    horizon = NOON // DAY_US * DAY_US - DAY_US
    old = [row for row in every if row["started_at_us"] < horizon]
    assert await looked_after(ledger, 1).look() == len(old) > 200
    assert await ledger.rows("SELECT count(*) FROM attempts") == [(800 - len(old),)]
    assert await ledger.rows(f"SELECT count(*) FROM attempts WHERE started_at_us < {horizon}") == [(0,)]
    assert await summed(ledger) == before
    assert await looked_after(ledger, 1).look() == 0


async def test_attempts_are_kept_for_ever_unless_told_otherwise(ledger: Books) -> None:
    await ledger.record(1, 1, at=1)
    assert await looked_after(ledger, None, 2**50).look() == 0
    assert await ledger.rows("SELECT count(*) FROM attempts") == [(1,)]


async def test_a_late_attempt_is_counted_before_it_goes(ledger: Books) -> None:
    await looked_after(ledger, 10).look()
    await ledger.record(1, 7, at=NOON - 30 * DAY_US)
    assert await looked_after(ledger, 10).look() == 1
    assert await ledger.rows("SELECT sum(attempts), sum(cost_nano) FROM attempt_days") == [(1, 7)]


async def test_each_month_has_a_partition_before_it_begins(on_postgres: Books) -> None:
    assert await looked_after(on_postgres, None).look() == 0
    found = await on_postgres.database.read(existing)
    assert [each.name for each in found] == MONTHS
    assert len(MONTHS) == AHEAD + 1
    assert all(before.end_us == after.first_us for before, after in pairwise(found))
    assert await on_postgres.database.write(lambda connection: make_ahead(connection, NOON)) == []
    await on_postgres.record(1, 1)
    assert await on_postgres.rows("SELECT count(*) FROM attempts_2026_07") == [(1,)]


async def test_what_came_before_its_partition_moves_into_it(on_postgres: Books) -> None:
    every = rows(300)
    assert await on_postgres.ledger.record(every) == Recorded(300, 0)
    assert await on_postgres.rows("SELECT count(*) FROM attempts_default") == [(300,)]
    await looked_after(on_postgres, None).look()
    assert await on_postgres.rows("SELECT count(*) FROM attempts_default") == [(0,)]
    assert await on_postgres.rows("SELECT count(*) FROM attempts_2026_07") == [(300,)]
    assert await on_postgres.ledger.record(every) == Recorded(0, 300)


async def test_a_month_that_is_too_old_goes_as_a_whole(on_postgres: Books) -> None:
    await looked_after(on_postgres, None).look()
    await on_postgres.record(1, 5)
    await on_postgres.record(2, 5, at=NOON + 20 * DAY_US)
    later = NOON + 40 * DAY_US  # 2 September
    assert await looked_after(on_postgres, 40, later).look() == 0
    assert MONTHS[0] in [each.name for each in await on_postgres.database.read(existing)]
    assert await looked_after(on_postgres, 30, later).look() == 0
    assert MONTHS[0] not in [each.name for each in await on_postgres.database.read(existing)]
    assert await on_postgres.rows("SELECT event_id FROM attempts") == [(f"{2:032x}",)]
    assert await on_postgres.rows("SELECT sum(attempts) FROM attempt_days") == [(2,)]


async def test_one_service_at_a_time_looks_after_a_ledger(on_postgres: Books) -> None:
    await on_postgres.record(1, 5)

    async def while_another_does() -> int:
        async with books(on_postgres.database._url.render_as_string(hide_password=False)) as other:
            return await looked_after(other, 1, NOON + 9 * DAY_US).look()

    session = await on_postgres.database._opened().connect()
    try:
        assert await session.run(upkeep._alone)
        assert await while_another_does() == 0
        assert await on_postgres.rows("SELECT count(*) FROM attempts") == [(1,)]
    finally:
        await session.close()
    assert await while_another_does() == 1


async def test_a_reader_that_is_slow_delays_a_partition_and_nothing_else(
    on_postgres: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aigateway_usage.partitions.PATIENCE", "50ms")
    session = await on_postgres.database._opened().connect()
    try:
        await session.run(lambda connection: connection.execute(text("SELECT * FROM attempts")).all())
        with pytest.raises(GatewayError):
            await looked_after(on_postgres, None).look()
        assert await on_postgres.record(1, 1) == 1
    finally:
        await session.close()
    await looked_after(on_postgres, None).look()
    assert await on_postgres.rows("SELECT count(*) FROM attempts_2026_07") == [(1,)]


async def test_an_older_ledger_becomes_a_partition(postgres: Postgres) -> None:
    url, every = await postgres.create(), rows(50)
    every[0]["started_at_us"] = 2**62  # by a clock that is wrong

    def of_the_release_before(connection: Connection) -> None:
        command.upgrade(migrate.config(connection), "0002")
        names = list(every[0])
        values = ", ".join(f":{name}" for name in names)
        connection.execute(text(f"INSERT INTO attempts ({', '.join(names)}) VALUES ({values})"), every)

    await on(url, of_the_release_before)
    async with books(url) as kept:
        (before,) = await kept.database.read(existing)
        assert before.first_us is None
        assert await kept.rows(f"SELECT count(*) FROM {before.name}") == [(49,)]
        assert await kept.rows("SELECT count(*) FROM attempts_default") == [(1,)]
        assert await kept.ledger.record(every) == Recorded(0, 50)
        made = await kept.database.write(lambda connection: make_ahead(connection, before.end_us - 1))
        assert len(made) == AHEAD
        assert await kept.rows("SELECT count(*) FROM requests") == [(50,)]
        assert await looked_after(kept, 1, before.end_us + 3 * DAY_US).look() == 0
        assert before.name not in [each.name for each in await kept.database.read(existing)]
        assert await kept.rows("SELECT count(*) FROM attempts") == [(1,)]


async def test_a_service_of_the_release_before_cannot_write_past_the_sums(on_postgres: Books) -> None:
    """It is told of an error that its sender repeats, until a newer one takes the attempt."""
    await on_postgres.record(1, 1)
    as_before = "INSERT INTO attempts SELECT * FROM attempts ON CONFLICT (event_id) DO NOTHING"
    with pytest.raises(GatewayError) as caught:
        await on_postgres.database.write(lambda connection: connection.execute(text(as_before)))
    assert caught.value.reason.name == "INTERNAL"


@pytest.mark.parametrize(("days", "expected"), [(1, NOON // DAY_US - 1), (30, NOON // DAY_US - 30)])
def test_whole_days_go(days: int, expected: int) -> None:
    assert retention.horizon(NOON, days) == expected * DAY_US
