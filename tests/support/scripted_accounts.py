"""A usage service beside a router: tests set its keys, projects and budgets; it tells of changes as the real one."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Any

import grpc
from aigateway.v1 import (
    account_pb2,
    account_service_pb2,
    account_service_pb2_grpc,
    alert_service_pb2,
    alert_service_pb2_grpc,
    usage_service_pb2,
)
from aigateway_common.errors import GatewayError, abort
from grpc import aio
from typing_extensions import override

from support.router import ScriptedLedger


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def bearer(secret: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {secret}"),)


class ScriptedAccounts(ScriptedLedger, account_service_pb2_grpc.AccountServiceServicer):
    """Keys by their secrets. `seen` holds each rpc's name, request and metadata, polls left out."""

    service_names: tuple[str, ...] = (
        "aigateway.v1.UsageService",
        "aigateway.v1.AccountService",
        "aigateway.v1.AlertService",
    )

    def __init__(self) -> None:
        super().__init__()
        self.projects: dict[str, account_pb2.Project] = {"default": account_pb2.Project(id="default")}
        self.keys: dict[str, account_pb2.Key] = {}
        self.digests: dict[bytes, str] = {}
        self.budgeted: set[str] = set()
        """Ids of keys."""
        self.changes = account_service_pb2.GetAccountChangesResponse(revision=1)
        self.budgets: list[account_pb2.Budget] = []
        self.reserve: Callable[[account_service_pb2.ReserveBudgetRequest], Any] = lambda _: (
            account_service_pb2.ReserveBudgetResponse()
        )
        self.away: grpc.StatusCode | None = None
        """What every rpc ends with, while set."""
        self.resolving = asyncio.Event()
        """Cleared: keys are found, but not told yet."""
        self.resolving.set()
        self.together = True
        """Whether several reservations can be asked for at once, which older services cannot."""
        self.reserving = asyncio.Event()
        """Cleared: reservations are asked for, but not made yet."""
        self.reserving.set()
        self.seen: list[tuple[str, Any, dict[str, str]]] = []
        self._polled = asyncio.Condition()
        self._polls = 0

    @override
    def register(self, server: aio.Server) -> None:
        super().register(server)
        account_service_pb2_grpc.add_AccountServiceServicer_to_server(self, server)
        alert_service_pb2_grpc.add_AlertServiceServicer_to_server(_Alerts(self), server)

    # What a test does.

    def issue(self, secret: str, project: str = "default", **fields: Any) -> account_pb2.Key:
        """A key; its project is made as well."""
        key = account_pb2.Key(id=f"key-{digest(secret).hex()[:8]}", project=project, **fields)
        self.projects.setdefault(project, account_pb2.Project(id=project))
        self.keys[key.id] = key
        self.digests[digest(secret)] = key.id
        self.changed(key.id)
        return key

    def changed(self, *keys: str, cut: bool = False) -> None:
        """Tell of changed keys at the next poll."""
        if self.changes.revision == self._told:
            del self.changes.changed_keys[:], self.changes.cut_keys[:]
        self.changes.revision += 1
        self.changes.has_keys = bool(self.keys)
        self.changes.default_project.CopyFrom(self.projects["default"])
        self.changes.changed_keys.extend(keys)
        if cut:
            self.changes.cut_keys.extend(keys)

    def revoke(self, key: account_pb2.Key, *, cut: bool = False) -> None:
        key.revoked_at_us = time.time_ns() // 1000
        self.changed(key.id, cut=cut)

    async def polls(self, count: int = 2) -> None:
        """Wait for `count` questions for changes; the router has taken what there was before the last of them."""
        async with asyncio.timeout(20), self._polled:
            wanted = self._polls + count
            await self._polled.wait_for(lambda: self._polls >= wanted)

    async def until_asked(self, name: str, count: int = 1) -> None:
        """Wait until the rpc `name` has been called `count` times in all."""
        async with asyncio.timeout(20), self._polled:
            await self._polled.wait_for(lambda: len(self.asked(name)) >= count)

    def asked(self, name: str) -> list[Any]:
        return [request for seen, request, _ in self.seen if seen == name]

    # What the router asks.

    _told = 0

    async def _begin(self, name: str, request: Any, context: Any) -> None:
        if name != "GetAccountChanges":
            metadata = {key: str(value) for key, value in context.invocation_metadata()}
            async with self._polled:
                self.seen.append((name, request, metadata))
                self._polled.notify_all()
        if self.away is not None:
            await context.abort(self.away, "away")

    @override
    async def GetAccountChanges(self, request: Any, context: Any) -> Any:
        async with self._polled:
            self._polls += 1
            self._polled.notify_all()
        await self._begin("GetAccountChanges", request, context)
        answer = account_service_pb2.GetAccountChangesResponse()
        answer.CopyFrom(self.changes)
        self._told = answer.revision
        if request.after_revision == answer.revision:
            del answer.changed_keys[:], answer.cut_keys[:]
        return answer

    @override
    async def ResolveKey(self, request: Any, context: Any) -> Any:
        await self._begin("ResolveKey", request, context)
        key_id = self.digests.get(request.sha256)
        if key_id is None:
            await abort(context, GatewayError("NOT_FOUND", "no such key"))
        key = self.keys[key_id]
        answer = account_service_pb2.ResolveKeyResponse(
            key=key, project=self.projects[key.project], budgeted=key_id in self.budgeted
        )
        await self.resolving.wait()
        return answer

    @override
    async def ReserveBudget(self, request: Any, context: Any) -> Any:
        await self._begin("ReserveBudget", request, context)
        await self.reserving.wait()
        answer = self.reserve(request)
        if isinstance(answer, GatewayError):
            await abort(context, answer)
        return answer

    @override
    async def ReserveBudgets(self, request: Any, context: Any) -> Any:
        await self._begin("ReserveBudgets", request, context)
        if not self.together:
            await self._absent(request, context)
        await self.reserving.wait()
        return account_service_pb2.ReserveBudgetsResponse(answers=map(self._reservation, request.reservations))

    def _reservation(self, request: Any) -> Any:
        answer = self.reserve(request)
        if isinstance(answer, GatewayError):
            return account_service_pb2.ReservationAnswer(refusal=answer.to_status().SerializeToString())
        return account_service_pb2.ReservationAnswer(reserved=answer)

    @override
    async def ReleaseBudget(self, request: Any, context: Any) -> Any:
        await self._begin("ReleaseBudget", request, context)
        return account_service_pb2.ReleaseBudgetResponse()

    @override
    async def ListProjects(self, request: Any, context: Any) -> Any:
        await self._begin("ListProjects", request, context)
        return account_service_pb2.ListProjectsResponse(projects=self.projects.values())

    @override
    async def ListBudgets(self, request: Any, context: Any) -> Any:
        await self._begin("ListBudgets", request, context)
        return account_service_pb2.ListBudgetsResponse(budgets=self.budgets)

    @override
    async def CreateKey(self, request: Any, context: Any) -> Any:
        await self._begin("CreateKey", request, context)
        if not request.key.project:
            await abort(context, GatewayError("INVALID_REQUEST", "a key needs a project", details={"param": "project"}))
        return account_service_pb2.CreateKeyResponse(key=self.issue("made", request.key.project), secret="made")

    @override
    async def ListAttempts(self, request: Any, context: Any) -> Any:
        await self._begin("ListAttempts", request, context)
        return usage_service_pb2.ListAttemptsResponse(next_page_token="more")

    @override
    async def SummarizeAttempts(self, request: Any, context: Any) -> Any:
        await self._begin("SummarizeAttempts", request, context)
        return usage_service_pb2.SummarizeAttemptsResponse()

    async def _absent(self, request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    CreateProject = UpdateProject = ListKeys = UpdateKey = RotateKey = RevokeKey = _absent
    SetBudget = DeleteBudget = OverrideBudget = ListAuditEvents = _absent


class _Alerts(alert_service_pb2_grpc.AlertServiceServicer):
    def __init__(self, accounts: ScriptedAccounts) -> None:
        self._accounts = accounts

    @override
    async def ListAlerts(self, request: Any, context: Any) -> Any:
        await self._accounts._begin("ListAlerts", request, context)
        return alert_service_pb2.ListAlertsResponse(alerts=[alert_service_pb2.Alert(id="a1")])
