"""The transport below the upstream client: what it writes, what it takes for an answer, which connections it uses."""

from __future__ import annotations

import pytest
from aigateway_common.errors import GatewayError
from aigateway_providers.adapter import CallContext
from aigateway_providers.settings import ProviderSettings
from aigateway_providers.upstream import Upstream
from support.replay import Answer
from support.replay import Upstream as StandIn


async def fetched(answer: Answer, **headers: str) -> tuple[int, bytes]:
    """The status and body that one `POST` brings; `headers` are the operator's own."""
    with StandIn(answer) as acme:
        upstream = Upstream(ProviderSettings("acme", "openai", acme.url, headers=headers), {})
        try:
            status, _, body = await upstream.fetch("POST", "/", context=CallContext(), body=b"{}")
        finally:
            await upstream.aclose()
    return status, body


async def test_calls_of_every_method_share_one_connection() -> None:
    with StandIn(Answer.of({"a": 1})) as acme:
        upstream = Upstream(ProviderSettings("acme", "openai", acme.url, max_connections=1), {})
        for method in ("GET", "POST", "POST", "GET", "POST"):
            _, _, body = await upstream.fetch(method, "/", context=CallContext(), body=b"{}")
            assert body == b'{"a": 1}'
        assert len(acme._connections) == 1
        await upstream.aclose()


async def test_news_before_the_answer_is_passed_over() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    raw = early + b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok"
    assert await fetched(Answer(raw=raw)) == (201, b"ok")


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    assert await fetched(Answer(raw=b"HTTP/1.1 200 OK\r\n\r\nto the end")) == (200, b"to the end")


async def test_an_answer_without_a_body_ends_at_once() -> None:
    assert await fetched(Answer(raw=b"HTTP/1.1 204 No Content\r\n\r\n")) == (204, b"")


async def test_a_connection_that_the_provider_closes_is_not_used_again() -> None:
    with StandIn(Answer(raw=b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx")) as acme:
        upstream = Upstream(ProviderSettings("acme", "openai", acme.url), {})
        for _ in range(3):
            _, _, body = await upstream.fetch("POST", "/", context=CallContext(), body=b"{}")
            assert body == b"x"
        await upstream.aclose()
    assert len(acme.requests) == 3


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(raw=b"SSH-2.0-OpenSSH_9.6\r\n"), "acme sent what is no HTTP answer"),
        (Answer(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"), "acme closed the connection in mid-answer"),
        (
            Answer(raw=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
            "acme sent what is no HTTP answer",
        ),
        (Answer(reset=True), "acme closed the connection in mid-answer"),
    ],
    ids=["no HTTP", "too short", "no chunk", "reset"],
)
async def test_what_is_no_answer_has_its_reason(answer: Answer, message: str) -> None:
    with pytest.raises(GatewayError) as caught:
        await fetched(answer)
    assert (caught.value.reason.name, caught.value.message) == ("UPSTREAM_INVALID", message)


async def test_the_operators_host_stands_for_the_address_and_no_length_but_the_bodys_is_sent() -> None:
    with StandIn(Answer.of({})) as acme:
        own = {"host": "models.example", "content-length": "1", "transfer-encoding": "chunked"}
        upstream = Upstream(ProviderSettings("acme", "openai", acme.url, headers=own), {})
        await upstream.fetch("POST", "/", context=CallContext(), body=b"{}")
        await upstream.aclose()
    [sent] = acme.requests
    assert (sent.headers["host"], sent.headers["content-length"], sent.body) == ("models.example", "2", b"{}")
    assert "transfer-encoding" not in sent.headers


async def test_a_password_in_the_address_is_sent() -> None:
    with StandIn(Answer.of({})) as acme:
        upstream = Upstream(ProviderSettings("acme", "openai", acme.url.replace("://", "://me:secret@")), {})
        await upstream.fetch("POST", "/", context=CallContext(), body=b"{}")
        await upstream.aclose()
    assert acme.requests[0].headers["authorization"] == "Basic bWU6c2VjcmV0"


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nb", "a\x00b"])
async def test_a_header_cannot_bring_another_one_with_it(value: str) -> None:
    with pytest.raises(ValueError, match="holds characters that no header has"):
        Upstream(ProviderSettings("acme", "openai", "http://127.0.0.1:1", headers={"x-own": value}), {})
    with StandIn(Answer.of({})) as acme:
        upstream = Upstream(ProviderSettings("acme", "openai", acme.url), {})
        with pytest.raises(ValueError, match="holds characters that no header has"):
            await upstream.fetch("POST", "/", context=CallContext(), body=b"{}", headers={"x-own": value})
        await upstream.aclose()
    assert acme.requests == []
