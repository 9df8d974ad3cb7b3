"""Money set aside for calls under way, so that no budget is overshot however many run at once.

A reservation is a conditional update of each budget's row, all or none in one transaction; nothing is decided by what
was read before. It ends when its attempt is recorded (`spending.settle`), when it is released, or when it expires.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from aigateway_common.errors import GatewayError, invalid
from sqlalchemy import bindparam, exists, select, tuple_, update

from aigateway_usage import budget_queries, database, spending
from aigateway_usage import budgets as rules
from aigateway_usage.tables import budgets, reservations
from aigateway_usage.tables import spending as periods

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection
    from sqlalchemy.sql.dml import ReturningInsert

    from aigateway_usage.rows import Row

RETRY_WITHIN: Final = 3600.0
"""Seconds: a budget that begins anew within them is worth waiting for."""
_SWEPT: Final = 1000
"""Reservations of one sweep."""
_NO_LIMIT: Final = 2**62
_TAKE: Final = (
    update(periods)
    .where(
        periods.c.budget_id == bindparam("b"),
        periods.c.period_start_us == bindparam("p"),
        periods.c.spent_nano + periods.c.reserved_nano <= bindparam("room"),
    )
    .values(reserved_nano=periods.c.reserved_nano + bindparam("amount"))
    .returning(periods.c.spent_nano, periods.c.reserved_nano)
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a reservation is for."""

    event_id: str
    key_id: str
    project: str
    provider: str
    model: str
    amount_nano: int | None
    """None when the price is unknown."""
    expires_at_us: int
    content: str
    """A digest of the whole request, which a repetition has in common."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """What was set aside, and the budgets as they are now."""

    amount_nano: int
    budgets: Sequence[Row]


def reserve(connection: Connection, asked: Asked, now_us: int) -> Reserved | GatewayError:
    """Set money aside in every budget that applies, or in none: then the answer is the error to raise.

    The error is answered, not raised, so that the writer keeps its connection: a budget that is spent refuses many.
    """
    database.begin(connection)
    applying = spending.applying(
        connection, [{"key_id": asked.key_id, "project": asked.project, "provider": asked.provider}]
    )
    ids = [budget["id"] for budget in applying]
    if not asked.amount_nano:
        refusal = _unpriced(asked, applying) if asked.amount_nano is None else None
        return refusal or Reserved(0, _states(connection, ids, now_us))
    if not ids:
        return Reserved(0, ())
    if not _note(connection, asked, applying, now_us):
        connection.rollback()
        return _repeated(connection, asked, now_us)
    taken, full = _take(connection, asked.amount_nano, applying, now_us)
    if full is None:
        return Reserved(asked.amount_nano, taken)
    connection.rollback()
    if sweep(connection, now_us):
        connection.commit()
        return reserve(connection, asked, now_us)
    connection.rollback()
    (state,) = _states(connection, [full["id"]], now_us)
    return _exceeded(state, asked, now_us)


def release(connection: Connection, event_id: str) -> None:
    """Give back what was set aside for an attempt, if anything was."""
    spending.give_back(connection, spending.remove(connection, reservations.c.event_id == event_id))


def has_expired(connection: Connection, now_us: int) -> bool:
    """Whether there is something to sweep."""
    return bool(connection.scalar(select(exists().where(reservations.c.expires_at_us <= now_us))))


def sweep(connection: Connection, now_us: int) -> int:
    """Give expired reservations back; how many there were. Those that another transaction is at are left to it."""
    c = reservations.c
    expired = (
        select(c.event_id, c.budget_id)
        .where(c.expires_at_us <= now_us)
        .order_by(c.expires_at_us)
        .limit(_SWEPT)
        .with_for_update(skip_locked=True)
    )
    removed = spending.remove(connection, tuple_(c.event_id, c.budget_id).in_(expired))
    spending.give_back(connection, removed)
    return len(removed)


def _note(connection: Connection, asked: Asked, applying: Sequence[Row], now_us: int) -> bool:
    """Write the reservation down; False when there is one for this event already."""
    rows = [
        {
            "event_id": asked.event_id,
            "budget_id": budget["id"],
            "period_start_us": rules.period_start(budget["period"], now_us),
            "amount_nano": asked.amount_nano,
            "content": asked.content,
            "expires_at_us": asked.expires_at_us,
        }
        for budget in applying
    ]
    return len(connection.scalars(_insert(connection.dialect.name), rows).all()) == len(rows)


@cache
def _insert(dialect: str) -> ReturningInsert[str]:
    """INSERT of reservations that are new; the ids of their budgets."""
    return spending.insert_new(dialect, reservations).returning(reservations.c.budget_id)


def _take(connection: Connection, amount: int, applying: Sequence[Row], now_us: int) -> tuple[list[Row], Row | None]:
    """Set the amount aside in each budget, always in the order of their ids; the first where it does not fit ends it.

    Limits cannot change meanwhile (see `changes.lock_budgets`); what is spent and set aside can, and is read only by
    the update itself.
    """
    taken: list[Row] = []
    for budget in applying:
        overridden = (budget["overridden_until_us"] or 0) > now_us
        place = {"b": budget["id"], "p": rules.period_start(budget["period"], now_us)}
        values = {**place, "amount": amount, "room": _NO_LIMIT if overridden else budget["limit_nano"] - amount}
        state = connection.execute(_TAKE, values).mappings().one_or_none()
        if state is None:
            empty = {"budget_id": place["b"], "period_start_us": place["p"], "spent_nano": 0, "reserved_nano": 0}
            connection.execute(spending.insert_new(connection.dialect.name, periods), empty)
            state = connection.execute(_TAKE, values).mappings().one_or_none()
        if state is None:
            return taken, budget
        taken.append({**budget, **state})
    return taken, None


def _repeated(connection: Connection, asked: Asked, now_us: int) -> Reserved | GatewayError:
    known = connection.execute(select(reservations).where(reservations.c.event_id == asked.event_id)).mappings().all()
    if not known:
        return GatewayError("UNAVAILABLE", "the reservation ended just now; try again", retry_after=1)
    if any(row["content"] != asked.content for row in known):
        return invalid(
            "event_id", "`event_id` has a reservation with another content; every attempt has an id of its own"
        )
    return Reserved(known[0]["amount_nano"], _states(connection, [row["budget_id"] for row in known], now_us))


def _states(connection: Connection, ids: Sequence[str], now_us: int) -> Sequence[Row]:
    return budget_queries.states(connection, now_us, budgets.c.id.in_(ids)) if ids else ()


def _unpriced(asked: Asked, applying: Sequence[Row]) -> GatewayError | None:
    name = f"{asked.provider}/{asked.model}"
    for budget in applying:
        if not budget["allow_unpriced"]:
            return GatewayError(
                "PERMISSION_DENIED",
                f"the budget `{budget['id']}` takes no calls whose price is unknown, as that of `{name}` is; "
                f"set `prices.{name}` in the configuration, or `allow_unpriced` of the budget",
                details={"budget": budget["id"], "model": name},
            )
    return None


def _exceeded(budget: Row, asked: Asked, now_us: int) -> GatewayError:
    limit, spent, reserved, amount = (
        rules.dollars(nano)
        for nano in (budget["limit_nano"], budget["spent_nano"], budget["reserved_nano"], asked.amount_nano or 0)
    )
    details = {"budget": budget["id"], "limit": limit, "spent": spent, "reserved": reserved}
    message = (
        f"the budget `{budget['id']}` does not hold this call: of {limit} US dollars {spent} are spent and {reserved} "
        f"set aside for calls under way, and the call may cost {amount}"
    )
    retry_after = None
    resets_at_us = rules.period_end(budget["period"], now_us)
    if resets_at_us is not None:
        details["resets_at"] = rules.iso(resets_at_us)
        message += f"; it begins anew at {details['resets_at']}"
        left = (resets_at_us - now_us) / 1e6
        retry_after = left if left <= RETRY_WITHIN else None
    return GatewayError("BUDGET_EXCEEDED", message, details=details, retry_after=retry_after)
