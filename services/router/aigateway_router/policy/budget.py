"""Money: set aside at the usage service before an attempt, settled there when the attempt is recorded.

Asks only for callers and providers that have a budget; nobody else's calls depend on the usage service. Not for prices
and sums, which are the usage service's.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import grpc
from aigateway.v1 import account_pb2, account_service_pb2, account_service_pb2_grpc
from aigateway_common import logs
from aigateway_common.errors import STATUS_DETAILS_KEY, GatewayError, from_rpc_error
from grpc import aio

from aigateway_router.policy.reserver import Reserver

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aigateway_router.accounts import Accounts
    from aigateway_router.callers import Caller

TIMEOUT: Final = 5.0
"""Seconds that the usage service may take."""
DELIVERY: Final = 600.0
"""Seconds beyond an attempt's deadline that money stays aside: its event may wait in the outbox for so long."""
_DAY: Final = 86_400.0
_MAX_RELEASING: Final = 1000
"""Attempts whose money is given back at the same time."""
_SCOPES: Final = {
    account_pb2.BUDGET_SCOPE_KEY: "key",
    account_pb2.BUDGET_SCOPE_PROJECT: "project",
    account_pb2.BUDGET_SCOPE_PROVIDER: "provider",
}
_PERIODS: Final = {
    account_pb2.BUDGET_PERIOD_DAY: "day",
    account_pb2.BUDGET_PERIOD_WEEK: "week",
    account_pb2.BUDGET_PERIOD_MONTH: "month",
    account_pb2.BUDGET_PERIOD_TOTAL: "total",
}

_log = logs.get("aigateway.router")


class Budgets:
    """Sets money aside for attempts.

    Args:
        usage: A channel to the usage service; None when there is none.
        accounts: Knows which providers have a budget.
    """

    def __init__(self, usage: aio.Channel | None, accounts: Accounts) -> None:
        self._stub = None if usage is None else account_service_pb2_grpc.AccountServiceStub(usage)
        self._reserver = None if self._stub is None else Reserver(self._stub, self.release)
        self._accounts = accounts
        self._releasing: set[asyncio.Task[None]] = set()

    def needed(self, caller: Caller, provider: str) -> bool:
        """Whether an attempt of `caller` at `provider` needs money set aside."""
        return self._stub is not None and (caller.budgeted or provider in self._accounts.budgeted_providers)

    async def reserve(
        self,
        event_id: str,
        caller: Caller,
        *,
        provider: str,
        model: str,
        input_tokens: int,
        max_output_tokens: int,
        deadline: float,
    ) -> list[str]:
        """Set money aside for the attempt that will be recorded as `event_id`; budgets that are low, in words.

        Args:
            event_id: Of the attempt.
            caller: Who calls.
            provider: Where the attempt goes.
            model: The name sent to the provider.
            input_tokens: Of the prompt, as estimated.
            max_output_tokens: The most tokens of the answer, all answers together.
            deadline: Seconds until the attempt has ended at the latest.

        Raises:
            GatewayError: BUDGET_EXCEEDED, PERMISSION_DENIED (the price is unknown, and that is not allowed), or
                UNAVAILABLE: money is never spent unseen.
        """
        if self._reserver is None or not self.needed(caller, provider):
            return []
        lasts = min(max(deadline, 0.0) + DELIVERY, _DAY - TIMEOUT)
        request = account_service_pb2.ReserveBudgetRequest(
            event_id=event_id,
            key_id=caller.key_id,
            project=caller.project,
            provider=provider,
            model=model,
            input_tokens=input_tokens,
            max_output_tokens=max_output_tokens,
            expires_at_us=time.time_ns() // 1000 + int(lasts * 1e6),
        )
        try:
            answer = await self._reserver.reserve(request, min(TIMEOUT, max(deadline, 0.0)))
        except TimeoutError as error:
            raise _unseen() from error
        except (GatewayError, aio.AioRpcError) as error:
            refusal = _refusal(error)
            if refusal.reason.name == "UNAVAILABLE":  # the money may be set aside all the same
                self.release(event_id)
            raise refusal from error
        return in_words(answer.low)

    def release(self, event_id: str) -> None:
        """Give back, beside everything else, what was set aside for an attempt that was never made.

        What cannot be given back, or is one of too many, runs out by itself.
        """
        if self._stub is None or len(self._releasing) >= _MAX_RELEASING:
            return
        task = asyncio.create_task(self._release(self._stub, event_id), name="release budget")
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    async def stop(self) -> None:
        """Wait until everything is given back, which takes seconds at most."""
        if self._reserver is not None:
            await self._reserver.stop()
        await asyncio.gather(*self._releasing)

    async def _release(self, stub: account_service_pb2_grpc.AccountServiceAsyncStub, event_id: str) -> None:
        try:
            await stub.ReleaseBudget(account_service_pb2.ReleaseBudgetRequest(event_id=event_id), timeout=TIMEOUT)
        except aio.AioRpcError as error:
            _log.warning("money stays set aside until it runs out", event_id=event_id, code=error.code().name)


def in_words(budgets: Iterable[account_pb2.Budget]) -> list[str]:
    """Each budget on one line: `project search, month: 72 % of $10 used`."""
    return [_in_words(budget) for budget in budgets]


def _in_words(budget: account_pb2.Budget) -> str:
    used = budget.spent_usd + budget.reserved_usd
    share = used / budget.limit_usd * 100 if budget.limit_usd > 0 else 100.0
    subject = f"{_SCOPES.get(budget.scope, 'budget')} {budget.subject}"
    return f"{subject}, {_PERIODS.get(budget.period, 'period')}: {share:.0f} % of ${budget.limit_usd:g} used"


def _refusal(error: GatewayError | aio.AioRpcError) -> GatewayError:
    """What the usage service says of itself goes through; that it says nothing is no reason to spend."""
    if isinstance(error, GatewayError):
        return _unseen() if error.code is grpc.StatusCode.UNAVAILABLE else error
    said = any(key == STATUS_DETAILS_KEY for key, _ in error.trailing_metadata() or ())
    return from_rpc_error(error) if said and error.code() is not grpc.StatusCode.UNAVAILABLE else _unseen()


def _unseen() -> GatewayError:
    return GatewayError(
        "UNAVAILABLE",
        "the budget of this call cannot be checked: the usage service cannot be reached; try again",
        retry_after=1,
    )
