"""Budgets as SQL: setting, listing, removing and overriding them. What calls take from them is `reservations`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aigateway_common.errors import GatewayError, invalid
from aigateway_common.settings import suggestion
from sqlalchemy import and_, case, delete, exists, func, insert, select, update

from aigateway_usage import audit, changes
from aigateway_usage import budgets as rules
from aigateway_usage.spending import spent_so_far
from aigateway_usage.tables import budgets, projects, reservations, spending

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

    from aigateway_usage.audit import Act
    from aigateway_usage.rows import Row


def set_budget(connection: Connection, row: Row, act: Act) -> Row:
    """Make a budget, or change the one of the same id. A new one begins with what its period has cost by the ledger.

    Raises:
        GatewayError: INVALID_REQUEST; there is no such project.
    """
    changes.lock_budgets(connection)
    if row["scope"] == rules.PROJECT:
        check_project(connection, row["subject"], "budget.subject")
    if not connection.execute(update(budgets).where(budgets.c.id == row["id"]).values(row)).rowcount:
        start = rules.period_start(row["period"], act.at_us)
        _insert(connection, row, start, spent_so_far(connection, row["scope"], row["subject"], start), act.at_us)
    changes.budget_changed(connection, row["scope"], row["subject"])
    audit.record(connection, act, row["id"], _told(row))
    return _one(connection, row["id"], act.at_us)


def delete_budget(connection: Connection, budget: str, act: Act) -> None:
    """Remove a budget with all that was counted in it; see `_one`."""
    changes.lock_budgets(connection)
    found = _one(connection, budget, act.at_us)
    connection.execute(delete(reservations).where(reservations.c.budget_id == budget))
    connection.execute(delete(spending).where(spending.c.budget_id == budget))
    connection.execute(delete(budgets).where(budgets.c.id == budget))
    changes.budget_changed(connection, found["scope"], found["subject"])
    audit.record(connection, act, budget, _told(found))


def override_budget(connection: Connection, budget: str, act: Act, *, revert: bool) -> Row:
    """Let calls through until the budget's period ends, or no longer; see `_one`."""
    changes.lock_budgets(connection)
    found = _one(connection, budget, act.at_us)
    until = None if revert else rules.period_end(found["period"], act.at_us) or rules.NEVER_US
    connection.execute(update(budgets).where(budgets.c.id == budget).values(overridden_until_us=until))
    changes.budget_changed(connection, found["scope"], found["subject"])
    audit.record(connection, act, budget, {"overridden_until_us": until, "revert": revert})
    return _one(connection, budget, act.at_us)


def states(connection: Connection, now_us: int, *where: ColumnElement[bool]) -> list[Row]:
    """Budgets by id, with what is spent and set aside in the period around `now_us`."""
    periods = {word: rules.period_start(word, now_us) for word in rules.PERIOD_OF}
    current = and_(
        spending.c.budget_id == budgets.c.id,
        spending.c.period_start_us == case(periods, value=budgets.c.period),
    )
    columns = [func.coalesce(spending.c[name], 0).label(name) for name in ("spent_nano", "reserved_nano")]
    query = select(budgets, *columns).select_from(budgets.outerjoin(spending, current))
    return [dict(row) for row in connection.execute(query.where(*where).order_by(budgets.c.id)).mappings()]


def copy_to_key(connection: Connection, old: str, new: str, now_us: int) -> None:
    """Give a key the budgets of another, with what is spent: who rotates a key has no more money for it."""
    for found in states(connection, now_us, budgets.c.scope == rules.KEY, budgets.c.subject == old):
        row: Row = {name: found[name] for name in budgets.c.keys()}  # noqa: SIM118 -- columns, not a dict
        row |= {"id": rules.budget_id(rules.KEY, new, found["period"]), "subject": new}
        _insert(connection, row, rules.period_start(found["period"], now_us), found["spent_nano"], now_us)


def check_project(connection: Connection, project: str, field: str) -> None:
    """Refuse a project that there is not.

    Raises:
        GatewayError: INVALID_REQUEST that names the field.
    """
    if not connection.scalar(select(exists().where(projects.c.id == project))):
        near = suggestion(project, connection.scalars(select(projects.c.id)))
        raise invalid(field, f"`{field}`: there is no project `{project}`{near}")


def _insert(connection: Connection, row: Row, start_us: int, spent: int, now_us: int) -> None:
    connection.execute(insert(budgets), {"overridden_until_us": None, **row, "created_at_us": now_us})
    begun: dict[str, Any] = {"budget_id": row["id"], "period_start_us": start_us}
    connection.execute(insert(spending), begun | {"spent_nano": spent, "reserved_nano": 0})


def _told(row: Row) -> Row:
    """What the audit says of a budget."""
    names = ("scope", "subject", "period", "allow_unpriced")
    return {**{name: row[name] for name in names}, "limit_usd": rules.to_usd(row["limit_nano"])}


def _one(connection: Connection, budget: str, now_us: int) -> Row:
    """A budget by its id.

    Raises:
        GatewayError: NOT_FOUND.
    """
    found = states(connection, now_us, budgets.c.id == budget)
    if not found:
        near = suggestion(budget, connection.scalars(select(budgets.c.id)))
        raise GatewayError("NOT_FOUND", f"there is no budget `{budget}`{near}", details={"param": "id"})
    return found[0]
