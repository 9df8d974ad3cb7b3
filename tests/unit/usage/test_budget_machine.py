"""Budgets against a simple model: whatever happens in whatever order, they agree to the nano-dollar."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

import pytest
from aigateway.v1 import account_pb2
from aigateway_common.errors import GatewayError
from aigateway_usage import budgets as rules
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.accounts import CENT, DAY_US, Books, books, budget
from support.attempts import NOON
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from unittest import TestCase

    from aigateway_usage.reservations import Reserved
    from support.postgres import Postgres

_T = TypeVar("_T")
_Place = tuple[str, int]

KINDS: Final = {
    "project:default:day": budget(),
    "project:default:total": budget(period=account_pb2.BUDGET_PERIOD_TOTAL),
    "provider:acme:week": budget(
        "acme", scope=account_pb2.BUDGET_SCOPE_PROVIDER, period=account_pb2.BUDGET_PERIOD_WEEK
    ),
}
events = st.integers(0, 12)
amounts = st.integers(1, 6).map(lambda cents: cents * CENT + cents % 2)
kinds = st.sampled_from(sorted(KINDS))


@dataclass
class Held:
    """A reservation."""

    amount: int
    places: list[_Place]
    expires: int


@dataclass
class Model:
    """What should be so."""

    limits: dict[str, int] = field(default_factory=dict)
    overridden: dict[str, int] = field(default_factory=dict)
    spent: dict[_Place, int] = field(default_factory=dict)
    held: dict[int, Held] = field(default_factory=dict)
    recorded: dict[int, tuple[int, int]] = field(default_factory=dict)
    excess: dict[_Place, int] = field(default_factory=dict)
    """What may lie beyond a limit: costs beyond estimates, calls let through by an override, limits taken down."""

    def place(self, name: str, at: int) -> _Place:
        return name, rules.period_start(name.rsplit(":", 1)[1], at)

    def places(self, name: str) -> set[_Place]:
        """Every period of a budget that something was counted in."""
        held = {place for held in self.held.values() for place in held.places}
        return {place for place in held | set(self.spent) if place[0] == name}

    def reserved(self, place: _Place) -> int:
        return sum(held.amount for held in self.held.values() if place in held.places)

    def used(self, place: _Place) -> int:
        return self.spent.get(place, 0) + self.reserved(place)

    def allow(self, place: _Place, amount: int) -> None:
        self.excess[place] = self.excess.get(place, 0) + max(amount, 0)


class BudgetMachine(RuleBasedStateMachine):
    """Random calls, times and operators."""

    server: ClassVar[Postgres | None] = None
    """Where the ledger lies; None for a file of SQLite's."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="ledger"))
        self.runner = asyncio.Runner()
        sqlite = f"sqlite+aiosqlite:///{self.folder / 'ledger.db'}"
        self.url = self.run(self.server.create()) if self.server else sqlite
        self.model = Model()
        self.now = NOON
        self.open()

    def run(self, work: Coroutine[object, object, _T]) -> _T:
        return self.runner.run(work)

    def open(self) -> None:
        self.stack = AsyncExitStack()
        self.books: Books = self.run(self.stack.enter_async_context(books(self.url)))

    @initialize()
    def one_budget(self) -> None:
        self.set_limit("project:default:day", 10 * CENT)

    @rule(name=kinds, limit=st.integers(5, 20).map(lambda cents: cents * CENT))
    def set_limit(self, name: str, limit: int) -> None:
        wanted = account_pb2.Budget()
        wanted.CopyFrom(KINDS[name])
        wanted.limit_usd = limit / 1e9
        place = self.model.place(name, self.now)
        if name not in self.model.limits:
            costs = (cost for cost, at in self.model.recorded.values() if at >= place[1])
            self.model.spent[place] = self.model.excess[place] = sum(costs)
        elif limit < self.model.limits[name]:
            for each in self.model.places(name):
                self.model.allow(each, self.model.limits[name] - limit)
        self.model.limits[name] = limit
        state = self.run(self.books.set(wanted, self.now))
        assert state["spent_nano"] == self.model.spent.get(place, 0)

    @rule(name=kinds)
    def delete(self, name: str) -> None:
        if self.model.limits.pop(name, None) is None:
            return
        self.run(self.books.delete(name, self.now))
        self.model.overridden.pop(name, None)
        for known in (self.model.spent, self.model.excess):
            for place in [place for place in known if place[0] == name]:
                del known[place]
        for number, held in list(self.model.held.items()):
            held.places = [place for place in held.places if place[0] != name]
            if not held.places:
                del self.model.held[number]

    @rule(name=kinds, revert=st.booleans())
    def let_through(self, name: str, revert: bool) -> None:
        if name not in self.model.limits:
            return
        self.run(self.books.override(name, self.now, revert=revert))
        end = rules.period_end(name.rsplit(":", 1)[1], self.now) or rules.NEVER_US
        self.model.overridden[name] = 0 if revert else end

    @rule(number=events, amount=amounts, minutes=st.integers(1, 3000))
    def reserve(self, number: int, amount: int, minutes: int) -> None:
        if number in self.model.held or number in self.model.recorded:
            return
        expires = self.now + minutes * 60_000_000
        answer = self.run(self.books.reserve(number, amount, self.now, expires_at_us=expires))
        self._judge(number, amount, expires, answer)

    @rule(asked=st.dictionaries(events, amounts, min_size=2, max_size=6), minutes=st.integers(1, 3000))
    def reserve_at_once(self, asked: dict[int, int], minutes: int) -> None:
        """What is answered is what one after the other would have been."""
        new = {
            number: amount
            for number, amount in asked.items()
            if number not in self.model.held and number not in self.model.recorded
        }
        expires = self.now + minutes * 60_000_000

        async def at_once() -> list[Reserved | GatewayError]:
            calls = (self.books.reserve(*each, self.now, expires_at_us=expires) for each in new.items())
            return await asyncio.gather(*calls)

        for (number, amount), answer in zip(new.items(), self.run(at_once()), strict=True):
            self._judge(number, amount, expires, answer)

    @rule(number=events, amount=amounts)
    def reserve_again(self, number: int, amount: int) -> None:
        held = self.model.held.get(number)
        if held is None:
            return
        answer = self.run(self.books.reserve(number, amount, self.now, expires_at_us=held.expires))
        if not self.model.limits:
            return
        if amount == held.amount:
            assert not isinstance(answer, GatewayError)
        else:
            assert isinstance(answer, GatewayError)
            assert answer.reason.name == "INVALID_REQUEST"

    @rule(number=events, cost=st.integers(0, 8).map(lambda cents: cents * CENT + cents))
    def record(self, number: int, cost: int) -> None:
        """Also of attempts that nothing was set aside for, and of those recorded before."""
        _, started = self.model.recorded.get(number, (0, self.now))  # the same event is delivered again
        new = self.run(self.books.record(number, cost, started))
        assert new == (number not in self.model.recorded)
        if not new:
            return
        self.model.recorded[number] = (cost, self.now)
        held = self.model.held.pop(number, None)
        for name in self.model.limits:
            place = self.model.place(name, self.now)
            self.model.spent[place] = self.model.spent.get(place, 0) + cost
            self.model.allow(place, cost - (held.amount if held and place in held.places else 0))

    @rule(number=events)
    def release(self, number: int) -> None:
        self.run(self.books.release(number))
        self.model.held.pop(number, None)

    @rule(hours=st.sampled_from([1, 6, 24, 24 * 7]))
    def time_passes(self, hours: int) -> None:
        self.now += hours * DAY_US // 24

    @rule()
    def sweep(self) -> None:
        expired = self._expire()
        assert self.run(self.books.sweep(self.now)) == expired

    @rule()
    def crash(self) -> None:
        self.run(self.stack.aclose())
        self.open()

    @invariant()
    def agrees(self) -> None:
        rows = self.run(
            self.books.rows("SELECT budget_id, period_start_us, spent_nano, reserved_nano FROM budget_spending")
        )
        found = {(budget_id, start): (spent, reserved) for budget_id, start, spent, reserved in rows}
        for place, (spent, reserved) in found.items():
            assert (spent, reserved) == (self.model.spent.get(place, 0), self.model.reserved(place)), place
            assert spent + reserved <= self.model.limits[place[0]] + self.model.excess.get(place, 0), place
        assert {place for place in self.model.spent if self.model.used(place)} <= set(found)

    @override
    def teardown(self) -> None:
        self.now += 60 * DAY_US
        self.run(self.books.sweep(self.now))
        assert self.run(self.books.rows("SELECT * FROM budget_spending WHERE reserved_nano <> 0")) == []
        assert self.run(self.books.rows("SELECT * FROM reservations")) == []
        self.run(self.stack.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)

    def _judge(self, number: int, amount: int, expires: int, answer: Reserved | GatewayError) -> None:
        """Whether a call had to be let through, and what it left behind."""
        places = [self.model.place(name, self.now) for name in sorted(self.model.limits)]
        full = [place for place in places if not self._fits(place, amount)]
        if full:
            self._expire()  # before it is refused, what has expired is given back
            full = [place for place in places if not self._fits(place, amount)]
        if full:
            assert isinstance(answer, GatewayError)
            assert answer.details["budget"] == full[0][0]
            return
        assert not isinstance(answer, GatewayError)
        for place in places:
            self.model.allow(place, self.model.used(place) + amount - self.model.limits[place[0]])
        if places:
            self.model.held[number] = Held(amount, places, expires)

    def _fits(self, place: _Place, amount: int) -> bool:
        name = place[0]
        return (
            self.model.overridden.get(name, 0) > self.now or self.model.used(place) + amount <= self.model.limits[name]
        )

    def _expire(self) -> int:
        """Forget what has expired; how many rows that was."""
        expired = [number for number, held in self.model.held.items() if held.expires <= self.now]
        return sum(len(self.model.held.pop(number).places) for number in expired)


class PostgresBudgetMachine(BudgetMachine):
    """The same, in a database of its own for each run."""


@pytest.fixture(scope="class")
def _on_postgres(postgres: Postgres) -> Iterator[None]:
    PostgresBudgetMachine.server = postgres
    yield
    PostgresBudgetMachine.server = None


def _case(machine: type[BudgetMachine], examples: int) -> type[TestCase]:
    machine.TestCase.settings = settings(
        max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
    )
    # When it fails: making the case small takes minutes.
    return pytest.mark.timeout(600)(machine.TestCase)


TestBudgets = _case(BudgetMachine, 40)
TestBudgetsOnPostgres = pytest.mark.usefixtures("_on_postgres")(_case(PostgresBudgetMachine, 15))
