"""AccountService on a real port, on both databases: projects, keys, what routers are told, and who did what."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from aigateway.v1 import account_pb2
from aigateway.v1 import account_service_pb2 as pb
from aigateway_common import metrics
from aigateway_usage import accounts, changes, keys
from aigateway_usage.server import UsageComponent
from aigateway_usage.settings import UsageSettings
from support.accounts import Service, books, refusal, service
from support.attempts import attempt, record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_KEY = account_pb2.BUDGET_SCOPE_KEY
_PROVIDER = account_pb2.BUDGET_SCOPE_PROVIDER
_RIGHTS: dict[str, Any] = {
    "limits": account_pb2.Limits(requests_per_minute=60),
    "allowed_models": ["smart"],
    "defaults": account_pb2.CallDefaults(model="smart"),
}


@pytest.fixture
async def one(database_url: str) -> AsyncIterator[Service]:
    async with service(database_url) as running:
        yield running


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


async def resolve(one: Service, secret: str) -> pb.ResolveKeyResponse:
    return await one.accounts.ResolveKey(pb.ResolveKeyRequest(sha256=digest(secret)))


async def revoke(one: Service, key: str, **fields: Any) -> account_pb2.Key:
    return (await one.accounts.RevokeKey(pb.RevokeKeyRequest(id=key, **fields))).key


def now() -> int:
    return time.time_ns() // 1000


# Projects.


async def test_the_project_default_is_always_there(one: Service) -> None:
    (default,) = (await one.accounts.ListProjects(pb.ListProjectsRequest())).projects
    assert (default.id, default.name, default.disabled) == ("default", "Default", False)
    assert 0 < default.created_at_us <= now()


async def test_a_project_is_made_listed_and_replaced(one: Service) -> None:
    made = await one.project("search", name="Search", **_RIGHTS)
    assert made.created_at_us > 0
    assert (await one.project("ads")).name == "ads"
    changed = account_pb2.Project(id="search", name="Find", disabled=True)
    answer = await one.accounts.UpdateProject(pb.UpdateProjectRequest(project=changed))
    changed.created_at_us = made.created_at_us
    assert answer.project == changed
    listed = (await one.accounts.ListProjects(pb.ListProjectsRequest())).projects
    assert [project.id for project in listed] == ["ads", "default", "search"]
    assert listed[2] == changed


async def test_a_project_that_is_there_or_is_not_is_said_so(one: Service) -> None:
    await one.project("search")
    error = await refusal(one.project("search"))
    assert (error.reason.name, error.details) == ("INVALID_REQUEST", {"param": "project.id"})
    unknown = pb.UpdateProjectRequest(project=account_pb2.Project(id="serach"))
    error = await refusal(one.accounts.UpdateProject(unknown))
    assert (error.reason.name, error.details) == ("NOT_FOUND", {"param": "project.id"})
    assert "did you mean `search`?" in error.message


# Keys.


async def test_a_key_is_shown_once_and_found_by_its_digest(one: Service) -> None:
    project = await one.project("search", **_RIGHTS)
    made = await one.key("search", name="CI", expires_at_us=now() + 10**9, **_RIGHTS)
    assert made.secret.startswith(made.key.prefix)
    found = await resolve(one, made.secret)
    assert found == pb.ResolveKeyResponse(key=made.key, project=project, budgeted=False)
    assert made.key.id == f"key-{digest(made.secret).hex()[:8]}"
    assert (made.key.name, made.key.project, list(made.key.allowed_models)) == ("CI", "search", ["smart"])


async def test_a_secret_is_stored_nowhere(database_url: str) -> None:
    async with service(database_url) as one:
        made = await one.key(name="CI")
        rotated = await one.accounts.RotateKey(pb.RotateKeyRequest(id=made.key.id, overlap_seconds=1))
    async with books(database_url) as kept:
        tables = ["keys", "audit_events", "account_changes"]
        stored = str([await kept.rows(f"SELECT * FROM {table}") for table in tables])
    for key, secret in ((made.key, made.secret), (rotated.key, rotated.secret)):
        assert key.id in stored
        assert secret not in stored
        assert secret[10:] not in stored


async def test_an_unknown_digest_is_not_found_and_half_a_digest_is_refused(one: Service) -> None:
    error = await refusal(resolve(one, "gw-nobody"))
    assert error.reason.name == "NOT_FOUND"
    error = await refusal(one.accounts.ResolveKey(pb.ResolveKeyRequest(sha256=b"x" * 31)))
    assert (error.reason.name, error.details) == ("INVALID_REQUEST", {"param": "sha256"})


async def test_a_key_belongs_to_a_project_that_there_is(one: Service) -> None:
    await one.project("search")
    for project, words in (("", "is missing"), ("Search", "lower-case"), ("serach", "did you mean `search`?")):
        error = await refusal(one.key(project))
        assert (error.reason.name, error.details) == ("INVALID_REQUEST", {"param": "key.project"})
        assert words in error.message


async def test_keys_are_listed_newest_first_by_project(one: Service) -> None:
    await one.project("search")
    made = [(await one.key(project)).key for project in ("default", "search", "default")]
    listed = (await one.accounts.ListKeys(pb.ListKeysRequest())).keys
    assert sorted(listed, key=lambda key: -key.created_at_us) == list(listed)
    assert {key.id for key in listed} == {key.id for key in made}
    assert list((await one.accounts.ListKeys(pb.ListKeysRequest(project="search"))).keys) == [made[1]]
    error = await refusal(one.accounts.ListKeys(pb.ListKeysRequest(project="a\0b")))
    assert error.details == {"param": "project"}


async def test_a_key_is_replaced_but_for_what_the_service_sets(one: Service) -> None:
    made = await one.key(name="CI", **_RIGHTS)
    wanted = account_pb2.Key(id=made.key.id, name="CD", prefix="mine", created_at_us=1, revoked_at_us=1)
    answer = await one.accounts.UpdateKey(pb.UpdateKeyRequest(key=wanted))
    expected = account_pb2.Key()
    expected.CopyFrom(made.key)
    expected.name = "CD"
    for field in ("limits", "allowed_models", "defaults"):
        expected.ClearField(field)
    assert answer.key == expected == (await resolve(one, made.secret)).key


async def test_a_key_changes_neither_its_project_nor_after_it_was_revoked(one: Service) -> None:
    await one.project("search")
    made = await one.key()

    async def update(**fields: Any) -> None:
        await one.accounts.UpdateKey(pb.UpdateKeyRequest(key=account_pb2.Key(**fields)))

    assert (await refusal(update(id=made.key.id, project="search"))).details == {"param": "key.project"}
    await update(id=made.key.id, project="default")
    await revoke(one, made.key.id)
    for call in (update(id=made.key.id), one.accounts.RotateKey(pb.RotateKeyRequest(id=made.key.id))):
        error = await refusal(call)
        assert error.reason.name == "INVALID_REQUEST"
        assert "is revoked" in error.message


async def test_an_id_that_is_none_is_not_found_and_never_repeated(one: Service) -> None:
    made = await one.key()
    error = await refusal(revoke(one, made.secret))
    assert (error.reason.name, error.details) == ("NOT_FOUND", {"param": "id"})
    assert made.secret[3:] not in error.message
    assert (await refusal(revoke(one, "key-00000000"))).reason.name == "NOT_FOUND"


async def test_revoking_keeps_the_time_of_the_first_and_answers_still(one: Service) -> None:
    made = await one.key()
    first = await revoke(one, made.key.id)
    assert made.key.created_at_us <= first.revoked_at_us <= now()
    assert await revoke(one, made.key.id) == first
    assert (await resolve(one, made.secret)).key == first


async def test_an_expired_key_is_answered_with_its_time(one: Service) -> None:
    soon = now() + 100_000
    made = await one.key(expires_at_us=soon)
    while now() < soon:
        assert (await resolve(one, made.secret)).key.expires_at_us == soon
    assert (await resolve(one, made.secret)).key.expires_at_us == soon
    error = await refusal(one.accounts.RotateKey(pb.RotateKeyRequest(id=made.key.id)))
    assert "has expired" in error.message


async def test_rotation_makes_a_successor_with_the_same_rights(one: Service) -> None:
    await one.project("search")
    old = await one.key("search", name="CI", **_RIGHTS)
    new = await one.accounts.RotateKey(pb.RotateKeyRequest(id=old.key.id, overlap_seconds=60))
    same = account_pb2.Key()
    same.CopyFrom(old.key)
    for field in ("id", "prefix", "created_at_us"):
        setattr(same, field, getattr(new.key, field))
    assert new.key == same
    assert new.secret != old.secret
    ending = (await resolve(one, old.secret)).key
    assert ending.expires_at_us == new.key.created_at_us + 60_000_000
    assert not ending.HasField("revoked_at_us")


async def test_rotation_without_overlap_ends_the_old_key_at_once(one: Service) -> None:
    old = await one.key()
    new = await one.accounts.RotateKey(pb.RotateKeyRequest(id=old.key.id))
    assert (await resolve(one, old.secret)).key.revoked_at_us == new.key.created_at_us


async def test_rotation_never_makes_a_key_live_longer(one: Service) -> None:
    old = await one.key(expires_at_us=now() + 30_000_000)
    life = old.key.expires_at_us - old.key.created_at_us
    new = await one.accounts.RotateKey(pb.RotateKeyRequest(id=old.key.id, overlap_seconds=3600))
    assert (await resolve(one, old.secret)).key.expires_at_us == old.key.expires_at_us
    assert new.key.expires_at_us - new.key.created_at_us == life
    for seconds in (-1, 31_536_001):
        error = await refusal(one.accounts.RotateKey(pb.RotateKeyRequest(id=new.key.id, overlap_seconds=seconds)))
        assert error.details == {"param": "overlap_seconds"}


async def test_rotation_takes_the_budgets_along_with_what_is_spent(one: Service) -> None:
    old = await one.key()
    total = account_pb2.BUDGET_PERIOD_TOTAL
    await one.budget(old.key.id, 0.5, scope=_KEY, period=total, allow_unpriced=True)
    await one.usage.RecordAttempts(record(attempt(1, key_id=old.key.id, started_at_us=now())))
    new = await one.accounts.RotateKey(pb.RotateKeyRequest(id=old.key.id, overlap_seconds=60))
    assert (await resolve(one, new.secret)).budgeted
    (copied,) = (await one.accounts.ListBudgets(pb.ListBudgetsRequest(subject=new.key.id))).budgets
    assert (copied.id, copied.limit_usd, copied.spent_usd) == (f"key:{new.key.id}:total", 0.5, 0.0002)
    assert copied.allow_unpriced


async def test_an_id_that_is_taken_is_not_given_again(one: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    same, other = keys.generate(), keys.generate()
    made = iter([same, same, same, other])
    monkeypatch.setattr(accounts, "generate", lambda: next(made))
    assert [(await one.key()).key.id for _ in range(2)] == [same.id, other.id]


# What routers are told.


async def test_a_router_that_knows_nothing_forgets_everything_and_begins(one: Service) -> None:
    first = await one.changes(0)
    assert first.forget_all
    assert not first.has_keys
    assert first.default_project.id == "default"
    again = await one.changes(first.revision)
    expected = pb.GetAccountChangesResponse(revision=first.revision, default_project=first.default_project)
    assert again == expected


async def test_each_change_of_a_key_names_it(one: Service) -> None:
    made = (await one.key()).key
    start = (await one.changes(0)).revision
    await one.accounts.UpdateKey(pb.UpdateKeyRequest(key=account_pb2.Key(id=made.id, name="x")))
    updated = await one.changes(start)
    assert (list(updated.changed_keys), updated.forget_all, updated.has_keys) == ([made.id], False, True)
    assert updated.revision > start
    await revoke(one, made.id)
    assert list((await one.changes(updated.revision)).cut_keys) == []
    await revoke(one, made.id, cut_calls=True)
    both = await one.changes(start)
    assert (list(both.changed_keys), list(both.cut_keys), both.has_keys) == ([made.id], [made.id], True)


async def test_a_rotated_key_and_its_successor_are_named(one: Service) -> None:
    old = (await one.key()).key
    start = (await one.changes(0)).revision
    new = (await one.accounts.RotateKey(pb.RotateKeyRequest(id=old.id))).key
    assert set((await one.changes(start)).changed_keys) == {old.id, new.id}


async def test_a_change_of_a_project_or_its_budgets_names_its_keys(one: Service) -> None:
    await one.project("search")
    mine = {(await one.key("search")).key.id for _ in range(3)}
    await one.key()
    revision = (await one.changes(0)).revision
    project = account_pb2.Project(id="search", disabled=True)
    for change in (
        lambda: one.accounts.UpdateProject(pb.UpdateProjectRequest(project=project)),
        lambda: one.budget("search"),
        lambda: one.accounts.OverrideBudget(pb.OverrideBudgetRequest(id="project:search:day")),
        lambda: one.accounts.DeleteBudget(pb.DeleteBudgetRequest(id="project:search:day")),
    ):
        await change()
        told = await one.changes(revision)
        assert (set(told.changed_keys), told.forget_all) == (mine, False)
        revision = told.revision


async def test_a_project_of_very_many_keys_is_a_change_of_everything(
    one: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MAX_NAMED", 2)
    for _ in range(3):
        await one.key()
    start = (await one.changes(0)).revision
    await one.budget("default")
    told = await one.changes(start)
    assert told.forget_all
    assert told.revision == start + 1


async def test_budgets_say_where_money_must_be_reserved(one: Service) -> None:
    made = await one.key()
    start = await one.changes(0)
    assert not start.default_budgeted
    await one.budget("openai", scope=_PROVIDER)
    told = await one.changes(start.revision)
    assert list(told.budgeted_providers) == ["openai"]
    assert list(told.changed_keys) == []
    assert told.revision > start.revision
    await one.budget(made.key.id, scope=_KEY)
    assert not (await one.changes(told.revision)).default_budgeted
    assert (await resolve(one, made.secret)).budgeted
    await one.budget("key-0000abcd", scope=_KEY)  # of a configuration file
    assert (await one.changes(told.revision)).default_budgeted
    await one.accounts.DeleteBudget(pb.DeleteBudgetRequest(id="key:key-0000abcd:day"))
    assert not (await one.changes(told.revision)).default_budgeted
    await one.budget("default")
    assert (await one.changes(told.revision)).default_budgeted


async def test_the_project_default_is_told_as_it_is(one: Service) -> None:
    start = await one.changes(0)
    changed = account_pb2.Project(id="default", name="All", **_RIGHTS)
    await one.accounts.UpdateProject(pb.UpdateProjectRequest(project=changed))
    changed.created_at_us = start.default_project.created_at_us
    assert (await one.changes(start.revision)).default_project == changed


async def test_old_changes_are_dropped_and_who_asks_from_before_forgets_all(
    one: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "KEPT", 5)
    made = (await one.key()).key
    start = (await one.changes(0)).revision
    revisions = [start]
    for _ in range(7):
        await revoke(one, made.id)
        revisions.append((await one.changes(0)).revision)
    assert revisions == sorted(set(revisions))
    assert [(await one.changes(revision)).forget_all for revision in revisions] == [True] * 3 + [False] * 5
    assert (await one.changes(revisions[-1] + 1000)).forget_all  # another database was put in its place
    assert (await one.changes(-1)).forget_all


async def test_the_table_of_changes_stays_small(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "KEPT", 5)
    async with service(database_url) as one:
        for _ in range(9):
            await one.key()
    async with books(database_url) as kept:
        assert await kept.rows("SELECT count(*) FROM account_changes") == [(5,)]


async def test_a_change_made_through_one_service_is_told_by_every_other(database_url: str) -> None:
    async with service(database_url) as one, service(database_url) as other:
        start = (await other.changes(0)).revision
        assert not (await other.changes(start)).has_keys
        made = await one.key()
        told = await other.changes(start)
        assert (list(told.changed_keys), told.has_keys) == ([made.key.id], True)
        assert (await resolve(other, made.secret)).key == made.key


async def test_who_follows_the_revisions_misses_no_change_however_many_are_made_at_once(database_url: str) -> None:
    async with service(database_url) as one, service(database_url) as other:
        revision = (await one.changes(0)).revision
        making = [asyncio.create_task(each.key()) for each in (one, other) * 15]
        seen: list[str] = []
        while True:
            done = all(task.done() for task in making)
            told = await one.changes(revision)
            assert not told.forget_all
            seen += told.changed_keys
            revision = told.revision
            if done:
                break
        assert sorted(seen) == sorted([(await task).key.id for task in making])


# Who did what.


async def test_each_change_is_written_down_with_who_asked(one: Service) -> None:
    who = (("x-actor", "key-0000abcd"), ("x-request-id", "call-1"))
    wanted = account_pb2.Project(id="search", **_RIGHTS)
    await one.accounts.CreateProject(pb.CreateProjectRequest(project=wanted), metadata=who)
    made = await one.key("search", name="CI")
    await revoke(one, made.key.id, cut_calls=True)
    await one.budget("search", 2)
    await one.accounts.OverrideBudget(pb.OverrideBudgetRequest(id="project:search:day", revert=True))
    await one.accounts.DeleteBudget(pb.DeleteBudgetRequest(id="project:search:day"))
    events = (await one.accounts.ListAuditEvents(pb.ListAuditEventsRequest())).events
    assert [(event.action, event.subject, event.actor, event.request_id) for event in reversed(events)] == [
        ("CreateProject", "search", "key-0000abcd", "call-1"),
        ("CreateKey", made.key.id, "cli", ""),
        ("RevokeKey", made.key.id, "cli", ""),
        ("SetBudget", "project:search:day", "cli", ""),
        ("OverrideBudget", "project:search:day", "cli", ""),
        ("DeleteBudget", "project:search:day", "cli", ""),
    ]
    details = [json.loads(event.detail_json) for event in reversed(events)]
    assert details[0]["allowed_models"] == ["smart"]
    assert details[0]["requests_per_minute"] == 60
    assert details[1] == {"name": "CI", "allowed_models": [], "project": "search"}
    assert details[2]["cut_calls"] is True
    told = {"scope": "project", "subject": "search", "period": "day", "allow_unpriced": False, "limit_usd": 2}
    assert details[3] == details[5] == told
    assert all(0 < event.at_us <= now() for event in events)


async def test_what_was_refused_is_not_written_down(one: Service) -> None:
    await refusal(one.key("nowhere"))
    await refusal(revoke(one, "key-00000000"))
    assert list((await one.accounts.ListAuditEvents(pb.ListAuditEventsRequest())).events) == []


async def test_acts_are_paged_newest_first(one: Service) -> None:
    for number in range(5):
        await one.project(f"p{number}")
    found, before = list[str](), 0
    while page := (await one.accounts.ListAuditEvents(pb.ListAuditEventsRequest(page_size=2, before_id=before))).events:
        found += [event.subject for event in page]
        before = page[-1].id
    assert found == ["p4", "p3", "p2", "p1", "p0"]
    for fields, param in (
        ({"page_size": 1001}, "page_size"),
        ({"page_size": -1}, "page_size"),
        ({"before_id": -1}, "before_id"),
    ):
        error = await refusal(one.accounts.ListAuditEvents(pb.ListAuditEventsRequest(**fields)))
        assert error.details == {"param": param}


async def test_an_actor_of_any_form_is_written_down_readably(one: Service) -> None:
    await one.accounts.CreateProject(
        pb.CreateProjectRequest(project=account_pb2.Project(id="search")), metadata=(("x-actor", "a" * 500),)
    )
    (event,) = (await one.accounts.ListAuditEvents(pb.ListAuditEventsRequest())).events
    assert event.actor == "a" * 200


# As any service.


async def test_both_services_are_named_counted_and_in_good_health(one: Service, database_url: str) -> None:
    assert UsageComponent(UsageSettings(database_url)).service_names == (
        "aigateway.v1.UsageService",
        "aigateway.v1.AccountService",
    )
    labels = {"service": "usage", "operation": "ResolveKey", "provider": "", "status": "NOT_FOUND"}
    before = metrics.REGISTRY.get_sample_value("aigateway_calls_total", labels) or 0
    await refusal(resolve(one, "gw-nobody"))
    assert metrics.REGISTRY.get_sample_value("aigateway_calls_total", labels) == before + 1


async def test_a_fault_of_our_own_says_nothing_of_itself(one: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise KeyError("hush")

    monkeypatch.setattr(accounts, "list_projects", fails)
    error = await refusal(one.accounts.ListProjects(pb.ListProjectsRequest()))
    assert (error.code, "hush" in error.message) == (grpc.StatusCode.INTERNAL, False)
