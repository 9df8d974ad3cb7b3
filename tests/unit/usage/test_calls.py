"""What is around every call of the service."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aigateway_common import metrics
from aigateway_common.errors import GatewayError
from aigateway_common.telemetry import Telemetry
from aigateway_usage.calls import Calls


class AbortedError(Exception):
    """As gRPC ends a call."""


class Context:
    """A caller that looks at the metrics as soon as it learns of an error."""

    seen: float | None = None

    def __init__(self, method: str, status: str) -> None:
        self._labels = {"service": "usage", "operation": method, "provider": "", "status": status}

    def counted(self) -> float:
        return metrics.REGISTRY.get_sample_value("aigateway_calls_total", self._labels) or 0

    def invocation_metadata(self) -> None:
        return None

    async def abort(self, *_: object) -> None:
        self.seen = self.counted()
        raise AbortedError


@pytest.mark.parametrize(
    ("error", "status"), [(GatewayError("NOT_FOUND", "no such key"), "NOT_FOUND"), (KeyError("hush"), "INTERNAL")]
)
async def test_a_failed_call_is_counted_once_and_before_its_caller_knows(error: Exception, status: str) -> None:
    async def work(_: str) -> str:
        raise error

    context = Context("Fails", status)
    before = context.counted()
    with pytest.raises(AbortedError):
        await Calls("aigateway.v1.Any", Telemetry("usage")).answer("Fails", work, "", cast("Any", context))
    assert context.seen == context.counted() == before + 1


async def test_calls_that_end_well_or_are_left_are_counted() -> None:
    async def answers(request: str) -> str:
        return request.upper()

    async def leaves(_: str) -> str:
        raise asyncio.CancelledError

    calls = Calls("aigateway.v1.Any", Telemetry("usage"))
    well, left = Context("Ends", "ok"), Context("Ends", "CANCELLED")
    before = well.counted(), left.counted()
    assert await calls.answer("Ends", answers, "a", cast("Any", well)) == "A"
    with pytest.raises(asyncio.CancelledError):
        await calls.answer("Ends", leaves, "a", cast("Any", left))
    assert (well.counted(), left.counted()) == (before[0] + 1, before[1] + 1)
    assert well.seen is left.seen is None
