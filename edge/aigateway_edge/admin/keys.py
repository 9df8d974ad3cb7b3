"""`/admin/keys`: who may call. A secret is shown once, in the answer that makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from aigateway.v1 import account_pb2, account_service_pb2
from aigateway_common.errors import GatewayError
from fastapi import Query
from starlette.requests import Request  # noqa: TC002 - FastAPI reads it

from aigateway_edge.admin.json_form import merge, to_json
from aigateway_edge.admin.shapes import Key, KeyChange, Keys, NewKey, NewSecret, Rotation

if TYPE_CHECKING:
    from fastapi import APIRouter

    from aigateway_edge.admin.caller import Admin

InProject = Annotated[str, Query(max_length=64, description="Only this project's.")]
CutCalls = Annotated[bool, Query(description="End its calls under way too.")]


class KeyRoutes:
    """The routes."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    def add_to(self, routes: APIRouter) -> None:
        """Add them."""
        one = "/keys/{id}"
        add = routes.add_api_route
        add("/keys", self.listing, name="listKeys", summary="List keys", response_model=Keys)
        add(
            "/keys",
            self.create,
            methods=["POST"],
            name="createKey",
            summary="Make a key",
            status_code=201,
            response_model=NewSecret,
        )
        add(one, self.change, methods=["PATCH"], name="updateKey", summary="Change a key", response_model=Key)
        add(one, self.revoke, methods=["DELETE"], name="revokeKey", summary="Revoke a key", response_model=Key)
        add(
            f"{one}/rotate",
            self.rotate,
            methods=["POST"],
            name="rotateKey",
            summary="Replace a key",
            status_code=201,
            response_model=NewSecret,
        )

    async def listing(self, request: Request, project: InProject = "") -> Any:
        """List keys, newest first; revoked ones too."""
        asked = account_service_pb2.ListKeysRequest(project=project)
        answer = await self._admin.call(request, self._admin.accounts.ListKeys, asked)
        return to_json(answer)

    async def create(self, request: Request, new: NewKey) -> Any:
        """Make a key. The answer is the only one that ever shows the secret."""
        asked = account_service_pb2.CreateKeyRequest()
        merge(asked.key, new.model_dump(exclude_unset=True))
        answer = await self._admin.call(request, self._admin.accounts.CreateKey, asked)
        return to_json(answer.key) | {"secret": answer.secret}

    async def change(self, request: Request, id: str, change: KeyChange) -> Any:  # noqa: A002 # the name in the path
        """Change what is given of a key, and nothing else."""
        asked = account_service_pb2.UpdateKeyRequest(key=await self._found(request, id))
        merge(asked.key, change.model_dump(exclude_unset=True))
        answer = await self._admin.call(request, self._admin.accounts.UpdateKey, asked)
        return to_json(answer.key)

    async def rotate(self, request: Request, id: str, how: Rotation | None = None) -> Any:  # noqa: A002 # as above
        """Make a successor with the same rights; the old key works on for as long as is asked."""
        overlap = how.overlap_seconds if how else 0
        asked = account_service_pb2.RotateKeyRequest(id=id, overlap_seconds=overlap)
        answer = await self._admin.call(request, self._admin.accounts.RotateKey, asked)
        return to_json(answer.key) | {"secret": answer.secret}

    async def revoke(self, request: Request, id: str, *, cut_calls: CutCalls = False) -> Any:  # noqa: A002 # as above
        """End a key, everywhere within a second."""
        asked = account_service_pb2.RevokeKeyRequest(id=id, cut_calls=cut_calls)
        answer = await self._admin.call(request, self._admin.accounts.RevokeKey, asked)
        return to_json(answer.key)

    async def _found(self, request: Request, wanted: str) -> account_pb2.Key:
        asked = account_service_pb2.ListKeysRequest()
        listed = await self._admin.call(request, self._admin.accounts.ListKeys, asked)
        for key in listed.keys:
            if key.id == wanted:
                return key
        raise GatewayError("NOT_FOUND", f"there is no key `{wanted[:64]}`; `GET /admin/keys` lists them")
