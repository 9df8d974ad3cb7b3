"""Money set aside: never more than there is, never lost, on either database and from several services at once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from aigateway.v1 import account_pb2
from aigateway_common.errors import GatewayError
from aigateway_usage import ledger as ledger_module
from aigateway_usage import plain
from aigateway_usage.database import Database
from aigateway_usage.reservations import Reserved
from aigateway_usage.rows import to_row
from sqlalchemy import event
from support.accounts import CENT, DAY_US, Books, books, budget
from support.attempts import NOON, attempt

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Sequence

    from sqlalchemy import Connection

DAY = "project:default:day"
MONTH = "project:default:month"
_MONTHLY = account_pb2.BUDGET_PERIOD_MONTH
_TOTAL = account_pb2.BUDGET_PERIOD_TOTAL
_KEY = account_pb2.BUDGET_SCOPE_KEY
_PROVIDER = account_pb2.BUDGET_SCOPE_PROVIDER


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Books]:
    async with books(database_url) as opened:
        yield opened


def granted(answer: Reserved | GatewayError) -> int:
    assert isinstance(answer, Reserved), answer
    return answer.amount_nano


def refused(answer: Reserved | GatewayError) -> GatewayError:
    assert isinstance(answer, GatewayError)
    return answer


async def test_a_reservation_holds_until_its_attempt_is_recorded(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=0.10))
    assert granted(await ledger.reserve(1, 6 * CENT)) == 6 * CENT
    assert await ledger.state(DAY) == (0, 6 * CENT)
    assert refused(await ledger.reserve(2, 5 * CENT)).reason.name == "BUDGET_EXCEEDED"
    assert await ledger.record(1, 2 * CENT) == 1
    assert await ledger.state(DAY) == (2 * CENT, 0)
    assert granted(await ledger.reserve(2, 8 * CENT)) == 8 * CENT
    assert refused(await ledger.reserve(3, 1)).reason.name == "BUDGET_EXCEEDED"


async def test_a_refusal_says_what_is_spent_and_when_it_begins_anew(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=0.10))
    await ledger.record(1, 3 * CENT)
    await ledger.reserve(2, 4 * CENT)
    error = refused(await ledger.reserve(3, 4 * CENT))
    assert error.details == {
        "budget": DAY,
        "limit": "0.1",
        "spent": "0.03",
        "reserved": "0.04",
        "resets_at": "2026-07-25T00:00:00Z",
    }
    assert error.message == (
        "the budget `project:default:day` does not hold this call: of 0.1 US dollars 0.03 are spent and 0.04 set aside "
        "for calls under way, and the call may cost 0.04; it begins anew at 2026-07-25T00:00:00Z"
    )
    assert error.retry_after is None
    late = NOON + DAY_US // 2 - 60_000_000
    assert refused(await ledger.reserve(3, 10 * CENT, late)).retry_after == 60


async def test_a_budget_that_never_begins_anew_promises_no_time(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=0.10, period=_TOTAL))
    error = refused(await ledger.reserve(1, 11 * CENT))
    assert "resets_at" not in error.details
    assert "anew" not in error.message


async def test_it_is_all_budgets_or_none(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=0.10))
    await ledger.set(budget(limit_usd=0.50, period=_MONTHLY))
    await ledger.set(budget("acme", 0.05, scope=_PROVIDER))
    assert refused(await ledger.reserve(1, 6 * CENT)).details["budget"] == "provider:acme:day"
    assert [await ledger.state(name) for name in (DAY, MONTH, "provider:acme:day")] == [(0, 0)] * 3
    assert await ledger.rows("SELECT * FROM reservations") == []
    answer = await ledger.reserve(1, 5 * CENT)
    assert granted(answer) == 5 * CENT
    assert [row["id"] for row in answer.budgets] == [DAY, MONTH, "provider:acme:day"]  # type: ignore[union-attr]
    await ledger.record(1, 4 * CENT)
    assert [await ledger.state(name) for name in (DAY, MONTH, "provider:acme:day")] == [(4 * CENT, 0)] * 3


async def test_what_falls_under_no_budget_is_not_counted(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=0.10))
    await ledger.set(budget("key-00000001", 0.10, scope=_KEY))
    other: dict[str, Any] = {"project": "search", "key_id": "key-00000002"}
    assert granted(await ledger.reserve(1, 90 * CENT, **other)) == 0
    await ledger.record(1, 90 * CENT, **other)
    await ledger.record(2, 1 * CENT, project="search", key_id="key-00000001")
    await ledger.record(3, 2 * CENT)
    assert await ledger.state(DAY) == (2 * CENT, 0)
    assert await ledger.state("key:key-00000001:day") == (1 * CENT, 0)


async def test_asking_again_for_the_same_attempt_changes_nothing(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=0.10))
    for _ in range(3):
        assert granted(await ledger.reserve(1, 6 * CENT)) == 6 * CENT
    assert await ledger.state(DAY) == (0, 6 * CENT)
    error = refused(await ledger.reserve(1, 1 * CENT))
    assert (error.reason.name, error.details) == ("INVALID_REQUEST", {"param": "event_id"})
    assert await ledger.state(DAY) == (0, 6 * CENT)


async def test_a_repetition_is_known_though_a_budget_was_added_or_removed(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=0.10))
    await ledger.reserve(1, 6 * CENT)
    await ledger.set(budget(limit_usd=0.50, period=_MONTHLY))
    assert granted(await ledger.reserve(1, 6 * CENT)) == 6 * CENT
    assert (await ledger.state(DAY), await ledger.state(MONTH)) == ((0, 6 * CENT), (0, 0))
    await ledger.delete(DAY)
    await ledger.record(1, 6 * CENT)
    assert await ledger.state(MONTH) == (6 * CENT, 0)


async def test_recording_twice_counts_once(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=1))
    await ledger.reserve(1, 6 * CENT)
    assert [await ledger.record(1, 2 * CENT) for _ in range(3)] == [1, 0, 0]
    assert await ledger.state(DAY) == (2 * CENT, 0)


async def test_one_request_with_an_attempt_twice_counts_the_one_that_was_written(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=1))
    rows = [to_row(attempt(number), 0) | {"cost_usd": cents / 100} for number, cents in ((1, 1), (2, 2), (1, 50))]
    await ledger.ledger.record(rows)
    assert await ledger.state(DAY) == (3 * CENT, 0)
    assert await ledger.rows("SELECT sum(cost_usd) FROM attempts") == [(0.03,)]


async def test_what_is_released_is_free_again(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=0.10))
    await ledger.reserve(1, 10 * CENT)
    await ledger.release(1)
    await ledger.release(1)
    await ledger.release(99)
    assert await ledger.state(DAY) == (0, 0)
    assert granted(await ledger.reserve(2, 10 * CENT)) == 10 * CENT


async def test_an_expired_reservation_makes_room_for_the_next_call(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=0.10))
    await ledger.reserve(1, 10 * CENT, expires_at_us=NOON + 1_000_000)
    assert refused(await ledger.reserve(2, 10 * CENT, NOON + 999_999)).details["reserved"] == "0.1"
    assert granted(await ledger.reserve(2, 10 * CENT, NOON + 1_000_000)) == 10 * CENT
    assert await ledger.state(DAY) == (0, 10 * CENT)


async def test_an_attempt_recorded_after_its_reservation_expired_counts_in_full(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=0.10))
    await ledger.reserve(1, 10 * CENT)
    assert await ledger.sweep(NOON + 600_000_000) == 1
    assert await ledger.sweep(NOON + 600_000_000) == 0
    assert await ledger.state(DAY) == (0, 0)
    await ledger.record(1, 9 * CENT)
    assert await ledger.state(DAY) == (9 * CENT, 0)


async def test_a_new_period_begins_with_nothing_and_the_old_one_is_settled_where_it_was(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=0.10))
    tomorrow = NOON + DAY_US
    await ledger.reserve(1, 10 * CENT)
    assert granted(await ledger.reserve(2, 10 * CENT, tomorrow)) == 10 * CENT
    await ledger.record(1, 12 * CENT, NOON)
    assert await ledger.state(DAY, NOON) == (12 * CENT, 0)
    assert await ledger.state(DAY, tomorrow) == (0, 10 * CENT)
    await ledger.record(2, 1 * CENT, tomorrow)
    assert await ledger.state(DAY, tomorrow) == (1 * CENT, 0)


async def test_an_attempt_that_began_after_midnight_settles_what_was_set_aside_before(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=0.10))
    midnight = NOON + DAY_US // 2
    await ledger.reserve(1, 10 * CENT, midnight - 1)
    await ledger.record(1, 3 * CENT, midnight)
    assert await ledger.state(DAY, midnight - 1) == (0, 0)
    assert await ledger.state(DAY, midnight) == (3 * CENT, 0)


async def test_an_override_lets_through_and_still_counts_until_the_period_ends(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=0.10))
    await ledger.record(1, 10 * CENT)
    assert refused(await ledger.reserve(2, CENT)).reason.name == "BUDGET_EXCEEDED"
    assert (await ledger.override(DAY))["overridden_until_us"] == NOON + DAY_US // 2
    assert granted(await ledger.reserve(2, 20 * CENT)) == 20 * CENT
    await ledger.record(2, 20 * CENT)
    assert await ledger.state(DAY) == (30 * CENT, 0)
    await ledger.override(DAY, revert=True)
    assert refused(await ledger.reserve(3, CENT)).details["spent"] == "0.3"
    await ledger.override(DAY)
    tomorrow = NOON + DAY_US
    assert refused(await ledger.reserve(4, 11 * CENT, tomorrow)).details["spent"] == "0"


async def test_an_override_of_a_total_lasts_until_it_is_taken_back(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=0.10, period=_TOTAL))
    await ledger.override("project:default:total")
    century = NOON + 100 * 365 * DAY_US
    assert granted(await ledger.reserve(1, 20 * CENT, century)) == 20 * CENT
    await ledger.override("project:default:total", century, revert=True)
    assert refused(await ledger.reserve(2, CENT, century)).details["reserved"] == "0.2"


async def test_a_call_that_costs_nothing_passes_a_spent_budget(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=0.10))
    await ledger.record(1, 20 * CENT)
    answer = await ledger.reserve(2, 0)
    assert granted(answer) == 0
    assert [row["id"] for row in answer.budgets] == [DAY]  # type: ignore[union-attr]
    assert await ledger.rows("SELECT * FROM reservations") == []


async def test_an_unknown_price_passes_only_where_every_budget_allows_it(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=0.10))
    await ledger.set(budget(limit_usd=0.50, period=_MONTHLY, allow_unpriced=True))
    error = refused(await ledger.reserve(1, None))
    assert error.reason.name == "PERMISSION_DENIED"
    assert error.details == {"budget": DAY, "model": "acme/acme-1"}
    assert "`prices.acme/acme-1`" in error.message
    assert "`allow_unpriced`" in error.message
    await ledger.set(budget(limit_usd=0.10, allow_unpriced=True))
    assert granted(await ledger.reserve(1, None)) == 0


async def test_a_budget_set_in_mid_period_begins_with_what_the_period_has_cost(ledger: Books) -> None:
    await ledger.record(1, 1 * CENT, NOON - DAY_US)
    await ledger.record(2, 2 * CENT, NOON - 1)
    await ledger.record(3, 4 * CENT, provider="other")
    await ledger.record(4, 8 * CENT, project="search", key_id="key-00000001")
    await ledger.record(5, 333_333_333)
    monday = NOON - 4 * DAY_US - DAY_US // 2
    await ledger.record(6, 16 * CENT, monday)
    await ledger.record(7, 32 * CENT, monday - 1)
    odd = 333_333_333
    assert (await ledger.set(budget(limit_usd=1)))["spent_nano"] == 6 * CENT + odd
    assert (await ledger.set(budget(limit_usd=1, period=account_pb2.BUDGET_PERIOD_WEEK)))[
        "spent_nano"
    ] == 23 * CENT + odd
    assert (await ledger.set(budget(limit_usd=1, period=_TOTAL)))["spent_nano"] == 55 * CENT + odd
    assert (await ledger.set(budget("other", 1, scope=_PROVIDER)))["spent_nano"] == 4 * CENT
    assert (await ledger.set(budget("key-00000001", 1, scope=_KEY)))["spent_nano"] == 8 * CENT


async def test_changing_a_limit_keeps_what_is_counted(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=0.10))
    await ledger.record(1, 3 * CENT)
    await ledger.reserve(2, 4 * CENT)
    changed = await ledger.set(budget(limit_usd=0.05))
    assert (changed["limit_nano"], changed["spent_nano"], changed["reserved_nano"]) == (5 * CENT, 3 * CENT, 4 * CENT)
    assert refused(await ledger.reserve(3, 1)).details["limit"] == "0.05"


async def test_a_removed_budget_leaves_nothing_and_one_set_again_counts_by_the_ledger(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=0.10))
    await ledger.reserve(1, 4 * CENT)
    await ledger.record(2, 3 * CENT)
    await ledger.delete(DAY)
    assert await ledger.rows("SELECT * FROM reservations") == await ledger.rows("SELECT * FROM budget_spending") == []
    await ledger.release(1)
    await ledger.record(1, 1 * CENT)
    assert await ledger.rows("SELECT * FROM budget_spending") == []
    assert (await ledger.set(budget(limit_usd=0.10)))["spent_nano"] == 4 * CENT


async def test_a_nonsense_cost_is_written_and_overflows_nothing(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=1))
    for number in range(20):
        assert await ledger.record(number, 10**30) == 1
    assert await ledger.state(DAY) == (20 * 10**15, 0)
    await ledger.delete(DAY)
    assert (await ledger.set(budget(limit_usd=1)))["spent_nano"] == 20 * 10**15


@pytest.mark.parametrize("services", [1, 3])
async def test_however_many_ask_at_once_exactly_those_that_fit_are_let_through(
    database_url: str, services: int
) -> None:
    async with AsyncExitStack() as stack:
        each = [await stack.enter_async_context(books(database_url)) for _ in range(services)]
        await each[0].set(budget(limit_usd=0.10))
        await each[0].set(budget("acme", 0.50, scope=_PROVIDER))
        answers = await asyncio.gather(
            *(each[number % services].reserve(number, CENT) for number in range(60)), return_exceptions=True
        )
        assert [
            answer for answer in answers if isinstance(answer, BaseException) and not isinstance(answer, GatewayError)
        ] == []
        assert sum(isinstance(answer, Reserved) for answer in answers) == 10
        assert {answer.reason.name for answer in answers if isinstance(answer, GatewayError)} == {"BUDGET_EXCEEDED"}
        assert await each[0].state(DAY) == await each[-1].state("provider:acme:day") == (0, 10 * CENT)


@pytest.mark.parametrize("services", [1, 3])
async def test_reserving_recording_and_changing_budgets_at_once_loses_nothing(database_url: str, services: int) -> None:
    async with AsyncExitStack() as stack:
        each = [await stack.enter_async_context(books(database_url)) for _ in range(services)]

        async def call(number: int) -> None:
            one = each[number % services]
            await one.reserve(number, 3 * CENT)
            if number % 4 == 1:
                await one.release(number)
            else:
                await asyncio.gather(one.record(number, 2 * CENT), each[-1].record(number, 2 * CENT))

        calls = [asyncio.create_task(call(number)) for number in range(80)]
        await each[0].set(budget(limit_usd=100))
        await each[-1].set(budget(limit_usd=100, period=_MONTHLY))
        await each[0].delete(DAY)
        await each[-1].set(budget(limit_usd=50))
        await asyncio.gather(*calls)
        assert await each[0].state(DAY) == await each[0].state(MONTH) == (60 * 2 * CENT, 0)
        assert await each[0].rows("SELECT * FROM reservations") == []


async def test_the_same_attempt_reserved_by_several_services_at_once_is_reserved_once(database_url: str) -> None:
    async with books(database_url) as one, books(database_url) as two:
        await one.set(budget(limit_usd=1))
        answers: list[Any] = await asyncio.gather(*(each.reserve(1, 3 * CENT) for each in (one, two) * 5))
        assert [granted(answer) for answer in answers] == [3 * CENT] * 10
        assert await one.state(DAY) == (0, 3 * CENT)


async def test_a_crash_between_reserving_and_recording_loses_nothing(database_url: str) -> None:
    async with books(database_url) as before:
        await before.set(budget(limit_usd=0.10))
        await before.reserve(1, 4 * CENT)
        await before.reserve(2, 4 * CENT)
    async with books(database_url) as after:
        assert await after.state(DAY) == (0, 8 * CENT)
        assert refused(await after.reserve(3, 3 * CENT)).reason.name == "BUDGET_EXCEEDED"
        await after.record(1, 1 * CENT)
        assert await after.state(DAY) == (1 * CENT, 4 * CENT)
        assert await after.sweep(NOON + 600_000_000) == 1
        assert await after.state(DAY) == (1 * CENT, 0)


async def test_a_write_that_fails_counts_nothing(ledger: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempt and what it counts are one transaction."""
    await ledger.set(budget(limit_usd=1))

    def fails(*_: object) -> None:
        raise ValueError("crash")

    with monkeypatch.context() as patch:
        patch.setattr(ledger_module, "settle", fails)
        with pytest.raises(GatewayError):
            await ledger.record(1, CENT)
    assert await ledger.rows("SELECT * FROM attempts") == []
    assert await ledger.record(1, CENT) == 1
    assert await ledger.state(DAY) == (CENT, 0)


async def test_events_without_a_budget_cost_one_look_a_transaction(
    ledger: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    run = plain.run

    def note(text: str) -> None:
        statements.append(text.replace("INTO ", "").replace("OR FAIL ", "").partition(" (")[0].partition(" FROM")[0])

    def noting(connection: Connection, text: str, values: Sequence[Any]) -> sqlite3.Cursor:
        note(text)
        return run(connection, text, values)

    assert ledger.database._connections is not None
    event.listen(ledger.database._connections.engine, "before_cursor_execute", lambda *args: note(args[2]))
    monkeypatch.setattr(plain, "run", noting)
    await ledger.record(0, CENT)
    statements.clear()
    await ledger.ledger.record([to_row(attempt(number), 0) | {"cost_usd": 1.0} for number in range(1, 300)])
    rows = statements.count("INSERT attempts")
    assert statements == [*["INSERT attempts"] * rows, "INSERT attempt_hours", "INSERT attempt_days", "SELECT 1"]
    assert rows < 10


async def test_many_sweeps_at_once_give_back_once(database_url: str) -> None:
    async with books(database_url) as one, books(database_url) as two:
        await one.set(budget(limit_usd=10))
        for number in range(40):
            await one.reserve(number, CENT)
        later = NOON + 600_000_000
        swept = await asyncio.gather(*(each.sweep(later) for each in (one, two) * 3))
        assert sum(swept) == 40
        assert await one.state(DAY) == (0, 0)


async def test_a_database_that_waits_for_reports_still_answers_look_ups(ledger: Books) -> None:
    database: Database = ledger.database
    async with database._readers, database._readers:  # as two long reports do
        assert await database.look_up(lambda connection: connection.dialect.name) in {"sqlite", "postgresql"}
