"""The ledger's schema, as the code knows it; `migrations/` brings a database there, and a test compares the two.

Only types that SQLite and PostgreSQL share. Enumerations are words, so that SQL users can read them; absent is NULL,
never zero or an empty string. Money is whole nano-dollars (`…_nano`), so that sums are exact; only the cost of an
attempt is a double. Times are microseconds since 1970. The `requests` view for SQL users is made by the migrations
alone.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    false,
)

metadata: Final = MetaData()

TOKEN_CLASSES: Final = (
    "input_uncached",
    "input_cache_read",
    "input_cache_write_5m",
    "input_cache_write_1h",
    "tool_use_prompt",
    "output_text",
    "output_reasoning",
)
"""The disjoint classes: fields of `TokenUsage` and columns alike; the first five are the prompt."""
INPUT_CLASSES: Final = TOKEN_CLASSES[:5]
OUTPUT_CLASSES: Final = TOKEN_CLASSES[5:]
TOKEN_SPLITS: Final = ("input_audio", "input_image", "output_audio", "output_image", "input_cache_read_audio")
"""Parts of the classes, not added again."""

attempts: Final = Table(
    "attempts",
    metadata,
    Column("event_id", String(64), primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("project", Text, nullable=False),
    Column("key_id", Text),
    Column("operation", String(16), nullable=False),
    Column("provider", Text, nullable=False),
    Column("requested_model", Text),
    Column("sent_model", Text),
    Column("answered_model", Text),
    Column("started_at_us", BigInteger, nullable=False),
    Column("duration_us", BigInteger, nullable=False),
    Column("first_event_us", BigInteger),
    Column("status", String(16), nullable=False),
    Column("error_reason", Text),
    Column("error_message", Text),
    Column("upstream_status", Integer),
    Column("finish_reason", Text),
    *(Column(name, BigInteger) for name in (*TOKEN_CLASSES, *TOKEN_SPLITS)),
    Column("usage_estimated", Boolean, nullable=False),
    Column("native_usage", Text),
    Column("trace_id", String(32)),
    Column("cost_usd", Double),
    Column("price_source", Text),
    Column("fallback_from", Text),
    Column("hedge", Boolean, nullable=False, server_default=false()),
    Index("ix_attempts_started", "started_at_us", "event_id"),
    Index("ix_attempts_request", "request_id"),
    Index("ix_attempts_project", "project", "started_at_us"),
)
"""One row per attempt at a provider. `cost_usd` is the double nearest to the exact decimal cost: 15 digits, so that the
0.00000002 dollars of one embedding token survive, which whole micro-dollars would round away."""


series: Final = Table(
    "attempt_series",
    metadata,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("digest", String(32), nullable=False),
    Column("project", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("requested_model", Text),
    Column("sent_model", Text),
    Column("answered_model", Text),
    UniqueConstraint("digest", name="uq_attempt_series_digest"),
)
"""The combinations of what attempts are summed up by; `digest` is of all six, since an index holds no long names."""


def _sums() -> tuple[Column[Any], ...]:
    """`input_tokens`, `output_tokens`, `cost_nano` and `duration_us` stop at `rollups.MOST`."""
    whole = (
        "attempts",
        "unpriced",
        "input_tokens",
        "output_tokens",
        "cost_nano",
        "duration_us",
    )
    return (*(Column(name, BigInteger, nullable=False) for name in whole), Column("cost_usd", Double, nullable=False))


hours: Final = Table(
    "attempt_hours",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("series", BigInteger, primary_key=True, autoincrement=False),
    *_sums(),
    sqlite_with_rowid=False,
)
"""Sums of attempts by the hour they began in, in hours since 1970, and their series."""

days: Final = Table(
    "attempt_days",
    metadata,
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    Column("series", BigInteger, primary_key=True, autoincrement=False),
    *_sums(),
    sqlite_with_rowid=False,
)
"""The same by days since 1970, UTC."""

key_days: Final = Table(
    "attempt_key_days",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    Column("cost_nano", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""What the calls of a key cost by day; a day that cost nothing has no row."""


def _rights() -> tuple[Column[Any], ...]:
    """What a key or a project may use, the same in both; `allowed_models` is a JSON array, empty for all."""
    return (
        Column("requests_per_minute", BigInteger),
        Column("tokens_per_minute", BigInteger),
        Column("concurrent_calls", Integer),
        Column("allowed_models", Text, nullable=False),
        Column("default_model", Text),
        Column("default_max_output_tokens", BigInteger),
    )


projects: Final = Table(
    "projects",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("name", Text, nullable=False),
    *_rights(),
    Column("created_at_us", BigInteger, nullable=False),
    Column("disabled", Boolean, nullable=False),
)
"""What keys and budgets belong to; `default` is always there."""

keys: Final = Table(
    "keys",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("project", String(63), nullable=False),
    Column("name", Text, nullable=False),
    Column("prefix", String(10), nullable=False),
    *_rights(),
    Column("created_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger),
    Column("revoked_at_us", BigInteger),
    UniqueConstraint("sha256", name="uq_keys_sha256"),
    Index("ix_keys_project", "project"),
)
"""Keys by the hexadecimal digest of their secret; the secret itself is nowhere. Revoked ones stay."""

budgets: Final = Table(
    "budgets",
    metadata,
    Column("id", Text, primary_key=True),
    Column("scope", String(8), nullable=False),
    Column("subject", Text, nullable=False),
    Column("period", String(8), nullable=False),
    Column("limit_nano", BigInteger, nullable=False),
    Column("allow_unpriced", Boolean, nullable=False),
    Column("overridden_until_us", BigInteger),
    Column("created_at_us", BigInteger, nullable=False),
    Index("ix_budgets_subject", "scope", "subject"),
)
"""One row per scope, subject and period, which its id is made of: `project:search:month`."""

spending: Final = Table(
    "budget_spending",
    metadata,
    Column("budget_id", Text, primary_key=True),
    Column("period_start_us", BigInteger, primary_key=True),
    Column("spent_nano", BigInteger, nullable=False),
    Column("reserved_nano", BigInteger, nullable=False),
)
"""What a budget's calls cost in one period, and what is set aside for those under way. A period without calls has no
row; past periods stay."""

reservations: Final = Table(
    "reservations",
    metadata,
    Column("event_id", String(64), primary_key=True),
    Column("budget_id", Text, primary_key=True),
    Column("period_start_us", BigInteger, nullable=False),
    Column("amount_nano", BigInteger, nullable=False),
    Column("content", String(64), nullable=False),
    Column("expires_at_us", BigInteger, nullable=False),
    Index("ix_reservations_expires", "expires_at_us"),
    Index("ix_reservations_budget", "budget_id"),
)
"""Money set aside for one attempt in one budget, until the attempt is recorded; `content` is the digest of what was
asked for, so that a repetition is known."""

account_changes: Final = Table(
    "account_changes",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("key_id", String(12)),
    Column("cut", Boolean, nullable=False),
    Column("forget_all", Boolean, nullable=False),
)
"""What routers must ask anew, in the order of commits; the last ones only, but always the newest."""

audit_events: Final = Table(
    "audit_events",
    metadata,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail_json", Text, nullable=False),
    Column("request_id", Text),
)
"""Who changed what of the tables above; written with the change itself."""

alerts: Final = Table(
    "alerts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("level", Integer, nullable=False),
    Column("opened_at_us", BigInteger, nullable=False),
    Column("seen_at_us", BigInteger, nullable=False),
    Column("resolved_at_us", BigInteger),
    Index("ix_alerts_opened", "opened_at_us", "id"),
)
"""What needs a person's attention, and what did; `level` says how much, where there are degrees. Of each
kind and subject one is open."""
_open: Final = alerts.c.resolved_at_us.is_(None)
Index("uq_alerts_open", alerts.c.kind, alerts.c.subject, unique=True, sqlite_where=_open, postgresql_where=_open)

webhook_deliveries: Final = Table(
    "webhook_deliveries",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("alert_id", String(64), nullable=False),
    Column("event", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("next_try_us", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("delivered_at_us", BigInteger),
    Column("abandoned_at_us", BigInteger),
    Index("ix_webhook_deliveries_alert", "alert_id"),
)
"""Alerts to tell a webhook; due are those neither delivered nor given up."""
_due: Final = and_(webhook_deliveries.c.delivered_at_us.is_(None), webhook_deliveries.c.abandoned_at_us.is_(None))
Index("ix_webhook_deliveries_due", webhook_deliveries.c.next_try_us, sqlite_where=_due, postgresql_where=_due)
