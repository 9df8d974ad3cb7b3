"""Money set aside for calls under way, so that no budget is overshot however many run at once.

A reservation is a conditional update of each budget's row, all or none in one transaction; nothing is decided by what
was read before. It ends when its attempt is recorded (`spending.settle`), when it is released, or when it expires.
Several that all fit are one update of each row; whether one fits that does not fit with the others is for it alone to
ask. Which are asked together is not decided here (see `holds`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aigateway_common.errors import GatewayError, invalid
from sqlalchemy import exists, select, tuple_

from aigateway_usage import budget_queries, database, spending
from aigateway_usage import budgets as rules
from aigateway_usage.bulk import insert_rows
from aigateway_usage.plain import Statement
from aigateway_usage.tables import budgets, reservations
from aigateway_usage.tables import spending as periods

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from aigateway_usage.rows import Row
    from aigateway_usage.spending import Place

RETRY_WITHIN: Final = 3600.0
"""Seconds: a budget that begins anew within them is worth waiting for."""
_SWEPT: Final = 1000
"""Reservations of one sweep."""
_NO_LIMIT: Final = 2**62
_TAKE: Final = Statement.of(
    "UPDATE budget_spending SET reserved_nano = reserved_nano + ? "
    "WHERE budget_id = ? AND period_start_us = ? AND spent_nano + reserved_nano <= ? "
    "RETURNING spent_nano, reserved_nano"
)
_NEW: Final = "ON CONFLICT DO NOTHING"


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


@dataclass(frozen=True, slots=True)
class Apart:
    """Nothing was set aside: each of `which` has to be asked for alone, the others may be asked for again."""

    which: frozenset[int]
    full: Row | None
    """The budget that does not hold them all; None when one of them is a repetition."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    asked: Asked
    budgets: list[Row]
    places: list[Place]

    @property
    def holds(self) -> bool:
        """Whether there is something to set aside."""
        return bool(self.asked.amount_nano and self.budgets)


def reserve(connection: Connection, asked: Asked, now_us: int) -> Reserved | GatewayError:
    """Set money aside in every budget that applies, or in none: then the answer is the error to raise.

    The error is answered, not raised, so that the writer keeps its connection: a budget that is spent refuses many.
    """
    answer = reserve_all(connection, [asked], now_us)
    if not isinstance(answer, Apart):
        return answer[0]
    if answer.full is None:
        return _repeated(connection, asked, now_us)
    if sweep(connection, now_us):
        connection.commit()
        return reserve(connection, asked, now_us)
    connection.rollback()
    (state,) = _states(connection, [answer.full["id"]], now_us)
    return _exceeded(state, asked, now_us)


def reserve_all(connection: Connection, group: Sequence[Asked], now_us: int) -> list[Reserved | GatewayError] | Apart:
    """Set money aside for a group, as if one had asked after the other, or for none of it."""
    database.begin(connection)
    found = spending.applying(
        connection, [{"key_id": each.key_id, "project": each.project, "provider": each.provider} for each in group]
    )
    wanted = [_wanted(found, asked, now_us) for asked in group]
    holding = [each for each in wanted if each.holds]
    if not _note(connection, holding):
        connection.rollback()
        return Apart(frozenset(range(len(group))), None)
    taken, full = _take(connection, holding, now_us)
    if full is not None:
        connection.rollback()
        crowd = (at for at, each in enumerate(wanted) if each.holds and full in each.budgets)
        return Apart(frozenset(crowd), full)
    return [
        Reserved(each.asked.amount_nano or 0, [taken[place] for place in each.places])
        if each.holds
        else _without(connection, each, now_us)
        for each in wanted
    ]


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


def _wanted(found: spending.Applying, asked: Asked, now_us: int) -> _Wanted:
    applying = spending.under(found, {"key_id": asked.key_id, "project": asked.project, "provider": asked.provider})
    return _Wanted(asked, applying, [(each["id"], rules.period_start(each["period"], now_us)) for each in applying])


def _note(connection: Connection, holding: Iterable[_Wanted]) -> bool:
    """Write reservations down; False when there is one already for the event of one of them."""
    rows = [
        (each.asked.event_id, budget_id, start_us, each.asked.amount_nano, each.asked.content, each.asked.expires_at_us)
        for each in holding
        for budget_id, start_us in each.places
    ]
    # In this order everywhere, or two services that are asked for the same events would wait for each other.
    return not rows or insert_rows(connection, reservations, sorted(rows), _NEW) == len(rows)


def _take(connection: Connection, holding: Iterable[_Wanted], now_us: int) -> tuple[dict[Place, Row], Row | None]:
    """Set the amounts aside in each budget, always in the order of their ids; the first that is full ends it.

    Limits cannot change meanwhile (see `changes.lock_budgets`); what is spent and set aside can, and is read only by
    the update itself.
    """
    amounts: dict[Place, int] = {}
    of_place: dict[Place, Row] = {}
    for each in holding:
        for budget, place in zip(each.budgets, each.places, strict=True):
            amounts[place] = amounts.get(place, 0) + (each.asked.amount_nano or 0)
            of_place[place] = budget
    taken: dict[Place, Row] = {}
    for place in sorted(amounts):
        budget, amount = of_place[place], amounts[place]
        overridden = (budget["overridden_until_us"] or 0) > now_us
        values = (amount, *place, _NO_LIMIT if overridden else budget["limit_nano"] - amount)
        states = _TAKE.rows(connection, *values)
        if not states:
            insert_rows(connection, periods, [(*place, 0, 0)], _NEW)
            states = _TAKE.rows(connection, *values)
        if not states:
            return taken, budget
        ((spent, reserved),) = states
        taken[place] = {**budget, "spent_nano": spent, "reserved_nano": reserved}
    return taken, None


def _without(connection: Connection, wanted: _Wanted, now_us: int) -> Reserved | GatewayError:
    """The answer to a call that takes nothing: it costs nothing, its price is unknown, or no budget is concerned."""
    refusal = _unpriced(wanted.asked, wanted.budgets) if wanted.asked.amount_nano is None else None
    return refusal or Reserved(0, _states(connection, [budget["id"] for budget in wanted.budgets], now_us))


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
