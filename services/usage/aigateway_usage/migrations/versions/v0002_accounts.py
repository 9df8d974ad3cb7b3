"""Accounts: projects, keys, budgets and their audit; alerts; what an attempt stood in for."""

from __future__ import annotations

import time
from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"

_INPUT: Final = (
    "input_uncached",
    "input_cache_read",
    "input_cache_write_5m",
    "input_cache_write_1h",
    "tool_use_prompt",
)
_OUTPUT: Final = ("output_text", "output_reasoning")


def upgrade() -> None:
    """From a ledger of attempts alone."""
    op.add_column("attempts", sa.Column("fallback_from", sa.Text))
    op.add_column("attempts", sa.Column("hedge", sa.Boolean, nullable=False, server_default=sa.false()))
    op.execute("DROP VIEW requests")
    op.execute(_view(op.get_context().dialect.name))
    _create_accounts()
    _create_budgets()
    _create_records()
    _create_alerts()


def _create_accounts() -> None:
    projects = op.create_table(
        "projects",
        sa.Column("id", sa.String(63), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        *_rights(),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("project", sa.String(63), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("prefix", sa.String(10), nullable=False),
        *_rights(),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("expires_at_us", sa.BigInteger),
        sa.Column("revoked_at_us", sa.BigInteger),
        sa.UniqueConstraint("sha256", name="uq_keys_sha256"),
    )
    op.create_index("ix_keys_project", "keys", ["project"])
    # What callers without a key of this service belong to.
    default = {
        "id": "default",
        "name": "Default",
        "allowed_models": "[]",
        "created_at_us": time.time_ns() // 1000,
        "disabled": False,
    }
    op.bulk_insert(projects, [default])


def _rights() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("requests_per_minute", sa.BigInteger),
        sa.Column("tokens_per_minute", sa.BigInteger),
        sa.Column("concurrent_calls", sa.Integer),
        sa.Column("allowed_models", sa.Text, nullable=False),
        sa.Column("default_model", sa.Text),
        sa.Column("default_max_output_tokens", sa.BigInteger),
    )


def _create_budgets() -> None:
    op.create_table(
        "budgets",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("scope", sa.String(8), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("period", sa.String(8), nullable=False),
        sa.Column("limit_nano", sa.BigInteger, nullable=False),
        sa.Column("allow_unpriced", sa.Boolean, nullable=False),
        sa.Column("overridden_until_us", sa.BigInteger),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_budgets_subject", "budgets", ["scope", "subject"])
    op.create_table(
        "budget_spending",
        sa.Column("budget_id", sa.Text, primary_key=True),
        sa.Column("period_start_us", sa.BigInteger, primary_key=True),
        sa.Column("spent_nano", sa.BigInteger, nullable=False),
        sa.Column("reserved_nano", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "reservations",
        sa.Column("event_id", sa.String(64), primary_key=True),
        sa.Column("budget_id", sa.Text, primary_key=True),
        sa.Column("period_start_us", sa.BigInteger, nullable=False),
        sa.Column("amount_nano", sa.BigInteger, nullable=False),
        sa.Column("content", sa.String(64), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_reservations_expires", "reservations", ["expires_at_us"])
    op.create_index("ix_reservations_budget", "reservations", ["budget_id"])


def _create_records() -> None:
    changes = op.create_table(
        "account_changes",
        sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("key_id", sa.String(12)),
        sa.Column("cut", sa.Boolean, nullable=False),
        sa.Column("forget_all", sa.Boolean, nullable=False),
    )
    op.bulk_insert(changes, [{"revision": 1, "cut": False, "forget_all": True}])
    op.create_table(
        "audit_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail_json", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text),
    )


def _create_alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("opened_at_us", sa.BigInteger, nullable=False),
        sa.Column("seen_at_us", sa.BigInteger, nullable=False),
        sa.Column("resolved_at_us", sa.BigInteger),
    )
    op.create_index("ix_alerts_opened", "alerts", ["opened_at_us", "id"])
    _create_partial_index("ix_alerts_open", "alerts", ["kind", "subject"], "resolved_at_us IS NULL")
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("alert_id", sa.String(64), nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("next_try_us", sa.BigInteger, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("delivered_at_us", sa.BigInteger),
        sa.Column("abandoned_at_us", sa.BigInteger),
    )
    due = "delivered_at_us IS NULL AND abandoned_at_us IS NULL"
    _create_partial_index("ix_webhook_deliveries_due", "webhook_deliveries", ["next_try_us"], due)


def _create_partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)


def _view(dialect: str) -> str:
    """The view; dates are the one thing that SQLite and PostgreSQL write differently."""
    started_at = (
        "strftime('%Y-%m-%dT%H:%M:%fZ', started_at_us / 1000000.0, 'unixepoch')"
        if dialect == "sqlite"
        else "to_timestamp(started_at_us / 1000000.0)"
    )
    return f"""
CREATE VIEW requests AS SELECT
  event_id AS id,
  request_id,
  attempt,
  {started_at} AS started_at,
  project,
  key_id,
  operation,
  provider,
  sent_model AS model,
  requested_model,
  answered_model,
  {_sum(_INPUT)} AS prompt_tokens,
  {_sum(_OUTPUT)} AS completion_tokens,
  {_sum((*_INPUT, *_OUTPUT))} AS total_tokens,
  input_cache_read AS cached_tokens,
  output_reasoning AS reasoning_tokens,
  usage_estimated AS estimated,
  cost_usd,
  duration_us / 1000.0 AS latency_ms,
  first_event_us / 1000.0 AS first_event_ms,
  status = 'ok' AS success,
  status,
  CASE WHEN status = 'ok' THEN NULL ELSE coalesce(error_message, error_reason, status) END AS error,
  error_reason,
  upstream_status,
  finish_reason,
  trace_id,
  fallback_from,
  hedge
FROM attempts
"""  # noqa: S608 -- the parts are constants of this file


def _sum(columns: tuple[str, ...]) -> str:
    """The sum of what is known; NULL when nothing is."""
    known = " + ".join(f"coalesce({column}, 0)" for column in columns)
    return f"CASE WHEN coalesce({', '.join(columns)}) IS NOT NULL THEN {known} END"
