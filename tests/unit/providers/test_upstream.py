"""The upstream client: statuses, bodies, foreign errors, and what a closed call does to the socket."""

from __future__ import annotations

import asyncio
import gzip

import pytest
from aigateway_common.errors import GatewayError
from aigateway_providers.adapter import CallContext
from aigateway_providers.settings import ProviderSettings
from aigateway_providers.upstream import Upstream
from support.replay import Answer
from support.replay import Upstream as StandIn


def client(url: str, **settings: float) -> Upstream:
    return Upstream(ProviderSettings("acme", "openai", url, **settings), {"authorization": "Bearer k"})  # type: ignore[arg-type] # only numbers are passed


async def test_a_whole_answer_comes_with_status_and_headers() -> None:
    with StandIn(Answer.of({"a": 1}, 418, x_one="1")) as acme:
        upstream, context = client(acme.url), CallContext()
        status, headers, body = await upstream.fetch("POST", "/x?y=1", context=context, body=b"{}")
        await upstream.aclose()
    assert (status, headers["x-one"], body) == (418, "1", b'{"a": 1}')
    assert context.upstream_status == 418
    assert context.upstream_ns > 0
    sent = acme.requests[0]
    assert (sent.method, sent.path, sent.query, sent.body) == ("POST", "/x", {"y": ["1"]}, b"{}")
    assert sent.headers["authorization"] == "Bearer k"


@pytest.mark.parametrize("size", [256 * 1024, 256 * 1024 + 1, 3_000_001])
async def test_a_large_body_goes_whole_and_with_its_length(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with StandIn(Answer.of({"a": 1})) as acme:
        upstream = client(acme.url)
        status, _, _ = await upstream.fetch("POST", "/", context=CallContext(), body=body)
        await upstream.aclose()
    [sent] = acme.requests
    assert (status, sent.headers["content-length"], sent.body == body) == (200, str(size), True)


async def test_a_compressed_answer_is_undone() -> None:
    zipped = gzip.compress(b"hello")
    with StandIn(Answer(200, {"content-encoding": "gzip"}, [zipped[:7], zipped[7:]])) as acme:
        upstream = client(acme.url)
        assert (await upstream.fetch("GET", "/", context=CallContext()))[2] == b"hello"
        await upstream.aclose()


async def test_chunks_arrive_as_they_are_sent() -> None:
    with StandIn(Answer.sse({"n": 1}, {"n": 2}, gap=0.05)) as acme:
        upstream = client(acme.url)
        async with await upstream.send("POST", "/", context=CallContext(), body=b"{}") as response:
            chunks = [chunk async for chunk in response.chunks()]
        await upstream.aclose()
    assert chunks == [b'data: {"n": 1}\n\n', b'data: {"n": 2}\n\n']


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(Answer(pieces=[b"{"], cut=True), "UPSTREAM_INVALID"), (Answer(hold_before_headers=True), "UPSTREAM_TIMEOUT")],
)
async def test_a_broken_answer_has_its_reason(answer: Answer, reason: str) -> None:
    with StandIn(answer) as acme:
        upstream = client(acme.url, read_timeout=0.2)
        with pytest.raises(GatewayError) as caught:
            await upstream.fetch("POST", "/", context=CallContext(), body=b"{}")
        await upstream.aclose()
    assert caught.value.reason.name == reason
    assert caught.value.details == {"provider": "acme"}


async def test_an_unreachable_provider_has_its_reason() -> None:
    upstream = client("http://127.0.0.1:1")
    with pytest.raises(GatewayError) as caught:
        await upstream.fetch("GET", "/", context=CallContext())
    await upstream.aclose()
    assert caught.value.reason.name == "UPSTREAM_UNREACHABLE"


@pytest.mark.parametrize("answer", [Answer(hold_before_headers=True), Answer(pieces=[b"x"], hold=True)])
async def test_a_cancelled_call_closes_the_socket(answer: Answer) -> None:
    with StandIn(answer) as acme:
        upstream = client(acme.url)
        task = asyncio.ensure_future(upstream.fetch("POST", "/", context=CallContext(), body=b"{}"))
        await acme.wait_arrived()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await acme.wait_hung_up()
        await upstream.aclose()


@pytest.mark.parametrize(("bypassed", "through"), [("", True), ("127.0.0.1", False)])
async def test_the_environments_proxy_is_used_unless_it_is_bypassed(
    monkeypatch: pytest.MonkeyPatch, bypassed: str, through: bool
) -> None:
    with StandIn(Answer.of("proxied")) as proxy, StandIn(Answer.of("direct")) as acme:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", bypassed)
        upstream = client(acme.url)
        _, _, body = await upstream.fetch("GET", "/x", context=CallContext())
        await upstream.aclose()
    assert body == (b'"proxied"' if through else b'"direct"')
