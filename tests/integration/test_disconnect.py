"""A client that goes away closes the provider's connection, for each adapter, at every stage, in every topology."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import uuid4

import httpx
import pytest
from support.cases import CASES, Case
from support.replay import Answer
from support.whole import KEY, Whole

EACH = pytest.mark.parametrize("case", CASES, ids=[case.provider for case in CASES])


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


@EACH
async def test_before_the_first_token(whole: Whole, case: Case) -> None:
    whole.answer(Answer(hold_before_headers=True))
    request_id = await leave(whole, case, stream=True, after="")
    await whole.upstream.wait_hung_up()
    (row,) = whole.recorded(request_id)
    assert (row["success"], row["status"]) == (0, "cancelled")


@EACH
async def test_in_mid_stream(whole: Whole, case: Case) -> None:
    pieces = list(case.stream.pieces)
    upto = next(number for number, piece in enumerate(pieces) if b"Hello" in piece) + 1
    whole.answer(replace(case.stream, pieces=pieces[:upto], hold=True))
    request_id = await leave(whole, case, stream=True, after="Hello")
    await whole.upstream.wait_hung_up()
    (row,) = whole.recorded(request_id)
    assert (row["success"], row["status"]) == (0, "cancelled")
    assert row["completion_tokens"] > 0, "the tokens that the provider had sent are known or estimated"


@EACH
async def test_during_a_whole_answer(whole: Whole, case: Case) -> None:
    whole.answer(Answer(hold_before_headers=True))
    request_id = await leave(whole, case, stream=False, after="")
    await whole.upstream.wait_hung_up()
    (row,) = whole.recorded(request_id)
    assert (row["success"], row["status"]) == (0, "cancelled")


@EACH
async def test_a_deadline_closes_it_too(whole: Whole, case: Case) -> None:
    whole.answer(Answer(hold_before_headers=True))
    headers = {"x-api-key": KEY, "x-gateway-timeout": "0.3"}
    async with httpx.AsyncClient(base_url=whole.gateway.http, headers=headers) as client:
        body = {"model": case.name, "messages": [{"role": "user", "content": "Hi"}]}
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 504, answer.text
    await whole.upstream.wait_hung_up()
