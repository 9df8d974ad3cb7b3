"""The upstream client: statuses, bodies, foreign errors, and what a closed call does to the socket."""

from __future__ import annotations

import asyncio
import gzip
from typing import Final

import pytest
from aigateway_common.errors import GatewayError
from aigateway_providers.adapter import CallContext
from aigateway_providers.settings import ProviderSettings
from aigateway_providers.upstream import Upstream
from support.replay import Answer
from support.replay import Upstream as StandIn


def client(url: str, **settings: float) -> Upstream:
    return Upstream(ProviderSettings("acme", "openai", url, **settings), {"authorization": "Bearer k"})  # type: ignore[arg-type] # only numbers are passed


@pytest.fixture(params=["GET", "POST"])
def method(request: pytest.FixtureRequest) -> str:
    """By aiohttp's own client, and past it."""
    return str(request.param)


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


@pytest.mark.parametrize("body", [None, b"{}", b" " * 300_000])
async def test_a_requests_own_headers_go_with_it_alone(body: bytes | None) -> None:
    with StandIn(Answer.of({}), Answer.of({})) as acme:
        upstream = client(acme.url)
        await upstream.fetch("POST", "/", context=CallContext(), body=body, headers={"x-beta": "on"})
        await upstream.fetch("POST", "/", context=CallContext(), body=body)
        await upstream.aclose()
    with_it, without = [request.headers for request in acme.requests]
    assert with_it.pop("x-beta") == "on"
    assert with_it == without
    assert without["authorization"] == "Bearer k"
    assert without["content-type"] == "application/json"
    assert without["content-length"] == str(len(body or b""))
    assert without["host"] == acme.url.removeprefix("http://")


async def test_a_compressed_answer_is_undone(method: str) -> None:
    zipped = gzip.compress(b"hello")
    with StandIn(Answer(200, {"content-encoding": "gzip"}, [zipped[:7], zipped[7:]])) as acme:
        upstream = client(acme.url)
        assert (await upstream.fetch(method, "/", context=CallContext()))[2] == b"hello"
        await upstream.aclose()


@pytest.mark.parametrize(
    ("named", "known"),
    [
        ({"Content-Type": "Application/JSON; charset=UTF-8"}, "application/json"),
        ({"content-type": "text/event-stream"}, "text/event-stream"),
        ({}, ""),
    ],
)
async def test_an_answer_says_what_it_is(method: str, named: dict[str, str], known: str) -> None:
    with StandIn(Answer(200, named, [b"hello"])) as acme:
        upstream = client(acme.url)
        async with await upstream.send(method, "/", context=CallContext()) as response:
            assert response.media_type == known
        await upstream.aclose()


async def test_chunks_arrive_as_they_are_sent() -> None:
    with StandIn(Answer.sse({"n": 1}, {"n": 2}, gap=0.05)) as acme:
        upstream = client(acme.url)
        async with await upstream.send("POST", "/", context=CallContext(), body=b"{}") as response:
            chunks = [chunk async for chunk in response.chunks()]
        await upstream.aclose()
    assert chunks == [b'data: {"n": 1}\n\n', b'data: {"n": 2}\n\n']


async def test_an_answer_broken_off_has_its_reason() -> None:
    with StandIn(Answer(pieces=[b"{"], cut=True)) as acme:
        upstream = client(acme.url)
        with pytest.raises(GatewayError) as caught:
            await upstream.fetch("POST", "/", context=CallContext(), body=b"{}")
        await upstream.aclose()
    assert caught.value.reason.name == "UPSTREAM_INVALID"
    assert caught.value.details == {"provider": "acme"}


_HEADERS_ONLY: Final = Answer(pieces=[b""], hold=True)
_FIRST_PIECE_ONLY: Final = Answer(pieces=[b"{"], hold=True)
_TRICKLE: Final = Answer(pieces=[b" "] * 10_000, gap=0.01)


@pytest.mark.parametrize(
    ("answer", "limits", "limit", "message"),
    [
        (
            Answer(hold_before_headers=True),
            {"first_byte_timeout": 0.1},
            "first_byte_timeout",
            "nothing was answered: acme sent no byte within 0.1 seconds (`providers.acme.first_byte_timeout`)",
        ),
        (
            _HEADERS_ONLY,
            {"first_byte_timeout": 0.1, "idle_timeout": 0.01},
            "first_byte_timeout",
            "nothing was answered: acme sent no byte within 0.1 seconds (`providers.acme.first_byte_timeout`)",
        ),
        (
            _FIRST_PIECE_ONLY,
            {"idle_timeout": 0.1},
            "idle_timeout",
            "acme went silent in mid-answer for 0.1 seconds (`providers.acme.idle_timeout`)",
        ),
        (
            _TRICKLE,
            {"total_timeout": 0.2, "idle_timeout": 5.0},
            "total_timeout",
            "acme did not finish its answer within 0.2 seconds (`providers.acme.total_timeout`)",
        ),
        (
            Answer(hold_before_headers=True),
            {"total_timeout": 0.1},
            "total_timeout",
            "acme did not finish its answer within 0.1 seconds (`providers.acme.total_timeout`)",
        ),
    ],
    ids=["before headers", "before the first byte", "mid-answer", "trickling", "total before headers"],
)
async def test_each_limit_ends_the_wait_says_which_it_was_and_closes_the_socket(
    answer: Answer, limits: dict[str, float], limit: str, message: str
) -> None:
    with StandIn(answer) as acme:
        upstream = client(acme.url, **limits)
        with pytest.raises(GatewayError) as caught:
            await upstream.fetch("POST", "/", context=CallContext(), body=b"{}")
        await acme.wait_hung_up()
        await upstream.aclose()
    assert (caught.value.reason.name, caught.value.message) == ("UPSTREAM_TIMEOUT", message)
    assert caught.value.details == {"provider": "acme", "limit": limit}
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_connection_that_never_opens_ends_in_its_own_limit() -> None:
    with StandIn(Answer()) as acme:  # accepts, and never answers the greeting of TLS
        upstream = client(acme.url.replace("http:", "https:"), connect_timeout=0.1)
        with pytest.raises(GatewayError) as caught:
            await upstream.fetch("POST", "/", context=CallContext(), body=b"{}")
        await acme.wait_hung_up()
        await upstream.aclose()
    assert (caught.value.reason.name, caught.value.message) == (
        "UPSTREAM_TIMEOUT",
        "nothing was answered: acme accepted no connection within 0.1 seconds (`providers.acme.connect_timeout`)",
    )
    assert caught.value.details == {"provider": "acme", "limit": "connect_timeout"}


async def test_the_limit_between_bytes_begins_anew_with_each_byte(method: str) -> None:
    with StandIn(Answer(pieces=[b"x"] * 24, gap=0.05)) as acme:
        upstream = client(acme.url, idle_timeout=1.0)
        _, _, body = await upstream.fetch(method, "/", context=CallContext())
        await upstream.aclose()
    assert body == b"x" * 24


async def test_a_slow_reader_is_not_a_silent_provider(method: str) -> None:
    with StandIn(Answer(pieces=[b"a", b"b"], gap=0.01)) as acme:
        upstream = client(acme.url, idle_timeout=0.5)
        async with await upstream.send(method, "/", context=CallContext()) as response:
            chunks = response.chunks()
            got = [await anext(chunks)]
            await asyncio.sleep(0.7)  # what is tested is that this time does not count
            got += [chunk async for chunk in chunks]
        await upstream.aclose()
    assert b"".join(got) == b"ab"


async def test_pieces_that_are_shown_are_not_read_and_count_as_signs_of_life() -> None:
    """Those alone that come while the stream is waited for, and are taken."""
    pieces = [b"abcdefghijklmnopqrstuvwx"[number : number + 1] for number in range(24)]
    taken: list[bytes] = []
    refused: list[bytes] = []

    def take(piece: bytes) -> bool:
        wanted = b"e" not in piece and b"x" not in piece
        (taken if wanted else refused).append(piece)
        return wanted

    with StandIn(Answer(pieces=pieces, gap=0.05)) as acme:
        upstream = client(acme.url, idle_timeout=1.0)
        async with await upstream.send("POST", "/", context=CallContext(), body=b"{}") as response:
            response.shorten(take)
            read = [chunk async for chunk in response.chunks()]
        await upstream.aclose()
    assert sorted(b"".join([*read, *taken])) == sorted(b"".join(pieces))
    unseen = read[: -len(refused)]  # what came with the head, before anybody waited
    assert read == [*unseen, *refused]
    assert len(unseen) <= 1
    assert taken


@pytest.mark.parametrize("before", [(), (b"",)], ids=["with the head", "after the head"])
async def test_a_provider_that_falls_silent_after_pieces_that_were_taken_is_silent(before: tuple[bytes, ...]) -> None:
    with StandIn(Answer(pieces=[*before, b"a", b"b", b"c"], gap=0.02, hold=True)) as acme:
        upstream = client(acme.url, idle_timeout=0.2)
        async with await upstream.send("POST", "/", context=CallContext(), body=b"{}") as response:
            response.shorten(lambda _: True)
            with pytest.raises(GatewayError, match="went silent in mid-answer"):
                [chunk async for chunk in response.chunks()]
        await acme.wait_hung_up()
        await upstream.aclose()


async def test_a_callers_own_timeout_stays_the_callers(method: str) -> None:
    with StandIn(Answer(hold_before_headers=True)) as acme:
        upstream = client(acme.url, first_byte_timeout=5.0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await upstream.fetch(method, "/", context=CallContext())
        await acme.wait_hung_up()
        await upstream.aclose()


async def test_an_unreachable_provider_has_its_reason(method: str) -> None:
    upstream = client("http://127.0.0.1:1")
    with pytest.raises(GatewayError) as caught:
        await upstream.fetch(method, "/", context=CallContext())
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


async def test_calls_beyond_the_connections_are_made_in_the_order_in_which_they_came() -> None:
    with StandIn(Answer(hold=True, pieces=(b"{",)), Answer.of({})) as acme:
        upstream = client(acme.url, max_connections=1)
        held = await upstream.send("POST", "/held", context=CallContext(), body=b"{}")

        async def again(first: str) -> None:
            """Calls that come back for more as soon as they are answered must not push others aside."""
            for turn in range(3):
                await upstream.fetch("POST", f"/{first}{turn}", context=CallContext(), body=b"{}")

        tasks = [asyncio.ensure_future(again(name)) for name in "ab"]
        await asyncio.sleep(0)
        assert len(acme.requests) == 1
        await held.aclose()
        await asyncio.gather(*tasks)
        await upstream.aclose()
    assert [one.path for one in acme.requests] == ["/held", "/a0", "/b0", "/a1", "/b1", "/a2", "/b2"]


async def test_a_call_that_fails_or_is_cancelled_leaves_its_connection_to_the_next() -> None:
    with StandIn(Answer(reset=True), Answer(hold_before_headers=True), Answer.of({"a": 1})) as acme:
        upstream = client(acme.url, max_connections=1)
        with pytest.raises(GatewayError):
            await upstream.fetch("POST", "/", context=CallContext(), body=b"{}")
        acme.arrived.clear()
        task = asyncio.ensure_future(upstream.fetch("POST", "/", context=CallContext(), body=b"{}"))
        await acme.wait_arrived()
        waiting = asyncio.ensure_future(upstream.fetch("POST", "/", context=CallContext(), body=b"{}"))
        await asyncio.sleep(0)
        waiting.cancel()
        task.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)
        status, _, _ = await upstream.fetch("POST", "/", context=CallContext(), body=b"{}")
        await upstream.aclose()
    assert status == 200


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
