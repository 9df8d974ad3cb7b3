"""Projects, keys and budgets to rows and back; pure. What makes no sense is refused here, with field and fix."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aigateway.v1 import account_pb2
from aigateway_common.errors import invalid

from aigateway_usage import budgets as rules
from aigateway_usage.keys import ID as KEY_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_usage.rows import Row

DEFAULT_PROJECT: Final = "default"
MAX_NAME: Final = 200
MAX_MODELS: Final = 1000
MAX_MODEL: Final = 256

_PROJECT_ID: Final = re.compile(r"[a-z0-9-]{1,63}")
_PROVIDER: Final = re.compile(r"[!-~]{1,63}")
_LIMITS: Final = ("requests_per_minute", "tokens_per_minute", "concurrent_calls")
_Holder = TypeVar("_Holder", account_pb2.Project, account_pb2.Key)


def project_row(project: account_pb2.Project) -> Row:
    """What a request sets of a project.

    Raises:
        GatewayError: INVALID_REQUEST that names the field, such as `project.id`.
    """
    check_project_id(project.id, "project.id")
    name = checked_text(project.name, "project.name", MAX_NAME) or project.id
    return {"id": project.id, "name": name, **_rights(project, "project"), "disabled": project.disabled}


def key_row(key: account_pb2.Key, now_us: int, *, expires_before: int | None = None) -> Row:
    """What a request sets of a key, its project aside; `expires_before` is the expiry that it has.

    Raises:
        GatewayError: INVALID_REQUEST that names the field, such as `key.expires_at_us`.
    """
    expires = key.expires_at_us if key.HasField("expires_at_us") else None
    if expires is not None and expires != expires_before and not now_us < expires <= rules.NEVER_US:
        raise invalid(
            "key.expires_at_us", "`key.expires_at_us` must lie ahead; leave it out for a key that never expires"
        )
    name = checked_text(key.name, "key.name", MAX_NAME)
    return {"name": name, **_rights(key, "key"), "expires_at_us": expires}


def budget_row(budget: account_pb2.Budget) -> Row:
    """What a request sets of a budget.

    Raises:
        GatewayError: INVALID_REQUEST that names the field, such as `budget.limit_usd`.
    """
    scope, period = rules.SCOPES.get(budget.scope), rules.PERIODS.get(budget.period)
    if scope is None:
        raise invalid("budget.scope", "`budget.scope` is missing or unknown; set it to key, project or provider")
    if period is None:
        raise invalid("budget.period", "`budget.period` is missing or unknown; set it to day, week, month or total")
    form, what = _SUBJECTS[scope]
    if not form.fullmatch(budget.subject):
        raise invalid("budget.subject", f"`budget.subject` must be {what}")
    if not math.isfinite(budget.limit_usd) or not 0 < budget.limit_usd <= rules.MAX_LIMIT_USD:
        most = f"{rules.MAX_LIMIT_USD:,}"
        raise invalid("budget.limit_usd", f"`budget.limit_usd` must be US dollars, more than 0 and at most {most}")
    return {
        "id": rules.budget_id(scope, budget.subject, period),
        "scope": scope,
        "subject": budget.subject,
        "period": period,
        "limit_nano": max(rules.from_usd(budget.limit_usd), 1),
        "allow_unpriced": budget.allow_unpriced,
    }


_SUBJECTS: Final = {
    rules.KEY: (KEY_ID, "the id of a key, `key-` and 8 hexadecimal digits"),
    rules.PROJECT: (_PROJECT_ID, "the id of a project"),
    rules.PROVIDER: (_PROVIDER, "the name of a provider"),
}


def check_project_id(project: str, field: str) -> None:
    """Refuse what is no id of a project.

    Raises:
        GatewayError: INVALID_REQUEST that names the field.
    """
    if not _PROJECT_ID.fullmatch(project):
        what = "must have" if project else "is missing; it has"
        raise invalid(field, f"`{field}` {what} 1 to 63 lower-case letters, digits and hyphens")


def to_project(row: Mapping[str, Any]) -> account_pb2.Project:
    """The project that a row holds."""
    project = account_pb2.Project(
        id=row["id"], name=row["name"], created_at_us=row["created_at_us"], disabled=bool(row["disabled"])
    )
    return _with_rights(project, row)


def to_key(row: Mapping[str, Any]) -> account_pb2.Key:
    """The key that a row holds."""
    key = account_pb2.Key(
        id=row["id"],
        project=row["project"],
        name=row["name"],
        prefix=row["prefix"],
        created_at_us=row["created_at_us"],
        expires_at_us=row["expires_at_us"],
        revoked_at_us=row["revoked_at_us"],
    )
    return _with_rights(key, row)


def to_budget(row: Mapping[str, Any], now_us: int) -> account_pb2.Budget:
    """The budget that a row of `budget_queries.states` holds."""
    overridden = row["overridden_until_us"]
    return account_pb2.Budget(
        id=row["id"],
        scope=rules.SCOPE_OF[row["scope"]],
        subject=row["subject"],
        period=rules.PERIOD_OF[row["period"]],
        limit_usd=rules.to_usd(row["limit_nano"]),
        allow_unpriced=bool(row["allow_unpriced"]),
        spent_usd=rules.to_usd(row["spent_nano"]),
        reserved_usd=rules.to_usd(row["reserved_nano"]),
        resets_at_us=rules.period_end(row["period"], now_us),
        overridden_until_us=overridden if overridden is not None and overridden > now_us else None,
    )


def _rights(holder: account_pb2.Project | account_pb2.Key, of: str) -> Row:
    row: Row = {name: _limit(holder, name, of) for name in _LIMITS}
    row["allowed_models"] = json.dumps(_models(holder, of), ensure_ascii=False)
    defaults = holder.defaults
    row["default_model"] = checked_text(defaults.model, f"{of}.defaults.model", MAX_MODEL) or None
    most = defaults.max_output_tokens if defaults.HasField("max_output_tokens") else None
    if most is not None and most < 1:
        field = f"{of}.defaults.max_output_tokens"
        raise invalid(field, f"`{field}` must be 1 or more; leave it out for the provider's own")
    row["default_max_output_tokens"] = most
    return row


def _limit(holder: account_pb2.Project | account_pb2.Key, name: str, of: str) -> int | None:
    if not holder.limits.HasField(name):  # type: ignore[arg-type] # a name from the list of its fields
        return None
    value: int = getattr(holder.limits, name)
    if value < 1:
        raise invalid(f"{of}.limits.{name}", f"`{of}.limits.{name}` must be 1 or more; leave it out for no limit")
    return value


def _models(holder: account_pb2.Project | account_pb2.Key, of: str) -> list[str]:
    if len(holder.allowed_models) > MAX_MODELS:
        raise invalid(f"{of}.allowed_models", f"`{of}.allowed_models` holds more than {MAX_MODELS} names; use patterns")
    for at, name in enumerate(holder.allowed_models):
        field = f"{of}.allowed_models[{at}]"
        if not checked_text(name, field, MAX_MODEL).strip():
            raise invalid(field, f"`{field}` is empty; name a model, or leave the list empty to allow all")
    return list(holder.allowed_models)


def checked_text(text: str, field: str, most: int) -> str:
    """The text, if both databases and a terminal can show it.

    Raises:
        GatewayError: INVALID_REQUEST that names the field.
    """
    if len(text) > most or not text.isprintable():
        raise invalid(field, f"`{field}` must be at most {most} printable characters")
    return text


def _with_rights(holder: _Holder, row: Mapping[str, Any]) -> _Holder:
    limits = {name: row[name] for name in _LIMITS if row[name] is not None}
    if limits:
        holder.limits.CopyFrom(account_pb2.Limits(**limits))
    holder.allowed_models.extend(json.loads(row["allowed_models"]))
    model, most = row["default_model"], row["default_max_output_tokens"]
    if model or most is not None:
        holder.defaults.CopyFrom(account_pb2.CallDefaults(model=model or "", max_output_tokens=most))
    return holder
