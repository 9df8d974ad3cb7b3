"""Which attempts a filter means, and pages of them, as SQL; knows nothing of gRPC calls. Sums are `summaries`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aigateway_common.errors import invalid
from sqlalchemy import ColumnElement, or_, select

from aigateway_usage.paging import Position
from aigateway_usage.rows import STATUSES
from aigateway_usage.tables import attempts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aigateway.v1 import usage_service_pb2
    from sqlalchemy import Connection, RowMapping, Table

MAX_VALUES: Final = 1000
"""Values of one filter field."""


def conditions(selection: usage_service_pb2.AttemptFilter) -> list[ColumnElement[bool]]:
    """The WHERE of a filter.

    Raises:
        GatewayError: INVALID_REQUEST that names the field.
    """
    c, result = attempts.c, of_kind(selection, attempts)
    if selection.HasField("from_us"):
        result.append(c.started_at_us >= selection.from_us)
    if selection.HasField("until_us"):
        result.append(c.started_at_us < selection.until_us)
    if selection.request_id:
        result.append(c.request_id == selection.request_id)
    return result


def of_kind(selection: usage_service_pb2.AttemptFilter, table: Table) -> list[ColumnElement[bool]]:
    """The part of `conditions` that says nothing of when and which call, on a table that has what attempts have."""
    for name in ("models", "providers", "projects", "statuses"):
        if len(getattr(selection, name)) > MAX_VALUES:
            raise invalid(f"filter.{name}", f"`filter.{name}` holds more than {MAX_VALUES} values")
    c, result = table.c, list[ColumnElement[bool]]()
    if models := list(selection.models):
        result.append(or_(c.sent_model.in_(models), c.answered_model.in_(models), c.requested_model.in_(models)))
    if selection.providers:
        result.append(c.provider.in_(list(selection.providers)))
    if selection.projects:
        result.append(c.project.in_(list(selection.projects)))
    if selection.statuses:
        result.append(c.status.in_([_status(value, at) for at, value in enumerate(selection.statuses)]))
    return result


def page(
    connection: Connection, where: Sequence[ColumnElement[bool]], after: Position | None, size: int
) -> tuple[Sequence[RowMapping], Position | None]:
    """Up to `size` rows, newest first, and the position to go on from when there are more."""
    c = attempts.c
    query = select(attempts).where(*where).order_by(c.started_at_us.desc(), c.event_id.desc()).limit(size + 1)
    if after is not None:
        query = query.where(
            c.started_at_us <= after.started_at_us,  # what the index can seek to
            or_(c.started_at_us < after.started_at_us, c.event_id < after.event_id),
        )
    rows = connection.execute(query).mappings().all()
    last = Position(rows[size - 1]["started_at_us"], rows[size - 1]["event_id"]) if len(rows) > size else None
    return rows[:size], last


def _status(value: int, at: int) -> str:
    if value not in STATUSES:
        raise invalid(f"filter.statuses[{at}]", f"`filter.statuses[{at}]` is not a status")
    return STATUSES[value]
