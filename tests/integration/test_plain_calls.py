"""One plain call to each provider through every topology, by SDK, HTTP and gRPC, and its place in the ledger."""

from __future__ import annotations

import grpc
import httpx
import openai
import pytest
from aigateway.v1 import chat_pb2, embedding_pb2, gateway_service_pb2, message_pb2
from aigateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from support.cases import CASES, Case
from support.replay import Answer
from support.whole import KEY, Whole

EACH = pytest.mark.parametrize("case", CASES, ids=[case.provider for case in CASES])


@EACH
async def test_a_whole_answer_reaches_the_sdk_and_the_ledger(whole: Whole, case: Case) -> None:
    whole.answer(case.whole)
    async with whole.sdk() as sdk:
        raw = await sdk.chat.completions.with_raw_response.create(
            model=case.name, messages=[{"role": "user", "content": "Hi"}]
        )
    answer = raw.parse()
    assert answer.choices[0].message.content == "Hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == case.model
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (9, 3, 12)
    assert raw.headers["x-provider"] == case.provider
    assert raw.headers["x-model"] == case.model
    hops = [hop.partition(";")[0].strip() for hop in raw.headers["server-timing"].split(",")]
    assert hops == ["edge", "router", "adapter", "upstream"]
    assert [sent.path for sent in whole.upstream.requests] == [case.path]
    (row,) = whole.recorded(raw.headers["x-request-id"])
    assert (row["provider"], row["model"], row["success"], row["error"]) == (case.provider, case.model, 1, None)
    assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (9, 3, 12)
    assert row["latency_ms"] > 0
    if case.provider == "ollama":
        assert row["cost_usd"] == 0
    else:
        assert row["cost_usd"] > 0


@EACH
async def test_a_stream_reaches_the_sdk_and_the_ledger(whole: Whole, case: Case) -> None:
    whole.answer(case.stream)
    async with whole.sdk() as sdk:
        stream = await sdk.chat.completions.create(
            model=case.name, messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        request_id = stream.response.headers["x-request-id"]
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello there"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]
    assert all(chunk.usage is None for chunk in chunks)
    assert [sent.path for sent in whole.upstream.requests] == [case.stream_path]
    (row,) = whole.recorded(request_id)
    assert (row["prompt_tokens"], row["completion_tokens"], row["success"]) == (9, 3, 1)


@EACH
async def test_usage_comes_in_the_stream_only_when_asked_for(whole: Whole, case: Case) -> None:
    whole.answer(case.stream)
    async with whole.sdk() as sdk:
        stream = await sdk.chat.completions.create(
            model=case.name,
            messages=[{"role": "user", "content": "Hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (9, 3)
    assert all(chunk.usage is None for chunk in chunks[:-1])


@EACH
async def test_a_plain_grpc_client_gets_the_same_answer(whole: Whole, case: Case) -> None:
    part = message_pb2.Part(text=message_pb2.TextPart(text="Hi"))
    call = chat_pb2.ChatCall(model=case.name, messages=[message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])])
    metadata = (("authorization", f"Bearer {KEY}"), ("x-request-id", f"grpc-{case.provider}"))
    async with grpc.aio.insecure_channel(whole.gateway.grpc) as channel:
        stub = GatewayServiceStub(channel)
        whole.answer(case.whole)
        answer = await stub.Chat(gateway_service_pb2.ChatRequest(call=call), metadata=metadata)
        whole.answer(case.stream)
        stream = stub.StreamChat(gateway_service_pb2.StreamChatRequest(call=call), metadata=metadata)
        messages = [message async for message in stream]
    choice = answer.completion.choices[0]
    assert [part.text.text for part in choice.message.parts] == ["Hello there"]
    assert choice.finish_reason == chat_pb2.FINISH_REASON_STOP
    assert answer.route == gateway_service_pb2.Route(
        provider=case.provider,
        requested_model=case.name,
        sent_model=case.model,
        request_id=f"grpc-{case.provider}",
    )
    assert answer.timing.upstream_us > 0
    events = [event for message in messages for event in message.events]
    assert events[0].WhichOneof("event") == "start"
    assert "".join(event.text for event in events) == "Hello there"
    assert [event.finish.reason for event in events if event.HasField("finish")] == [chat_pb2.FINISH_REASON_STOP]
    assert messages[0].route.provider == case.provider
    assert events[-1].usage.output_text == 3


@EACH
async def test_a_wrong_key_is_refused_before_any_provider(whole: Whole, case: Case) -> None:
    whole.answer(case.whole)
    async with whole.sdk(api_key="wrong-key-0123456789") as sdk:
        with pytest.raises(openai.AuthenticationError) as caught:
            await sdk.chat.completions.create(model=case.name, messages=[{"role": "user", "content": "Hi"}])
    assert caught.value.code == "invalid_api_key"
    assert whole.upstream.requests == []


@pytest.mark.parametrize("header", ["x-api-key", "api-key"])
async def test_other_headers_may_carry_the_key(whole: Whole, header: str) -> None:
    whole.answer(CASES[0].whole)
    async with httpx.AsyncClient(base_url=whole.gateway.http) as client:
        body = {"model": CASES[0].name, "messages": [{"role": "user", "content": "Hi"}]}
        answer = await client.post("/chat/completions", json=body, headers={header: KEY})
    assert answer.status_code == 200, answer.text


@EACH
async def test_our_own_key_refused_upstream_is_not_the_callers_fault(whole: Whole, case: Case) -> None:
    whole.answer(Answer.of({"error": {"message": "bad key sk-abcdefghijklmnop"}}, 401))
    async with whole.sdk() as sdk:
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.chat.completions.create(model=case.name, messages=[{"role": "user", "content": "Hi"}])
    assert caught.value.status_code == 502
    assert caught.value.code == "upstream_auth_failed"
    assert "sk-abcdef" not in str(caught.value)


async def test_an_operation_that_the_provider_lacks_is_a_bad_request_and_asked_for_once(whole: Whole) -> None:
    async with whole.sdk(max_retries=2) as sdk:
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk.embeddings.create(model="anthropic/claude-1", input="Hi")
    assert (caught.value.type, caught.value.code) == ("invalid_request_error", "not_implemented")
    assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"
    assert whole.upstream.requests == []


async def test_the_code_of_an_operation_that_the_provider_lacks_is_grpcs_own(whole: Whole) -> None:
    async with grpc.aio.insecure_channel(whole.gateway.grpc) as channel:
        request = gateway_service_pb2.EmbedRequest(
            call=embedding_pb2.EmbedCall(model="anthropic/claude-1", inputs=[embedding_pb2.EmbeddingInput(text="Hi")])
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await GatewayServiceStub(channel).Embed(request, metadata=(("authorization", f"Bearer {KEY}"),))
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@EACH
async def test_a_providers_html_is_a_clear_error(whole: Whole, case: Case) -> None:
    whole.answer(Answer(200, {"content-type": "text/html"}, [b"<html>hello</html>"]))
    async with whole.sdk() as sdk:
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError) as caught:
                await sdk.chat.completions.create(
                    model=case.name, messages=[{"role": "user", "content": "Hi"}], stream=stream
                )
            assert (caught.value.status_code, caught.value.code) == (502, "upstream_invalid_response")


@EACH
async def test_a_busy_provider_says_when_to_come_back(whole: Whole, case: Case) -> None:
    whole.answer(Answer.of({"error": {"message": "slow down"}}, 429, retry_after="7"))
    async with whole.sdk() as sdk:
        with pytest.raises(openai.RateLimitError) as caught:
            await sdk.chat.completions.create(
                model=case.name, messages=[{"role": "user", "content": "Hi"}], stream=True
            )
    assert caught.value.response.headers["retry-after"] == "7"


@EACH
async def test_a_stream_cut_short_is_an_error_without_done(whole: Whole, case: Case) -> None:
    cut = Answer(200, case.stream.headers, list(case.stream.pieces)[:3])
    whole.answer(cut)
    async with httpx.AsyncClient(base_url=whole.gateway.http, headers={"x-api-key": KEY}) as client:
        body = {"model": case.name, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
        if case.provider in {"gemini", "ollama"}:  # their third piece is the last one
            whole.answer(Answer(200, case.stream.headers, list(case.stream.pieces)[:1]))
        answer = await client.post("/v1/chat/completions", json=body)
    records = [line for line in answer.text.split("\n\n") if line.startswith("data:")]
    assert "Hello" in answer.text
    assert '"upstream_invalid_response"' in records[-1]
    assert "[DONE]" not in answer.text
    (row,) = whole.recorded(answer.headers["x-request-id"])
    assert (row["success"], row["error_reason"]) == (0, "UPSTREAM_INVALID")


async def test_a_prompt_that_ollama_cut_is_told_over_http_and_grpc_also_at_the_end_of_a_stream(whole: Whole) -> None:
    (case,) = [case for case in CASES if case.provider == "ollama"]
    options = {"ollama": {"options": {"num_ctx": 9}}}  # the stand-in counts nine tokens: the window is full
    body = {"model": case.name, "messages": [{"role": "user", "content": "Hi"}], "provider_options": options}
    told = "messages=clamped (the prompt fills the context window of 9 tokens, what is over was cut, raise `num_ctx`)"
    async with httpx.AsyncClient(base_url=whole.gateway.http, headers={"x-api-key": KEY}) as client:
        whole.answer(case.whole)
        answer = await client.post("/v1/chat/completions", json=body)
        whole.answer(case.stream)
        stream = await client.post("/v1/chat/completions", json=body | {"stream": True})
    assert answer.headers["x-gateway-translation"] == told
    assert f": x-gateway-translation: {told}" in stream.text.split("\n\n")
    part = message_pb2.Part(text=message_pb2.TextPart(text="Hi"))
    call = chat_pb2.ChatCall(
        model=case.name,
        messages=[message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])],
        provider_options={"ollama": b'{"options": {"num_ctx": 9}}'},
    )
    async with grpc.aio.insecure_channel(whole.gateway.grpc) as channel:
        request = gateway_service_pb2.StreamChatRequest(call=call)
        messages = GatewayServiceStub(channel).StreamChat(request, metadata=(("authorization", f"Bearer {KEY}"),))
        events = [event async for message in messages for event in message.events]
    (finish,) = [event.finish for event in events if event.HasField("finish")]
    assert [note.field for note in finish.translation] == ["messages"]
