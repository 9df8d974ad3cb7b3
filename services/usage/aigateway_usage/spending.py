"""What budgets' calls cost: counted in the ledger's own transactions, and summed up for a budget that is new.

Reading a list of budgets holds off whoever changes budgets until the transaction ends (`changes.lock_budgets`), so an
attempt is counted by a new budget's sum or by its own transaction, never by both or neither.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, delete, func, select, update

from aigateway_usage import budgets as rules
from aigateway_usage.bulk import insert_rows
from aigateway_usage.plain import LIST, PAIRS, Statement
from aigateway_usage.rollups import DAY_US
from aigateway_usage.tables import budgets, days, key_days, reservations, series, spending

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Table
    from sqlalchemy.dialects import postgresql, sqlite

    from aigateway_usage.rows import Row

_CHUNK: Final = 500
"""Event ids of one statement."""

Place = tuple[str, int]
"""A budget and the start of a period."""
Applying = dict[tuple[str, str], list["Row"]]
"""Budgets by scope and subject."""

_COLUMN: Final[Mapping[str, str]] = {rules.KEY: "key_id", rules.PROJECT: "project", rules.PROVIDER: "provider"}
"""Where an attempt has the subject of a scope."""
_ANY: Final = "SELECT 1 FROM budgets LIMIT 1"
"""What every transaction of the ledger asks, so as plain as can be."""
_BUDGET: Final = tuple(column.name for column in budgets.columns)
_OF_SUBJECTS: Final = Statement.of(
    f"SELECT {', '.join(_BUDGET)} FROM budgets WHERE (scope, subject) IN {PAIRS} ORDER BY id"  # noqa: S608 -- our own names
)
_SETTLED: Final = Statement.of(
    f"DELETE FROM reservations WHERE event_id IN {LIST} RETURNING budget_id, period_start_us, amount_nano"  # noqa: S608 -- as above
)
_ADD: Final = (
    "ON CONFLICT (budget_id, period_start_us) DO UPDATE SET "
    "spent_nano = budget_spending.spent_nano + excluded.spent_nano, "
    "reserved_nano = budget_spending.reserved_nano + excluded.reserved_nano"
)
"""Also for periods that have no row yet."""
_GIVE_BACK: Final = (
    update(spending)
    .where(spending.c.budget_id == bindparam("b"), spending.c.period_start_us == bindparam("p"))
    .values(reserved_nano=spending.c.reserved_nano - bindparam("amount"))
)


def settle(connection: Connection, rows: Sequence[Row]) -> None:
    """Count attempts just inserted in every budget they fall under, and remove what was set aside for them."""
    if connection.exec_driver_sql(_ANY).first() is None:
        return
    found = applying(connection, rows)
    if not found:
        return
    counted: dict[Place, int] = {}
    settled: list[str] = []
    for row in rows:
        budgets_of_row = under(found, row)
        if budgets_of_row:
            settled.append(row["event_id"])
        cost = rules.cost_nano(row["cost_usd"] or 0)
        for budget in budgets_of_row if cost else ():
            place = (budget["id"], rules.period_start(budget["period"], row["started_at_us"]))
            counted[place] = counted.get(place, 0) + cost
    released: dict[Place, int] = {}
    for part in _chunks(settled):
        for budget_id, start_us, amount in _SETTLED.rows(connection, json.dumps(part)):
            released[budget_id, start_us] = released.get((budget_id, start_us), 0) + amount
    places = sorted({*counted, *released})
    if places:
        values = [(*place, counted.get(place, 0), -released.get(place, 0)) for place in places]
        insert_rows(connection, spending, values, _ADD)


def applying(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> Applying:
    """The budgets that calls with these keys, projects and providers fall under."""
    subjects = {(scope, row[name]) for row in rows for scope, name in _COLUMN.items() if row[name]}
    found: Applying = {}
    for values in _OF_SUBJECTS.rows(connection, json.dumps(sorted(subjects))):
        budget = dict(zip(_BUDGET, values, strict=True))
        found.setdefault((budget["scope"], budget["subject"]), []).append(budget)
    return found


def under(found: Applying, row: Mapping[str, Any]) -> list[Row]:
    """Those of them that one call falls under, by id, which begins with the scope."""
    return [budget for scope, name in _COLUMN.items() for budget in found.get((scope, row[name]), ())]


def remove(connection: Connection, which: ColumnElement[bool]) -> Sequence[Row]:
    """Remove reservations; what they were."""
    columns = (reservations.c.budget_id, reservations.c.period_start_us, reservations.c.amount_nano)
    return [dict(row) for row in connection.execute(delete(reservations).where(which).returning(*columns)).mappings()]


def give_back(connection: Connection, removed: Sequence[Row]) -> None:
    """Take removed reservations off what is set aside, unless the budget is gone."""
    amounts = _by_place(removed)
    if amounts:
        # In this order everywhere, or two transactions would wait for each other.
        connection.execute(_GIVE_BACK, [{"b": b, "p": p, "amount": amounts[b, p]} for b, p in sorted(amounts)])


def spent_so_far(connection: Connection, scope: str, subject: str, start_us: int) -> int:
    """What the ledger says that a subject's calls cost since `start_us`, which is the beginning of a day."""
    first = start_us // DAY_US
    if scope == rules.KEY:
        query = select(func.sum(key_days.c.cost_nano)).where(key_days.c.key_id == subject, key_days.c.day >= first)
    else:
        of_subject = select(series.c.id).where(series.c[_COLUMN[scope]] == subject)
        query = select(func.sum(days.c.cost_nano)).where(days.c.day >= first, days.c.series.in_(of_subject))
    return int(connection.scalar(query) or 0)


@cache
def insert_new(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """INSERT into `table` that leaves rows alone that are there already."""
    return _insert(dialect, table).on_conflict_do_nothing()


def _insert(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite  # noqa: PLC0415 -- only the one in use is loaded

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 -- as above

    return postgresql.insert(table)


def _by_place(removed: Sequence[Row]) -> dict[Place, int]:
    amounts: dict[Place, int] = {}
    for row in removed:
        place = (row["budget_id"], row["period_start_us"])
        amounts[place] = amounts.get(place, 0) + row["amount_nano"]
    return amounts


def _chunks(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
