"""Every way that a provider fails, in each dialect, whole and streamed: each ends as `docs/errors.md` says, and soon.

A failure before the first content has its own status; one after it is one `error` record and no `[DONE]`. One row of
the table is one fault; with a fallback behind it a fault before the first content is no failure at all.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import httpx
import pytest
from support.cases import CASES, Case
from support.chaos.table import Table
from support.gateway import PROVIDER_KEYS, Gateway, environment
from support.replay import Answer, Sent, Upstream

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

LIMIT = 0.4
"""Seconds that the gateway waits for a byte of the provider, here."""
HTML = Answer(200, {"content-type": "text/html"}, (b"<html><body>It works!</body></html>",))
INVALID = (502, "upstream_invalid_response")
TIMEOUT = (504, "upstream_timeout")
BUSY = (503, "upstream_overloaded")
ANSWERED = (200, "")

Ending = tuple[int, str]
"""The HTTP status and the error's code; 200 with a code is an error in mid-stream."""


@dataclass(frozen=True)
class Fault:
    """What the provider does, and how the call ends, whole and streamed."""

    name: str
    answer: Callable[[Case, bool], Answer]
    whole: Ending
    stream: Ending
    retry_after: str = ""
    """What callers are told; a 503 of which the provider says nothing is worth another try after a second."""


def always(answer: Answer) -> Callable[[Case, bool], Answer]:
    return lambda case, streams: answer


def status(code: int, **headers: str) -> Callable[[Case, bool], Answer]:
    """A failure in the words of the provider."""

    def answer(case: Case, streams: bool) -> Answer:
        match case.provider:
            case "ollama":
                return Answer.of({"error": "no"}, code, **headers)
            case "anthropic":
                return Answer.of({"type": "error", "error": {"type": "api_error", "message": "no"}}, code, **headers)
            case "gemini":
                return Answer.of({"error": {"code": code, "message": "no", "status": "X"}}, code, **headers)
            case _:
                return Answer.of({"error": {"message": "no", "type": "x", "code": None}}, code, **headers)

    return answer


def begun(case: Case, streams: bool) -> Answer:
    """The beginning of a good answer: half a body, or a stream up to its first word."""
    if not streams:
        body = case.whole.pieces[0]
        return replace(case.whole, pieces=[body[: len(body) // 2]])
    pieces = list(case.stream.pieces)
    upto = next(number for number, piece in enumerate(pieces) if b"Hello" in piece) + 1
    return replace(case.stream, pieces=pieces[:upto])


def trickle(case: Case, streams: bool) -> Answer:
    whole = good(case, streams)
    body = b"".join(whole.pieces)
    return replace(whole, pieces=[body[at : at + 7] for at in range(0, len(body), 7)], gap=0.002)


def error_event(case: Case, streams: bool) -> Answer:
    """An error record in the middle of the stream, as each provider writes it; whole answers have none."""
    records = {
        "openai": b'data: {"error": {"message": "no", "type": "server_error", "code": null}}\n\n',
        "groq": b'event: error\ndata: {"error": {"message": "no", "type": "server_error"}}\n\n',
        "anthropic": b'event: error\ndata: {"type": "error", "error": {"type": "api_error", "message": "no"}}\n\n',
        "gemini": b'data: {"error": {"code": 500, "message": "no", "status": "INTERNAL"}}\n\n',
        "ollama": b'{"error": "no"}\n',
    }
    if not streams:
        return Answer.of(json.loads(status(500)(case, False).pieces[0]), 500)
    start = begun(case, streams)
    return replace(start, pieces=[*start.pieces, records[case.provider]])


FAULTS = (
    Fault("resets the connection", always(Answer(reset=True)), INVALID, INVALID),
    Fault("says nothing", always(Answer(hold_before_headers=True)), TIMEOUT, TIMEOUT),
    Fault("says nothing after the head", always(Answer(hold=True)), TIMEOUT, TIMEOUT),
    Fault("stalls in the middle", lambda c, s: replace(begun(c, s), hold=True), TIMEOUT, (200, TIMEOUT[1])),
    Fault("closes in the middle", lambda c, s: replace(begun(c, s), cut=True), INVALID, (200, INVALID[1])),
    Fault("ends in the middle", begun, INVALID, (200, INVALID[1])),
    Fault("trickles", trickle, ANSWERED, ANSWERED),
    Fault("sends an error event", error_event, (502, "upstream_error"), (200, "upstream_error")),
    Fault("answers garbage", always(Answer(pieces=(bytes(range(256)),))), INVALID, INVALID),
    Fault("answers no HTTP", always(Answer(raw=b"\x00garbage\r\n\r\n")), INVALID, INVALID),
    Fault("answers nothing", always(Answer()), INVALID, INVALID),
    Fault("answers HTML", always(HTML), INVALID, INVALID),
    Fault("answers other JSON", always(Answer.of(["no"])), INVALID, INVALID),
    Fault("answers false gzip", always(replace(HTML, headers={"content-encoding": "gzip"})), INVALID, INVALID),
    Fault("redirects", always(Answer(302, {"location": "http://127.0.0.1:1/"})), INVALID, INVALID),
    Fault("refuses our key", status(401), (502, "upstream_auth_failed"), (502, "upstream_auth_failed")),
    Fault("429", status(429, retry_after="7"), (429, "rate_limit_exceeded"), (429, "rate_limit_exceeded"), "7"),
    Fault("500", status(500), (502, "upstream_error"), (502, "upstream_error")),
    Fault("503", status(503), BUSY, BUSY, "1"),
    Fault("503 in HTML", always(replace(HTML, status=503)), BUSY, BUSY, "1"),
    Fault("504", status(504), TIMEOUT, TIMEOUT),
)


@dataclass(frozen=True)
class Faulty:
    """A gateway whose provider fails."""

    gateway: Gateway
    upstream: Upstream
    stands_in: bool
    """The sandbox answers where a provider does not."""

    def ending(self, alone: Ending) -> Ending:
        """How a call ends that would end so `alone`: what failed before the first content is answered after all."""
        return ANSWERED if self.stands_in and alone[0] != 200 else alone


@pytest.fixture(scope="module", params=[False, True], ids=["alone", "with a fallback"])
def faulty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    folder = tmp_path_factory.mktemp("faulty")
    limits = {"first_byte_timeout": LIMIT, "idle_timeout": LIMIT}
    config = {
        "providers": dict.fromkeys(PROVIDER_KEYS, limits) | {"sandbox": {}},
        "fallbacks": {case.name: ["sandbox/echo"] for case in CASES} if request.param else {},
        # Each fault is met once; `tests/unit/router/test_pursuit.py` has what is tried again.
        "retries": {"attempts": 1},
        "breaker": {"enabled": False},
    }
    (folder / "aigateway.yaml").write_text(json.dumps(config))
    with Upstream(Answer()) as upstream, Gateway("embedded", folder, environment(upstream.url)) as gateway:
        yield Faulty(gateway, upstream, stands_in=request.param)


async def ask(client: httpx.AsyncClient, case: Case, streams: bool) -> tuple[Ending, str]:
    """How a call ended, and its `Retry-After`."""
    body = {"model": case.name, "messages": [{"role": "user", "content": "Hello there"}], "stream": streams}
    async with asyncio.timeout(20):
        got = await client.post("/v1/chat/completions", json=body)
    retry_after = got.headers.get("retry-after", "")
    if got.status_code != 200:
        return (got.status_code, str(got.json()["error"]["code"])), retry_after
    if not streams:
        assert _said(got, got.json()["choices"][0]["message"]["content"])
        return ANSWERED, retry_after
    records = [line.removeprefix("data: ") for line in got.text.split("\n") if line.startswith("data: ")]
    done = records[-1] == "[DONE]"
    chunks = [json.loads(record) for record in records if record != "[DONE]"]
    (error,) = [chunk["error"]["code"] for chunk in chunks if "error" in chunk] or [""]
    text = "".join(choice["delta"].get("content") or "" for c in chunks for choice in c.get("choices", ()))
    assert done != bool(error), "either an error or the mark of a whole answer"
    assert not done or _said(got, text)
    return (200, error), retry_after


def _said(got: httpx.Response, text: str) -> bool:
    """Whether it is the provider's own answer, whole, or the echo that stands in, and said to do so."""
    if got.headers.get("x-hub-fallback"):
        return "Hello there" in text and got.headers["x-provider"] == "sandbox"
    return text == "Hello there"


async def test_each_fault_ends_as_documented_in_each_dialect(faulty: Faulty) -> None:
    how = "with" if faulty.stands_in else "without"
    title = f"faults of {', '.join(case.provider for case in CASES)}, {how} a fallback"
    table = Table(title, ("the provider", "whole", "streamed", "in other ways"))
    async with httpx.AsyncClient(base_url=faulty.gateway.http, timeout=20) as client:
        for fault in FAULTS:
            faulty.upstream.reset(script=_scripted(fault.answer))
            endings = await asyncio.gather(*(ask(client, case, way) for case in CASES for way in (False, True)))
            ways = faulty.ending(fault.whole), faulty.ending(fault.stream)
            retry_after = "" if faulty.stands_in else fault.retry_after
            wanted = [(ending, retry_after) for _ in CASES for ending in ways]
            others = [
                f"{CASES[number // 2].provider} {ending}"
                for number, (ending, want) in enumerate(zip(endings, wanted, strict=True))
                if ending != want
            ]
            table.add(fault.name, *(f"{code} {error}" for code, error in ways), "; ".join(others))
        faulty.upstream.reset(script=_scripted(good))
        endings = await asyncio.gather(*(ask(client, case, way) for case in CASES for way in (False, True)))
    print(table.text())
    assert not [row for row in table.rows if row[-1]], table.text()
    assert endings == [(ANSWERED, "")] * len(endings), "the next call is as good as any"


def good(case: Case, streams: bool) -> Answer:
    return case.stream if streams else case.whole


def _scripted(answer: Callable[[Case, bool], Answer]) -> Callable[[Sent], Answer]:
    return lambda sent: answer(*_asked(sent))


def _asked(sent: Sent) -> tuple[Case, bool]:
    """Which dialect a request is of, and whether it streams."""
    (case,) = [case for case in CASES if sent.path in (case.path, case.stream_path)]
    return case, sent.path.endswith("streamGenerateContent") or bool(sent.json().get("stream", False))
