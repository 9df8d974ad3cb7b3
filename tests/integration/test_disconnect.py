"""A client that goes away closes the provider's connection, for each adapter, at every stage, in every topology."""

from __future__ import annotations

import httpx
import pytest
from support.cases import CASES, Case
from support.leaving import STAGES, Stage, leave_at
from support.replay import Answer
from support.whole import KEY, Whole

EACH = pytest.mark.parametrize("case", CASES, ids=[case.provider for case in CASES])


@EACH
@pytest.mark.parametrize("stage", STAGES, ids=[stage.name for stage in STAGES])
async def test_leaving_closes_the_upstream_and_is_recorded(whole: Whole, case: Case, stage: Stage) -> None:
    await leave_at(whole, case, stage)


@EACH
async def test_a_deadline_closes_it_too(whole: Whole, case: Case) -> None:
    whole.answer(Answer(hold_before_headers=True))
    headers = {"x-api-key": KEY, "x-gateway-timeout": "0.3"}
    async with httpx.AsyncClient(base_url=whole.gateway.http, headers=headers) as client:
        body = {"model": case.name, "messages": [{"role": "user", "content": "Hi"}]}
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 504, answer.text
    await whole.upstream.wait_hung_up()
