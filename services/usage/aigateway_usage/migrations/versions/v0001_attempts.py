"""The ledger: attempts, and the `requests` view."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0001"
down_revision: Final = None

_INPUT: Final = (
    "input_uncached",
    "input_cache_read",
    "input_cache_write_5m",
    "input_cache_write_1h",
    "tool_use_prompt",
)
_OUTPUT: Final = ("output_text", "output_reasoning")
_SPLITS: Final = ("input_audio", "input_image", "output_audio", "output_image", "input_cache_read_audio")


def upgrade() -> None:
    """From nothing."""
    op.create_table(
        "attempts",
        sa.Column("event_id", sa.String(64), primary_key=True),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text),
        sa.Column("operation", sa.String(16), nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("requested_model", sa.Text),
        sa.Column("sent_model", sa.Text),
        sa.Column("answered_model", sa.Text),
        sa.Column("started_at_us", sa.BigInteger, nullable=False),
        sa.Column("duration_us", sa.BigInteger, nullable=False),
        sa.Column("first_event_us", sa.BigInteger),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("error_reason", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("upstream_status", sa.Integer),
        sa.Column("finish_reason", sa.Text),
        *(sa.Column(name, sa.BigInteger) for name in (*_INPUT, *_OUTPUT, *_SPLITS)),
        sa.Column("usage_estimated", sa.Boolean, nullable=False),
        sa.Column("native_usage", sa.Text),
        sa.Column("trace_id", sa.String(32)),
        sa.Column("cost_usd", sa.Double),
        sa.Column("price_source", sa.Text),
    )
    op.create_index("ix_attempts_started", "attempts", ["started_at_us", "event_id"])
    op.create_index("ix_attempts_request", "attempts", ["request_id"])
    op.create_index("ix_attempts_project", "attempts", ["project", "started_at_us"])
    op.execute(_view(op.get_context().dialect.name))


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
  trace_id
FROM attempts
"""  # noqa: S608 -- the parts are constants of this file


def _sum(columns: tuple[str, ...]) -> str:
    """The sum of what is known; NULL when nothing is."""
    known = " + ".join(f"coalesce({column}, 0)" for column in columns)
    return f"CASE WHEN coalesce({', '.join(columns)}) IS NOT NULL THEN {known} END"
