"""Sums of attempts: whole days and hours by what `rollups` keeps, what is left over by the attempts themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from aigateway.v1 import usage_service_pb2
from aigateway_common.errors import invalid
from sqlalchemy import BigInteger, ColumnElement, and_, case, func, literal, literal_column, or_, select, union_all

from aigateway_usage import queries, spans
from aigateway_usage.rollups import DAY_US, MOST
from aigateway_usage.tables import INPUT_CLASSES, OUTPUT_CLASSES, TOKEN_CLASSES, attempts, days, hours, series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Select, Table

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = "day"
_STATUS: Final = "status"
_Key = usage_service_pb2.SummaryKey
_KEYS: Final[dict[int, str]] = {
    _Key.SUMMARY_KEY_MODEL: "sent_model",
    _Key.SUMMARY_KEY_PROVIDER: "provider",
    _Key.SUMMARY_KEY_PROJECT: "project",
    _Key.SUMMARY_KEY_STATUS: _STATUS,
    _Key.SUMMARY_KEY_DAY: _DAY,
}
_MAX_INT64: Final = 2**63 - 1
_SUMS: Final = ("attempts", "unpriced", "input_tokens", "output_tokens", "duration_us", "cost_usd")


def grouping(keys: Sequence[usage_service_pb2.SummaryKey.ValueType]) -> list[str]:
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


def selects(selection: usage_service_pb2.AttemptFilter, by: Sequence[str]) -> list[Select[Any]]:
    """What to add up: each answers rows of the columns `by`, the status and sums.

    Raises:
        GatewayError: INVALID_REQUEST that names a field of the filter.
    """
    where = queries.conditions(selection)
    if selection.request_id:
        return [_of_attempts(where, by)]
    of_series = queries.of_kind(selection, series)
    from_us = selection.from_us if selection.HasField("from_us") else None
    until_us = selection.until_us if selection.HasField("until_us") else None
    parts = spans.parts(from_us, until_us)
    started = attempts.c.started_at_us
    return [
        *(_of_rollups(days, days.c.day, each, of_series, by) for each in parts.days),
        *(_of_rollups(hours, hours.c.hour, each, of_series, by) for each in parts.hours),
        *(_of_attempts([*where, started >= each.first, started < each.end], by) for each in parts.rest),
    ]


def summary(
    connection: Connection, parts: Sequence[Select[Any]], by: Sequence[str]
) -> list[usage_service_pb2.SummaryRow]:
    """One row per combination of the columns' values, most attempts first; one row in all without columns."""
    if not parts:
        return [] if by else [usage_service_pb2.SummaryRow()]
    every = union_all(*parts).subquery()
    count = func.sum(every.c.attempts).label("total")
    columns = [every.c[name] for name in by]
    query = (
        select(
            *columns,
            count,
            *(_when(every.c.attempts, every.c.status == status) for status in ("error", "cancelled", "ok")),
            *(func.sum(every.c[name]) for name in ("input_tokens", "output_tokens", "cost_usd", "unpriced")),
            _when(every.c.duration_us, every.c.status == "ok"),
        )
        .group_by(*columns)
        .order_by(count.desc(), *columns)
    )
    return [_summary_row(tuple(row), by) for row in connection.execute(query)]


def _of_rollups(
    table: Table,
    at: ColumnElement[int],
    stretch: spans.Stretch,
    where: Sequence[ColumnElement[bool]],
    by: Sequence[str],
) -> Select[Any]:
    """Sums of a series first, which is a number, then what the series stands for."""
    day = (table.c.day if table is days else table.c.hour // literal_column("24", BigInteger)).label(_DAY)
    inner_by = [table.c.series, *([day] if _DAY in by else [])]
    inner = select(*inner_by, *(func.sum(table.c[name]).label(name) for name in _SUMS))
    inner = inner.where(at >= stretch.first, at < stretch.end)
    if where:
        inner = inner.where(table.c.series.in_(select(series.c.id).where(*where)))
    found = inner.group_by(*inner_by).subquery()
    columns = [found.c.day if name == _DAY else series.c[name] for name in _columns(by)]
    return select(*columns, *(found.c[name] for name in _SUMS)).join_from(found, series, series.c.id == found.c.series)


def _of_attempts(where: Sequence[ColumnElement[bool]], by: Sequence[str]) -> Select[Any]:
    c = attempts.c
    day = (c.started_at_us // literal_column(str(DAY_US), BigInteger)).label(_DAY)
    columns = [day if name == _DAY else c[name] for name in _columns(by)]
    sums = {
        "attempts": literal(1, BigInteger),
        "unpriced": case((_unpriced(), 1), else_=0),
        "input_tokens": _total(INPUT_CLASSES),
        "output_tokens": _total(OUTPUT_CLASSES),
        "duration_us": _limited(c.duration_us),
        "cost_usd": func.coalesce(c.cost_usd, 0.0),
    }
    return select(*columns, *(sums[name].label(name) for name in _SUMS)).where(*where)


def _columns(by: Sequence[str]) -> list[str]:
    return [*by, *([] if _STATUS in by else [_STATUS])]


def _summary_row(row: tuple[Any, ...], by: Sequence[str]) -> usage_service_pb2.SummaryRow:
    keys, sums = row[: len(by)], row[len(by) :]
    usd = float(sums[6] or 0)
    total, errors, cancelled, answered, tokens_in, tokens_out, _, unpriced, duration = (
        min(int(each or 0), _MAX_INT64) for each in sums
    )
    return usage_service_pb2.SummaryRow(
        keys=[_key(value, name) for value, name in zip(keys, by, strict=True)],
        attempts=total,
        errors=errors,
        cancelled=cancelled,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        cost_usd=usd,
        unpriced=unpriced,
        mean_duration_us=round(Fraction(duration, answered)) if answered else 0,
    )


def _key(value: Any, name: str) -> str:
    if name == _DAY:
        return (_EPOCH + timedelta(days=value)).date().isoformat()
    return value or ""


def _total(classes: Sequence[str]) -> ColumnElement[int]:
    first, *more = [_limited(func.coalesce(attempts.c[name], 0)) for name in classes]
    return _limited(sum(more, first))


def _limited(value: ColumnElement[int]) -> ColumnElement[int]:
    """As the roll-ups count it, so that no sum overflows."""
    return case((value > MOST, MOST), else_=value)


def _unpriced() -> ColumnElement[bool]:
    """Tokens were or may have been used, and nobody knows what they cost; the same as `pricing.is_unpriced`."""
    c = attempts.c
    used = func.coalesce(*(c[name] for name in TOKEN_CLASSES)).is_not(None)
    return and_(c.cost_usd.is_(None), or_(c.status != "error", used))


def _when(counted: ColumnElement[int], condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, counted), else_=0))
