"""Who may call: keys of the file, issued keys and what becomes of them, over real gRPC ports and in process."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from aigateway.v1 import account_pb2, gateway_service_pb2
from aigateway_common import metrics
from aigateway_router import accounts as accounts_module
from aigateway_router.authn import key_id
from support.router import (
    CANCELLED,
    START,
    Hops,
    ScriptedProvider,
    always,
    answering,
    chat_call,
    chat_request,
    chunks,
    hangs,
    models,
    only_attempt,
    refused,
    router,
    stream_request,
    text,
)
from support.scripted_accounts import ScriptedAccounts, bearer, digest

POLL = accounts_module.POLL
SECRET, OTHER, STATIC = "gw-issued-0123456789", "gw-other-0123456789", "gw-static-0123456789"


@pytest.fixture(params=["wire", "in process"], autouse=True)
def _transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hops, "in_process", request.param == "in process")
    monkeypatch.setattr(accounts_module, "POLL", 0.05)
    # A busy machine is no service that is away.
    for name in ("_TIMEOUT", "_FIRST_WAIT"):
        monkeypatch.setattr(accounts_module, name, 20.0)


async def said(call: Any) -> tuple[str, str]:
    error = await refused(call)
    return error.reason.name, error.message


# Open gateways.


async def test_without_any_key_everybody_is_the_default_project_until_there_is_one(tmp_path: Path) -> None:
    accounts = ScriptedAccounts()
    async with router(tmp_path, {"acme": answering()}, ledger=accounts) as running:
        await running.stub.Chat(chat_request())
        await running.stub.Chat(chat_request(), metadata=bearer("sk-anything"))
        accounts.issue(SECRET)
        await accounts.polls()
        assert (await said(running.stub.Chat(chat_request())))[0] == "UNAUTHENTICATED"
        await running.stub.Chat(chat_request(), metadata=bearer(SECRET))
        attempts = await running.ledger.of(3)
    assert [(one.project, one.key_id) for one in attempts] == [
        ("default", ""),
        ("default", ""),
        ("default", key_id(SECRET)),
    ]


@pytest.mark.parametrize("guard", [{"admin_keys": ("adm-0123456789abc",)}, {"api_keys": (STATIC,)}])
async def test_a_key_of_any_kind_closes_the_gateway(tmp_path: Path, guard: dict[str, Any]) -> None:
    async with router(tmp_path, {"acme": answering()}, **guard) as running:
        for metadata in ((), bearer("wrong"), bearer("adm-0123456789abc")):
            reason, message = await said(running.stub.Chat(chat_request(), metadata=metadata))
            assert reason == "UNAUTHENTICATED"
            assert "0123456789" not in message


async def test_a_gateway_does_not_open_because_nobody_says_whether_there_are_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts_module, "_FIRST_WAIT", 0.1)
    accounts = ScriptedAccounts()
    accounts.away = grpc.StatusCode.UNAVAILABLE
    async with router(tmp_path, {"acme": answering()}, ledger=accounts) as running:
        reason, message = await said(running.stub.Chat(chat_request()))
        assert (reason, "usage service cannot be reached" in message) == ("UNAVAILABLE", True)
        accounts.away = None
        await accounts.polls()
        await running.stub.Chat(chat_request())


async def test_what_was_known_of_the_accounts_survives_a_restart(tmp_path: Path) -> None:
    accounts = ScriptedAccounts()
    accounts.issue(SECRET)
    async with router(tmp_path, {"acme": answering()}, ledger=accounts):
        await accounts.polls()
    accounts.away = grpc.StatusCode.UNAVAILABLE
    async with router(tmp_path, {"acme": answering()}, ledger=accounts) as running:
        assert (await said(running.stub.Chat(chat_request())))[0] == "UNAUTHENTICATED"
        assert (await said(running.stub.Chat(chat_request(), metadata=bearer(SECRET))))[0] == "UNAVAILABLE"


# Issued keys.


async def test_an_issued_key_is_asked_for_once_and_by_its_digest_alone(tmp_path: Path) -> None:
    accounts = ScriptedAccounts()
    accounts.issue(SECRET, "search")
    async with router(tmp_path, {"acme": answering()}, ledger=accounts, api_keys=(STATIC,)) as running:
        await accounts.polls()
        await asyncio.gather(*(_chat(running, SECRET) for _ in range(20)))
        await running.stub.Chat(chat_request(), metadata=bearer(STATIC))
        attempts = await running.ledger.of(21)
    (asked,) = accounts.asked("ResolveKey")
    assert asked.sha256 == digest(SECRET)
    assert SECRET not in str(accounts.seen)
    assert {one.key_id for one in attempts} == {key_id(SECRET), key_id(STATIC)}


async def test_a_wrong_key_is_not_asked_for_at_every_call(tmp_path: Path) -> None:
    accounts = ScriptedAccounts()
    accounts.issue(SECRET)
    async with router(tmp_path, {"acme": answering()}, ledger=accounts) as running:
        await accounts.polls()  # the first answer tells of the keys made, which asks for every key again
        for _ in range(5):
            assert (await said(running.stub.Chat(chat_request(), metadata=bearer("wrong"))))[0] == "UNAUTHENTICATED"
    assert len(accounts.asked("ResolveKey")) == 1


async def test_guessing_keys_never_keeps_the_usage_service_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts_module, "_MAX_ASKING", 3)
    accounts = ScriptedAccounts()
    for number in range(4):
        accounts.issue(f"gw-{number}")
    accounts.resolving.clear()
    async with router(tmp_path, {"acme": answering()}, ledger=accounts) as running:
        calls = [asyncio.ensure_future(_chat(running, f"gw-{number}")) for number in range(3)]
        await accounts.until_asked("ResolveKey", 3)
        assert (await said(running.stub.Chat(chat_request(), metadata=bearer("gw-3"))))[0] == "OVERLOADED"
        accounts.resolving.set()
        await asyncio.gather(*calls)


async def test_a_key_that_works_wins_over_what_an_sdk_sends_beside_it(tmp_path: Path) -> None:
    accounts = ScriptedAccounts()
    accounts.issue(SECRET)
    accounts.revoke(accounts.issue(OTHER))
    async with router(tmp_path, {"acme": answering()}, ledger=accounts) as running:
        await running.stub.Chat(chat_request(), metadata=(("x-api-key", OTHER), *bearer(SECRET)))
        await running.stub.Chat(chat_request(), metadata=(("x-api-key", SECRET), *bearer("sk-any")))
        assert await said(running.stub.Chat(chat_request(), metadata=(("x-api-key", "no"), *bearer(OTHER)))) == (
            "UNAUTHENTICATED",
            "the key was revoked",
        )


async def test_a_revoked_key_stops_at_the_next_poll_and_says_so(tmp_path: Path) -> None:
    accounts = ScriptedAccounts()
    key = accounts.issue(SECRET)
    async with router(tmp_path, {"acme": answering()}, ledger=accounts) as running:
        await _chat(running, SECRET)
        accounts.revoke(key)
        await accounts.polls()
        assert await said(_chat(running, SECRET)) == ("UNAUTHENTICATED", "the key was revoked")
    assert POLL <= 0.5


async def test_what_is_revoked_while_it_is_asked_for_is_not_kept(tmp_path: Path) -> None:
    accounts = ScriptedAccounts()
    key = accounts.issue(SECRET)
    accounts.resolving.clear()
    async with router(tmp_path, {"acme": answering()}, ledger=accounts) as running:
        await accounts.polls()
        call = asyncio.ensure_future(_chat(running, SECRET))
        await accounts.until_asked("ResolveKey")
        accounts.revoke(key)
        await accounts.polls()
        accounts.resolving.set()
        assert await said(call) == ("UNAUTHENTICATED", "the key was revoked")
        assert (await said(_chat(running, SECRET)))[1] == "the key was revoked"
    assert len(accounts.asked("ResolveKey")) == 2


async def test_an_expired_key_and_a_disabled_project_are_told_apart(tmp_path: Path) -> None:
    accounts = ScriptedAccounts()
    accounts.issue(SECRET, expires_at_us=time.time_ns() // 1000 - 1)
    accounts.issue(OTHER, "closed")
    accounts.projects["closed"].disabled = True
    accounts.projects["default"].disabled = True
    accounts.changed()
    async with router(tmp_path, {"acme": answering()}, ledger=accounts, api_keys=(STATIC,)) as running:
        await accounts.polls()
        answers = [await said(_chat(running, key)) for key in (SECRET, OTHER, STATIC)]
    assert answers == [
        ("UNAUTHENTICATED", "the key expired; ask for a new one"),
        ("UNAUTHENTICATED", "the project `closed` of this key is disabled"),
        ("UNAUTHENTICATED", "the project `default` of this key is disabled"),
    ]


async def test_a_key_that_will_expire_works_until_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = ScriptedAccounts()
    accounts.issue(SECRET, expires_at_us=time.time_ns() // 1000 + 3_600_000_000)
    async with router(tmp_path, {"acme": answering()}, ledger=accounts) as running:
        await accounts.polls()
        await _chat(running, SECRET)
        later = time.time() + 3601
        monkeypatch.setattr(time, "time", lambda: later)
        assert (await said(_chat(running, SECRET)))[1] == "the key expired; ask for a new one"
    assert len(accounts.asked("ResolveKey")) == 1


# Accounts away.


async def test_while_the_accounts_are_away_keys_seen_work_and_others_are_not_called_wrong(tmp_path: Path) -> None:
    accounts = ScriptedAccounts()
    accounts.issue(SECRET)
    accounts.issue(OTHER)
    async with router(tmp_path, {"acme": answering()}, ledger=accounts, api_keys=(STATIC,)) as running:
        await accounts.polls()
        await _chat(running, SECRET)
        accounts.away = grpc.StatusCode.UNAVAILABLE
        await accounts.polls()
        assert metrics.REGISTRY.get_sample_value("aigateway_accounts_reachable") == 0
        await _chat(running, SECRET)
        await _chat(running, STATIC)
        reason, message = await said(_chat(running, OTHER))
        assert (reason, message) == (
            "UNAVAILABLE",
            "the usage service cannot be reached to say whose key this is; try again",
        )
        accounts.away = None
        await _chat(running, OTHER)


async def test_the_grace_of_a_key_seen_ends(tmp_path: Path) -> None:
    accounts = ScriptedAccounts()
    accounts.issue(SECRET)
    async with router(tmp_path, {"acme": answering()}, ledger=accounts, key_grace=0.0) as running:
        await _chat(running, SECRET)
        accounts.away = grpc.StatusCode.UNAVAILABLE
        assert (await said(_chat(running, SECRET)))[0] == "UNAVAILABLE"


async def test_a_usage_service_without_accounts_has_no_keys(tmp_path: Path) -> None:
    async with router(tmp_path, {"acme": answering()}, api_keys=(STATIC,)) as running:
        await _chat(running, STATIC)
        assert (await said(_chat(running, SECRET)))[0] == "UNAUTHENTICATED"


# Calls under way.


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_cut_key_ends_its_calls_under_way_and_stops_the_provider(tmp_path: Path, streamed: bool) -> None:
    accounts = ScriptedAccounts()
    key = accounts.issue(SECRET)
    accounts.issue(OTHER)
    provider = ScriptedProvider(stream=hangs(*chunks([START, text("a" * 40)])), chat=hangs())
    async with router(tmp_path, {"acme": provider}, ledger=accounts) as running:
        await accounts.polls()
        if streamed:
            stream = running.stub.StreamChat(stream_request(), metadata=bearer(SECRET))
            await stream.read()
            ending = asyncio.ensure_future(said(stream.read()))
        else:
            ending = asyncio.ensure_future(said(_chat(running, SECRET)))
        await asyncio.wait_for(provider.called.wait(), 10)
        other = running.stub.StreamChat(stream_request(), metadata=bearer(OTHER))
        await other.read()
        accounts.revoke(key, cut=True)
        assert await ending == ("UNAUTHENTICATED", "the key was revoked")
        await asyncio.wait_for(provider.calls[0].cancelled.wait(), 10)
        attempt = await only_attempt(running)
        assert not provider.calls[1].cancelled.is_set()
        other.cancel()
        await running.ledger.of(2)
    assert (attempt.key_id, attempt.status, attempt.usage.estimated) == (key.id, CANCELLED, True)


async def test_a_key_revoked_without_cutting_lets_its_calls_end(tmp_path: Path) -> None:
    accounts = ScriptedAccounts()
    key = accounts.issue(SECRET)
    go_on = asyncio.Event()

    async def slow(request: Any, context: Any) -> Any:
        await go_on.wait()
        return await answering().answers["chat"](request, context)

    provider = ScriptedProvider(chat=slow)
    async with router(tmp_path, {"acme": provider}, ledger=accounts) as running:
        call = asyncio.ensure_future(_chat(running, SECRET))
        await asyncio.wait_for(provider.called.wait(), 10)
        accounts.revoke(key)
        await accounts.polls()
        go_on.set()
        assert (await call).completion.model


# What a caller may use.


async def test_a_model_must_be_allowed_by_key_and_project(tmp_path: Path) -> None:
    accounts = ScriptedAccounts()
    accounts.issue(SECRET, "search", allowed_models=["acme/*", "smart"])
    accounts.projects["search"].allowed_models.extend(["acme/acme-?", "smart"])
    async with router(
        tmp_path, {"acme": answering(), "beta": answering()}, ledger=accounts, aliases={"smart": "beta/b"}
    ) as running:
        await _chat(running, SECRET, "acme/acme-1")
        await _chat(running, SECRET, "smart")
        by_key = await refused(_chat(running, SECRET, "beta/b"))
        by_project = await refused(_chat(running, SECRET, "acme/large"))
    assert by_key.reason.name == by_project.reason.name == "PERMISSION_DENIED"
    assert by_key.details["param"] == "model"
    assert by_key.message == "this key may not use the model `beta/b`; it may use `acme/*`, `smart`"
    assert by_project.message == (
        "the project `search` may not use the model `acme/large`; it may use `acme/acme-?`, `smart`"
    )


async def test_only_models_that_may_be_used_are_listed_or_proposed(tmp_path: Path) -> None:
    accounts = ScriptedAccounts()
    accounts.issue(SECRET, allowed_models=["acme/small*", "mine"])
    accounts.issue(OTHER)
    provider = ScriptedProvider(models=always(models("small-1", "large-1")))
    aliases = {"mine": "acme/large-1", "theirs": "acme/large-1"}
    async with router(tmp_path, {"acme": provider}, ledger=accounts, aliases=aliases) as running:
        request = gateway_service_pb2.ListModelsRequest()
        some = await running.stub.ListModels(request, metadata=bearer(SECRET))
        every = await running.stub.ListModels(request, metadata=bearer(OTHER))
        unknown = await refused(_chat(running, SECRET, "large-11"))
    assert [one.id for one in some.models] == ["acme/small-1", "mine"]
    assert [one.id for one in every.models] == ["acme/large-1", "acme/small-1", "mine", "theirs"]
    assert "acme/large-1" not in unknown.message


async def test_the_model_default_is_the_keys_else_the_projects(tmp_path: Path) -> None:
    accounts = ScriptedAccounts()
    accounts.issue(SECRET, "search", defaults=account_pb2.CallDefaults(model="acme/of-key"))
    accounts.issue(OTHER, "search")
    accounts.issue("gw-third", "bare")
    accounts.projects["search"].defaults.model = "acme/of-project"
    provider = answering()
    async with router(tmp_path, {"acme": provider}, ledger=accounts) as running:
        response = await _chat(running, SECRET, "default")
        await _chat(running, OTHER, "default")
        none = await refused(_chat(running, "gw-third", "default"))
    assert [one.request.call.model for one in provider.calls] == ["of-key", "of-project"]
    assert (response.route.requested_model, response.route.sent_model) == ("default", "of-key")
    assert (none.reason.name, none.message) == (
        "MODEL_NOT_FOUND",
        "neither this key nor the project `bare` has a default model; name a model instead of `default`",
    )


async def test_an_answer_is_as_long_as_the_key_allows_by_default(tmp_path: Path) -> None:
    accounts = ScriptedAccounts()
    accounts.issue(SECRET, "search", defaults=account_pb2.CallDefaults(max_output_tokens=64))
    accounts.projects["search"].defaults.max_output_tokens = 128
    accounts.issue(OTHER, "search")
    provider = answering()
    request = chat_request()
    async with router(tmp_path, {"acme": provider}, ledger=accounts) as running:
        await running.stub.Chat(request, metadata=bearer(SECRET))
        await running.stub.Chat(request, metadata=bearer(OTHER))
        own = chat_call()
        own.options.max_output_tokens = 7
        await running.stub.Chat(gateway_service_pb2.ChatRequest(call=own), metadata=bearer(SECRET))
    assert [one.request.call.options.max_output_tokens for one in provider.calls] == [64, 128, 7]
    assert request == chat_request()


async def test_what_a_caller_says_of_themselves_changes_nothing(tmp_path: Path) -> None:
    accounts = ScriptedAccounts()
    key = accounts.issue(SECRET, "search", allowed_models=["acme/acme-1"])
    lies = (("x-project", "rich"), ("x-actor", "root"), ("x-key-id", "key-00000000"), ("x-budgeted", "no"))
    provider = answering()
    async with router(tmp_path, {"acme": provider}, ledger=accounts) as running:
        await running.stub.Chat(chat_request(), metadata=(*bearer(SECRET), *lies))
        attempt = await only_attempt(running)
    assert attempt.key_id == key.id
    assert not {name for name, _ in lies} & provider.calls[0].metadata.keys()


async def _chat(running: Any, secret: str, model: str = "acme/acme-1") -> Any:
    return await running.stub.Chat(chat_request(model), metadata=bearer(secret))
