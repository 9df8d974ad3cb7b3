"""Tokens of an identity provider: which are good, what they say, and how its keys are had."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from aigateway.v1 import account_pb2
from aigateway_common.errors import GatewayError
from aigateway_router import jwks as jwks_module
from aigateway_router.authn import digest
from aigateway_router.jwt_tokens import MAX_LENGTH, JwtTokens
from aigateway_router.settings import JwtSettings
from support.identity import AUDIENCE, ISSUER, IdentityProvider, identity_provider, private_key, public_jwk, token
from support.router import answering, chat_request, only_attempt, refused, router
from support.scripted_accounts import ScriptedAccounts, bearer

SETTINGS = JwtSettings(issuer=ISSUER, audience=AUDIENCE)


@asynccontextmanager
async def tokens(provider: IdentityProvider, grace: float = 300.0, **settings: Any) -> AsyncIterator[JwtTokens]:
    made = JwtTokens(replace(SETTINGS, jwks_url=provider.url, **settings), grace)
    try:
        yield made
    finally:
        await made.stop()


async def bad(of: JwtTokens, sent: str, reason: str = "UNAUTHENTICATED") -> str:
    with pytest.raises(GatewayError) as caught:
        await of.claims(sent)
    assert caught.value.reason.name == reason
    assert sent not in caught.value.message
    return caught.value.message.removeprefix("the token is refused: ")


# Tokens.


async def test_a_good_token_says_who_for_which_project_and_models() -> None:
    async with identity_provider() as provider:
        provider.keys += [public_jwk("ES256", "k2"), public_jwk("EdDSA", "k3")]
        async with tokens(provider, models_claim="models", algorithms=("RS256", "ES256", "EdDSA")) as own:
            claims = await own.claims(token(models=["acme/*"]))
            words = await own.claims(token("ES256", "k2", sub="user-2", models="smart fast", project=None))
            none = await own.claims(token("EdDSA", "k3"))
    assert (claims.key_id, claims.project) == (f"jwt-{digest('user-1').hex()[:8]}", "search")
    assert claims.models.patterns == ("acme/*",)
    assert 600 < claims.expires - time.time() < 610
    assert (words.project, words.models.patterns) == ("default", ("smart", "fast"))
    assert words.key_id != claims.key_id
    assert not none.models.allow("acme/acme-1")


@pytest.mark.parametrize(
    ("claims", "word"),
    [
        ({"exp": time.time() - 60}, "expired"),
        ({"nbf": time.time() + 86_400}, "not valid yet"),
        ({"iss": "https://evil.example"}, "issuer"),
        ({"aud": "others"}, "audience"),
        ({"exp": None}, "a claim is missing"),
        ({"sub": None}, "a claim is missing"),
        ({"aud": None}, "a claim is missing"),
        ({"sub": ""}, "subject"),
        ({"project": "No Such Form"}, "project"),
        ({"project": ["search"]}, "project"),
        ({"models": {"a": 1}}, "models"),
        ({"exp": "soon"}, "malformed"),
    ],
)
async def test_a_bad_token_is_refused_with_a_word(claims: dict[str, Any], word: str) -> None:
    async with identity_provider() as provider, tokens(provider, models_claim="models") as own:
        assert await bad(own, token(**claims)) == word


async def test_only_the_pinned_algorithms_and_the_providers_own_keys_are_taken() -> None:
    shared = base64.urlsafe_b64encode(b"a secret that is long enough for it").decode()
    good = token()
    header, payload, signature = good.split(".")
    async with identity_provider() as provider:
        provider.keys += [
            {"kty": "oct", "k": shared, "kid": "secret"},
            public_jwk("ES256", "k2"),
            public_jwk("RS256", "enc", use="enc"),
            public_jwk("RS256", "other", alg="RS512"),
        ]
        async with tokens(provider) as own:
            assert (await own.claims(good)).project == "search"
            assert await bad(own, token(name="forged", headers={"kid": "k1"})) == "signature"
            assert await bad(own, f"{header}.{payload[:-2]}AA.{signature}") in {"signature", "malformed"}
            assert await bad(own, _unsigned(payload)) == "algorithm"
            assert await bad(own, token("ES256", "k2", headers={"kid": "k1"})) == "algorithm"
            assert await bad(own, token("EdDSA", "k3", headers={"kid": "k1"})) == "algorithm"
            assert await bad(own, token("RS256", "other")) == "algorithm"
            assert await bad(own, token("RS256", "enc")) == "unknown key"
            by_secret = jwt.encode({"sub": "a"}, base64.urlsafe_b64decode(shared), "HS256", headers={"kid": "secret"})
            assert await bad(own, by_secret) == "unknown key"
            modulus = private_key("RS256", "k1").public_key().public_numbers().n.to_bytes(256)
            by_public = jwt.encode({"sub": "a"}, modulus, "HS256", headers={"kid": "k1"})
            assert await bad(own, by_public) == "algorithm"


@pytest.mark.parametrize(
    "sent",
    ["ey.a.b", "eyJ.eyJ.", "ey" + "x" * MAX_LENGTH + ".a.b", "ey\ud800.a.b", "eyJhbGciOiJSUzI1NiJ9..", "ey💥.a.b"],
)
async def test_garbage_is_refused_and_never_crashed_on(sent: str) -> None:
    async with identity_provider() as provider, tokens(provider) as own:
        assert await bad(own, sent) in {"malformed", "too long", "signature"}


async def test_deep_garbage_is_refused_and_never_crashed_on() -> None:
    deep = base64.urlsafe_b64encode(b'{"alg":' + b"[" * 8000).decode().rstrip("=")
    async with identity_provider() as provider, tokens(provider) as own:
        assert await bad(own, f"{deep}.e30.c2ln") == "malformed"


async def test_a_token_without_a_key_id_is_checked_with_the_only_key_there_is() -> None:
    sent = jwt.encode(
        {"iss": ISSUER, "aud": AUDIENCE, "sub": "user-1", "exp": time.time() + 60}, private_key("RS256", "k1"), "RS256"
    )
    async with identity_provider() as provider:
        async with tokens(provider) as own:
            assert (await own.claims(sent)).project == "default"
        provider.keys.append(public_jwk("ES256", "k2"))
        async with tokens(provider) as own:
            assert await bad(own, sent) == "unknown key"


async def test_a_token_that_was_good_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    async with identity_provider() as provider, tokens(provider) as own:
        sent = token(exp=time.time() + 60)
        await own.claims(sent)
        later = time.time() + 66
        monkeypatch.setattr(time, "time", lambda: later)
        assert await bad(own, sent) == "expired"


# Keys of the provider.


async def test_keys_are_fetched_once_for_all_who_wait() -> None:
    async with identity_provider() as provider, tokens(provider) as own:
        provider.go_on.clear()
        waiting = [asyncio.ensure_future(own.claims(token(sub=f"user-{number}"))) for number in range(10)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        provider.go_on.set()
        assert len(await asyncio.gather(*waiting[1:])) == 9
        await own.claims(token())
    assert provider.asked == 1


async def test_a_new_key_is_asked_for_and_unknown_ones_not_again_and_again() -> None:
    async with identity_provider() as provider, tokens(provider) as own:
        await own.claims(token())
        assert await bad(own, token(name="k9")) == "unknown key"
        assert provider.asked == 1
        provider.keys.append(public_jwk("RS256", "k9"))
        own._jwks._unknown_at = 0.0  # ten seconds later
        await own.claims(token(name="k9"))
        assert await bad(own, token(name="k8")) == "unknown key"
    assert provider.asked == 2
    assert jwks_module.UNKNOWN_PAUSE == 10.0


async def test_a_key_that_is_gone_takes_its_tokens_with_it() -> None:
    async with identity_provider() as provider, tokens(provider) as own:
        sent = token()
        await own.claims(sent)
        provider.keys = [public_jwk("RS256", "k9")]
        await own.claims(sent)
        own._jwks._fresh_until = 0.0  # their time is over
        assert await bad(own, sent) == "unknown key"


@pytest.mark.parametrize(
    ("status", "document"),
    [
        ("500 Oops", None),
        ("302 Found", None),
        ("200 OK", b"<html>"),
        ("200 OK", b'{"keys": []}'),
        ("200 OK", b"[" * 100_000),
        ("200 OK", b" " * (jwks_module.MAX_BYTES + 1)),
    ],
)
async def test_a_provider_that_serves_no_keys_is_unavailable_and_old_keys_work_on_for_a_while(
    status: str, document: bytes | None
) -> None:
    async with identity_provider() as provider:
        async with tokens(provider) as own:
            await own.claims(token())
            provider.status, provider.document = status, document
            own._jwks._fresh_until = 0.0
            await own.claims(token(sub="user-2"))
            own._jwks._ends = 0.0
            assert "cannot be had" in await bad(own, token(), "UNAVAILABLE")
        async with tokens(provider) as own:
            assert "cannot be had" in await bad(own, token(), "UNAVAILABLE")
            asked = provider.asked
            assert "cannot be had" in await bad(own, token(), "UNAVAILABLE")
            assert provider.asked == asked


async def test_a_provider_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks_module, "TIMEOUT", 0.1)
    async with identity_provider() as provider, tokens(provider) as own:
        provider.go_on.clear()
        assert "cannot be had" in await bad(own, token(), "UNAVAILABLE")


async def test_keys_from_a_file_are_read_again_when_it_changes(tmp_path: Path) -> None:
    async with identity_provider() as provider:
        path = tmp_path / "jwks.json"
        provider.write(path)
        own = JwtTokens(replace(SETTINGS, jwks_file=path), 300.0)
        await own.claims(token())
        provider.keys = [public_jwk("RS256", "k9")]
        provider.write(path)
        own._jwks._fresh_until = 0.0  # a second later
        assert await bad(own, token()) == "unknown key"
        await own.claims(token(name="k9"))
        path.write_text(json.dumps({"keys": 7}), encoding="utf-8")
        own._jwks._fresh_until = 0.0
        await own.claims(token(name="k9"))
    assert provider.asked == 0


# At the gateway.


async def test_a_token_calls_for_its_project_with_its_limits_models_and_budget(tmp_path: Path) -> None:
    accounts = ScriptedAccounts()
    accounts.projects["search"] = account_pb2.Project(
        id="search", limits=account_pb2.Limits(requests_per_minute=1), allowed_models=["acme/*"]
    )
    accounts.projects["closed"] = account_pb2.Project(id="closed", disabled=True)
    async with identity_provider() as provider:
        settings = replace(SETTINGS, jwks_url=provider.url, models_claim="models")
        async with router(
            tmp_path, {"acme": answering(), "beta": answering()}, ledger=accounts, jwt=settings
        ) as running:
            await accounts.polls()
            good = token(models=["acme/acme-1", "beta/*"])
            await running.stub.Chat(chat_request(), metadata=bearer(good))
            attempt = await only_attempt(running)
            limited = await refused(running.stub.Chat(chat_request(), metadata=bearer(good)))
            by_token = await refused(running.stub.Chat(chat_request("acme/large"), metadata=bearer(good)))
            by_project = await refused(running.stub.Chat(chat_request("beta/b"), metadata=bearer(good)))
            closed = await refused(
                running.stub.Chat(chat_request(), metadata=bearer(token(project="closed", models="acme/*")))
            )
            expired = await refused(running.stub.Chat(chat_request(), metadata=bearer(token(exp=1))))
            nothing = await refused(running.stub.Chat(chat_request()))
    assert attempt.key_id == f"jwt-{digest('user-1').hex()[:8]}"
    assert "the project `search`, 1 call a minute" in limited.message
    assert by_token.message == "this key may not use the model `acme/large`; it may use `acme/acme-1`, `beta/*`"
    assert by_project.message == "the project `search` may not use the model `beta/b`; it may use `acme/*`"
    assert closed.message == "the project `closed` of this key is disabled"
    assert (expired.reason.name, expired.message) == ("UNAUTHENTICATED", "the token is refused: expired")
    assert nothing.reason.name == "UNAUTHENTICATED"


def _unsigned(payload: str) -> str:
    header = base64.urlsafe_b64encode(b'{"alg":"none","kid":"k1"}').decode().rstrip("=")
    return f"{header}.{payload}."
