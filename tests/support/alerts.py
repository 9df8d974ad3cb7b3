"""The parts of alerting one by one, at times that a test sets itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aigateway.v1 import usage_service_pb2
from aigateway_usage.alerts import register
from aigateway_usage.alerts.watch import Watch
from aigateway_usage.database import Database
from aigateway_usage.ledger import Ledger
from aigateway_usage.rows import to_row
from aigateway_usage.settings import AlertSettings, Webhook
from aigateway_usage.tables import webhook_deliveries
from sqlalchemy import select

from support.attempts import NOON, attempt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aigateway_usage.rows import Row

    from support.replay import Sent

SECOND: Final = 1_000_000
SECRET: Final = "whsec_" + base64.b64encode(bytes(range(32))).decode()
SETTINGS: Final = AlertSettings(consecutive_errors=3, provider_down=1000.0)


def settings(*urls: str, allow_private: bool = True, **more: Any) -> AlertSettings:
    webhooks = tuple(Webhook(url, SECRET, allow_private) for url in urls)
    return AlertSettings(**{"consecutive_errors": 3, "provider_down": 1000.0} | more, webhooks=webhooks)


@dataclass
class Clock:
    """A clock that stands still until it is set."""

    now_us: int = NOON

    def __call__(self) -> int:
        return self.now_us

    def sleep(self, seconds: float) -> None:
        self.now_us += int(seconds * SECOND)


@dataclass
class Watching:
    """A ledger whose attempts are looked at."""

    database: Database
    watch: Watch
    ledger: Ledger
    clock: Clock
    told: list[None] = field(default_factory=list)
    number: int = 0

    async def record(self, *, failed: int = 0, worked: int = 0, **changes: Any) -> None:
        """Record attempts, a second each, the failed ones first."""
        await self.ledger.record([self.row(failed=number < failed, **changes) for number in range(failed + worked)])

    def row(self, *, failed: bool, **changes: Any) -> Row:
        self.number += 1
        self.clock.sleep(1)
        fields: dict[str, Any] = {
            "event_id": f"{id(self):016x}{self.number:016x}",
            "started_at_us": self.clock.now_us - SECOND,
            "duration_us": SECOND,
        }
        if failed:
            fields |= {"status": usage_service_pb2.ATTEMPT_STATUS_ERROR, "error_reason": "UPSTREAM_ERROR"}
        return to_row(attempt(**fields | changes), 0)

    async def alerts(self) -> list[Row]:
        """All alerts, newest first."""
        await self.watch.flush()
        return await self.database.read(lambda connection: register.listed(connection, open_only=False, limit=100))

    async def states(self) -> list[tuple[str, str, bool]]:
        """Kind, subject and whether it is open."""
        return [(row["kind"], row["subject"], row["resolved_at_us"] is None) for row in await self.alerts()]

    async def deliveries(self) -> list[Row]:
        """All deliveries, oldest first."""
        await self.watch.flush()
        return await queued(self.database)


async def queued(database: Database) -> list[Row]:
    query = select(webhook_deliveries).order_by(webhook_deliveries.c.id)
    return await database.read(lambda connection: [dict(row) for row in connection.execute(query).mappings()])


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url, busy_timeout=10)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def watching(
    url: str, of: AlertSettings = SETTINGS, clock: Clock | None = None, *, looks: bool = True
) -> AsyncIterator[Watching]:
    """A ledger on the database at `url`; one that does not look records what a killed service left unsaid."""
    clock = clock or Clock()
    told: list[None] = []
    async with opened(url) as database:
        watch = Watch(database, of, clock, lambda: told.append(None))
        if looks:
            await watch.begin()
        ledger = Ledger(database, max_queued=1000, written=watch.see if looks else lambda _: None)
        yield Watching(database, watch, ledger, clock, told)
        await ledger.flush()


def verified(sent: Sent, secret: bytes = bytes(range(32))) -> dict[str, Any]:
    """What a webhook says, once its signature has been found right."""
    signed = f"{sent.headers['webhook-id']}.{sent.headers['webhook-timestamp']}.".encode() + sent.body
    wanted = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    assert sent.headers["webhook-signature"] == f"v1,{wanted}"
    said: dict[str, Any] = sent.json()
    return said
