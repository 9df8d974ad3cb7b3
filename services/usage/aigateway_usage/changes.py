"""What routers are told: which accounts changed since they last asked, and what holds for callers without a key.

Every change takes the next revision under a lock, so that revisions are committed in their order whatever number of
usage services there are: a router that has seen one has seen all before it. What routers ask is one look at an index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, bindparam, delete, exists, func, insert, or_, select

from aigateway_usage import budgets as rules
from aigateway_usage import database
from aigateway_usage.account_rows import DEFAULT_PROJECT, to_project
from aigateway_usage.tables import account_changes, budgets, keys, projects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aigateway.v1 import account_pb2
    from sqlalchemy import Connection

KEPT: Final = 1000
"""Revisions that are kept; who asks from before them forgets everything."""
MAX_NAMED: Final = 100
"""Keys that one change names; a change of more is one of everything."""

_revision: Final = account_changes.c.revision
_NEWEST: Final = select(func.max(_revision))
_SINCE: Final = select(account_changes).where(_revision >= bindparam("after")).order_by(_revision).limit(KEPT + 1)


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed after a revision."""

    revision: int
    keys: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
    forget_all: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """What holds for everybody, as of a revision."""

    revision: int
    has_keys: bool
    budgeted_providers: tuple[str, ...]
    default_budgeted: bool
    default_project: account_pb2.Project


def lock(connection: Connection) -> None:
    """Let no one else change accounts until this transaction has ended; comes before what the change looks at."""
    database.lock(connection, "EXCLUSIVE", account_changes)  # readers go on


def lock_budgets(connection: Connection) -> None:
    """`lock`, and wait for whoever has looked at the budgets, while new ones wait for this transaction.

    So what a call costs is counted once: by the budgets as they were before, or as they are afterwards.
    """
    database.lock(connection, "ACCESS EXCLUSIVE", budgets, account_changes)


def keys_changed(connection: Connection, ids: Sequence[str], *, cut: bool = False) -> None:
    """Note that keys changed; with `cut`, that their calls under way must end. Without any: something else did."""
    if len(ids) > MAX_NAMED:
        _add(connection, [{"key_id": None, "cut": False, "forget_all": True}])
    else:
        _add(connection, [{"key_id": key, "cut": cut, "forget_all": False} for key in ids or (None,)])


def project_changed(connection: Connection, project: str) -> None:
    """Note that a project changed, or its budgets did."""
    of_project = select(keys.c.id).where(keys.c.project == project).limit(MAX_NAMED + 1)
    keys_changed(connection, connection.scalars(of_project).all())


def budget_changed(connection: Connection, scope: str, subject: str) -> None:
    """Note that a budget changed."""
    match scope:
        case rules.KEY:
            keys_changed(connection, [subject])
        case rules.PROJECT:
            project_changed(connection, subject)
        case _:
            keys_changed(connection, [])


def since(connection: Connection, after: int) -> Changes:
    """What changed after a revision, 0 for one who knows nothing yet."""
    rows = connection.execute(_SINCE, {"after": after}).all() if after else ()
    if not rows or rows[0].revision != after or len(rows) > KEPT:
        # It is no longer kept, or is of another database: the first row would be its own.
        return Changes(connection.scalar(_NEWEST) or 0, forget_all=True)
    new = rows[1:]
    return Changes(
        rows[-1].revision,
        keys=tuple(dict.fromkeys(row.key_id for row in new if row.key_id)),
        cut=tuple(dict.fromkeys(row.key_id for row in new if row.key_id and row.cut)),
        forget_all=any(row.forget_all for row in new),
    )


def standing(connection: Connection, revision: int) -> Standing:
    """What holds at that revision or later."""
    providers = select(budgets.c.subject).where(budgets.c.scope == rules.PROVIDER).distinct().order_by("subject")
    of_default = or_(
        and_(budgets.c.scope == rules.PROJECT, budgets.c.subject == DEFAULT_PROJECT),
        and_(budgets.c.scope == rules.KEY, budgets.c.subject.not_in(select(keys.c.id))),
    )
    default = connection.execute(select(projects).where(projects.c.id == DEFAULT_PROJECT)).mappings().one()
    return Standing(
        revision,
        has_keys=bool(connection.scalar(select(exists(select(keys.c.id))))),
        budgeted_providers=tuple(connection.scalars(providers)),
        default_budgeted=bool(connection.scalar(select(exists(select(budgets.c.id).where(of_default))))),
        default_project=to_project(dict(default)),
    )


def _add(connection: Connection, rows: list[dict[str, Any]]) -> None:
    newest = connection.scalar(_NEWEST) or 0
    connection.execute(insert(account_changes), [{"revision": newest + at, **row} for at, row in enumerate(rows, 1)])
    connection.execute(delete(account_changes).where(_revision <= newest + len(rows) - KEPT))
