"""The operators' door: who passes, what goes through, and under whose name; over real gRPC ports and in process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from aigateway.v1 import (
    account_pb2,
    account_service_pb2,
    account_service_pb2_grpc,
    alert_service_pb2,
    alert_service_pb2_grpc,
    gateway_service_pb2,
    gateway_service_pb2_grpc,
    router_admin_service_pb2,
    router_admin_service_pb2_grpc,
    usage_service_pb2,
    usage_service_pb2_grpc,
)
from aigateway_common.serving import grpc_channel, grpc_server
from aigateway_launcher.children import hold_port
from aigateway_router import admin
from aigateway_router.admin import SERVICE_NAMES
from aigateway_router.authn import key_id
from aigateway_router.server import RouterComponent
from aigateway_router.settings import RouterSettings
from grpc import aio
from support.router import Hops, answering, refused
from support.scripted_accounts import ScriptedAccounts, bearer

ADMIN, SECOND, STATIC, SECRET = "adm-one-0123456789", "adm-two-0123456789", "gw-static-0123456789", "gw-issued-01234567"
HEALTH = router_admin_service_pb2.GetRouterHealthResponse(
    providers=[
        router_admin_service_pb2.ProviderHealth(provider="acme", state=router_admin_service_pb2.HEALTH_STATE_UNKNOWN)
    ]
)


@pytest.fixture(params=["wire", "in process"], autouse=True)
def _transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hops, "in_process", request.param == "in process")


class Doors:
    def __init__(self, channel: aio.Channel, component: RouterComponent) -> None:
        self.component = component
        self.gateway = gateway_service_pb2_grpc.GatewayServiceStub(channel)
        self.accounts = account_service_pb2_grpc.AccountServiceStub(channel)
        self.alerts = alert_service_pb2_grpc.AlertServiceStub(channel)
        self.usage = usage_service_pb2_grpc.UsageServiceStub(channel)
        self.router = router_admin_service_pb2_grpc.RouterAdminServiceStub(channel)


@asynccontextmanager
async def doors(folder: Path, usage: ScriptedAccounts | None, **settings: Any) -> AsyncIterator[Doors]:
    hops = Hops()
    component = RouterComponent(
        RouterSettings(outbox_dir=folder / "outbox", **settings),
        providers={"acme": await hops.to(answering())},
        usage=None if usage is None else await hops.to(usage),
    )
    try:
        yield Doors(await hops.to(component), component)
    finally:
        await hops.stop()


def everything(doors: Doors, metadata: Any = ()) -> list[Any]:
    """A call of every method there is."""
    services: list[tuple[Any, Any]] = [
        (doors.accounts, account_service_pb2),
        (doors.alerts, alert_service_pb2),
        (doors.usage, usage_service_pb2),
        (doors.router, router_admin_service_pb2),
    ]
    return [
        getattr(stub, method.name)(getattr(file, method.input_type.name)(), metadata=metadata)
        for stub, file in services
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


async def test_operators_reach_the_usage_service_under_their_own_name_alone(tmp_path: Path) -> None:
    usage = ScriptedAccounts()
    spoofed = (("x-actor", "root"), ("x-project", "p"), ("x-request-id", "req-1"), ("x-evil", "1"))
    async with doors(tmp_path, usage, admin_keys=(ADMIN, SECOND)) as own:
        made = await own.accounts.CreateKey(
            account_service_pb2.CreateKeyRequest(key=account_pb2.Key(project="search")),
            metadata=(*bearer(SECOND), *spoofed),
        )
        page = await own.usage.ListAttempts(usage_service_pb2.ListAttemptsRequest(page_size=7), metadata=bearer(ADMIN))
        alerts = await own.alerts.ListAlerts(
            alert_service_pb2.ListAlertsRequest(open_only=True), metadata=(("x-api-key", ADMIN),)
        )
        await own.usage.SummarizeAttempts(usage_service_pb2.SummarizeAttemptsRequest(), metadata=bearer(ADMIN))
    assert (made.secret, made.key.project) == ("made", "search")
    assert (page.next_page_token, alerts.alerts[0].id) == ("more", "a1")
    (create,) = [one for one in usage.seen if one[0] == "CreateKey"]
    assert create[1] == account_service_pb2.CreateKeyRequest(key=account_pb2.Key(project="search"))
    assert {name: value for name, value in create[2].items() if name.startswith("x-")} == {
        "x-actor": key_id(SECOND),
        "x-request-id": "req-1",
    }
    assert "authorization" not in create[2]
    assert usage.asked("ListAttempts") == [usage_service_pb2.ListAttemptsRequest(page_size=7)]
    (listed,) = [one for one in usage.seen if one[0] == "ListAlerts"]
    assert listed[2]["x-actor"] == key_id(ADMIN)
    assert len(listed[2]["x-request-id"]) == 32


async def test_nobody_else_passes(tmp_path: Path) -> None:
    usage = ScriptedAccounts()
    usage.issue(SECRET)
    async with doors(tmp_path, usage, admin_keys=(ADMIN,), api_keys=(STATIC,)) as own:
        for metadata, reason, word in (
            ((), "UNAUTHENTICATED", "no admin key given"),
            ((("x-actor", key_id(ADMIN)),), "UNAUTHENTICATED", "no admin key given"),
            (bearer(ADMIN[:-1]), "UNAUTHENTICATED", "the admin key is wrong"),
            (bearer(STATIC), "PERMISSION_DENIED", "this is a caller's key"),
            (bearer(SECRET), "PERMISSION_DENIED", "this is a caller's key"),
        ):
            calls = everything(own, metadata)
            assert len(calls) == 23
            for call in calls:
                error = await refused(call)
                assert (error.reason.name, word in error.message) == (reason, True)
    assert {name for name, _, _ in usage.seen} == {"ResolveKey"}


async def test_without_admin_keys_the_door_is_shut_and_says_how_to_open_it(tmp_path: Path) -> None:
    async with doors(tmp_path, ScriptedAccounts()) as own:
        for call in everything(own, bearer("anything")):
            error = await refused(call)
            assert (error.reason.name, error.message) == (
                "PERMISSION_DENIED",
                "there are no operators: set ADMIN_API_KEY to have some",
            )


async def test_other_keys_open_the_door_once_they_are_reloaded_and_the_old_ones_no_more(tmp_path: Path) -> None:
    settings = RouterSettings(outbox_dir=tmp_path / "outbox", admin_keys=(SECOND,))
    async with doors(tmp_path, ScriptedAccounts(), admin_keys=(ADMIN,)) as own:
        own.component.reload(settings)
        error = await refused(own.usage.ListAttempts(usage_service_pb2.ListAttemptsRequest(), metadata=bearer(ADMIN)))
        assert error.reason.name == "UNAUTHENTICATED"
        await own.usage.ListAttempts(usage_service_pb2.ListAttemptsRequest(), metadata=bearer(SECOND))


@pytest.mark.parametrize("first", [{"admin_keys": (ADMIN,)}, {"api_keys": (SECOND,)}], ids=["operator", "caller"])
async def test_a_gateway_that_gets_its_first_key_is_open_no_more_and_stays_so(
    tmp_path: Path, first: dict[str, Any]
) -> None:
    bare = RouterSettings(outbox_dir=tmp_path / "outbox")
    async with doors(tmp_path, ScriptedAccounts()) as own:
        await own.gateway.ListModels(gateway_service_pb2.ListModelsRequest())
        for settings in (replace(bare, **first), bare):
            own.component.reload(settings)
            error = await refused(own.gateway.ListModels(gateway_service_pb2.ListModelsRequest()))
            assert error.reason.name == "UNAUTHENTICATED"


async def test_a_gateway_that_loses_its_last_key_while_it_runs_stays_shut(tmp_path: Path) -> None:
    async with doors(tmp_path, ScriptedAccounts(), api_keys=(SECOND,)) as own:
        await own.gateway.ListModels(gateway_service_pb2.ListModelsRequest(), metadata=bearer(SECOND))
        own.component.reload(RouterSettings(outbox_dir=tmp_path / "outbox"))
        for metadata in ((), bearer(SECOND)):
            error = await refused(own.gateway.ListModels(gateway_service_pb2.ListModelsRequest(), metadata=metadata))
            assert error.reason.name == "UNAUTHENTICATED"


async def test_what_routers_ask_is_not_for_operators(tmp_path: Path) -> None:
    usage = ScriptedAccounts()
    async with doors(tmp_path, usage, admin_keys=(ADMIN,)) as own:
        inner: list[tuple[Any, Any]] = [
            (own.usage.RecordAttempts, usage_service_pb2.RecordAttemptsRequest()),
            (own.accounts.ResolveKey, account_service_pb2.ResolveKeyRequest()),
            (own.accounts.ReserveBudget, account_service_pb2.ReserveBudgetRequest()),
            (own.accounts.ReleaseBudget, account_service_pb2.ReleaseBudgetRequest()),
            (own.accounts.GetAccountChanges, account_service_pb2.GetAccountChangesRequest()),
        ]
        for method, request in inner:
            error = await refused(method(request, metadata=bearer(ADMIN)))
            name = type(request).__name__.removesuffix("Request")
            assert (error.reason.name, error.message) == ("PERMISSION_DENIED", f"`{name}` is for routers alone")
    assert not usage.seen
    assert not usage.events


async def test_what_the_usage_service_says_comes_back_as_it_is(tmp_path: Path) -> None:
    usage = ScriptedAccounts()
    async with doors(tmp_path, usage, admin_keys=(ADMIN,)) as own:
        key, accounts = bearer(ADMIN), own.accounts
        bad = await refused(accounts.CreateKey(account_service_pb2.CreateKeyRequest(), metadata=key))
        absent = await refused(accounts.RotateKey(account_service_pb2.RotateKeyRequest(), metadata=key))
        usage.away = grpc.StatusCode.UNAVAILABLE
        gone = await refused(accounts.ListProjects(account_service_pb2.ListProjectsRequest(), metadata=key))
        usage.away = grpc.StatusCode.UNKNOWN
        odd = await refused(accounts.ListProjects(account_service_pb2.ListProjectsRequest(), metadata=key))
    assert (bad.reason.name, bad.message, bad.details) == (
        "INVALID_REQUEST",
        "a key needs a project",
        {"param": "project"},
    )
    assert absent.reason.name == "UNIMPLEMENTED"
    assert (gone.reason.name, gone.message) == ("UNAVAILABLE", "the usage service cannot be reached; try again")
    assert (odd.reason.name, "away" in odd.message) == ("INTERNAL", False)


async def test_a_gateway_without_a_ledger_says_so(tmp_path: Path) -> None:
    async with doors(tmp_path, None, admin_keys=(ADMIN,)) as own:
        error = await refused(own.accounts.ListKeys(account_service_pb2.ListKeysRequest(), metadata=bearer(ADMIN)))
    assert (error.reason.name, "usage.enabled" in error.message) == ("UNIMPLEMENTED", True)


async def test_the_router_tells_operators_how_its_providers_are(tmp_path: Path) -> None:
    request = router_admin_service_pb2.GetRouterHealthRequest()
    async with doors(tmp_path, None, admin_keys=(ADMIN,)) as own:
        told = await own.router.GetRouterHealth(request, metadata=bearer(ADMIN))
        assert (await refused(own.router.GetRouterHealth(request))).reason.name == "UNAUTHENTICATED"
    assert told == HEALTH


def test_the_services_of_the_door_are_announced() -> None:
    assert RouterComponent.service_names == ("aigateway.v1.GatewayService", *SERVICE_NAMES)
    assert set(SERVICE_NAMES) == {
        "aigateway.v1.AccountService",
        "aigateway.v1.AlertService",
        "aigateway.v1.RouterAdminService",
        "aigateway.v1.UsageService",
    }


async def test_a_usage_service_that_has_just_started_is_reached_by_the_first_call(tmp_path: Path) -> None:
    """Its router asked it before it was there, so the connection waits for its next try."""
    hops = Hops()
    with hold_port() as held:
        address = f"127.0.0.1:{held.number}"
        channel = grpc_channel(address)
        component = RouterComponent(
            RouterSettings(outbox_dir=tmp_path / "outbox", admin_keys=(ADMIN,)),
            providers={"acme": await hops.to(answering())},
            usage=channel,
        )
        own = Doors(await hops.to(component), component)
        while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            await channel.wait_for_state_change(state)
        server = grpc_server([ScriptedAccounts()], address)
        await server.start()
        try:
            page = await own.usage.ListAttempts(usage_service_pb2.ListAttemptsRequest(), metadata=bearer(ADMIN))
        finally:
            await hops.stop()
            await channel.close()
            await server.drain(1)
    assert page.next_page_token == "more"


async def test_a_usage_service_that_stays_away_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "CONNECT_SECONDS", 0.05)
    hops = Hops()
    with hold_port() as held:
        channel = grpc_channel(f"127.0.0.1:{held.number}")
        component = RouterComponent(
            RouterSettings(outbox_dir=tmp_path / "outbox", admin_keys=(ADMIN,)),
            providers={"acme": await hops.to(answering())},
            usage=channel,
        )
        own = Doors(await hops.to(component), component)
        errors = []
        for _ in range(2):
            with pytest.raises(aio.AioRpcError) as caught:
                await own.usage.ListAttempts(usage_service_pb2.ListAttemptsRequest(), metadata=bearer(ADMIN))
            errors.append((caught.value.code(), caught.value.details()))
        await hops.stop()
        await channel.close()
    assert errors == [(grpc.StatusCode.UNAVAILABLE, "the usage service cannot be reached; try again")] * 2
