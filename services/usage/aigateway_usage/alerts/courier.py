"""Delivers webhooks: takes what is due from the queue, sends it, and writes down what became of it.

At least once: one that was sent and not yet marked when the service died is sent again, under the same id. An address
that leads inside the network is not asked unless its webhook allows that. Addresses are not logged beyond their host:
some receivers have a secret in the path.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp
from aigateway_common import logs, metrics, web
from aigateway_common.errors import GatewayError
from aigateway_common.ids import made_at_us

from aigateway_usage.alerts import deliveries, payload, retries, signature

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp.abc import AbstractResolver

    from aigateway_usage.database import Database
    from aigateway_usage.rows import Row
    from aigateway_usage.settings import Webhook

TIMEOUT: Final = 15.0
"""Seconds for a receiver to answer; the standard recommends 15 to 30."""
LEASE: Final = 60.0
"""Seconds that a delivery belongs to the service that took it; longer than sending and marking can take."""
POLL: Final = 10.0
"""Seconds between looks at the queue when nothing is due: for what another service left behind."""

_log = logs.get("usage")


class Courier:
    """The one that delivers.

    Args:
        database: The ledger's.
        webhooks: Who is told.
        clock: Now, in microseconds since the Unix epoch.
        resolver: How names are resolved; the system's way when None.
    """

    def __init__(
        self,
        database: Database,
        webhooks: Sequence[Webhook],
        clock: Callable[[], int],
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._database = database
        self._webhooks = {webhook.url: webhook for webhook in webhooks}
        self._keys = {webhook.url: signature.key(webhook.secret) for webhook in webhooks}
        self._clock = clock
        self._resolver = resolver
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There is something new."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver what is due as it becomes due, until cancelled."""
        while True:
            self._wake.clear()
            pause = POLL
            try:
                pause = await self.deliver()
            except GatewayError as error:  # the database is away; it has been logged
                _log.warning("webhooks could not be looked for", why=error.message)
            except Exception as error:  # noqa: BLE001 -- webhooks must not end for good
                _log.error("webhooks could not be looked for", exc_info=error)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(pause, POLL)):
                    await self._wake.wait()

    async def deliver(self) -> float:
        """Take what is due and send it; seconds until the next look."""
        rows = await self._database.read(deliveries.waiting)
        now = self._clock()
        due = [row for row in rows if row["next_try_us"] <= now]
        if not due:
            return min((float(row["next_try_us"] - now) / 1e6 for row in rows), default=POLL)
        until = now + int(LEASE * 1e6)
        taken = await self._database.write(lambda connection: deliveries.take(connection, due, until))
        await asyncio.gather(*(self._deliver_one(row) for row in taken))
        return 0.0

    async def _deliver_one(self, row: Row) -> None:
        webhook = self._webhooks.get(row["url"])
        if webhook is None:
            await self._abandon(row, "is not configured any more")
            return
        try:
            status, asked = await self._send(webhook, row)
        except web.RefusedError as error:
            await self._abandon(row, str(error))
        except aiohttp.ClientConnectorError as error:
            if web.is_refused(error):
                await self._abandon(row, f"{web.NOT_PUBLIC}; `allow_private` allows that")
            else:
                await self._again(row, "cannot be reached", None)
        except TimeoutError:
            await self._again(row, f"did not answer within {TIMEOUT:g} seconds", None)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            await self._again(row, f"did not answer properly ({type(error).__name__})", None)
        else:
            await self._answered(row, status, asked)

    async def _answered(self, row: Row, status: int, asked: float | None) -> None:
        said = f"answered with status {status}"
        match retries.verdict(status):
            case "delivered":
                await self._write(partial(deliveries.delivered, delivery=row["id"], now_us=self._clock()))
                metrics.webhook_sent("delivered")
            case "again":
                await self._again(row, said, asked)
            case "never":
                await self._abandon(row, said)

    async def _send(self, webhook: Webhook, row: Row) -> tuple[int, float | None]:
        """The status, and for how many seconds the receiver asks to be left alone."""
        url = web.checked(web.parsed(webhook.url), internal=webhook.allow_private)
        now = self._clock()
        body = payload.sent(row["body"], now)
        signed = signature.headers(self._keys[webhook.url], row["id"], now // 1_000_000, body)
        fields = {"content-type": "application/json", "user-agent": "aigateway", **signed}
        async with (
            asyncio.timeout(TIMEOUT),
            self._session(internal=webhook.allow_private) as session,
            session.post(url, data=body, headers=fields, allow_redirects=False) as response,
        ):
            return response.status, retries.retry_after(response.headers.get("retry-after"), now)

    def _session(self, *, internal: bool) -> aiohttp.ClientSession:
        """One for each delivery: there are few, and what a receiver answers is not read."""
        return aiohttp.ClientSession(
            connector=web.connector(internal=internal, limit=1, resolver=self._resolver),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )

    async def _again(self, row: Row, why: str, asked: float | None) -> None:
        now = self._clock()
        jitter = random.random()  # noqa: S311 -- not a secret
        at = retries.next_try_us(now, made_at_us(row["id"]), retries.pause(row["tries"], jitter, asked))
        if at is None:
            await self._abandon(row, why)
            return
        _log.warning("a webhook was not delivered; it is tried again", **_named(row), why=why, tries=row["tries"])
        await self._write(partial(deliveries.again, delivery=row["id"], next_try_us=at))
        metrics.webhook_sent("again")

    async def _abandon(self, row: Row, why: str) -> None:
        _log.error("a webhook was given up", **_named(row), why=why, tries=row["tries"])
        await self._write(partial(deliveries.abandoned, delivery=row["id"], now_us=self._clock()))
        metrics.webhook_sent("abandoned")

    async def _write(self, work: Callable[..., None]) -> None:
        """Mark a delivery; where that fails, it is due again when its lease is over."""
        try:
            await self._database.write(work)
        except GatewayError as error:
            _log.warning("a webhook could not be marked; it is sent again", why=error.message)


def _named(row: Row) -> dict[str, str]:
    """How a delivery is named in logs."""
    return {"delivery": row["id"], "alert": row["alert_id"], "host": urlsplit(row["url"]).hostname or ""}
