"""What AccountService answers about projects, keys, changes and acts; `budget_calls` has the rest of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aigateway.v1 import account_service_pb2 as pb
from aigateway_common.errors import GatewayError, invalid

from aigateway_usage import account_rows, accounts, audit, changes

if TYPE_CHECKING:
    from aigateway_usage.audit import Act
    from aigateway_usage.changes import Standing
    from aigateway_usage.database import Database

MAX_OVERLAP: Final = 31_536_000
"""Seconds that a rotated key may work on: a year."""
MAX_PAGE: Final = 1000
DEFAULT_PAGE: Final = 100


class AccountCalls:
    """One method per rpc; those that change something take the act, and write it down."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._standing: Standing | None = None

    async def create_project(self, request: pb.CreateProjectRequest, act: Act) -> pb.CreateProjectResponse:
        """Make a project."""
        row = account_rows.project_row(request.project)
        made = await self._database.write(lambda connection: accounts.create_project(connection, row, act))
        return pb.CreateProjectResponse(project=account_rows.to_project(made))

    async def list_projects(self, _request: pb.ListProjectsRequest) -> pb.ListProjectsResponse:
        """All projects."""
        rows = await self._database.read(accounts.list_projects)
        return pb.ListProjectsResponse(projects=map(account_rows.to_project, rows))

    async def update_project(self, request: pb.UpdateProjectRequest, act: Act) -> pb.UpdateProjectResponse:
        """Replace a project."""
        row = account_rows.project_row(request.project)
        changed = await self._database.write(lambda connection: accounts.update_project(connection, row, act))
        return pb.UpdateProjectResponse(project=account_rows.to_project(changed))

    async def create_key(self, request: pb.CreateKeyRequest, act: Act) -> pb.CreateKeyResponse:
        """Make a key."""
        row, project = account_rows.key_row(request.key, act.at_us), request.key.project
        account_rows.check_project_id(project, "key.project")
        made, secret = await self._database.write(lambda connection: accounts.create_key(connection, project, row, act))
        return pb.CreateKeyResponse(key=account_rows.to_key(made), secret=secret.text)

    async def list_keys(self, request: pb.ListKeysRequest) -> pb.ListKeysResponse:
        """The keys of a project, or all."""
        if request.project:
            account_rows.check_project_id(request.project, "project")
        rows = await self._database.read(lambda connection: accounts.list_keys(connection, request.project))
        return pb.ListKeysResponse(keys=map(account_rows.to_key, rows))

    async def update_key(self, request: pb.UpdateKeyRequest, act: Act) -> pb.UpdateKeyResponse:
        """Replace what may be set of a key."""
        changed = await self._database.write(lambda connection: accounts.update_key(connection, request.key, act))
        return pb.UpdateKeyResponse(key=account_rows.to_key(changed))

    async def rotate_key(self, request: pb.RotateKeyRequest, act: Act) -> pb.RotateKeyResponse:
        """Make a successor of a key."""
        overlap = request.overlap_seconds
        if not 0 <= overlap <= MAX_OVERLAP:
            raise invalid("overlap_seconds", f"`overlap_seconds` must be from 0 to {MAX_OVERLAP:,}, which is a year")
        made, secret = await self._database.write(
            lambda connection: accounts.rotate_key(connection, request.id, overlap, act)
        )
        return pb.RotateKeyResponse(key=account_rows.to_key(made), secret=secret.text)

    async def revoke_key(self, request: pb.RevokeKeyRequest, act: Act) -> pb.RevokeKeyResponse:
        """End a key."""
        revoked = await self._database.write(
            lambda connection: accounts.revoke_key(connection, request.id, act, cut=request.cut_calls)
        )
        return pb.RevokeKeyResponse(key=account_rows.to_key(revoked))

    async def resolve_key(self, request: pb.ResolveKeyRequest) -> pb.ResolveKeyResponse:
        """Find a key by the digest of its secret."""
        if len(request.sha256) != 32:
            raise invalid("sha256", "`sha256` must be the SHA-256 digest of the secret, 32 bytes")
        digest = request.sha256.hex()
        found = await self._database.look_up(lambda connection: accounts.resolve_key(connection, digest))
        if found is None:
            raise GatewayError("NOT_FOUND", "no key has this digest", details={"param": "sha256"})
        key, project, budgeted = found
        return pb.ResolveKeyResponse(
            key=account_rows.to_key(key), project=account_rows.to_project(project), budgeted=budgeted
        )

    async def get_account_changes(self, request: pb.GetAccountChangesRequest) -> pb.GetAccountChangesResponse:
        """What changed since a revision; one look at the database when nothing did."""
        after = max(request.after_revision, 0)
        found = await self._database.look_up(lambda connection: changes.since(connection, after))
        standing = self._standing
        if standing is None or standing.revision != found.revision:
            standing = await self._database.look_up(lambda connection: changes.standing(connection, found.revision))
            self._standing = standing
        return pb.GetAccountChangesResponse(
            revision=found.revision,
            changed_keys=found.keys,
            cut_keys=found.cut,
            forget_all=found.forget_all,
            has_keys=standing.has_keys,
            budgeted_providers=standing.budgeted_providers,
            default_budgeted=standing.default_budgeted,
            default_project=standing.default_project,
        )

    async def list_audit_events(self, request: pb.ListAuditEventsRequest) -> pb.ListAuditEventsResponse:
        """Administrative acts, newest first."""
        if not 0 <= request.page_size <= MAX_PAGE:
            raise invalid("page_size", f"`page_size` must be from 1 to {MAX_PAGE:,}, or 0 for {DEFAULT_PAGE}")
        if request.before_id < 0:
            raise invalid("before_id", "`before_id` must be the id of an act, or 0 for the newest")
        size = request.page_size or DEFAULT_PAGE
        rows = await self._database.read(lambda connection: audit.page(connection, request.before_id, size))
        return pb.ListAuditEventsResponse(events=map(audit.to_event, rows))
