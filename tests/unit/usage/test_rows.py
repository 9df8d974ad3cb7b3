"""Attempts to rows and back."""

from __future__ import annotations

from typing import Any

import pytest
from aigateway.v1 import tokens_pb2, usage_service_pb2
from aigateway_common.errors import GatewayError
from aigateway_usage.rows import from_row, to_row
from aigateway_usage.tables import TOKEN_CLASSES, TOKEN_SPLITS, attempts
from support.attempts import attempt


def full() -> usage_service_pb2.Attempt:
    counts: dict[str, Any] = {name: number for number, name in enumerate((*TOKEN_CLASSES, *TOKEN_SPLITS))}
    return attempt(
        7,
        project="search",
        key_id="agw_ab12",
        first_event_us=90_000,
        status=usage_service_pb2.ATTEMPT_STATUS_ERROR,
        error_reason="UPSTREAM_ERROR",
        upstream_status=500,
        finish_reason="length",
        usage=counts | {"estimated": True, "native_json": b'{"n": 12345678901234567890}'},
        trace_id="0af7651916cd43dd8448eb211c80319c",
        error_message="it broke",
        fallback_from="acme/acme-1",
        hedge=True,
    )


def test_every_field_survives() -> None:
    row = to_row(full(), 0) | {"cost_usd": None, "price_source": None}
    assert set(row) == set(attempts.c.keys())
    assert from_row(row) == full()


def test_the_test_above_sets_every_field() -> None:
    unset = {f.name for f in full().DESCRIPTOR.fields} - {f.name for f, _ in full().ListFields()}
    assert unset == {"cost_usd"}
    tokens = {f.name for f in tokens_pb2.TokenUsage.DESCRIPTOR.fields}
    assert tokens == {*TOKEN_CLASSES, *TOKEN_SPLITS, "estimated", "native_json"}


def test_absent_is_null_and_comes_back_absent() -> None:
    bare = attempt(usage=None)
    row = to_row(bare, 0) | {"cost_usd": None, "price_source": None}
    assert all(row[name] is None for name in (*TOKEN_CLASSES, *TOKEN_SPLITS, "first_event_us", "upstream_status"))
    assert from_row(row) == bare


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"event_id": ""}, "attempts[3].event_id"),
        ({"event_id": "x" * 65}, "attempts[3].event_id"),
        ({"event_id": "a\0b"}, "attempts[3].event_id"),
        ({"request_id": ""}, "attempts[3].request_id"),
        ({"provider": ""}, "attempts[3].provider"),
        ({"operation": 0}, "attempts[3].operation"),
        ({"operation": 99}, "attempts[3].operation"),
        ({"status": 0}, "attempts[3].status"),
        ({"attempt": 0}, "attempts[3].attempt"),
        ({"started_at_us": 0}, "attempts[3].started_at_us"),
        ({"duration_us": -1}, "attempts[3].duration_us"),
        ({"first_event_us": -1}, "attempts[3].first_event_us"),
        ({"usage": {"output_text": -1}}, "attempts[3].usage.output_text"),
        ({"usage": {"native_json": b"\xff"}}, "attempts[3].usage.native_json"),
    ],
)
def test_a_malformed_attempt_is_refused_by_name(changes: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as caught:
        to_row(attempt(**changes), 3)
    assert (caught.value.reason.name, caught.value.details) == ("INVALID_REQUEST", {"param": param})


def test_text_that_a_database_cannot_hold_is_made_to_fit() -> None:
    row = to_row(attempt(project="", requested_model="a\0b", error_message="e" * 600, sent_model="m" * 5000), 0)
    assert row["project"] == "default"
    assert row["requested_model"] == "a\N{REPLACEMENT CHARACTER}b"
    assert (len(row["error_message"]), len(row["sent_model"])) == (500, 1024)
