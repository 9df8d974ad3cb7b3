"""AccountService on gRPC: which method answers which rpc, and who asks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from aigateway.v1 import account_service_pb2 as pb
from aigateway.v1 import account_service_pb2_grpc
from typing_extensions import override

from aigateway_usage.audit import Act
from aigateway_usage.budget_calls import now_us
from aigateway_usage.calls import Calls

if TYPE_CHECKING:
    from aigateway_common.telemetry import Telemetry
    from grpc import aio

    from aigateway_usage.account_calls import AccountCalls
    from aigateway_usage.budget_calls import BudgetCalls

    _Context = aio.ServicerContext[Any, Any]

SERVICE: Final = pb.DESCRIPTOR.services_by_name["AccountService"].full_name
_Request_contra = TypeVar("_Request_contra", contravariant=True)
_Response_co = TypeVar("_Response_co", covariant=True)


class _Change(Protocol[_Request_contra, _Response_co]):
    async def __call__(self, request: _Request_contra, act: Act) -> _Response_co: ...


class AccountServicer(account_service_pb2_grpc.AccountServiceServicer):
    """Projects, keys and budgets for the router and for those who manage them."""

    def __init__(self, accounts: AccountCalls, budgets: BudgetCalls, telemetry: Telemetry) -> None:
        self._accounts = accounts
        self._budgets = budgets
        self._calls = Calls(SERVICE, telemetry)

    @override
    async def CreateProject(self, request: pb.CreateProjectRequest, context: _Context) -> pb.CreateProjectResponse:
        return await self._change("CreateProject", self._accounts.create_project, request, context)

    @override
    async def ListProjects(self, request: pb.ListProjectsRequest, context: _Context) -> pb.ListProjectsResponse:
        return await self._calls.answer("ListProjects", self._accounts.list_projects, request, context)

    @override
    async def UpdateProject(self, request: pb.UpdateProjectRequest, context: _Context) -> pb.UpdateProjectResponse:
        return await self._change("UpdateProject", self._accounts.update_project, request, context)

    @override
    async def CreateKey(self, request: pb.CreateKeyRequest, context: _Context) -> pb.CreateKeyResponse:
        return await self._change("CreateKey", self._accounts.create_key, request, context)

    @override
    async def ListKeys(self, request: pb.ListKeysRequest, context: _Context) -> pb.ListKeysResponse:
        return await self._calls.answer("ListKeys", self._accounts.list_keys, request, context)

    @override
    async def UpdateKey(self, request: pb.UpdateKeyRequest, context: _Context) -> pb.UpdateKeyResponse:
        return await self._change("UpdateKey", self._accounts.update_key, request, context)

    @override
    async def RotateKey(self, request: pb.RotateKeyRequest, context: _Context) -> pb.RotateKeyResponse:
        return await self._change("RotateKey", self._accounts.rotate_key, request, context)

    @override
    async def RevokeKey(self, request: pb.RevokeKeyRequest, context: _Context) -> pb.RevokeKeyResponse:
        return await self._change("RevokeKey", self._accounts.revoke_key, request, context)

    @override
    async def ResolveKey(self, request: pb.ResolveKeyRequest, context: _Context) -> pb.ResolveKeyResponse:
        return await self._calls.answer("ResolveKey", self._accounts.resolve_key, request, context)

    @override
    async def GetAccountChanges(
        self, request: pb.GetAccountChangesRequest, context: _Context
    ) -> pb.GetAccountChangesResponse:
        return await self._calls.answer("GetAccountChanges", self._accounts.get_account_changes, request, context)

    @override
    async def SetBudget(self, request: pb.SetBudgetRequest, context: _Context) -> pb.SetBudgetResponse:
        return await self._change("SetBudget", self._budgets.set_budget, request, context)

    @override
    async def ListBudgets(self, request: pb.ListBudgetsRequest, context: _Context) -> pb.ListBudgetsResponse:
        return await self._calls.answer("ListBudgets", self._budgets.list_budgets, request, context)

    @override
    async def DeleteBudget(self, request: pb.DeleteBudgetRequest, context: _Context) -> pb.DeleteBudgetResponse:
        return await self._change("DeleteBudget", self._budgets.delete_budget, request, context)

    @override
    async def OverrideBudget(self, request: pb.OverrideBudgetRequest, context: _Context) -> pb.OverrideBudgetResponse:
        return await self._change("OverrideBudget", self._budgets.override_budget, request, context)

    @override
    async def ReserveBudget(self, request: pb.ReserveBudgetRequest, context: _Context) -> pb.ReserveBudgetResponse:
        return await self._calls.answer("ReserveBudget", self._budgets.reserve_budget, request, context)

    @override
    async def ReserveBudgets(self, request: pb.ReserveBudgetsRequest, context: _Context) -> pb.ReserveBudgetsResponse:
        return await self._calls.answer("ReserveBudgets", self._budgets.reserve_budgets, request, context)

    @override
    async def ReleaseBudget(self, request: pb.ReleaseBudgetRequest, context: _Context) -> pb.ReleaseBudgetResponse:
        return await self._calls.answer("ReleaseBudget", self._budgets.release_budget, request, context)

    @override
    async def ListAuditEvents(
        self, request: pb.ListAuditEventsRequest, context: _Context
    ) -> pb.ListAuditEventsResponse:
        return await self._calls.answer("ListAuditEvents", self._accounts.list_audit_events, request, context)

    async def _change(
        self, method: str, work: _Change[_Request_contra, _Response_co], request: _Request_contra, context: _Context
    ) -> _Response_co:
        """Answer a call that changes something, as the act of whoever asks."""
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        act = Act.of(method, metadata, now_us())
        return await self._calls.answer(method, partial(work, act=act), request, context)
