"""Sums of attempts by hour and by day, also of those that are there already; on PostgreSQL, partitions by month."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from alembic import op

if TYPE_CHECKING:
    from collections.abc import Iterator

revision: Final = "0003"
down_revision: Final = "0002"

_MOST: Final = 10**17
_DIMENSIONS: Final = ("project", "provider", "status", "requested_model", "sent_model", "answered_model")
_NEVER_NULL: Final = 3
"""So many of the first are always there."""
_INPUT: Final = (
    "input_uncached",
    "input_cache_read",
    "input_cache_write_5m",
    "input_cache_write_1h",
    "tool_use_prompt",
)
_OUTPUT: Final = ("output_text", "output_reasoning")
_LIMITED: Final = ("input_tokens", "output_tokens", "cost_nano", "duration_us")
_INDEXES: Final = {
    "started": "started_at_us, event_id",
    "request": "request_id",
    "project": "project, started_at_us",
}
_DAY_US: Final = 86_400_000_000
_LAST_US: Final = 2**63 - 1
_WITHIN: Final = "started_at_us BETWEEN :first AND :last"
_ROWS: Final = 1000
"""Rows of one statement."""


def upgrade() -> None:
    """From a ledger that adds its attempts up anew for every question."""
    _create()
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        _partition(connection)
    fill(connection)


def _partition(connection: sa.Connection) -> None:
    """Make the table one partition of a new one, without copying it.

    A service of the release before cannot write any more, and must not: it would leave the sums as they are. (Its
    conflicts are those of `event_id`, which is no longer unique by itself.)
    """
    connection.exec_driver_sql("LOCK TABLE attempts IN ACCESS EXCLUSIVE MODE")
    view = connection.exec_driver_sql("SELECT pg_get_viewdef('requests'::regclass)").scalar_one()
    is_empty = connection.exec_driver_sql("SELECT 1 FROM attempts LIMIT 1").first() is None
    end, name = _next_month()
    # By clocks that are wrong.
    ahead = f"DELETE FROM {name} WHERE started_at_us >= {end} RETURNING *"  # noqa: S608 -- a name and a number of our own
    for statement in (
        "DROP VIEW requests",
        f"ALTER TABLE attempts RENAME TO {name}",
        f"ALTER TABLE {name} DROP CONSTRAINT attempts_pkey",
        f"ALTER TABLE {name} ADD PRIMARY KEY (event_id, started_at_us)",
        *(f"ALTER INDEX ix_attempts_{index} RENAME TO {name}_{index}" for index in _INDEXES),
        f"CREATE TABLE attempts (LIKE {name} INCLUDING DEFAULTS) PARTITION BY RANGE (started_at_us)",
        "ALTER TABLE attempts ADD PRIMARY KEY (event_id, started_at_us)",
        *(f"CREATE INDEX ix_attempts_{index} ON attempts ({columns})" for index, columns in _INDEXES.items()),
        "CREATE TABLE attempts_default PARTITION OF attempts DEFAULT",
        f"WITH moved AS ({ahead}) INSERT INTO attempts_default SELECT * FROM moved",  # noqa: S608 -- as above
        f"DROP TABLE {name}"
        if is_empty
        else f"ALTER TABLE attempts ATTACH PARTITION {name} FOR VALUES FROM (MINVALUE) TO ({end})",
        f"CREATE VIEW requests AS {view}",
    ):
        connection.exec_driver_sql(statement)


def _next_month() -> tuple[int, str]:
    """When the next month begins, and the name of the partition of all before."""
    begin = (datetime.now(UTC).replace(day=1) + timedelta(days=32)).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    return int(begin.timestamp()) * 1_000_000, f"attempts_before_{begin:%Y_%m}"


def fill(connection: sa.Connection) -> None:
    """Sum up all attempts; the tables of sums are empty.

    Day by day, since what is sorted then fits the memory.
    """
    name, known, at_us = connection.dialect.name, set[tuple[Any, ...]](), -1
    hours, next_after = _fill_hours(name), "SELECT min(started_at_us) FROM attempts WHERE started_at_us > :at"
    while (first := connection.execute(sa.text(next_after), {"at": at_us}).scalar()) is not None:
        day = first // _DAY_US
        at_us = min((day + 1) * _DAY_US - 1, _LAST_US)
        within = {"first": day * _DAY_US, "last": at_us}
        _fill_series(connection, within, known)
        connection.execute(sa.text(hours), within)
    connection.exec_driver_sql(_fill_days(name))
    connection.exec_driver_sql(_fill_keys(name))


def _create() -> None:
    op.create_table(
        "attempt_series",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("digest", sa.String(32), nullable=False),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        *(sa.Column(name, sa.Text) for name in _DIMENSIONS[3:]),
        sa.UniqueConstraint("digest", name="uq_attempt_series_digest"),
    )
    for table, unit in (("attempt_hours", "hour"), ("attempt_days", "day")):
        whole = ("attempts", "unpriced", *_LIMITED)
        op.create_table(
            table,
            sa.Column(unit, sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("series", sa.BigInteger, primary_key=True, autoincrement=False),
            *(sa.Column(name, sa.BigInteger, nullable=False) for name in whole),
            sa.Column("cost_usd", sa.Double, nullable=False),
            sqlite_with_rowid=False,
        )
    op.create_table(
        "attempt_key_days",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("day", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("cost_nano", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def _fill_series(connection: sa.Connection, within: dict[str, int], known: set[tuple[Any, ...]]) -> None:
    names = ", ".join(_DIMENSIONS)
    table = sa.table("attempt_series", *(sa.column(name) for name in ("digest", *_DIMENSIONS)))
    query = f"SELECT DISTINCT {names} FROM attempts WHERE {_WITHIN}"  # noqa: S608 -- constants of this file
    new = [row for row in connection.execute(sa.text(query), within) if tuple(row) not in known]
    known.update(map(tuple, new))
    for rows in _chunks(iter(new)):
        connection.execute(sa.insert(table), [{"digest": _digest(row), **row._asdict()} for row in rows])


def _digest(row: sa.Row[Any]) -> str:
    """The same as `rollups.digest`."""
    return hashlib.sha256(json.dumps(tuple(row)).encode()).hexdigest()[:32]


def _chunks(rows: Iterator[sa.Row[Any]]) -> Iterator[list[sa.Row[Any]]]:
    while chunk := list(islice(rows, _ROWS)):
        yield chunk


def _fill_hours(dialect: str) -> str:
    same = "IS" if dialect == "sqlite" else "IS NOT DISTINCT FROM"
    used = f"coalesce({', '.join((*_INPUT, *_OUTPUT))}) IS NOT NULL"
    sums = {
        "attempts": "count(*)",
        "unpriced": f"sum(CASE WHEN cost_usd IS NULL AND (status <> 'error' OR {used}) THEN 1 ELSE 0 END)",
        "input_tokens": _limited(_sum(_INPUT, dialect), dialect),
        "output_tokens": _limited(_sum(_OUTPUT, dialect), dialect),
        "cost_nano": _limited(_cost_nano(), dialect),
        "duration_us": _limited("duration_us", dialect),
        "cost_usd": "coalesce(sum(cost_usd), 0)",
    }
    names = ", ".join(_DIMENSIONS)
    inner = ", ".join(f"{value} AS {name}" for name, value in sums.items())
    join = " AND ".join(f"s.{name} {'=' if at < _NEVER_NULL else same} a.{name}" for at, name in enumerate(_DIMENSIONS))
    outer = ", ".join(_least(f"a.{name}", dialect) if name in _LIMITED else f"a.{name}" for name in sums)
    return f"""
INSERT INTO attempt_hours (hour, series, {", ".join(sums)})
SELECT a.hour, s.id, {outer}
FROM (SELECT started_at_us / 3600000000 AS hour, {names}, {inner} FROM attempts WHERE {_WITHIN} GROUP BY 1, {names}) a
JOIN attempt_series s ON {join}
"""  # noqa: S608 -- the parts are constants of this file


def _fill_days(dialect: str) -> str:
    sums = ("attempts", "unpriced", *_LIMITED, "cost_usd")
    added = ", ".join(_least(f"sum({name})", dialect) if name in _LIMITED else f"sum({name})" for name in sums)
    return f"""
INSERT INTO attempt_days (day, series, {", ".join(sums)})
SELECT hour / 24, series, {added} FROM attempt_hours GROUP BY 1, 2
"""  # noqa: S608 -- as above


def _fill_keys(dialect: str) -> str:
    return f"""
INSERT INTO attempt_key_days (key_id, day, cost_nano)
SELECT key_id, day, {_least("cost_nano", dialect)} FROM (
  SELECT key_id, started_at_us / 86400000000 AS day, {_limited(_cost_nano(), dialect)} AS cost_nano
  FROM attempts WHERE key_id IS NOT NULL AND cost_usd > 0 GROUP BY 1, 2
) a WHERE cost_nano > 0
"""  # noqa: S608 -- as above


def _sum(columns: tuple[str, ...], dialect: str) -> str:
    return " + ".join(_least(f"coalesce({column}, 0)", dialect) for column in columns)


def _limited(value: str, dialect: str) -> str:
    """The sum of a value of which none counts more than the most."""
    return f"sum({_least(value, dialect)})"


def _least(value: str, dialect: str) -> str:
    return f"{'min' if dialect == 'sqlite' else 'least'}({value}, {_MOST})"


def _cost_nano() -> str:
    """`budgets.cost_nano`. Casts cut off in SQLite and round in PostgreSQL; this rounds up in both."""
    exact = "(coalesce(cost_usd, 0) * 1000000000.0 - 0.001)"
    whole = f"CAST({exact} AS bigint)"
    rounded = f"({whole} + CASE WHEN {exact} > {whole} THEN 1 ELSE 0 END)"
    most = 1_000_000 * 1_000_000_000
    return f"CASE WHEN {exact} > {float(most)} THEN {most} WHEN {exact} <= 0 THEN 0 ELSE {rounded} END"
