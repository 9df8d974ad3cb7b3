"""A client that closes its connection, at each stage of a call, and what must come of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from uuid import uuid4

import httpx

from support.cases import Case
from support.replay import Answer
from support.whole import KEY, Whole


@dataclass(frozen=True)
class Stage:
    """When the client leaves."""

    name: str
    stream: bool
    after: str = ""
    """The text that it waits for; empty before anything has come."""


STAGES = (
    Stage("before the first token", stream=True),
    Stage("in mid-stream", stream=True, after="Hello"),
    Stage("during a whole answer", stream=False),
)


async def leave_at(whole: Whole, case: Case, stage: Stage) -> None:
    """Leave, and see the provider's connection closed and the attempt recorded as cancelled."""
    whole.answer(_held(case) if stage.after else Answer(hold_before_headers=True))
    request_id = await leave(whole, case, stream=stage.stream, after=stage.after)
    await whole.upstream.wait_hung_up()
    (row,) = whole.recorded(request_id)
    assert (row["success"], row["status"]) == (0, "cancelled")
    if stage.after:
        assert row["completion_tokens"] > 0, "the tokens that the provider had sent are known or estimated"


def _held(case: Case) -> Answer:
    """A stream that stops at its first word."""
    pieces = list(case.stream.pieces)
    upto = next(number for number, piece in enumerate(pieces) if b"Hello" in piece) + 1
    return replace(case.stream, pieces=pieces[:upto], hold=True)


async def leave(whole: Whole, case: Case, *, stream: bool, after: str) -> str:
    """Begin a call, close the connection once `after` has come (at once when empty), and say the call's id."""
    request_id = f"leave-{uuid4().hex}"
    headers = {"x-api-key": KEY, "x-request-id": request_id}
    body = {"model": case.name, "messages": [{"role": "user", "content": "Hi"}], "stream": stream}

    async def call() -> None:
        async with (
            httpx.AsyncClient(base_url=whole.gateway.http, headers=headers, timeout=30) as client,
            client.stream("POST", "/v1/chat/completions", json=body) as answer,
        ):
            seen = ""
            async for text in answer.aiter_text():
                seen += text
                if after and after in seen:
                    return

    task = asyncio.create_task(call())
    if not after:
        await whole.upstream.wait_arrived()
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return request_id
