"""What budgets' calls cost: counted in the ledger's own transactions, and summed up for a budget that is new.

Reading a list of budgets holds off whoever changes budgets until the transaction ends (`changes.lock_budgets`), so an
attempt is counted by a new budget's sum or by its own transaction, never by both or neither.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, bindparam, delete, func, or_, select, update

from aigateway_usage import budgets as rules
from aigateway_usage.rollups import DAY_US
from aigateway_usage.tables import budgets, days, key_days, reservations, series, spending

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Table
    from sqlalchemy.dialects import postgresql, sqlite

    from aigateway_usage.rows import Row

_CHUNK: Final = 500
"""Event ids of one statement."""
_MAX_SUBJECTS: Final = 500
"""Subjects looked for by name; for more, all budgets are read."""

Place = tuple[str, int]
"""A budget and the start of a period."""

_COLUMN: Final[Mapping[str, str]] = {rules.KEY: "key_id", rules.PROJECT: "project", rules.PROVIDER: "provider"}
"""Where an attempt has the subject of a scope."""
_ANY: Final = "SELECT 1 FROM budgets LIMIT 1"
"""What every transaction of the ledger asks, so as plain as can be."""
_ALL: Final = select(budgets).order_by(budgets.c.id)
_OF_SUBJECTS: Final = _ALL.where(
    or_(*(and_(budgets.c.scope == scope, budgets.c.subject.in_(bindparam(scope, expanding=True))) for scope in _COLUMN))
)
_GIVE_BACK: Final = (
    update(spending)
    .where(spending.c.budget_id == bindparam("b"), spending.c.period_start_us == bindparam("p"))
    .values(reserved_nano=spending.c.reserved_nano - bindparam("amount"))
)


def settle(connection: Connection, rows: Sequence[Row]) -> None:
    """Count attempts just inserted in every budget they fall under, and remove what was set aside for them."""
    if connection.exec_driver_sql(_ANY).first() is None:
        return
    found: dict[tuple[str, str], list[Row]] = {}
    for budget in applying(connection, rows):
        found.setdefault((budget["scope"], budget["subject"]), []).append(budget)
    counted: dict[Place, int] = {}
    settled: list[str] = []
    for row in rows:
        under = [budget for scope, name in _COLUMN.items() for budget in found.get((scope, row[name]), ())]
        if under:
            settled.append(row["event_id"])
        cost = rules.cost_nano(row["cost_usd"] or 0)
        for budget in under if cost else ():
            place = (budget["id"], rules.period_start(budget["period"], row["started_at_us"]))
            counted[place] = counted.get(place, 0) + cost
    released = [remove(connection, reservations.c.event_id.in_(part)) for part in _chunks(settled)]
    _count(connection, counted, [each for some in released for each in some])


def applying(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> Sequence[Row]:
    """The budgets that calls with these keys, projects and providers fall under, by id."""
    subjects = {scope: {row[name] for row in rows if row[name]} for scope, name in _COLUMN.items()}
    if sum(map(len, subjects.values())) > _MAX_SUBJECTS:
        found = connection.execute(_ALL)
    else:
        found = connection.execute(_OF_SUBJECTS, {scope: sorted(names) for scope, names in subjects.items()})
    return [dict(row) for row in found.mappings()]


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


def _count(connection: Connection, counted: Mapping[Place, int], removed: Sequence[Row]) -> None:
    released = _by_place(removed)
    places = sorted({*counted, *released})
    if places:
        values = [
            {
                "budget_id": b,
                "period_start_us": p,
                "spent_nano": counted.get((b, p), 0),
                "reserved_nano": -released.get((b, p), 0),
            }
            for b, p in places
        ]
        connection.execute(_add(connection.dialect.name), values)


@cache
def insert_new(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """INSERT into `table` that leaves rows alone that are there already."""
    return _insert(dialect, table).on_conflict_do_nothing()


@cache
def _add(dialect: str) -> sqlite.Insert | postgresql.Insert:
    """Add to what is spent and set aside, in periods that have no row yet too."""
    statement = _insert(dialect, spending)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["budget_id", "period_start_us"],
        set_={
            "spent_nano": spending.c.spent_nano + new.spent_nano,
            "reserved_nano": spending.c.reserved_nano + new.reserved_nano,
        },
    )


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
