"""A turn that Anthropic paused, in every dialect: never shown as over, and its own word is there to be read.

https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons#pause-turn
"""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx
import pytest
from support.cases import CASES
from support.replay import Answer
from support.whole import KEY, Whole

(CLAUDE,) = (case for case in CASES if case.provider == "anthropic")
HI: Any = [{"role": "user", "content": "Hi"}]


def paused(answer: Answer) -> Answer:
    pieces = [piece.replace(b'"end_turn"', b'"pause_turn"') for piece in answer.pieces]
    assert sum(piece.count(b'"pause_turn"') for piece in pieces) == 1
    return Answer(answer.status, answer.headers, pieces)


@pytest.fixture(autouse=True)
def upstream(whole: Whole, stream: bool) -> None:
    whole.answer(paused(CLAUDE.stream if stream else CLAUDE.whole))


BOTH = pytest.mark.parametrize("stream", [False, True])


@BOTH
async def test_anthropics_own_dialect_says_its_own_word(whole: Whole, stream: bool) -> None:
    answer: anthropic.types.Message
    async with anthropic.AsyncAnthropic(base_url=whole.gateway.http, api_key=KEY, max_retries=0) as sdk:
        if stream:
            async with sdk.messages.stream(model=CLAUDE.name, max_tokens=9, messages=HI) as events:
                answer = await events.get_final_message()
        else:
            answer = await sdk.messages.create(model=CLAUDE.name, max_tokens=9, messages=HI)
    assert answer.stop_reason == "pause_turn"


@BOTH
async def test_responses_says_incomplete_and_why(whole: Whole, stream: bool) -> None:
    async with whole.sdk() as sdk:
        if stream:
            events = [event async for event in await sdk.responses.create(model=CLAUDE.name, input="Hi", stream=True)]
            assert events[-1].type == "response.incomplete"
            answer = events[-1].response
        else:
            answer = await sdk.responses.create(model=CLAUDE.name, input="Hi")
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.to_dict() == {"reason": "pause_turn"}


@BOTH
@pytest.mark.parametrize(
    ("path", "asked"), [("/v1/chat/completions", {"messages": HI}), ("/v1/completions", {"prompt": "Hi"})]
)
async def test_the_older_dialects_say_length_and_report_it(
    whole: Whole, path: str, asked: dict[str, Any], stream: bool
) -> None:
    async with httpx.AsyncClient(base_url=whole.gateway.http, headers={"x-api-key": KEY}) as client:
        answer = await client.post(path, json={"model": CLAUDE.name, "stream": stream} | asked)
    if stream:
        records = answer.text.strip().split("\n\n")
        assert ": x-gateway-translation: choices[0].finish_reason=emulated(pause_turn)" in records
        assert records[-1] == "data: [DONE]"
        choice = json.loads(records[-2].removeprefix("data: "))["choices"][0]
    else:
        assert "choices[0].finish_reason=emulated (pause_turn)" in answer.headers["x-gateway-translation"]
        (choice,) = answer.json()["choices"]
    assert choice["finish_reason"] == "length"
    assert choice.get("native_finish_reason") == ("pause_turn" if "messages" in asked else None)
