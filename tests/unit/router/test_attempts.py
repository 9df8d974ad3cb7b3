"""Usage events."""

from __future__ import annotations

from aigateway.v1 import tokens_pb2, usage_service_pb2
from aigateway_common.errors import GatewayError
from aigateway_router import attempts
from aigateway_router.attempts import Attempt


def attempt() -> Attempt:
    return Attempt(
        request_id="r1",
        key_id="key-1",
        operation=usage_service_pb2.OPERATION_CHAT,
        provider="acme",
        requested_model="smart",
        sent_model="acme-1",
        trace_id="ab" * 16,
    )


def test_an_answered_attempt_says_everything() -> None:
    made = attempt()
    made.answered_model, made.finish_reason = "acme-1-2026", "stop"
    made.usage = tokens_pb2.TokenUsage(input_uncached=3)
    made.first_event_ns = 5_000
    event = made.event(attempts.OK, None)
    assert len(event.event_id) == 32
    assert event == usage_service_pb2.Attempt(
        event_id=event.event_id,
        request_id="r1",
        attempt=1,
        project="default",
        key_id="key-1",
        operation=usage_service_pb2.OPERATION_CHAT,
        provider="acme",
        requested_model="smart",
        sent_model="acme-1",
        answered_model="acme-1-2026",
        started_at_us=made.started_at_us,
        duration_us=event.duration_us,
        first_event_us=5,
        status=usage_service_pb2.ATTEMPT_STATUS_OK,
        finish_reason="stop",
        usage=tokens_pb2.TokenUsage(input_uncached=3),
        trace_id="ab" * 16,
    )


def test_a_failed_attempt_says_why_and_leaves_unknown_what_is_unknown() -> None:
    error = GatewayError("UPSTREAM_RATE_LIMITED", "x" * 900, details={"upstream_status": "429"})
    event = attempt().event(attempts.ERROR, error)
    assert (event.error_reason, event.upstream_status) == ("UPSTREAM_RATE_LIMITED", 429)
    assert event.error_message == "x" * 500
    assert not event.HasField("usage")
    assert not event.HasField("first_event_us")
    assert not attempt().event(attempts.ERROR, GatewayError("INTERNAL", "?")).HasField("upstream_status")
