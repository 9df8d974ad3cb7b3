"""Sums of attempts: whole days and hours by what `rollups` keeps, what is left over by the attempts themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from aigateway.v1 import usage_service_pb2
from aigateway_common.errors import invalid
from sqlalchemy import BigInteger, ColumnElement, and_, case, cast, func, literal_column, or_, select, union_all

from aigateway_usage import queries, spans
from aigateway_usage.rollups import DAY_US, MOST
from aigateway_usage.tables import INPUT_CLASSES, OUTPUT_CLASSES, TOKEN_CLASSES, attempts, days, hours, series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, FromClause, Label, Select, Table

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = "day"
_Key = usage_service_pb2.SummaryKey
_KEYS: Final[dict[int, str]] = {
    _Key.SUMMARY_KEY_MODEL: "sent_model",
    _Key.SUMMARY_KEY_PROVIDER: "provider",
    _Key.SUMMARY_KEY_PROJECT: "project",
    _Key.SUMMARY_KEY_STATUS: "status",
    _Key.SUMMARY_KEY_DAY: _DAY,
}
_MAX_INT64: Final = 2**63 - 1
_STATUSES: Final = {"errors": "error", "cancelled": "cancelled", "answered": "ok"}
_ADDED: Final = ("attempts", "unpriced", "input_tokens", "output_tokens", "duration_us", "cost_usd")
_SUMS: Final = ("attempts", *_STATUSES, *_ADDED[1:])
"""What a row of a part holds beside its keys; its duration is that of answered attempts."""


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
    """What to add up: each answers rows of the columns `by` and of `_SUMS`.

    Raises:
        GatewayError: INVALID_REQUEST that names a field of the filter.
    """
    if selection.request_id:
        return [_of_attempts(queries.conditions(selection), by)]
    of_series, of_attempts = queries.of_kind(selection, series), queries.of_kind(selection, attempts)
    from_us = selection.from_us if selection.HasField("from_us") else None
    until_us = selection.until_us if selection.HasField("until_us") else None
    parts = spans.parts(from_us, until_us)
    started = attempts.c.started_at_us
    return [
        *(_of_rollups(days, _within(days.c.day, each), of_series, by) for each in parts.days),
        *(_of_rollups(hours, _within(hours.c.hour, each), of_series, by) for each in parts.hours),
        *(_of_attempts([_within(started, each), *of_attempts], by) for each in parts.rest),
    ]


def summary(connection: Connection, parts: Sequence[Select[Any]], by: Sequence[str]) -> list[tuple[Any, ...]]:
    """One row per combination of the columns' values, most attempts first; one row in all without columns.

    A row is `_SUMS`, then the values; `to_row` makes it what callers get.
    """
    if not parts:
        return [] if by else [(0,) * len(_SUMS)]
    every = union_all(*parts).subquery()
    columns = [every.c[name] for name in by]
    sums: list[ColumnElement[Any]] = [
        every.c[name] if len(parts) == 1 else func.sum(every.c[name]).label(name) for name in _SUMS
    ]
    if connection.dialect.name == "postgresql":
        sums = [each if each.name == "cost_usd" else _whole_number(each) for each in sums]
    query = select(*sums, *columns).order_by(sums[0].desc(), *columns)
    if len(parts) > 1:
        query = query.group_by(*columns)
    return [tuple(row) for row in connection.execute(query)]


def to_row(row: tuple[Any, ...], by: Sequence[str]) -> usage_service_pb2.SummaryRow:
    """What callers get."""
    attempts_, errors, cancelled, answered, unpriced, tokens_in, tokens_out, duration, usd, *named = row
    return usage_service_pb2.SummaryRow(
        keys=[_day(value) if name == _DAY else value or "" for name, value in zip(by, named, strict=True)],
        attempts=_whole(attempts_),
        errors=_whole(errors),
        cancelled=_whole(cancelled),
        input_tokens=_whole(tokens_in),
        output_tokens=_whole(tokens_out),
        cost_usd=usd or 0.0,
        unpriced=_whole(unpriced),
        mean_duration_us=_mean(int(duration), int(answered)) if answered else 0,
    )


def _of_rollups(
    table: Table, within: ColumnElement[bool], of_series: Sequence[ColumnElement[bool]], by: Sequence[str]
) -> Select[Any]:
    """By days, the sums are grouped by what their series stand for; else by series first, which are but numbers."""
    where = [within, table.c.series.in_(select(series.c.id).where(*of_series))] if of_series else [within]
    found: FromClause = table
    if _DAY not in by:
        added = (func.sum(table.c[name]).label(name) for name in _ADDED)
        found = select(table.c.series, *added).where(*where).group_by(table.c.series).subquery()
        where = []
    day = table.c.day if table is days else table.c.hour // literal_column("24", BigInteger)
    columns = [day.label(_DAY) if name == _DAY else series.c[name] for name in by]
    query = _grouped(columns, series.c.status, {name: found.c[name] for name in _ADDED})
    return query.select_from(found.join(series, series.c.id == found.c.series)).where(*where)


def _of_attempts(where: Sequence[ColumnElement[bool]], by: Sequence[str]) -> Select[Any]:
    c = attempts.c
    day = (c.started_at_us // literal_column(str(DAY_US), BigInteger)).label(_DAY)
    values: dict[str, ColumnElement[Any]] = {
        "attempts": literal_column("1", BigInteger),
        "unpriced": case((_unpriced(), 1), else_=0),
        "input_tokens": _total(INPUT_CLASSES),
        "output_tokens": _total(OUTPUT_CLASSES),
        "duration_us": _limited(c.duration_us),
        "cost_usd": c.cost_usd,
    }
    return _grouped([day if name == _DAY else c[name] for name in by], c.status, values).where(*where)


def _grouped(
    columns: Sequence[ColumnElement[Any]], status: ColumnElement[str], values: dict[str, ColumnElement[Any]]
) -> Select[Any]:
    sums: dict[str, ColumnElement[Any]] = {name: values[name] for name in _ADDED}
    sums |= {name: case((status == word, values["attempts"]), else_=0) for name, word in _STATUSES.items()}
    sums["duration_us"] = case((status == _STATUSES["answered"], values["duration_us"]), else_=0)
    return select(*columns, *(func.sum(sums[name]).label(name) for name in _SUMS)).group_by(*columns)


def _whole_number(value: ColumnElement[Any]) -> Label[int]:
    """PostgreSQL's sums are decimals, each of which takes as long to read as the rest of its row."""
    return cast(func.least(func.coalesce(value, 0), _MAX_INT64), BigInteger).label(value.name)


def _within(column: ColumnElement[int], stretch: spans.Stretch) -> ColumnElement[bool]:
    return and_(column >= stretch.first, column < stretch.end)


def _whole(value: Any) -> int:
    """A sum: None of nothing, a double of what no whole number of SQLite holds."""
    if type(value) is int:
        return value
    return min(int(value), _MAX_INT64) if value else 0


def _mean(total: int, count: int) -> int:
    """To the nearest, of two the even one, as `round` does; a `Fraction` takes as long as the rest of the row."""
    whole, rest = divmod(total, count)
    return whole + (2 * rest > count or (2 * rest == count and whole % 2))


@lru_cache(maxsize=4096)
def _day(value: int) -> str:
    return (_EPOCH + timedelta(days=value)).date().isoformat()


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
