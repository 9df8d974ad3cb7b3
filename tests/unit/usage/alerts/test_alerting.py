"""Alerts of a usage service as a whole: over gRPC, from attempts to a receiver, and stopped in between."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aigateway.v1 import alert_service_pb2 as pb
from aigateway.v1 import alert_service_pb2_grpc, usage_service_pb2, usage_service_pb2_grpc
from aigateway_common.errors import from_rpc_error
from aigateway_common.serving import grpc_channel, grpc_server
from aigateway_usage.alerts import watch
from aigateway_usage.server import UsageComponent
from aigateway_usage.settings import AlertSettings
from grpc import aio
from support.alerts import settings as alert_settings
from support.alerts import verified
from support.attempts import attempt, record
from support.attempts import settings as usage_settings
from support.replay import Answer, Sent, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aigateway.v1.alert_service_pb2_grpc import AlertServiceAsyncStub
    from aigateway.v1.usage_service_pb2_grpc import UsageServiceAsyncStub

ERROR = usage_service_pb2.ATTEMPT_STATUS_ERROR


@asynccontextmanager
async def service(
    folder: Path, of: AlertSettings
) -> AsyncIterator[tuple[UsageServiceAsyncStub, AlertServiceAsyncStub]]:
    server = grpc_server([UsageComponent(usage_settings(folder, alerts=of))], "127.0.0.1:0")
    await server.start()
    try:
        async with grpc_channel(f"127.0.0.1:{server.port}") as channel:
            yield usage_service_pb2_grpc.UsageServiceStub(channel), alert_service_pb2_grpc.AlertServiceStub(channel)
    finally:
        await server.drain(5)


def ended(number: int, *, failed: bool, **changes: Any) -> usage_service_pb2.Attempt:
    """An attempt that ended now."""
    fields: dict[str, Any] = {"started_at_us": time.time_ns() // 1000 - 1000, "duration_us": 1000}
    if failed:
        fields |= {"status": ERROR, "error_reason": "UPSTREAM_TIMEOUT"}
    return attempt(number, **fields | changes)


async def listed(alerts: AlertServiceAsyncStub, **fields: Any) -> list[pb.Alert]:
    return list((await alerts.ListAlerts(pb.ListAlertsRequest(**fields))).alerts)


async def settled(alerts: AlertServiceAsyncStub, count: int, *, open_only: bool) -> list[pb.Alert]:
    """The alerts once there are that many: they are written after the attempts are."""
    for _ in range(2000):
        if len(found := await listed(alerts, open_only=open_only)) == count:
            return found
        await asyncio.sleep(0.005)
    raise AssertionError(f"never {count} alerts")


class Receiver:
    """Hands what arrives at a receiver over to a test."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._taken = 0

    async def next(self) -> Sent:
        while len(self._upstream.requests) <= self._taken:
            await self._upstream.wait_arrived()
            self._upstream.arrived.clear()
        self._taken += 1
        return self._upstream.requests[self._taken - 1]


async def test_from_failed_attempts_to_the_receiver_and_back(tmp_path: Path) -> None:
    with Upstream(Answer(200)) as upstream:
        receiver = Receiver(upstream)
        async with service(tmp_path, alert_settings(upstream.url)) as (usage, alerts):
            answer = await usage.RecordAttempts(record(*(ended(number, failed=True) for number in range(1, 4))))
            assert answer.recorded == 3
            begin = verified(await receiver.next())
            (alert,) = await listed(alerts, open_only=True)
        assert begin["id"] == alert.id
        assert alert == pb.Alert(
            id=alert.id,
            kind=pb.ALERT_KIND_CONSECUTIVE_ERRORS,
            subject="acme/acme-1",
            message="3 calls to `acme/acme-1` failed one after the other; the last with UPSTREAM_TIMEOUT",
            opened_at_us=alert.opened_at_us,
            seen_at_us=alert.seen_at_us,
        )
        async with service(tmp_path, alert_settings(upstream.url)) as (usage, alerts):
            assert await listed(alerts, open_only=True) == [alert]
            await usage.RecordAttempts(record(ended(4, failed=False)))
            end = verified(await receiver.next())
            assert await listed(alerts, open_only=True) == []
            (over,) = await listed(alerts)
        assert (end["id"], end["state"]) == (alert.id, "resolved")
        assert over.resolved_at_us >= over.opened_at_us == alert.opened_at_us
    assert len(upstream.requests) == 2


async def test_alerts_are_listed_newest_first_and_as_many_as_asked(tmp_path: Path) -> None:
    async with service(tmp_path, alert_settings()) as (usage, alerts):
        for model in range(3):
            rows = [ended(10 * model + number, failed=True, sent_model=f"m{model}") for number in range(3)]
            await usage.RecordAttempts(record(*rows))
            await settled(alerts, model + 1, open_only=True)
        assert [alert.subject for alert in await listed(alerts)] == ["acme/m2", "acme/m1", "acme/m0"]
        assert [alert.subject for alert in await listed(alerts, page_size=2)] == ["acme/m2", "acme/m1"]
        await usage.RecordAttempts(record(ended(100, failed=False, sent_model="m1")))
        assert [each.subject for each in await settled(alerts, 2, open_only=True)] == ["acme/m2", "acme/m0"]
        for size in (-1, 1001):
            with pytest.raises(aio.AioRpcError) as caught:
                await listed(alerts, page_size=size)
            error = from_rpc_error(caught.value)
            assert (error.reason.name, error.details["param"]) == ("INVALID_REQUEST", "page_size")


async def test_a_look_now_and_then_finds_what_no_attempt_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "TICK", 0.01)
    monkeypatch.setattr(watch, "FORGOTTEN_US", -1)
    async with service(tmp_path, alert_settings()) as (usage, alerts):
        await usage.RecordAttempts(record(*(ended(number, failed=True) for number in range(1, 4))))
        (over,) = await settled(alerts, 1, open_only=False)
        await settled(alerts, 0, open_only=True)
        assert over.subject == "acme/acme-1"


async def test_a_receiver_that_never_answers_holds_up_neither_recording_nor_stopping(tmp_path: Path) -> None:
    with Upstream(Answer(hold_before_headers=True)) as upstream:
        async with service(tmp_path, alert_settings(upstream.url)) as (usage, alerts):
            await usage.RecordAttempts(record(*(ended(number, failed=True) for number in range(1, 4))))
            await upstream.wait_arrived()
            answer = await usage.RecordAttempts(record(ended(4, failed=False)))
            assert answer.recorded == 1
            await settled(alerts, 0, open_only=True)
        await upstream.wait_hung_up()
