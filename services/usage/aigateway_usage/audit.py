"""The record of administrative acts, each written in the transaction of the act itself; never a secret in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aigateway.v1 import account_pb2
from sqlalchemy import insert, select

from aigateway_usage.tables import audit_events

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from aigateway_usage.rows import Row

_UNTOLD: Final = frozenset({"sha256"})
"""Columns that are no one's business."""
_MAX_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class Act:
    """Who does what, and when."""

    actor: str
    action: str
    """The name of the rpc."""
    request_id: str
    at_us: int

    @classmethod
    def of(cls, action: str, metadata: Mapping[str, str], at_us: int) -> Act:
        """The act that a call with that metadata is."""
        return cls(_text(metadata.get("x-actor", "")) or "cli", action, _text(metadata.get("x-request-id", "")), at_us)


def record(connection: Connection, act: Act, subject: str, set_: Row) -> None:
    """Write down that `act` set `set_` of `subject`; what is None was not set."""
    detail: Row = {name: value for name, value in set_.items() if value is not None and name not in _UNTOLD}
    if "allowed_models" in detail:
        detail["allowed_models"] = json.loads(detail["allowed_models"])
    values = {
        "at_us": act.at_us,
        "actor": act.actor,
        "action": act.action,
        "subject": subject,
        "detail_json": json.dumps(detail, ensure_ascii=False),
        "request_id": act.request_id or None,
    }
    connection.execute(insert(audit_events), values)


def page(connection: Connection, before_id: int, size: int) -> list[Row]:
    """Up to `size` acts, newest first, those before `before_id` unless it is 0."""
    query = select(audit_events).order_by(audit_events.c.id.desc()).limit(size)
    if before_id:
        query = query.where(audit_events.c.id < before_id)
    return [dict(row) for row in connection.execute(query).mappings()]


def to_event(row: Row) -> account_pb2.AuditEvent:
    """The act that a row holds."""
    return account_pb2.AuditEvent(**{**row, "request_id": row["request_id"] or ""})


def _text(value: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in value[:_MAX_TEXT])
