"""Money asked for at the same time: one transaction for those that fit together, and each its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeVar

import pytest
from aigateway.v1 import account_pb2
from aigateway_common.errors import GatewayError
from aigateway_usage.database import Database
from aigateway_usage.reservations import Reserved
from sqlalchemy import Connection
from support.accounts import CENT, Books, books, budget
from typing_extensions import override

_T = TypeVar("_T")
DAY = "project:default:day"
ONE, TWO = "key-00000001", "key-00000002"
_KEY = account_pb2.BUDGET_SCOPE_KEY


class Counting(Database):
    """Counts transactions; the first of them waits where it is told to."""

    writes = 0
    gate: asyncio.Event | None = None
    begun: asyncio.Event | None = None

    @override
    async def write(self, work: Callable[[Connection], _T]) -> _T:
        self.writes += 1
        gate, self.gate = self.gate, None
        if gate is not None:
            assert self.begun is not None
            self.begun.set()
            await gate.wait()
        return await super().write(work)


@pytest.fixture
async def ledger(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Books]:
    monkeypatch.setattr("support.accounts.Database", Counting)
    async with books(database_url) as opened:
        yield opened


def writes(ledger: Books) -> int:
    assert isinstance(ledger.database, Counting)
    return ledger.database.writes


def words(answers: Iterable[Any]) -> list[Any]:
    """What was granted, and why the others were not."""
    return [answer.amount_nano if isinstance(answer, Reserved) else answer.reason.name for answer in answers]


async def test_those_who_wait_are_one_transaction(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=1))
    before = writes(ledger)
    answers = await asyncio.gather(*(ledger.reserve(number, number * CENT) for number in range(1, 11)))
    assert words(answers) == [number * CENT for number in range(1, 11)]
    assert writes(ledger) == before + 1
    assert await ledger.state(DAY) == (0, 55 * CENT)
    assert len(await ledger.rows("SELECT * FROM reservations")) == 10


async def test_those_who_come_meanwhile_are_the_next_one(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=1))
    assert isinstance(ledger.database, Counting)
    ledger.database.gate, ledger.database.begun = gate, begun = asyncio.Event(), asyncio.Event()
    before = writes(ledger)
    first = asyncio.create_task(ledger.reserve(0, CENT))
    await begun.wait()
    others = [asyncio.create_task(ledger.reserve(number, CENT)) for number in range(1, 9)]
    gate.set()
    assert words(await asyncio.gather(first, *others)) == [CENT] * 9
    assert writes(ledger) == before + 2


async def test_a_full_budget_holds_up_nobody_elses_calls(ledger: Books) -> None:
    await ledger.set(budget(ONE, 0.02, scope=_KEY))
    await ledger.set(budget(TWO, 1, scope=_KEY))
    await ledger.set(budget("acme", 1, scope=account_pb2.BUDGET_SCOPE_PROVIDER))
    before = writes(ledger)
    answers = await asyncio.gather(
        *(ledger.reserve(number, CENT, key_id=(ONE, TWO)[number % 2]) for number in range(8))
    )
    assert words(answers) == [CENT, CENT, CENT, CENT, "BUDGET_EXCEEDED", CENT, "BUDGET_EXCEEDED", CENT]
    assert writes(ledger) == before + 1 + 4 + 1
    assert await ledger.state(f"key:{ONE}:day") == (0, 2 * CENT)
    assert await ledger.state(f"key:{TWO}:day") == (0, 4 * CENT)
    assert await ledger.state("provider:acme:day") == (0, 6 * CENT)


async def test_what_does_not_fit_together_is_asked_for_in_its_order(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=0.10))
    answers = await asyncio.gather(*(ledger.reserve(at, amount * CENT) for at, amount in enumerate((6, 5, 4, 1))))
    assert words(answers) == [6 * CENT, "BUDGET_EXCEEDED", 4 * CENT, "BUDGET_EXCEEDED"]
    assert await ledger.state(DAY) == (0, 10 * CENT)


async def test_a_repetition_is_known_among_others(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=1))
    await ledger.reserve(1, 2 * CENT)
    answers = await asyncio.gather(
        ledger.reserve(1, 2 * CENT),
        ledger.reserve(2, 3 * CENT),
        ledger.reserve(1, 9 * CENT),
        ledger.reserve(2, 3 * CENT),
    )
    assert words(answers) == [2 * CENT, 3 * CENT, "INVALID_REQUEST", 3 * CENT]
    assert await ledger.state(DAY) == (0, 5 * CENT)


async def test_each_in_a_group_falls_under_its_own_budgets(ledger: Books) -> None:
    await ledger.set(budget(ONE, 0.10, scope=_KEY, allow_unpriced=True))
    await ledger.set(budget(TWO, 1, scope=_KEY))
    answers = await asyncio.gather(
        ledger.reserve(1, 9 * CENT, key_id=ONE),
        ledger.reserve(2, 0, key_id=ONE),
        ledger.reserve(3, None, key_id=ONE),
        ledger.reserve(4, None, key_id=TWO),
        ledger.reserve(5, 5 * CENT, key_id="key-00000003"),
        ledger.reserve(6, 5 * CENT, key_id=TWO),
    )
    assert words(answers) == [9 * CENT, 0, 0, "PERMISSION_DENIED", 0, 5 * CENT]
    states = [
        [(row["id"], row["reserved_nano"]) for row in answer.budgets]
        for answer in answers
        if isinstance(answer, Reserved)
    ]
    one, two = (f"key:{ONE}:day", 9 * CENT), (f"key:{TWO}:day", 5 * CENT)
    assert states == [[one], [one], [one], [], [two]]


async def test_who_left_while_waiting_takes_nothing(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=1))
    assert isinstance(ledger.database, Counting)
    ledger.database.gate, ledger.database.begun = gate, begun = asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(ledger.reserve(0, CENT))]
    await begun.wait()
    tasks += [asyncio.create_task(ledger.reserve(number, CENT)) for number in (1, 2)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers[1], asyncio.CancelledError)
    assert words([answers[0], answers[2]]) == [CENT, CENT]
    assert await ledger.state(DAY) == (0, 2 * CENT)


async def test_one_that_cannot_be_written_fails_alone(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=1))
    answers = await asyncio.gather(
        ledger.reserve(1, CENT),
        ledger.reserve(2, CENT, expires_at_us=2**70),  # no database has so large a number
        ledger.reserve(3, CENT),
        return_exceptions=True,
    )
    assert isinstance(answers[1], GatewayError)
    assert words(answers) == [CENT, "INTERNAL", CENT]
    assert await ledger.state(DAY) == (0, 2 * CENT)


async def test_a_ledger_that_is_away_is_said_to_all(ledger: Books) -> None:
    await ledger.set(budget(limit_usd=1))
    await ledger.database.close()
    before = writes(ledger)
    answers = await asyncio.gather(*(ledger.reserve(number, CENT) for number in range(5)), return_exceptions=True)
    assert words(answers) == ["UNAVAILABLE"] * 5
    assert writes(ledger) == before + 1
