"""Recording attempts, whoever brings them: checked, priced and written down. Knows neither gRPC nor NATS."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aigateway_usage.rows import to_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aigateway.v1 import usage_service_pb2

    from aigateway_usage.ledger import Ledger, Recorded
    from aigateway_usage.pricing import Pricer
    from aigateway_usage.rows import Row

_SLICE: Final = 100
"""Attempts converted before other calls get their turn; about three milliseconds."""


class Recorder:
    """The way of attempts into the ledger."""

    def __init__(self, ledger: Ledger, pricer: Pricer) -> None:
        self._ledger = ledger
        self._pricer = pricer
        self._converting = asyncio.Lock()  # of many attempts one lot at a time, or each would take its slice in turn

    async def record(self, attempts: Sequence[usage_service_pb2.Attempt]) -> Recorded:
        """Write `attempts` down; returns once they are committed.

        Raises:
            GatewayError: INVALID_REQUEST that names the one that no ledger takes, and its field; otherwise as
                `Ledger.record` says. Nothing is written then.
        """
        if any(self._pricer.needs_published(attempt.provider) for attempt in attempts):
            await self._pricer.load()
        if len(attempts) <= _SLICE:
            rows = await self._rows(attempts)
        else:
            async with self._converting:
                rows = await self._rows(attempts)
        return await self._ledger.record(rows)

    async def _rows(self, attempts: Sequence[usage_service_pb2.Attempt]) -> list[Row]:
        rows: list[Row] = []
        for index, attempt in enumerate(attempts):
            if index and index % _SLICE == 0:
                await asyncio.sleep(0)
            row = to_row(attempt, index)
            self._pricer.price(row)
            rows.append(row)
        return rows
