"""Keeps the alerts of a ledger: looks at attempts as they are written, and writes down what began and what is over.

An attempt costs some microseconds and nothing waits for it; what has changed is written by a task of its own. Which
alerts are open is remembered, and read again now and then, for other usage services of the same database.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from aigateway_common import logs, metrics
from aigateway_common.errors import GatewayError
from sqlalchemy import select

from aigateway_usage import budget_queries
from aigateway_usage.alerts import deliveries, register, thresholds
from aigateway_usage.alerts.detectors import SEEN, Detectors
from aigateway_usage.alerts.signs import BUDGET_THRESHOLD, Key, Sign
from aigateway_usage.tables import attempts, budgets, spending

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from aigateway_usage.alerts.register import Change
    from aigateway_usage.database import Database
    from aigateway_usage.rows import Row
    from aigateway_usage.settings import AlertSettings

TICK: Final = 10.0
"""Seconds between looks at budgets and at what other services wrote."""
FORGOTTEN_US: Final = 86_400_000_000
"""An alert is over when nothing was seen of it for a day: nobody calls that model any more. Microseconds."""
REMEMBERED_US: Final = 3_600_000_000
"""How far back attempts are looked at when the service starts. Microseconds."""
MAX_REMEMBERED: Final = 2000
"""Attempts that are looked at when the service starts; some ten milliseconds."""
MAX_OPEN: Final = 1000
"""Alerts that are open; with more at once nobody is told more."""
MAX_PENDING: Final = 1000
"""Changes that wait to be written. Beyond them nothing is lost: the next attempt says again what is wrong."""

_log = logs.get("usage")


@dataclass(slots=True)
class _Held:
    """What is remembered of an open alert."""

    level: int
    seen_us: int
    moved: bool = False
    """It was seen since it was last written."""


class Watch:
    """The alerts of one database.

    Args:
        database: The ledger's.
        settings: What is an alert, and who is told.
        clock: Now, in microseconds since the Unix epoch.
        told: Called when there is something to deliver.
    """

    def __init__(
        self, database: Database, settings: AlertSettings, clock: Callable[[], int], told: Callable[[], None]
    ) -> None:
        self._database = database
        self._detectors = Detectors(settings, clock)
        self._urls = [webhook.url for webhook in settings.webhooks]
        self._clock = clock
        self._told = told
        self._open: dict[Key, _Held] = {}
        self._pending: deque[Sign] = deque()
        self._wake = asyncio.Event()
        self._grown = False

    async def begin(self) -> None:
        """Read what is open, and look at the last attempts as if they were written now.

        So what was seen and not written, because the service was killed, is written now.
        """
        await self._refresh()
        since = self._clock() - REMEMBERED_US
        query = select(*(attempts.c[name] for name in SEEN)).where(attempts.c.started_at_us >= since)
        query = query.order_by(attempts.c.started_at_us.desc(), attempts.c.event_id.desc()).limit(MAX_REMEMBERED)
        rows = await self._database.read(lambda connection: [dict(row) for row in connection.execute(query).mappings()])
        last = {sign.key: sign for row in reversed(rows) for sign in self._detectors.see(row)}
        for sign in last.values():
            self._take(sign)

    def see(self, row: Row) -> None:
        """Look at an attempt that was written; never fails."""
        try:
            for sign in self._detectors.see(row):
                self._take(sign)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the attempt is written and its sender is told so
            _log.error("an attempt could not be looked at for alerts", exc_info=error)

    async def run(self) -> None:
        """Write changes as they come and look around every `TICK` seconds, until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time() + TICK
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
            self._wake.clear()
            if loop.time() < due:
                await self.flush()
            else:
                await self.tick()
                due = loop.time() + TICK

    async def tick(self) -> None:
        """Look at budgets, at what other services wrote, and for what nobody sees any more."""
        try:
            await self.flush()
            moved = {key: held.seen_us for key, held in self._open.items() if held.moved}
            if moved:
                await self._database.write(lambda connection: register.move_seen(connection, moved))
            await self._refresh()
            await self._look_at_budgets()
            self._forget()
            await self.flush()
            if self._grown:
                self._grown = False
                await self._prune()
        except GatewayError as error:  # the database is away; it has been logged, and the next look finds it all
            _log.warning("alerts could not be looked at", why=error.message)
        except Exception as error:  # noqa: BLE001 -- alerts must not end for good
            _log.error("alerts could not be looked at", exc_info=error)

    async def flush(self) -> None:
        """Write what has changed; it waits on while the database is away."""
        while batch := list(self._pending):
            work = partial(register.apply, signs=batch, urls=self._urls, now_us=self._clock())
            try:
                changes = await self._database.write(work)
            except Exception as error:  # noqa: BLE001 -- alerts must not end for good
                if isinstance(error, GatewayError) and error.reason.retryable:
                    return
                _log.error("alerts could not be written", exc_info=error)
                changes = []
            for _ in batch:
                self._pending.popleft()
            for change in changes:
                self._tell(change)

    def _tell(self, change: Change) -> None:
        alert = change.alert
        self._grown = True
        level = _log.info if change.event == register.RESOLVED else _log.warning
        level(f"alert {change.event}", kind=alert["kind"], subject=alert["subject"], what=alert["message"])
        metrics.alert_changed(alert["kind"], change.event)
        if self._urls:
            self._told()

    def _take(self, sign: Sign) -> None:
        """Compare a sign with what is open."""
        held = self._open.get(sign.key)
        if held is None and not sign.wrong:
            return
        if held is not None and sign.wrong and held.level == sign.level:
            held.seen_us, held.moved = self._clock(), True
            return
        if len(self._pending) >= MAX_PENDING or (held is None and len(self._open) >= MAX_OPEN):
            return
        self._pending.append(sign)
        self._wake.set()
        self._hold(sign)

    def _hold(self, sign: Sign) -> None:
        if sign.wrong:
            self._open[sign.key] = _Held(sign.level, self._clock())
        else:
            self._open.pop(sign.key, None)

    async def _refresh(self) -> None:
        """Read which alerts are open; what waits to be written comes on top."""
        rows = await self._database.read(lambda connection: register.listed(connection, open_only=True, limit=MAX_OPEN))
        self._open = {(row["kind"], row["subject"]): _Held(row["level"], row["seen_at_us"]) for row in rows}
        for sign in self._pending:
            self._hold(sign)

    async def _look_at_budgets(self) -> None:
        now = self._clock()
        states = await self._database.read(lambda connection: _low(connection, now))
        signs = {sign.key: sign for state in states if (sign := thresholds.sign(state, now)).wrong}
        over = [key for key in self._open if key[0] == BUDGET_THRESHOLD and key not in signs]
        for sign in (*signs.values(), *(Sign(*key, wrong=False, at_us=now) for key in over)):
            self._take(sign)

    def _forget(self) -> None:
        now = self._clock()
        for key in [key for key, held in self._open.items() if now - held.seen_us > FORGOTTEN_US]:
            self._take(Sign(*key, wrong=False, at_us=now))

    async def _prune(self) -> None:
        def work(connection: Connection) -> int:
            register.prune(connection)
            return deliveries.prune(connection, self._clock())

        if dropped := await self._database.write(work):
            _log.error("too many webhooks wait; the oldest were given up", number=dropped)
            metrics.webhook_sent("abandoned", dropped)


def _low(connection: Connection, now_us: int) -> list[Row]:
    """The budgets of which much is spent; which of `thresholds.LEVELS` is reached is for that module."""
    least = budgets.c.limit_nano // 100 * min(thresholds.LEVELS)
    return budget_queries.states(connection, now_us, spending.c.spent_nano >= least)
