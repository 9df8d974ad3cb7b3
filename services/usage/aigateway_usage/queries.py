"""The questions that the ledger answers, as SQL; knows nothing of gRPC calls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from aigateway.v1 import usage_service_pb2
from aigateway_common.errors import invalid
from sqlalchemy import BigInteger, ColumnElement, and_, case, func, literal_column, or_, select

from aigateway_usage.paging import Position
from aigateway_usage.rows import STATUSES
from aigateway_usage.tables import INPUT_CLASSES, OUTPUT_CLASSES, TOKEN_CLASSES, attempts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, RowMapping

MAX_VALUES: Final = 1000
"""Values of one filter field."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_Key = usage_service_pb2.SummaryKey
_day = attempts.c.started_at_us // literal_column("86400000000", BigInteger)
"""Days since the Unix epoch. The divisor is written out: PostgreSQL sees two parameters as two different groups."""

_KEYS: Final[dict[int, ColumnElement[Any]]] = {
    _Key.SUMMARY_KEY_MODEL: attempts.c.sent_model,
    _Key.SUMMARY_KEY_PROVIDER: attempts.c.provider,
    _Key.SUMMARY_KEY_PROJECT: attempts.c.project,
    _Key.SUMMARY_KEY_STATUS: attempts.c.status,
    _Key.SUMMARY_KEY_DAY: _day,
}


def conditions(selection: usage_service_pb2.AttemptFilter) -> list[ColumnElement[bool]]:
    """The WHERE of a filter.

    Raises:
        GatewayError: INVALID_REQUEST that names the field.
    """
    for name in ("models", "providers", "projects", "statuses"):
        if len(getattr(selection, name)) > MAX_VALUES:
            raise invalid(f"filter.{name}", f"`filter.{name}` holds more than {MAX_VALUES} values")
    c, result = attempts.c, list[ColumnElement[bool]]()
    if selection.HasField("from_us"):
        result.append(c.started_at_us >= selection.from_us)
    if selection.HasField("until_us"):
        result.append(c.started_at_us < selection.until_us)
    if models := list(selection.models):
        result.append(or_(c.sent_model.in_(models), c.answered_model.in_(models), c.requested_model.in_(models)))
    if selection.providers:
        result.append(c.provider.in_(list(selection.providers)))
    if selection.projects:
        result.append(c.project.in_(list(selection.projects)))
    if selection.statuses:
        result.append(c.status.in_([_status(value, at) for at, value in enumerate(selection.statuses)]))
    if selection.request_id:
        result.append(c.request_id == selection.request_id)
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


def grouping(keys: Sequence[usage_service_pb2.SummaryKey.ValueType]) -> list[ColumnElement[Any]]:
    """The columns to sum up by.

    Raises:
        GatewayError: INVALID_REQUEST that names the key.
    """
    for at, key in enumerate(keys):
        if key not in _KEYS:
            raise invalid(f"group_by[{at}]", f"`group_by[{at}]` is not a key to sum up by")
        if key in keys[:at]:
            raise invalid(f"group_by[{at}]", f"`group_by[{at}]` is given twice")
    return [_KEYS[key] for key in keys]


def summary(
    connection: Connection, where: Sequence[ColumnElement[bool]], columns: Sequence[ColumnElement[Any]]
) -> list[usage_service_pb2.SummaryRow]:
    """One row per combination of the columns' values, most attempts first; one row in all without columns."""
    c = attempts.c
    count = func.count().label("attempts")
    query = (
        select(
            *columns,
            count,
            func.sum(_one_when(c.status == "error")),
            func.sum(_one_when(c.status == "cancelled")),
            func.sum(_total(INPUT_CLASSES)),
            func.sum(_total(OUTPUT_CLASSES)),
            func.sum(c.cost_usd),
            func.sum(_one_when(_unpriced())),
            func.avg(case((c.status == "ok", c.duration_us))),
        )
        .where(*where)
        .group_by(*columns)
        .order_by(count.desc(), *columns)
    )
    return [_summary_row(tuple(row), columns) for row in connection.execute(query)]


def _summary_row(row: tuple[Any, ...], columns: Sequence[ColumnElement[Any]]) -> usage_service_pb2.SummaryRow:
    keys, sums = row[: len(columns)], row[len(columns) :]
    total, errors, cancelled, tokens_in, tokens_out, usd, unpriced, duration = sums
    return usage_service_pb2.SummaryRow(
        keys=[_key(value, column) for value, column in zip(keys, columns, strict=True)],
        attempts=total,
        errors=int(errors or 0),
        cancelled=int(cancelled or 0),
        input_tokens=int(tokens_in or 0),
        output_tokens=int(tokens_out or 0),
        cost_usd=float(usd or 0),
        unpriced=int(unpriced or 0),
        mean_duration_us=round(duration or 0),
    )


def _key(value: Any, column: ColumnElement[Any]) -> str:
    if column is _day:
        return (_EPOCH + timedelta(days=value)).date().isoformat()
    return value or ""


def _total(classes: Sequence[str]) -> ColumnElement[int]:
    first, *more = [func.coalesce(attempts.c[name], 0) for name in classes]
    return sum(more, first)


def _unpriced() -> ColumnElement[bool]:
    """Tokens were or may have been used, and nobody knows what they cost; the same as `pricing.is_unpriced`."""
    c = attempts.c
    used = func.coalesce(*(c[name] for name in TOKEN_CLASSES)).is_not(None)
    return and_(c.cost_usd.is_(None), or_(c.status != "error", used))


def _one_when(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)


def _status(value: int, at: int) -> str:
    if value not in STATUSES:
        raise invalid(f"filter.statuses[{at}]", f"`filter.statuses[{at}]` is not a status")
    return STATUSES[value]
