"""The ledger's schema, as the code knows it; `migrations/` brings a database there, and a test compares the two.

Only types that SQLite and PostgreSQL share. Enumerations are words, so that SQL users can read them; absent is NULL,
never zero or an empty string. The `requests` view for SQL users is made by the migrations alone.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, MetaData, String, Table, Text

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
    Index("ix_attempts_started", "started_at_us", "event_id"),
    Index("ix_attempts_request", "request_id"),
    Index("ix_attempts_project", "project", "started_at_us"),
)
"""One row per attempt at a provider. `cost_usd` is the double nearest to the exact decimal cost: 15 digits, so that the
0.00000002 dollars of one embedding token survive, which whole micro-dollars would round away."""
