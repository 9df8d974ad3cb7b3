"""Projects and keys as SQL. A change is one transaction with its audit and with what routers are told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from aigateway_common.errors import GatewayError, invalid
from aigateway_common.settings import suggestion
from sqlalchemy import and_, exists, insert, or_, select, update

from aigateway_usage import audit, budget_queries, changes
from aigateway_usage import budgets as rules
from aigateway_usage.account_rows import key_row
from aigateway_usage.keys import ID, generate
from aigateway_usage.tables import budgets, keys, projects

if TYPE_CHECKING:
    from aigateway.v1 import account_pb2
    from sqlalchemy import Connection

    from aigateway_usage.audit import Act
    from aigateway_usage.keys import Secret
    from aigateway_usage.rows import Row

_TRIES: Final = 10
"""Secrets tried until one has an id of its own; the second is needed once in millions of keys."""
_RIGHTS: Final = (
    "name",
    "requests_per_minute",
    "tokens_per_minute",
    "concurrent_calls",
    "allowed_models",
    "default_model",
    "default_max_output_tokens",
)


def create_project(connection: Connection, row: Row, act: Act) -> Row:
    """Make a project.

    Raises:
        GatewayError: INVALID_REQUEST; there is one of that id.
    """
    changes.lock(connection)
    if connection.scalar(select(exists().where(projects.c.id == row["id"]))):
        raise invalid("project.id", f"the project `{row['id']}` exists already; choose another id, or update it")
    made = {**row, "created_at_us": act.at_us}
    connection.execute(insert(projects), made)
    audit.record(connection, act, row["id"], row)
    return made


def update_project(connection: Connection, row: Row, act: Act) -> Row:
    """Replace a project.

    Raises:
        GatewayError: NOT_FOUND.
    """
    changes.lock(connection)
    if not connection.execute(update(projects).where(projects.c.id == row["id"]).values(row)).rowcount:
        _no_project(connection, row["id"])
    changes.project_changed(connection, row["id"])
    audit.record(connection, act, row["id"], row)
    return _project(connection, row["id"])


def list_projects(connection: Connection) -> list[Row]:
    """All projects, by id."""
    return [dict(row) for row in connection.execute(select(projects).order_by(projects.c.id)).mappings()]


def create_key(connection: Connection, project: str, row: Row, act: Act) -> tuple[Row, Secret]:
    """Make a key, with the secret that only its maker learns.

    Raises:
        GatewayError: INVALID_REQUEST; there is no such project.
    """
    changes.lock(connection)
    budget_queries.check_project(connection, project, "key.project")
    return _insert_key(connection, {**row, "project": project}, act)


def update_key(connection: Connection, wanted: account_pb2.Key, act: Act) -> Row:
    """Replace what a request may set of a key that is not revoked; see `find_key` and `account_rows.key_row`."""
    changes.lock(connection)
    found = _working(find_key(connection, wanted.id, "key.id"), "key.id")
    if wanted.project not in {"", found["project"]}:
        raise invalid("key.project", f"`key.project` stays `{found['project']}`; make a new key for another project")
    row = key_row(wanted, act.at_us, expires_before=found["expires_at_us"])
    connection.execute(update(keys).where(keys.c.id == wanted.id).values(row))
    changes.keys_changed(connection, [wanted.id])
    audit.record(connection, act, wanted.id, row)
    return {**found, **row}


def rotate_key(connection: Connection, key: str, overlap_seconds: int, act: Act) -> tuple[Row, Secret]:
    """Make a successor with a key's rights and budgets; the key ends in `overlap_seconds`, or earlier as it was to."""
    changes.lock_budgets(connection)
    old = _working(find_key(connection, key, "id"), "id")
    expires = old["expires_at_us"]
    if expires is not None and expires <= act.at_us:
        raise invalid("id", f"the key `{key}` has expired; make a new one")
    rights: Row = {name: old[name] for name in _RIGHTS}
    rights["project"] = old["project"]
    rights["expires_at_us"] = None if expires is None else act.at_us + expires - old["created_at_us"]
    made, secret = _insert_key(connection, rights, act)
    budget_queries.copy_to_key(connection, key, made["id"], act.at_us)
    end = act.at_us + overlap_seconds * 1_000_000
    ending: Row = {"expires_at_us": min(end, expires or end)} if overlap_seconds else {"revoked_at_us": act.at_us}
    connection.execute(update(keys).where(keys.c.id == key).values(ending))
    changes.keys_changed(connection, [key])
    audit.record(connection, act, key, {"successor": made["id"], **ending})
    return made, secret


def revoke_key(connection: Connection, key: str, act: Act, *, cut: bool) -> Row:
    """End a key, once: a second time keeps the time of the first, but may still end its calls under way."""
    changes.lock(connection)
    found = find_key(connection, key, "id")
    revoked = found["revoked_at_us"] or act.at_us
    connection.execute(update(keys).where(keys.c.id == key).values(revoked_at_us=revoked))
    changes.keys_changed(connection, [key], cut=cut)
    audit.record(connection, act, key, {"revoked_at_us": revoked, "cut_calls": cut})
    return {**found, "revoked_at_us": revoked}


def list_keys(connection: Connection, project: str) -> list[Row]:
    """A project's keys, or all of them; newest first."""
    query = select(keys).order_by(keys.c.created_at_us.desc(), keys.c.id)
    if project:
        query = query.where(keys.c.project == project)
    return [dict(row) for row in connection.execute(query).mappings()]


def find_key(connection: Connection, key: str, field: str) -> Row:
    """A key by its id.

    Raises:
        GatewayError: NOT_FOUND.
    """
    if not ID.fullmatch(key):  # it may be the secret itself, which no message repeats
        message = f"`{field}` is no id of a key, which is `key-` and 8 hexadecimal digits; list the keys to see theirs"
        raise GatewayError("NOT_FOUND", message, details={"param": field})
    found = connection.execute(select(keys).where(keys.c.id == key)).mappings().one_or_none()
    if found is None:
        message = f"there is no key `{key}`; list the keys to see their ids"
        raise GatewayError("NOT_FOUND", message, details={"param": field})
    return dict(found)


def resolve_key(connection: Connection, sha256: str) -> tuple[Row, Row, bool] | None:
    """A key, its project, and whether either has a budget; None when no key has that digest."""
    of_key = and_(budgets.c.scope == rules.KEY, budgets.c.subject == keys.c.id)
    of_project = and_(budgets.c.scope == rules.PROJECT, budgets.c.subject == keys.c.project)
    budgeted = exists(select(budgets.c.id).where(or_(of_key, of_project))).label("budgeted")
    key = connection.execute(select(keys, budgeted).where(keys.c.sha256 == sha256)).mappings().one_or_none()
    if key is None:
        return None
    return dict(key), _project(connection, key["project"]), bool(key["budgeted"])


def _insert_key(connection: Connection, row: Row, act: Act) -> tuple[Row, Secret]:
    for _ in range(_TRIES):
        secret = generate()
        if not connection.scalar(select(exists().where(keys.c.id == secret.id))):
            break
    else:
        raise GatewayError("INTERNAL", "no key with an id of its own could be made; try again")
    made = {"id": secret.id, "sha256": secret.sha256, "prefix": secret.prefix, "created_at_us": act.at_us}
    made |= {"expires_at_us": None, "revoked_at_us": None} | row
    connection.execute(insert(keys), made)
    changes.keys_changed(connection, [secret.id])
    audit.record(connection, act, secret.id, row)
    return made, secret


def _working(found: Row, field: str) -> Row:
    if found["revoked_at_us"] is not None:
        raise invalid(field, f"the key `{found['id']}` is revoked, and stays as it is; make a new one")
    return found


def _project(connection: Connection, project: str) -> Row:
    return dict(connection.execute(select(projects).where(projects.c.id == project)).mappings().one())


def _no_project(connection: Connection, project: str) -> NoReturn:
    near = suggestion(project, connection.scalars(select(projects.c.id)))
    raise GatewayError("NOT_FOUND", f"there is no project `{project}`{near}", details={"param": "project.id"})
