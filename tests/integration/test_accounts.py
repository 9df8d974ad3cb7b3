"""Router and usage service together: keys, limits, budgets and revocation as operators and callers meet them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aigateway.v1 import (
    account_pb2,
    account_service_pb2,
    account_service_pb2_grpc,
    gateway_service_pb2,
    gateway_service_pb2_grpc,
    usage_service_pb2,
    usage_service_pb2_grpc,
)
from aigateway_common.errors import GatewayError, from_rpc_error
from aigateway_router.authn import key_id
from aigateway_router.policy.budget import Budgets
from aigateway_router.server import RouterComponent
from aigateway_router.settings import RouterSettings
from aigateway_usage.server import UsageComponent
from aigateway_usage.settings import PriceOverride, UsageSettings
from grpc import aio
from support.router import (
    START,
    Hops,
    ScriptedProvider,
    always,
    answering,
    chat_request,
    chunks,
    hangs,
    models,
    refused,
    stream_request,
    text,
)
from support.scripted_accounts import bearer

ADMIN = "adm-one-0123456789"


@pytest.fixture(params=["wire", "in process"], autouse=True)
def _transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hops, "in_process", request.param == "in process")


@dataclass
class Pair:
    gateway: Any
    accounts: Any
    usage: Any
    budgets: Budgets
    router: RouterComponent

    async def admin(self, method: str, request: Any) -> Any:
        return await getattr(self.accounts, method)(request, metadata=bearer(ADMIN))

    async def key(self, project: str, **fields: Any) -> account_service_pb2.CreateKeyResponse:
        wanted = account_pb2.Key(project=project, **fields)
        made = await self.admin("CreateKey", account_service_pb2.CreateKeyRequest(key=wanted))
        assert isinstance(made, account_service_pb2.CreateKeyResponse)
        return made


@asynccontextmanager
async def pair(folder: Path, provider: ScriptedProvider, **settings: Any) -> AsyncIterator[Pair]:
    hops = Hops()
    prices = {"acme/*": PriceOverride(input=1, output=10)}
    ledger = UsageSettings(database_url=f"sqlite+aiosqlite:///{folder / 'ledger.db'}", price_overrides=prices)
    try:
        component = RouterComponent(
            RouterSettings(outbox_dir=folder / "outbox", admin_keys=(ADMIN,), **settings),
            providers={"acme": await hops.to(provider)},
            usage=await hops.to(UsageComponent(ledger)),
        )
        channel = await hops.to(component)
        yield Pair(
            gateway_service_pb2_grpc.GatewayServiceStub(channel),
            account_service_pb2_grpc.AccountServiceStub(channel),
            usage_service_pb2_grpc.UsageServiceStub(channel),
            component.budgets,
            component,
        )
    finally:
        await hops.stop()


async def refused_at_last(both: Pair, secret: str) -> GatewayError:
    """The error of a key that has stopped to work, once it has."""
    async with asyncio.timeout(20):
        while True:
            try:
                await both.gateway.ListModels(gateway_service_pb2.ListModelsRequest(), metadata=bearer(secret))
            except aio.AioRpcError as error:
                return from_rpc_error(error)


async def test_a_key_is_made_used_limited_rotated_and_revoked(tmp_path: Path) -> None:
    provider = answering()
    provider.answers["models"] = always(models("acme-1"))
    async with pair(tmp_path, provider) as both:
        project = account_pb2.Project(id="search", allowed_models=["acme/*"])
        await both.admin("CreateProject", account_service_pb2.CreateProjectRequest(project=project))
        made = await both.key("search", limits=account_pb2.Limits(requests_per_minute=2))
        first = await both.gateway.Chat(chat_request(), metadata=bearer(made.secret))
        await both.gateway.Chat(chat_request(), metadata=bearer(made.secret))
        limited = await refused(both.gateway.Chat(chat_request(), metadata=bearer(made.secret)))
        rotation = account_service_pb2.RotateKeyRequest(id=made.key.id, overlap_seconds=0)
        successor = await both.admin("RotateKey", rotation)
        await both.gateway.Chat(chat_request(), metadata=bearer(successor.secret))
        old = await refused_at_last(both, made.secret)
        await both.admin("RevokeKey", account_service_pb2.RevokeKeyRequest(id=successor.key.id))
        revoked = await refused_at_last(both, successor.secret)
        audit = await both.admin("ListAuditEvents", account_service_pb2.ListAuditEventsRequest())
    assert (first.route.request_limit.limit, first.route.request_limit.remaining) == (2, 1)
    assert limited.reason.name == "RATE_LIMITED"
    assert {(one.reason.name, one.message) for one in (old, revoked)} == {("UNAUTHENTICATED", "the key was revoked")}
    assert list(dict.fromkeys(event.action for event in audit.events)) == [
        "RevokeKey",
        "RotateKey",
        "CreateKey",
        "CreateProject",
    ]
    assert {event.actor for event in audit.events} == {key_id(ADMIN)}


async def test_a_cut_key_ends_its_stream(tmp_path: Path) -> None:
    provider = ScriptedProvider(stream=hangs(*chunks([START, text("x")])))
    async with pair(tmp_path, provider) as both:
        made = await both.key("default")
        stream = both.gateway.StreamChat(stream_request(), metadata=bearer(made.secret))
        await stream.read()
        ending = asyncio.ensure_future(refused(stream.read()))
        request = account_service_pb2.RevokeKeyRequest(id=made.key.id, cut_calls=True)
        await both.admin("RevokeKey", request)
        error = await ending
        await asyncio.wait_for(provider.calls[0].cancelled.wait(), 10)
        page: Any = None
        async with asyncio.timeout(20):
            while page is None or not page.attempts:
                page = await both.usage.ListAttempts(usage_service_pb2.ListAttemptsRequest(), metadata=bearer(ADMIN))
    assert (error.reason.name, error.message) == ("UNAUTHENTICATED", "the key was revoked")
    assert page.attempts[0].key_id == made.key.id


async def test_money_is_reserved_where_a_budget_is_and_refused_where_it_is_spent(tmp_path: Path) -> None:
    async with pair(tmp_path, answering(), api_keys=("gw-static-0123456789",)) as both:
        made = await both.key("default")
        budget = account_pb2.Budget(
            scope=account_pb2.BUDGET_SCOPE_PROVIDER,
            subject="acme",
            period=account_pb2.BUDGET_PERIOD_MONTH,
            limit_usd=0.001,
        )
        caller = await both.router._callers.identify(dict(bearer(made.secret)))
        assert not both.budgets.needed(caller, "acme")
        await both.admin("SetBudget", account_service_pb2.SetBudgetRequest(budget=budget))
        async with asyncio.timeout(20):
            while not both.budgets.needed(caller, "acme"):
                await both.admin("ListBudgets", account_service_pb2.ListBudgetsRequest())

        async def reserve(event_id: str) -> list[str]:
            return await both.budgets.reserve(
                event_id,
                caller,
                provider="acme",
                model="acme-1",
                input_tokens=100,
                max_output_tokens=60,
                deadline=30.0,
            )

        low = await reserve("0" * 31 + "1")
        with pytest.raises(GatewayError) as caught:
            await reserve("0" * 31 + "2")
        both.budgets.release("0" * 31 + "1")
        await both.budgets.stop()
        assert await reserve("0" * 31 + "3") == low
    assert low == ["provider acme, month: 70 % of $0.001 used"]
    assert caught.value.reason.name == "BUDGET_EXCEEDED"
    assert caught.value.details["budget"] == "provider:acme:month"
