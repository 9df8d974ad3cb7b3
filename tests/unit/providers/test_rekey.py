"""A provider's key that changes: every adapter shows the new one, and a request that had begun keeps the old."""

from __future__ import annotations

import asyncio

import pytest
from aigateway_common.errors import GatewayError
from aigateway_providers.adapter import CallContext, Keyed
from aigateway_providers.registry import PROVIDERS, create_adapter
from aigateway_providers.settings import ProviderSettings
from aigateway_providers.upstream import Upstream
from support.replay import Answer
from support.replay import Upstream as StandIn

HEADERS = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}
"""Where the key stands; for all others it is `authorization`."""


def test_every_kind_with_a_key_can_be_given_another() -> None:
    for kind, row in PROVIDERS.items():
        adapter = create_adapter(ProviderSettings(kind, kind, "http://127.0.0.1:1"))
        assert isinstance(adapter, Keyed) or not row.key_env, kind


@pytest.mark.parametrize("kind", [*(kind for kind, row in PROVIDERS.items() if row.key_env), "ollama"])
async def test_the_next_call_shows_the_new_key_and_no_old_one(kind: str) -> None:
    header = HEADERS.get(kind, "authorization")
    scheme = "Bearer " if header == "authorization" else ""
    with StandIn(Answer.of({"error": {}}, 500)) as acme:
        adapter = create_adapter(ProviderSettings(kind, kind, acme.url, api_key="one"))
        assert isinstance(adapter, Keyed)
        for key in ("one", "two", ""):
            adapter.rekey(key)
            with pytest.raises(GatewayError):
                await adapter.list_models(CallContext())
        await adapter.aclose()
    assert [sent.headers.get(header) for sent in acme.requests] == [f"{scheme}one", f"{scheme}two", None]


async def test_a_key_among_the_configured_headers_goes_before_all_others() -> None:
    with StandIn(Answer.of({"error": {}}, 500)) as acme:
        settings = ProviderSettings("anthropic", "anthropic", acme.url, api_key="one", headers={"X-Api-Key": "fixed"})
        adapter = create_adapter(settings)
        assert isinstance(adapter, Keyed)
        adapter.rekey("two")
        with pytest.raises(GatewayError):
            await adapter.list_models(CallContext())
        await adapter.aclose()
    assert [sent.headers["x-api-key"] for sent in acme.requests] == ["fixed"]


@pytest.mark.parametrize("body", [b"{}", b" " * 300_000])
async def test_a_request_that_had_begun_goes_with_the_old_key(body: bytes) -> None:
    with StandIn(Answer.sse("data: 1\n\n", hold=True), Answer.of({}), Answer.of({})) as acme:
        settings = ProviderSettings("acme", "openai", acme.url, max_connections=1)
        upstream = Upstream(settings, {"authorization": "Bearer one"})
        under_way = await upstream.send("POST", "/", context=CallContext(), body=body)
        waiting = asyncio.create_task(upstream.fetch("POST", "/", context=CallContext(), body=body))
        await asyncio.sleep(0)  # it waits for a connection now
        upstream.rekey({"authorization": "Bearer two"})
        assert await anext(aiter(under_way.chunks())) == b"data: 1\n\n"
        await under_way.aclose()
        await waiting
        await upstream.fetch("POST", "/", context=CallContext(), body=body)
        await upstream.aclose()
    assert [sent.headers["authorization"] for sent in acme.requests] == ["Bearer one", "Bearer one", "Bearer two"]


async def test_a_key_that_cannot_be_sent_changes_nothing_and_is_not_in_the_message() -> None:
    with StandIn(Answer.of({})) as acme:
        upstream = Upstream(ProviderSettings("acme", "openai", acme.url), {"authorization": "Bearer one"})
        with pytest.raises(ValueError, match="authorization") as caught:
            upstream.rekey({"authorization": "Bearer se\ncret"})
        assert "cret" not in str(caught.value)
        await upstream.fetch("POST", "/", context=CallContext(), body=b"{}")
        await upstream.aclose()
    assert [sent.headers["authorization"] for sent in acme.requests] == ["Bearer one"]
