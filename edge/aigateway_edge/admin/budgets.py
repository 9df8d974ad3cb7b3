"""`/admin/budgets`: how much money calls may cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from aigateway.v1 import account_pb2, account_service_pb2
from fastapi import Query
from starlette.requests import Request  # noqa: TC002 - FastAPI reads it
from starlette.responses import Response

from aigateway_edge.admin.json_form import merge, number, to_json
from aigateway_edge.admin.shapes import Budget, Budgets, NewBudget, Scope

if TYPE_CHECKING:
    from fastapi import APIRouter

    from aigateway_edge.admin.caller import Admin

OfScope = Annotated[Scope | None, Query(description="Only of this scope.")]
OfSubject = Annotated[str, Query(max_length=200, description="Only of this subject.")]


class BudgetRoutes:
    """The routes."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    def add_to(self, routes: APIRouter) -> None:
        """Add them."""
        one = "/budgets/{id:path}"  # a provider's name is part of it, and may hold a slash
        add = routes.add_api_route
        add("/budgets", self.listing, name="listBudgets", summary="List budgets", response_model=Budgets)
        add("/budgets", self.put, methods=["PUT"], name="setBudget", summary="Set a budget", response_model=Budget)
        add(
            one,
            self.delete,
            methods=["DELETE"],
            name="deleteBudget",
            summary="Remove a budget",
            status_code=204,
            response_model=None,
        )
        add(
            f"{one}/override",
            self.override,
            methods=["POST"],
            name="overrideBudget",
            summary="Let calls through beyond a budget",
            response_model=Budget,
        )
        add(
            f"{one}/revert",
            self.revert,
            methods=["POST"],
            name="revertBudget",
            summary="Take an override back",
            response_model=Budget,
        )

    async def listing(self, request: Request, scope: OfScope = None, subject: OfSubject = "") -> Any:
        """List budgets with what is spent in this period."""
        asked = account_service_pb2.ListBudgetsRequest(subject=subject)
        if scope is not None:
            kind = account_pb2.BudgetScope.DESCRIPTOR
            asked.scope = account_pb2.BudgetScope.ValueType(number(kind, scope))
        answer = await self._admin.call(request, self._admin.accounts.ListBudgets, asked)
        return to_json(answer)

    async def put(self, request: Request, budget: NewBudget) -> Any:
        """Make a budget, or change the one of the same scope, subject and period."""
        asked = account_service_pb2.SetBudgetRequest()
        merge(asked.budget, budget.model_dump())
        answer = await self._admin.call(request, self._admin.accounts.SetBudget, asked)
        return to_json(answer.budget)

    async def delete(self, request: Request, id: str) -> Response:  # noqa: A002 # the name in the path
        """Remove a budget; what was spent is still in the ledger."""
        asked = account_service_pb2.DeleteBudgetRequest(id=id)
        await self._admin.call(request, self._admin.accounts.DeleteBudget, asked)
        return Response(status_code=204)

    async def override(self, request: Request, id: str) -> Any:  # noqa: A002 # as above
        """Let calls through beyond the limit until the period ends."""
        return await self._override(request, id, revert=False)

    async def revert(self, request: Request, id: str) -> Any:  # noqa: A002 # as above
        """Hold calls to the limit again."""
        return await self._override(request, id, revert=True)

    async def _override(self, request: Request, wanted: str, *, revert: bool) -> Any:
        asked = account_service_pb2.OverrideBudgetRequest(id=wanted, revert=revert)
        answer = await self._admin.call(request, self._admin.accounts.OverrideBudget, asked)
        return to_json(answer.budget)
