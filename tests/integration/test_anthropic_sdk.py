"""The official Anthropic SDK on the whole gateway, with any provider behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import pytest
from support.cases import CASES, Case
from support.gateway import Gateway
from support.replay import Answer
from support.turns import Turn, conversation
from support.whole import KEY, Whole

EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.provider)
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
HI: Any = [{"role": "user", "content": "Hi"}]
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
MODELS = {case.provider: case.name for case in CASES}


@pytest.fixture
async def sdk(whole: Whole) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=whole.gateway.http, api_key=KEY, max_retries=0) as client:
        yield client


async def ask(sdk: anthropic.AsyncAnthropic, *, stream: bool, **fields: Any) -> anthropic.types.Message:
    """The message, whole or as the SDK gathers it from the stream."""
    fields = {"max_tokens": 100, "messages": HI} | fields
    if not stream:
        answer: anthropic.types.Message = await sdk.messages.create(**fields)
        return answer
    async with sdk.messages.stream(**fields) as events:
        return await events.get_final_message()


@EACH
@STREAMED
async def test_any_model_answers(whole: Whole, sdk: anthropic.AsyncAnthropic, case: Case, stream: bool) -> None:
    whole.answer(case.stream if stream else case.whole)
    answer = await ask(sdk, stream=stream, model=case.name, system="Be brief.")
    (block,) = answer.content
    assert block.type == "text"
    assert block.text == "Hello there"
    assert (answer.type, answer.role, answer.stop_reason) == ("message", "assistant", "end_turn")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (9, 3)
    (sent,) = whole.upstream.requests
    assert sent.path == (case.stream_path if stream else case.path)
    assert sent.headers.get("anthropic-version") == ("2026-10-21" if case.provider == "anthropic" else None)


@pytest.mark.parametrize("provider", MODELS)
@STREAMED
async def test_a_tool_is_called_and_answered(
    whole: Whole, sdk: anthropic.AsyncAnthropic, provider: str, stream: bool
) -> None:
    """The answer is echoed as the SDK gave it; what a provider needs back (Gemini's signature) arrives there."""
    turns = [Turn(tool="get_weather", arguments={"city": "Oslo"}), Turn(text="It rains.")]
    whole.upstream.reset(script=conversation(provider, turns))
    messages = list(HI)
    first = await ask(sdk, stream=stream, model=MODELS[provider], messages=messages, tools=[WEATHER])
    assert first.stop_reason == "tool_use"
    (call,) = [block for block in first.content if block.type == "tool_use"]
    assert (call.name, call.input) == ("get_weather", {"city": "Oslo"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "rain"}]}
    messages += [
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result, {"type": "text", "text": "Well?"}]},
    ]
    last = await ask(sdk, stream=stream, model=MODELS[provider], messages=messages, tools=[WEATHER])
    assert [block.text for block in last.content if block.type == "text"] == ["It rains."]
    sent = whole.upstream.requests[1].json()
    if provider == "gemini":
        parts = sent["contents"][1]["parts"]
        assert [part["thoughtSignature"] for part in parts if "functionCall" in part] == ["c2lnbmF0dXJl"]
    if provider in {"openai", "groq"}:
        assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "tool", "user"]


@EACH
async def test_the_stream_has_anthropics_order_of_events(
    whole: Whole, sdk: anthropic.AsyncAnthropic, case: Case
) -> None:
    whole.answer(case.stream)
    stream = await sdk.messages.create(model=case.name, max_tokens=100, messages=HI, stream=True)
    kinds = [event.type async for event in stream]
    assert kinds[:2] == ["message_start", "content_block_start"]  # the SDK leaves pings out
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


@EACH
async def test_a_busy_provider_says_when_to_come_back(whole: Whole, sdk: anthropic.AsyncAnthropic, case: Case) -> None:
    whole.answer(Answer.of({"error": {"message": "slow down", "type": "rate_limit_error"}}, 429, retry_after="7"))
    with pytest.raises(anthropic.RateLimitError) as caught:
        await sdk.messages.create(model=case.name, max_tokens=1, messages=HI)
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.type == "rate_limit_error"
    assert caught.value.request_id == caught.value.response.headers["x-request-id"]


@EACH
async def test_an_overloaded_provider_is_529(whole: Whole, sdk: anthropic.AsyncAnthropic, case: Case) -> None:
    whole.answer(Answer.of({"error": {"message": "busy", "type": "overloaded_error"}}, 503))
    with pytest.raises(anthropic.APIStatusError) as caught:
        await sdk.messages.create(model=case.name, max_tokens=1, messages=HI)
    assert (caught.value.status_code, caught.value.type) == (529, "overloaded_error")


@EACH
async def test_a_stream_cut_short_is_an_error(whole: Whole, sdk: anthropic.AsyncAnthropic, case: Case) -> None:
    pieces = 1 if case.provider in {"gemini", "ollama"} else 3
    whole.answer(Answer(200, case.stream.headers, list(case.stream.pieces)[:pieces]))
    with pytest.raises(anthropic.APIStatusError) as caught:
        await ask(sdk, stream=True, model=case.name)
    assert "before the answer was complete" in str(caught.value)
    assert "api_error" in str(caught.value)


async def test_what_is_wrong_is_named(whole: Whole, sdk: anthropic.AsyncAnthropic) -> None:
    bad: Any = [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text"}]}]
    with pytest.raises(anthropic.BadRequestError) as caught:
        await sdk.messages.create(model=MODELS["openai"], max_tokens=1, messages=bad)
    assert "`messages[0].content[1].text` is required" in str(caught.value)
    assert caught.value.type == "invalid_request_error"
    audio: Any = [{"type": "document", "source": {"type": "base64", "media_type": "text/csv", "data": "YSxi"}}]
    result: Any = [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "no", "content": audio}]}]
    with pytest.raises(anthropic.BadRequestError) as caught:
        await sdk.messages.create(model=MODELS["gemini"], max_tokens=1, system="s", messages=result)
    assert "messages[0]" in str(caught.value)  # the second of the gateway's own count
    assert whole.upstream.requests == []


async def test_a_wrong_key_is_refused(whole: Whole) -> None:
    async with anthropic.AsyncAnthropic(base_url=whole.gateway.http, api_key="wrong-key-0123456789") as client:
        with pytest.raises(anthropic.AuthenticationError) as caught:
            await client.messages.create(model="m", max_tokens=1, messages=HI)
    assert caught.value.type == "authentication_error"


async def test_an_unknown_model_is_not_found(whole: Whole, sdk: anthropic.AsyncAnthropic) -> None:
    whole.answer(Answer.of({"error": {"code": 404, "message": "no such model", "status": "NOT_FOUND"}}, 404))
    with pytest.raises(anthropic.NotFoundError) as caught:
        await sdk.messages.create(model="gemini/gemini-none", max_tokens=1, messages=HI)
    assert caught.value.type == "not_found_error"


async def test_tokens_are_counted_where_the_provider_counts(whole: Whole, sdk: anthropic.AsyncAnthropic) -> None:
    whole.answer(Answer.of({"input_tokens": 11}))
    counted = await sdk.messages.count_tokens(model=MODELS["anthropic"], messages=HI, system="s", tools=[WEATHER])
    assert counted.input_tokens == 11
    whole.answer(Answer.of({"totalTokens": 12}))
    counted = await sdk.messages.count_tokens(model=MODELS["gemini"], messages=HI, system="s", tools=[WEATHER])
    assert counted.input_tokens == 12


async def test_an_operation_that_the_provider_lacks_is_a_bad_request_and_asked_for_once(
    whole: Whole, sdk: anthropic.AsyncAnthropic
) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        await sdk.with_options(max_retries=2).messages.count_tokens(model=MODELS["ollama"], messages=HI)
    assert caught.value.type == "invalid_request_error"
    assert "ollama does not count tokens ahead of a call" in str(caught.value)
    assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"


async def test_a_call_of_this_dialect_is_in_the_ledger_and_a_count_is_not(
    whole: Whole, sdk: anthropic.AsyncAnthropic
) -> None:
    whole.answer(Answer.of({"input_tokens": 11}))
    await sdk.messages.count_tokens(model=MODELS["anthropic"], messages=HI, extra_headers={"x-request-id": "counted-1"})
    whole.answer(CASES[2].whole)
    answer = await sdk.messages.with_raw_response.create(model=CASES[2].name, max_tokens=5, messages=HI)
    (row,) = whole.recorded(answer.headers["x-request-id"])
    assert (row["provider"], row["completion_tokens"]) == ("anthropic", 3)
    assert whole.recorded("counted-1", 0) == []


async def test_the_version_is_demanded(whole: Whole) -> None:
    body = {"model": "m", "max_tokens": 1, "messages": HI}
    async with httpx.AsyncClient(base_url=whole.gateway.http, headers={"x-api-key": KEY}) as client:
        answers = [
            await client.post("/v1/messages", json=body),
            await client.post("/v1/messages", json=body, headers={"anthropic-version": "1999-01-01"}),
        ]
    for answer in answers:
        assert answer.status_code == 400
        assert answer.json()["error"] == {
            "type": "invalid_request_error",
            "message": "header `anthropic-version` must be `2023-06-01` or `2026-10-21`",
        }


async def test_paths_below_messages_fail_in_the_same_shape(whole: Whole) -> None:
    async with httpx.AsyncClient(base_url=whole.gateway.http) as client:
        answer = await client.post("/v1/messages/batches", json={})
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")


@STREAMED
async def test_reasoning_is_shown_as_thinking(sandbox: Gateway, stream: bool) -> None:
    async with anthropic.AsyncAnthropic(base_url=sandbox.http, api_key="unused") as client:
        answer = await ask(client, stream=stream, model="sandbox/reason")
    assert [block.type for block in answer.content] == ["thinking", "text"]


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
LOOK: Any = [
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
    {"type": "text", "text": "What is it?"},
]
PICTURES: dict[str, Any] = {
    "openai": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    "groq": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    "anthropic": LOOK[0],
    "gemini": {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
    "ollama": PIXEL,
}


@EACH
async def test_a_picture_reaches_any_model(whole: Whole, sdk: anthropic.AsyncAnthropic, case: Case) -> None:
    whole.answer(case.whole)
    await ask(sdk, stream=False, model=case.name, messages=[{"role": "user", "content": LOOK}])
    sent = whole.upstream.requests[0].json()
    match case.provider:
        case "gemini":
            (seen, *_) = sent["contents"][0]["parts"]
        case "ollama":
            (seen,) = sent["messages"][0]["images"]
        case _:
            (seen, *_) = sent["messages"][0]["content"]
    assert seen == PICTURES[case.provider]


THINKING: dict[str, tuple[str, Any]] = {
    "openai/o3-mini": ("reasoning_effort", "low"),
    "anthropic/claude-haiku-4-5": ("thinking", {"type": "enabled", "budget_tokens": 1024}),
    "gemini/gemini-2.5-flash": ("generationConfig.thinkingConfig.thinkingBudget", 1024),
    "ollama/qwen3": ("think", True),
}


@pytest.mark.parametrize("model", THINKING)
async def test_thinking_is_asked_of_any_model_in_its_own_words(
    whole: Whole, sdk: anthropic.AsyncAnthropic, model: str
) -> None:
    (case,) = (case for case in CASES if case.provider == model.partition("/")[0])
    whole.answer(case.whole)
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    await ask(sdk, stream=False, model=model, max_tokens=4096, thinking=thinking)
    path, asked = THINKING[model]
    found = whole.upstream.requests[-1].json()
    for key in path.split("."):
        found = found[key]
    assert found == asked


MARK: Any = {"type": "ephemeral", "ttl": "1h"}
MARKED: Any = {
    "system": [{"type": "text", "text": "Be brief.", "cache_control": MARK}],
    "tools": [WEATHER | {"cache_control": MARK}],
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": MARK}]}],
}


async def test_marks_of_what_is_worth_caching_reach_anthropic_as_they_are(
    whole: Whole, sdk: anthropic.AsyncAnthropic
) -> None:
    whole.answer(CASES[2].whole)
    raw = await sdk.messages.with_raw_response.create(
        model=CASES[2].name, max_tokens=9, extra_body={"cache_control": MARK}, **MARKED
    )
    sent = whole.upstream.requests[0].json()
    assert {key: sent[key] for key in (*MARKED, "cache_control")} == MARKED | {"cache_control": MARK}
    assert "x-gateway-translation" not in raw.headers


async def test_marks_of_what_is_worth_caching_are_reported_where_they_say_nothing(
    whole: Whole, sdk: anthropic.AsyncAnthropic
) -> None:
    whole.answer(CASES[0].whole)
    raw = await sdk.messages.with_raw_response.create(model=CASES[0].name, max_tokens=9, **MARKED)
    report = raw.headers["x-gateway-translation"]
    assert all(
        f"{place}.cache_control=dropped" in report for place in ("system[0]", "tools[0]", "messages[0].content[0]")
    )
    assert report.count("cache_control=dropped") == 3
    assert b"cache_control" not in whole.upstream.requests[0].body


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.provider != "anthropic"], ids=lambda case: case.provider
)
async def test_a_report_has_the_callers_own_index_after_results_of_tools(
    whole: Whole, sdk: anthropic.AsyncAnthropic, case: Case
) -> None:
    whole.answer(case.whole)
    marked: Any = {"type": "text", "text": "Go on", "cache_control": MARK}
    said: Any = [
        *HI,
        {"role": "assistant", "content": [{"type": "tool_use", "id": c, "name": "f", "input": {}} for c in "ab"]},
        {
            "role": "user",
            "content": [*({"type": "tool_result", "tool_use_id": c, "content": "r"} for c in "ab"), marked],
        },
    ]
    raw = await sdk.messages.with_raw_response.create(model=case.name, max_tokens=9, messages=said)
    assert "messages[2].content[2].cache_control=dropped" in raw.headers["x-gateway-translation"]


@pytest.mark.parametrize("header", [{"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}])
async def test_the_key_may_be_anthropics_header_or_a_bearer_token(whole: Whole, header: dict[str, str]) -> None:
    whole.answer(CASES[2].whole)
    body = {"model": CASES[2].name, "max_tokens": 9, "messages": HI}
    headers = header | {"anthropic-version": "2023-06-01"}
    async with httpx.AsyncClient(base_url=whole.gateway.http, headers=headers) as client:
        answer = await client.post("/v1/messages", json=body)
    assert answer.status_code == 200, answer.text
    (sent,) = whole.upstream.requests
    assert sent.headers["anthropic-version"] == "2023-06-01"
    assert (sent.headers["x-api-key"], KEY in str(sent.headers)) == ("test-key-of-anthropic", False)
