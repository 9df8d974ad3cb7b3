"""Alerts as SQL: opening and ending them, each with what webhooks are told of it, in one transaction.

Several usage services may see the same thing at once. One alert is open of each kind and subject, by an index of the
database; whoever comes second changes nothing, and tells nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from aigateway_common.ids import made_at_us, new_id
from sqlalchemy import and_, bindparam, case, delete, desc, func, insert, literal, select, update

from aigateway_usage.alerts import payload
from aigateway_usage.spending import insert_new
from aigateway_usage.tables import alerts, webhook_deliveries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from aigateway_usage.alerts.signs import Key, Sign
    from aigateway_usage.rows import Row

MAX_KEPT: Final = 10_000
"""Alerts of which the newest are kept once they are over."""

OPENED: Final = "opened"
WORSE: Final = "worse"
RESOLVED: Final = "resolved"

_OPEN: Final = alerts.c.resolved_at_us.is_(None)
_SEEN: Final = (
    update(alerts)
    .where(
        _OPEN,
        alerts.c.kind == bindparam("k"),
        alerts.c.subject == bindparam("s"),
        alerts.c.seen_at_us < bindparam("seen"),
    )
    .values(seen_at_us=bindparam("seen"))
)


@dataclass(frozen=True, slots=True)
class Change:
    """What became of an alert."""

    event: str
    alert: Row


def apply(connection: Connection, signs: Sequence[Sign], urls: Sequence[str], now_us: int) -> list[Change]:
    """Open and end alerts by `signs`, and queue a delivery of each change for each of `urls`; what has changed."""
    changes: list[Change] = []
    # In this order everywhere, or two services would wait for each other; of one alert it stays what it was.
    for sign in sorted(signs, key=lambda each: each.key):
        change = _open(connection, sign, now_us) if sign.wrong else _resolve(connection, sign)
        if change is not None:
            changes.append(change)
    if changes and urls:
        _queue(connection, changes, urls, now_us)
    return changes


def _queue(connection: Connection, changes: Sequence[Change], urls: Sequence[str], now_us: int) -> None:
    """Queue a delivery of each change for each of `urls`; those of an alert sort as they happened, by their ids."""
    known = {change.alert["id"] for change in changes if change.event != OPENED}
    last = connection.scalar(select(func.max(webhook_deliveries.c.id)).where(webhook_deliveries.c.alert_id.in_(known)))
    start_us = max(now_us, made_at_us(last) + 1000) if last else now_us
    deliveries = [
        {
            "id": new_id((start_us + number) * 1000),
            "alert_id": change.alert["id"],
            "event": change.event,
            "url": url,
            "body": payload.body(change.alert),
            "next_try_us": now_us,
            "tries": 0,
        }
        for number, (change, url) in enumerate(product(changes, urls))
    ]
    connection.execute(insert(webhook_deliveries), deliveries)


def _open(connection: Connection, sign: Sign, now_us: int) -> Change | None:
    row: Row = {
        "id": new_id(now_us * 1000),
        "kind": sign.kind,
        "subject": sign.subject,
        "message": sign.message,
        "level": sign.level,
        "opened_at_us": min(sign.at_us, now_us),
        "seen_at_us": now_us,
        "resolved_at_us": None,
    }
    new = insert_new(connection.dialect.name, alerts).values(row).returning(alerts.c.id)
    if connection.execute(new).first() is not None:
        return Change(OPENED, row)
    change = update(alerts).where(_OPEN, alerts.c.kind == sign.kind, alerts.c.subject == sign.subject)
    change = change.values(level=sign.level, message=sign.message, seen_at_us=now_us)
    risen = connection.execute(change.where(alerts.c.level < sign.level).returning(alerts)).mappings().first()
    if risen is not None:
        return Change(WORSE, dict(risen))
    connection.execute(change.where(alerts.c.level > sign.level))
    return None


def _resolve(connection: Connection, sign: Sign) -> Change | None:
    at = literal(sign.at_us, alerts.c.opened_at_us.type)
    end = case((alerts.c.opened_at_us > at, alerts.c.opened_at_us), else_=at)
    change = update(alerts).where(_OPEN, alerts.c.kind == sign.kind, alerts.c.subject == sign.subject)
    ended = connection.execute(change.values(resolved_at_us=end).returning(alerts)).mappings().first()
    return None if ended is None else Change(RESOLVED, dict(ended))


def move_seen(connection: Connection, seen: Mapping[Key, int]) -> None:
    """Note when open alerts were last seen."""
    if seen:
        connection.execute(_SEEN, [{"k": key[0], "s": key[1], "seen": seen[key]} for key in sorted(seen)])


def listed(connection: Connection, *, open_only: bool, limit: int) -> list[Row]:
    """Alerts, newest first."""
    query = select(alerts).order_by(desc(alerts.c.opened_at_us), desc(alerts.c.id)).limit(limit)
    return [dict(row) for row in connection.execute(query.where(_OPEN) if open_only else query).mappings()]


def prune(connection: Connection) -> None:
    """Forget the oldest of the alerts that are over."""
    newest: Any = select(alerts.c.opened_at_us).order_by(desc(alerts.c.opened_at_us), desc(alerts.c.id))
    last = newest.offset(MAX_KEPT - 1).limit(1).scalar_subquery()
    connection.execute(delete(alerts).where(and_(alerts.c.resolved_at_us.is_not(None), alerts.c.opened_at_us < last)))
