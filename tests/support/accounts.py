"""A usage service to manage accounts with, and its parts one by one where a test sets the time itself."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest
from aigateway.v1 import account_pb2, account_service_pb2, account_service_pb2_grpc, usage_service_pb2_grpc
from aigateway_common.errors import GatewayError, from_rpc_error
from aigateway_common.serving import grpc_channel, grpc_server
from aigateway_usage import budget_queries, reservations
from aigateway_usage.account_rows import budget_row
from aigateway_usage.audit import Act
from aigateway_usage.database import Database, async_url
from aigateway_usage.holds import Holds
from aigateway_usage.ledger import Ledger
from aigateway_usage.reservations import Asked, Reserved
from aigateway_usage.rows import to_row
from aigateway_usage.server import UsageComponent
from aigateway_usage.settings import PriceOverride, UsageSettings
from grpc import aio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from support.attempts import NOON, attempt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aigateway.v1.account_service_pb2_grpc import AccountServiceAsyncStub
    from aigateway.v1.usage_service_pb2_grpc import UsageServiceAsyncStub
    from sqlalchemy import Connection

_T = TypeVar("_T")
PRICES: Final = {"acme/*": PriceOverride(input=1, output=10)}
"""Of `attempt()`: 100 tokens in and 10 out cost 200 millionths of a dollar."""
CENT: Final = 10_000_000
"""In nano-dollars."""
DAY_US: Final = 86_400_000_000


@dataclass
class Service:
    """Stubs of a running usage service."""

    accounts: AccountServiceAsyncStub
    usage: UsageServiceAsyncStub

    async def project(self, project: str = "search", **fields: Any) -> account_pb2.Project:
        wanted = account_pb2.Project(id=project, **fields)
        answer = await self.accounts.CreateProject(account_service_pb2.CreateProjectRequest(project=wanted))
        return answer.project

    async def key(self, project: str = "default", **fields: Any) -> account_service_pb2.CreateKeyResponse:
        wanted = account_pb2.Key(project=project, **fields)
        return await self.accounts.CreateKey(account_service_pb2.CreateKeyRequest(key=wanted))

    async def budget(self, subject: str = "default", limit_usd: float = 1, **fields: Any) -> account_pb2.Budget:
        answer = await self.accounts.SetBudget(
            account_service_pb2.SetBudgetRequest(budget=budget(subject, limit_usd, **fields))
        )
        return answer.budget

    async def changes(self, after: int) -> account_service_pb2.GetAccountChangesResponse:
        return await self.accounts.GetAccountChanges(account_service_pb2.GetAccountChangesRequest(after_revision=after))


@asynccontextmanager
async def service(url: str, **more: Any) -> AsyncIterator[Service]:
    """A usage service on a real gRPC port."""
    server = grpc_server([UsageComponent(UsageSettings(url, **{"price_overrides": PRICES} | more))], "127.0.0.1:0")
    await server.start()
    try:
        async with grpc_channel(f"127.0.0.1:{server.port}") as channel:
            yield Service(
                account_service_pb2_grpc.AccountServiceStub(channel), usage_service_pb2_grpc.UsageServiceStub(channel)
            )
    finally:
        await server.drain(5)


async def refusal(call: Awaitable[Any]) -> GatewayError:
    """The error that a call ends with."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


def budget(subject: str = "default", limit_usd: float = 1, **fields: Any) -> account_pb2.Budget:
    """A project's budget for a day, unless `fields` say otherwise."""
    usual: dict[str, Any] = {
        "scope": account_pb2.BUDGET_SCOPE_PROJECT,
        "period": account_pb2.BUDGET_PERIOD_DAY,
    }
    return account_pb2.Budget(subject=subject, limit_usd=limit_usd, **(usual | fields))


class Books:
    """Budgets and the ledger of one database, without gRPC: the test says what time it is."""

    def __init__(self, url: str) -> None:
        self.database = Database(url, busy_timeout=30)
        self.holds = Holds(self.database)
        self.ledger = Ledger(self.database, max_queued=100_000, written=lambda _: None)

    async def set(self, wanted: account_pb2.Budget, at: int = NOON) -> dict[str, Any]:
        row, act = budget_row(wanted), Act("tester", "SetBudget", "", at)
        return await self.database.write(lambda connection: budget_queries.set_budget(connection, row, act))

    async def delete(self, budget_id: str, at: int = NOON) -> None:
        act = Act("tester", "DeleteBudget", "", at)
        await self.database.write(lambda connection: budget_queries.delete_budget(connection, budget_id, act))

    async def override(self, budget_id: str, at: int = NOON, *, revert: bool = False) -> dict[str, Any]:
        act = Act("tester", "OverrideBudget", "", at)
        return await self.database.write(
            lambda connection: budget_queries.override_budget(connection, budget_id, act, revert=revert)
        )

    async def reserve(self, number: int, amount: int | None, at: int = NOON, **fields: Any) -> Reserved | GatewayError:
        usual: dict[str, Any] = {
            "event_id": f"{number:032x}",
            "key_id": "",
            "project": "default",
            "provider": "acme",
            "model": "acme-1",
            "amount_nano": amount,
            "expires_at_us": at + 600_000_000,
            "content": f"{amount}",
        }
        asked = Asked(**(usual | fields))
        return await self.holds.reserve(asked, at)

    async def record(self, number: int, cost: int, at: int = NOON, **fields: Any) -> int:
        """Record an attempt that cost `cost` nano-dollars; how many were new."""
        row = to_row(attempt(number, started_at_us=at, **fields), 0) | {"cost_usd": cost / 1e9}
        return (await self.ledger.record([row])).new

    async def release(self, number: int) -> None:
        await self.database.write(lambda connection: reservations.release(connection, f"{number:032x}"))

    async def sweep(self, at: int) -> int:
        return await self.database.write(lambda connection: reservations.sweep(connection, at))

    async def state(self, budget_id: str, at: int = NOON) -> tuple[int, int]:
        """Spent and set aside, in nano-dollars."""
        found = await self.database.read(lambda connection: budget_queries.states(connection, at))
        return next((row["spent_nano"], row["reserved_nano"]) for row in found if row["id"] == budget_id)

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return await self.database.read(lambda connection: [tuple(row) for row in connection.execute(text(sql))])


@asynccontextmanager
async def books(url: str) -> AsyncIterator[Books]:
    one = Books(url)
    await one.database.open()
    try:
        yield one
    finally:
        await one.holds.flush()
        await one.ledger.flush()
        await one.database.close()


async def on(url: str, work: Callable[[Connection], _T]) -> _T:
    """Do `work` on a connection that knows nothing of the ledger, and commit."""
    engine = create_async_engine(async_url(url))
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()
