"""The adapter of OpenAI and Groq against a real server on loopback: paths, keys, failures, and closed sockets.

Answers are written from https://platform.openai.com/docs/api-reference/chat and https://console.groq.com/docs.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aigateway.v1 import chat_pb2, embedding_pb2, message_pb2, model_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.adapter import CallContext
from aigateway_providers.openai_compat.adapter import create
from aigateway_providers.settings import ProviderSettings
from support.recorded import assembled
from support.replay import Answer, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aigateway_providers.adapter import Adapter

USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
HEAD = {"id": "c1", "created": 17, "model": "m-1"}
WHOLE = HEAD | {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": USAGE,
}
CALL = chat_pb2.ChatCall(
    model="m",
    messages=[
        message_pb2.Message(
            role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=message_pb2.TextPart(text="Hello"))]
        )
    ],
)


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None) -> dict[str, Any]:
    return HEAD | {"choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}]}


STREAM = (chunk({"role": "assistant", "content": ""}), chunk({"content": "Hi"}), chunk(finish="stop"))


@asynccontextmanager
async def adapter(stand_in: Upstream, host: str = "openai") -> AsyncIterator[Adapter]:
    base = stand_in.url + ("/v1" if host == "openai" else "")
    made = create(ProviderSettings(host, host, base, "secret"))
    try:
        yield made
    finally:
        await made.aclose()


async def stream(provider: Adapter, context: CallContext | None = None) -> list[chat_pb2.ChatEvent]:
    return [event async for batch in provider.stream_chat(CALL, context or CallContext()) for event in batch]


async def test_a_stream_is_the_same_however_its_records_are_cut() -> None:
    """Among them many that are alike, which are not taken apart where they come one by one."""
    texts = ["Hi", " there", ' "you"', "\n\ndata: x\n\n", " é", "!"]
    records = [*STREAM[:1], *[chunk({"content": text}) for text in texts], *STREAM[2:]]
    whole = Answer.sse(": comment\n\nevent: delta\n", *records, done=True)
    cut = [
        [*whole.pieces[:number], piece[:at], piece[at:], *whole.pieces[number + 1 :]]
        for number, piece in enumerate(whole.pieces)
        for at in range(1, len(piece), 9)
    ]
    with Upstream(whole) as stand_in:
        async with adapter(stand_in) as provider:
            expected = await stream(provider)
            for pieces in cut:
                stand_in.reset(Answer(200, whole.headers, pieces, gap=0.0005))
                assert assembled(await stream(provider)) == assembled(expected)
    assert "".join(event.text for event in expected) == "".join(texts)


async def failure(answer: Answer, *, streamed: bool = False) -> GatewayError:
    with Upstream(answer) as stand_in:
        async with adapter(stand_in) as provider:
            with pytest.raises(GatewayError) as caught:
                await (stream(provider) if streamed else provider.chat(CALL, CallContext()))
    return caught.value


@pytest.mark.parametrize(("host", "prefix"), [("openai", "/v1"), ("groq", "/openai/v1")])
async def test_each_host_is_called_at_its_paths_with_its_key(host: str, prefix: str) -> None:
    with Upstream(Answer.of(WHOLE), Answer.of({"data": []})) as stand_in:
        async with adapter(stand_in, host) as provider:
            await provider.chat(CALL, CallContext())
            await provider.list_models(CallContext())
    assert [(sent.method, sent.path, sent.headers["authorization"]) for sent in stand_in.requests] == [
        ("POST", f"{prefix}/chat/completions", "Bearer secret"),
        ("GET", f"{prefix}/models", "Bearer secret"),
    ]


async def test_a_stream_is_put_together_as_the_whole_answer() -> None:
    usage = HEAD | {"choices": [], "usage": USAGE}
    with Upstream(Answer.of(WHOLE), Answer.sse(*STREAM, usage, done=True)) as stand_in:
        async with adapter(stand_in) as provider:
            whole = await provider.chat(CALL, CallContext())
            context = CallContext()
            streamed = assembled(await stream(provider, context))
    whole.choices[0].message.ClearField("content_shape")
    assert streamed == whole
    assert context.upstream_status == 200
    assert context.upstream_ns > 0


async def test_the_connection_of_a_complete_stream_is_used_again() -> None:
    with Upstream(Answer.sse(*STREAM, done=True)) as stand_in:
        async with adapter(stand_in) as provider:
            for _ in range(3):
                await stream(provider)
    assert len(stand_in.requests) == 3
    assert not stand_in.hung_up.is_set()


async def test_a_model_list_is_read_and_models_out_of_service_are_left_out() -> None:
    groq = {"id": "b", "object": "model", "created": 2, "owned_by": "Meta", "active": True, "context_window": 8192}
    listed = {"object": "list", "data": [groq | {"max_completion_tokens": 99}, {"id": "c", "active": False}]}
    with Upstream(Answer.of(listed)) as stand_in:
        async with adapter(stand_in, "groq") as provider:
            [model] = await provider.list_models(CallContext())
    model.ClearField("native_json")
    assert model == model_pb2.Model(
        id="b",
        provider="groq",
        upstream_model="b",
        created=2,
        owned_by="Meta",
        context_window=8192,
        max_output_tokens=99,
    )


async def test_groq_offers_no_embeddings() -> None:
    with Upstream(Answer.of({})) as stand_in:
        async with adapter(stand_in, "groq") as provider:
            with pytest.raises(GatewayError) as caught:
                await provider.embed(embedding_pb2.EmbedCall(model="e"), CallContext())
            able = provider.capabilities
    assert (caught.value.reason.name, stand_in.requests) == ("UNIMPLEMENTED", [])
    assert (able.embed, able.files, able.chat) == (False, False, True)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer.of({"error": {"message": "no", "type": "invalid_request_error"}}, 400), "INVALID_REQUEST"),
        (Answer.of({"error": {"message": "no", "code": "model_not_found"}}, 404), "MODEL_NOT_FOUND"),
        (Answer.of({"error": {"message": "no", "code": "rate_limit_exceeded"}}, 429), "UPSTREAM_RATE_LIMITED"),
        (Answer.of({"error": {"message": "no", "type": "server_error"}}, 500), "UPSTREAM_ERROR"),
        (Answer.of({"error": {"message": "no", "code": 429}}, 200), "UPSTREAM_RATE_LIMITED"),
        (Answer(503, {"content-type": "text/html"}, [b"<html>"]), "UPSTREAM_OVERLOADED"),
        (Answer(200, {"content-type": "text/html"}, [b"<html>"]), "UPSTREAM_INVALID"),
        (Answer(200, {"content-type": "application/json"}, [b"[1]"]), "UPSTREAM_INVALID"),
        (Answer.of({"choices": "none"}), "UPSTREAM_INVALID"),
        (Answer.of({"moved": True}, 301, location="https://elsewhere"), "UPSTREAM_INVALID"),
        (Answer(200, {"content-type": "application/json"}, [b'{"id"'], cut=True), "UPSTREAM_INVALID"),
    ],
)
async def test_failures_have_their_reason_whole_and_streamed(answer: Answer, reason: str, streamed: bool) -> None:
    assert (await failure(answer, streamed=streamed)).reason.name == reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer.sse({"error": {"message": "m", "type": "server_error"}}), "UPSTREAM_ERROR"),
        (Answer.sse({"error": {"message": "m", "code": "rate_limit_exceeded"}}), "UPSTREAM_RATE_LIMITED"),
        (Answer.sse(*STREAM), "UPSTREAM_INVALID"),
        (Answer.sse(STREAM[0], done=True, cut=True), ""),
        (Answer.sse(STREAM[0], cut=True), "UPSTREAM_INVALID"),
        (Answer.sse("data: <html>\n\n"), "UPSTREAM_INVALID"),
        (Answer.sse(), "UPSTREAM_INVALID"),
    ],
    ids=["error", "rate-limit", "no-done", "cut-after-done", "cut", "html", "empty"],
)
async def test_a_stream_ends_well_only_when_the_host_says_that_it_is_done(answer: Answer, reason: str) -> None:
    with Upstream(answer) as stand_in:
        async with adapter(stand_in) as provider:
            if not reason:
                assert (await stream(provider))[-1].HasField("finish")
                return
            with pytest.raises(GatewayError) as caught:
                await stream(provider)
    assert caught.value.reason.name == reason


async def test_what_came_before_a_failure_is_told_first_usage_included() -> None:
    usage = HEAD | {"choices": [], "usage": USAGE}
    for records in (
        (*STREAM[:2], {"error": {"message": "m", "type": "server_error"}}),
        (*STREAM[:2], usage),
    ):
        found: list[str | None] = []
        with Upstream(Answer.sse(*records)) as stand_in:
            async with adapter(stand_in) as provider:
                with pytest.raises(GatewayError):  # noqa: PT012 - what came before it counts
                    async for batch in provider.stream_chat(CALL, CallContext()):
                        found += [event.WhichOneof("event") for event in batch]
        assert found == ["start", "text", "usage"][: 3 if records[-1] is usage else 2]


@pytest.mark.parametrize(
    "answer",
    [Answer(hold_before_headers=True), Answer.sse(*STREAM[:2], hold=True)],
    ids=["before-the-first-token", "mid-stream"],
)
async def test_a_cancelled_stream_closes_the_socket(answer: Answer) -> None:
    with Upstream(answer) as stand_in:
        async with adapter(stand_in) as provider:
            task = asyncio.ensure_future(stream(provider))
            await stand_in.wait_arrived()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await stand_in.wait_hung_up()


async def test_a_stream_that_is_closed_in_the_middle_closes_the_socket() -> None:
    with Upstream(Answer.sse(*STREAM[:2], hold=True)) as stand_in:
        async with adapter(stand_in) as provider:
            batches = provider.stream_chat(CALL, CallContext())
            assert (await anext(batches))[0].HasField("start")
            await batches.aclose()
            await stand_in.wait_hung_up()


async def test_a_cancelled_whole_call_closes_the_socket() -> None:
    with Upstream(Answer(hold_before_headers=True)) as stand_in:
        async with adapter(stand_in) as provider:
            task = asyncio.ensure_future(provider.chat(CALL, CallContext()))
            await stand_in.wait_arrived()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await stand_in.wait_hung_up()
