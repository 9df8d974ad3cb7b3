"""What AccountService answers about budgets, and the look now and then for reservations that expired."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING, Final

from aigateway.v1 import account_service_pb2 as pb
from aigateway_common import logs
from aigateway_common.errors import GatewayError, invalid

from aigateway_usage import account_rows, budget_queries, reservations
from aigateway_usage import budgets as rules
from aigateway_usage.holds import Holds
from aigateway_usage.reservations import Asked
from aigateway_usage.rows import MAX_EVENT_ID, MAX_TEXT
from aigateway_usage.tables import budgets

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from aigateway_usage.audit import Act
    from aigateway_usage.database import Database
    from aigateway_usage.pricing import Pricer

SWEEP_EVERY: Final = 30.0
"""Seconds between looks for expired reservations; a reservation that finds no room looks at once."""
MAX_RESERVED: Final = 86_400
"""Seconds that money stays set aside at most."""
MAX_TOGETHER: Final = 500
"""Reservations of one call."""
MAX_TOKENS: Final = 1_000_000_000
"""Tokens of one call; more is a mistake."""

_log = logs.get("usage")


class BudgetCalls:
    """One method per rpc; those that change something take the act, and write it down."""

    def __init__(self, database: Database, pricer: Pricer) -> None:
        self._database = database
        self._pricer = pricer
        self._holds = Holds(database)

    async def set_budget(self, request: pb.SetBudgetRequest, act: Act) -> pb.SetBudgetResponse:
        """Make a budget, or change it."""
        row = account_rows.budget_row(request.budget)
        state = await self._database.write(lambda connection: budget_queries.set_budget(connection, row, act))
        return pb.SetBudgetResponse(budget=account_rows.to_budget(state, act.at_us))

    async def list_budgets(self, request: pb.ListBudgetsRequest) -> pb.ListBudgetsResponse:
        """The budgets of a scope and a subject, or all."""
        where: list[ColumnElement[bool]] = []
        if request.scope:
            if request.scope not in rules.SCOPES:
                raise invalid("scope", "`scope` is unknown; set it to key, project or provider, or leave it out")
            where.append(budgets.c.scope == rules.SCOPES[request.scope])
        if request.subject:
            where.append(budgets.c.subject == account_rows.checked_text(request.subject, "subject", MAX_TEXT))
        now = now_us()
        rows = await self._database.read(lambda connection: budget_queries.states(connection, now, *where))
        return pb.ListBudgetsResponse(budgets=[account_rows.to_budget(row, now) for row in rows])

    async def delete_budget(self, request: pb.DeleteBudgetRequest, act: Act) -> pb.DeleteBudgetResponse:
        """Remove a budget."""
        budget = account_rows.checked_text(request.id, "id", MAX_TEXT)
        await self._database.write(lambda connection: budget_queries.delete_budget(connection, budget, act))
        return pb.DeleteBudgetResponse()

    async def override_budget(self, request: pb.OverrideBudgetRequest, act: Act) -> pb.OverrideBudgetResponse:
        """Let calls through beyond a budget, or no longer."""
        budget = account_rows.checked_text(request.id, "id", MAX_TEXT)
        state = await self._database.write(
            lambda connection: budget_queries.override_budget(connection, budget, act, revert=request.revert)
        )
        return pb.OverrideBudgetResponse(budget=account_rows.to_budget(state, act.at_us))

    async def reserve_budget(self, request: pb.ReserveBudgetRequest) -> pb.ReserveBudgetResponse:
        """Set money aside for an attempt."""
        now = now_us()
        _check(request, now)
        asked = await self._asked(request, now)
        answer = await self._holds.reserve(asked, now)
        if isinstance(answer, GatewayError):
            raise answer
        low = [
            account_rows.to_budget(row, now)
            for row in answer.budgets
            if rules.is_low(row["limit_nano"], row["spent_nano"], row["reserved_nano"])
        ]
        return pb.ReserveBudgetResponse(reserved_usd=rules.to_usd(answer.amount_nano), low=low)

    async def reserve_budgets(self, request: pb.ReserveBudgetsRequest) -> pb.ReserveBudgetsResponse:
        """Set money aside for several attempts, each with an answer of its own."""
        if not 0 < len(request.reservations) <= MAX_TOGETHER:
            raise invalid("reservations", f"`reservations` must be 1 to {MAX_TOGETHER}")
        answers = await asyncio.gather(*map(self._reservation, request.reservations))
        return pb.ReserveBudgetsResponse(answers=answers)

    async def _reservation(self, request: pb.ReserveBudgetRequest) -> pb.ReservationAnswer:
        try:
            return pb.ReservationAnswer(reserved=await self.reserve_budget(request))
        except GatewayError as error:
            return pb.ReservationAnswer(refusal=error.to_status().SerializeToString())

    async def release_budget(self, request: pb.ReleaseBudgetRequest) -> pb.ReleaseBudgetResponse:
        """Give back what was set aside for an attempt."""
        _check_event_id(request.event_id)
        await self._database.write(lambda connection: reservations.release(connection, request.event_id))
        return pb.ReleaseBudgetResponse()

    async def flush(self) -> None:
        """Wait until nobody waits for money to be set aside."""
        await self._holds.flush()

    async def sweep_forever(self) -> None:
        """Give expired reservations back, every `SWEEP_EVERY` seconds."""
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            try:
                await self.sweep()
            except GatewayError as error:  # the database is away; it has been logged, and the next look finds it all
                _log.warning("expired reservations could not be given back", why=error.message)

    async def sweep(self) -> int:
        """Give expired reservations back; how many there were."""
        now, total = now_us(), 0
        while await self._database.look_up(lambda connection: reservations.has_expired(connection, now)):
            swept = await self._database.write(lambda connection: reservations.sweep(connection, now))
            if not swept:  # others are at it
                break
            total += swept
        return total

    async def _asked(self, request: pb.ReserveBudgetRequest, now: int) -> Asked:
        if self._pricer.needs_published(request.provider):
            await self._pricer.load()
        usd = self._pricer.estimate(request.provider, request.model, request.input_tokens, request.max_output_tokens)
        return Asked(
            event_id=request.event_id,
            key_id=request.key_id,
            project=request.project or account_rows.DEFAULT_PROJECT,
            provider=request.provider,
            model=request.model,
            amount_nano=None if usd is None else rules.estimate_nano(usd),
            expires_at_us=min(request.expires_at_us, now + MAX_RESERVED * 1_000_000),
            content=hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest(),
        )


def now_us() -> int:
    """Now, in microseconds since the Unix epoch."""
    return time.time_ns() // 1000


def _check(request: pb.ReserveBudgetRequest, now: int) -> None:
    _check_event_id(request.event_id)
    for name in ("key_id", "project", "provider", "model"):
        account_rows.checked_text(getattr(request, name), name, MAX_TEXT)
    for name in ("provider", "model"):
        if not getattr(request, name):
            raise invalid(name, f"`{name}` is missing")
    for name in ("input_tokens", "max_output_tokens"):
        if not 0 <= getattr(request, name) <= MAX_TOKENS:
            raise invalid(name, f"`{name}` must be from 0 to {MAX_TOKENS:,}")
    if request.expires_at_us <= now:
        raise invalid("expires_at_us", "`expires_at_us` must lie ahead; is the clock of one of the machines wrong?")


def _check_event_id(event_id: str) -> None:
    if not 0 < len(event_id) <= MAX_EVENT_ID or not event_id.isascii() or not event_id.isprintable():
        raise invalid("event_id", f"`event_id` must have 1 to {MAX_EVENT_ID} printable ASCII characters")
