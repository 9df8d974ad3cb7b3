"""`/admin/projects`: what keys and budgets belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aigateway.v1 import account_pb2, account_service_pb2
from aigateway_common.errors import GatewayError
from starlette.requests import Request  # noqa: TC002 - FastAPI reads it

from aigateway_edge.admin.json_form import merge, to_json
from aigateway_edge.admin.shapes import NewProject, Project, ProjectChange, Projects

if TYPE_CHECKING:
    from fastapi import APIRouter

    from aigateway_edge.admin.caller import Admin


class ProjectRoutes:
    """The routes."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    def add_to(self, routes: APIRouter) -> None:
        """Add them."""
        one = "/projects/{id}"
        add = routes.add_api_route
        add("/projects", self.listing, name="listProjects", summary="List projects", response_model=Projects)
        add(
            "/projects",
            self.create,
            methods=["POST"],
            name="createProject",
            summary="Make a project",
            status_code=201,
            response_model=Project,
        )
        add(one, self.get, name="getProject", summary="Show a project", response_model=Project)
        add(
            one,
            self.change,
            methods=["PATCH"],
            name="updateProject",
            summary="Change a project",
            response_model=Project,
        )

    async def listing(self, request: Request) -> Any:
        """List projects, by id."""
        asked = account_service_pb2.ListProjectsRequest()
        answer = await self._admin.call(request, self._admin.accounts.ListProjects, asked)
        return to_json(answer)

    async def get(self, request: Request, id: str) -> Any:  # noqa: A002 # the name in the path
        """Show a project."""
        return to_json(await self._found(request, id))

    async def create(self, request: Request, new: NewProject) -> Any:
        """Make a project."""
        asked = account_service_pb2.CreateProjectRequest()
        merge(asked.project, new.model_dump(exclude_unset=True))
        answer = await self._admin.call(request, self._admin.accounts.CreateProject, asked)
        return to_json(answer.project)

    async def change(self, request: Request, id: str, change: ProjectChange) -> Any:  # noqa: A002 # as above
        """Change what is given of a project, and nothing else."""
        asked = account_service_pb2.UpdateProjectRequest(project=await self._found(request, id))
        merge(asked.project, change.model_dump(exclude_unset=True))
        answer = await self._admin.call(request, self._admin.accounts.UpdateProject, asked)
        return to_json(answer.project)

    async def _found(self, request: Request, wanted: str) -> account_pb2.Project:
        asked = account_service_pb2.ListProjectsRequest()
        listed = await self._admin.call(request, self._admin.accounts.ListProjects, asked)
        for project in listed.projects:
            if project.id == wanted:
                return project
        raise GatewayError("NOT_FOUND", f"there is no project `{wanted[:64]}`; `GET /admin/projects` lists them")
