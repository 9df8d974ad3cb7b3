"""The Gemini adapter against a provider stand-in, as https://ai.google.dev/api documents the provider."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aigateway.v1 import chat_pb2, embedding_pb2, message_pb2, model_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.adapter import CallContext
from aigateway_providers.registry import create_adapter
from aigateway_providers.settings import ProviderSettings
from support.replay import Answer, Sent, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aigateway_providers.adapter import Adapter

HELLO = {
    "candidates": [{"content": {"parts": [{"text": "Hello"}], "role": "model"}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 2, "candidatesTokenCount": 1},
    "modelVersion": "gemini-2.5-flash",
    "responseId": "r1",
}
UNFINISHED = {"candidates": [{"content": {"parts": [{"text": "Hel"}]}}], "usageMetadata": {"promptTokenCount": 2}}
BUSY = {"error": {"code": 503, "status": "UNAVAILABLE", "message": "The model is overloaded."}}
HTML = Answer(502, {"content-type": "text/html"}, [b"<html>Bad gateway</html>"])
HTML_200 = Answer(200, {"content-type": "text/html"}, [b"<html>Login</html>"])


def ask(**fields: Any) -> chat_pb2.ChatCall:
    user = message_pb2.Message(
        role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=message_pb2.TextPart(text="Hi"))]
    )
    return chat_pb2.ChatCall(model="gemini-2.5-flash", messages=[user], **fields)


@asynccontextmanager
async def gemini(upstream: Upstream) -> AsyncIterator[Adapter]:
    adapter = create_adapter(ProviderSettings("gemini", "gemini", upstream.url, api_key="secret"))
    try:
        yield adapter
    finally:
        await adapter.aclose()


async def failure(answer: Answer, *, stream: bool = False) -> GatewayError:
    with Upstream(answer) as upstream:
        async with gemini(upstream) as adapter:
            with pytest.raises(GatewayError) as caught:
                await (streamed(adapter, []) if stream else adapter.chat(ask(), CallContext()))
    return caught.value


async def streamed(adapter: Adapter, events: list[chat_pb2.ChatEvent]) -> None:
    """Put the events of a stream into `events` as they come."""
    async for batch in adapter.stream_chat(ask(), CallContext()):
        events += batch


async def test_a_call_is_one_post_with_the_key_in_its_header() -> None:
    with Upstream(Answer.of(HELLO)) as upstream:
        async with gemini(upstream) as adapter:
            context = CallContext()
            found = await adapter.chat(ask(user="u"), context)
    assert found.choices[0].message.parts[0].text.text == "Hello"
    assert [note.field for note in found.translation] == ["user"]
    assert (context.upstream_status, context.upstream_ns > 0) == (200, True)
    sent = upstream.requests[0]
    assert (sent.method, sent.path, sent.query) == ("POST", "/v1beta/models/gemini-2.5-flash:generateContent", {})
    assert sent.headers["x-goog-api-key"] == "secret"
    assert sent.json() == {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}


async def test_a_stream_is_asked_for_as_events() -> None:
    with Upstream(Answer.sse(UNFINISHED, HELLO)) as upstream:
        async with gemini(upstream) as adapter:
            batches = [events async for events in adapter.stream_chat(ask(), CallContext())]
    assert [event.WhichOneof("event") for events in batches for event in events] == [
        "start",
        "text",
        "text",
        "finish",
        "usage",
    ]
    sent = upstream.requests[0]
    assert sent.path == "/v1beta/models/gemini-2.5-flash:streamGenerateContent"
    assert sent.query == {"alt": ["sse"]}


async def test_a_stream_may_be_a_json_array() -> None:
    body = (json.dumps(UNFINISHED, indent=2) + "\r\n,\r\n" + json.dumps(HELLO)).encode()
    with Upstream(Answer(pieces=[b"[", body[:40], body[40:], b"\n]"])) as upstream:
        async with gemini(upstream) as adapter:
            events = [e for batch in [b async for b in adapter.stream_chat(ask(), CallContext())] for e in batch]
    assert "".join(event.text for event in events) == "HelHello"
    assert [event.WhichOneof("event") for event in events[-2:]] == ["finish", "usage"]


@pytest.mark.parametrize("model", ["models/gemini-2.5-flash", "tunedModels/mine-1", "odd name?x"])
async def test_a_model_is_named_as_the_api_does(model: str) -> None:
    paths = {
        "models/gemini-2.5-flash": "/v1beta/models/gemini-2.5-flash:generateContent",
        "tunedModels/mine-1": "/v1beta/tunedModels/mine-1:generateContent",
        "odd name?x": "/v1beta/models/odd%20name%3Fx:generateContent",
    }
    call = ask()
    call.model = model
    with Upstream(Answer.of(HELLO)) as upstream:
        async with gemini(upstream) as adapter:
            await adapter.chat(call, CallContext())
    assert upstream.requests[0].path == paths[model]


async def test_strict_policy_sends_nothing() -> None:
    with Upstream(Answer.of(HELLO)) as upstream:
        async with gemini(upstream) as adapter:
            with pytest.raises(GatewayError) as caught:
                await adapter.chat(ask(user="u", translation_policy=chat_pb2.TRANSLATION_POLICY_STRICT), CallContext())
    assert (caught.value.reason.name, upstream.requests) == ("TRANSLATION_REFUSED", [])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer.of({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "no"}}, 400), "INVALID_REQUEST"),
        (Answer.of({"error": {"code": 404, "status": "NOT_FOUND", "message": "no"}}, 404), "MODEL_NOT_FOUND"),
        (Answer.of([{"error": {"code": 429, "message": "slow down"}}], 429), "UPSTREAM_RATE_LIMITED"),
        (Answer.of({"error": {"code": 500, "status": "INTERNAL", "message": "oops"}}, 500), "UPSTREAM_ERROR"),
        (Answer.of(BUSY, 503), "UPSTREAM_OVERLOADED"),
        (HTML, "UPSTREAM_ERROR"),
        (HTML_200, "UPSTREAM_INVALID"),
        (Answer.of(BUSY), "UPSTREAM_OVERLOADED"),
        (Answer.of([BUSY]), "UPSTREAM_OVERLOADED"),
        (Answer.of({}), "UPSTREAM_INVALID"),
        (Answer(pieces=[b"oops"]), "UPSTREAM_INVALID"),
        (Answer(pieces=[b'{"candidates"'], cut=True), "UPSTREAM_INVALID"),
    ],
)
async def test_failures_have_their_reason(answer: Answer, reason: str, stream: bool) -> None:
    assert (await failure(answer, stream=stream)).reason.name == reason


async def test_an_error_in_mid_stream_comes_after_what_was_said() -> None:
    with Upstream(Answer.sse(UNFINISHED, BUSY)) as upstream:
        async with gemini(upstream) as adapter:
            events: list[chat_pb2.ChatEvent] = []
            with pytest.raises(GatewayError) as caught:
                await streamed(adapter, events)
    assert [event.WhichOneof("event") for event in events] == ["start", "text", "usage"]
    assert events[-1].usage.estimated
    assert caught.value.reason.name == "UPSTREAM_OVERLOADED"


@pytest.mark.parametrize("cut", [False, True])
async def test_a_stream_that_breaks_off_tells_what_was_used_and_fails(cut: bool) -> None:
    with Upstream(Answer.sse(UNFINISHED, cut=cut)) as upstream:
        async with gemini(upstream) as adapter:
            events: list[chat_pb2.ChatEvent] = []
            with pytest.raises(GatewayError) as caught:
                await streamed(adapter, events)
    assert [event.WhichOneof("event") for event in events] == ["start", "text", "usage"]
    assert events[-1].usage.estimated
    assert caught.value.reason.name == "UPSTREAM_INVALID"


async def test_cancel_before_the_first_token_closes_the_upstream() -> None:
    with Upstream(Answer(hold_before_headers=True)) as upstream:
        async with gemini(upstream) as adapter:
            stream = adapter.stream_chat(ask(), CallContext())
            waiting = asyncio.ensure_future(anext(stream))
            await upstream.wait_arrived()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await upstream.wait_hung_up()


async def test_cancel_in_mid_stream_closes_the_upstream() -> None:
    with Upstream(Answer.sse(UNFINISHED, hold=True)) as upstream:
        async with gemini(upstream) as adapter:
            stream = adapter.stream_chat(ask(), CallContext())
            assert (await anext(stream))[0].HasField("start")
            await stream.aclose()
            await upstream.wait_hung_up()


async def test_cancel_of_a_whole_call_closes_the_upstream() -> None:
    with Upstream(Answer(pieces=[b"{"], hold=True)) as upstream:
        async with gemini(upstream) as adapter:
            waiting = asyncio.ensure_future(adapter.chat(ask(), CallContext()))
            await upstream.wait_arrived()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await upstream.wait_hung_up()


def embed(*texts: str, **fields: Any) -> embedding_pb2.EmbedCall:
    inputs = [embedding_pb2.EmbeddingInput(text=text) for text in texts]
    return embedding_pb2.EmbedCall(model="gemini-embedding-001", inputs=inputs, **fields)


async def test_texts_are_embedded_in_one_batch_and_in_order_without_invented_usage() -> None:
    with Upstream(Answer.of({"embeddings": [{"values": [0.25, 1]}, {"values": [-3.5]}]})) as upstream:
        async with gemini(upstream) as adapter:
            found = await adapter.embed(
                embed("a", "b", user="u", provider_options={"gemini": b'{"taskType": "RETRIEVAL_QUERY"}'}),
                CallContext(),
            )
    assert found == embedding_pb2.Embeddings(
        model="gemini-embedding-001",
        embeddings=[
            embedding_pb2.Embedding(index=0, values=[0.25, 1]),
            embedding_pb2.Embedding(index=1, values=[-3.5]),
        ],
        translation=[
            chat_pb2.TranslationNote(
                field="user",
                action=chat_pb2.TRANSLATION_ACTION_DROPPED,
                detail="Gemini takes no id of the end user",
            )
        ],
        dialect=message_pb2.DIALECT_GEMINI,
    )
    sent = upstream.requests[0]
    assert sent.path == "/v1beta/models/gemini-embedding-001:batchEmbedContents"
    assert sent.json() == {
        "requests": [
            {
                "model": "models/gemini-embedding-001",
                "content": {"parts": [{"text": text}]},
                "taskType": "RETRIEVAL_QUERY",
            }
            for text in ("a", "b")
        ]
    }


async def test_shortened_vectors_are_asked_for_and_brought_to_unit_length() -> None:
    with Upstream(Answer.of({"embeddings": [{"values": [3, 4]}]})) as upstream:
        async with gemini(upstream) as adapter:
            found = await adapter.embed(embed("a", dimensions=2), CallContext())
    assert list(found.embeddings[0].values) == [0.6, 0.8]
    assert upstream.requests[0].json()["requests"][0]["outputDimensionality"] == 2


async def test_usage_of_embeddings_is_told_where_gemini_tells_it() -> None:
    answer = {"embeddings": [{"values": [1]}], "usageMetadata": {"promptTokenCount": 3}}
    with Upstream(Answer.of(answer)) as upstream:
        async with gemini(upstream) as adapter:
            found = await adapter.embed(embed("a"), CallContext())
    assert found.usage.input_uncached == 3


async def test_tokens_are_refused_with_the_way_out() -> None:
    tokens = embedding_pb2.EmbeddingInput(tokens=embedding_pb2.TokenIds(ids=[1]))
    with Upstream(Answer.of({})) as upstream:
        async with gemini(upstream) as adapter:
            with pytest.raises(GatewayError) as caught:
                await adapter.embed(embedding_pb2.EmbedCall(model="m", inputs=[tokens]), CallContext())
    assert (caught.value.reason.name, caught.value.details) == ("UNSUPPORTED", {"param": "input"})
    assert upstream.requests == []


@pytest.mark.parametrize("answer", [{"embeddings": []}, {"embeddings": [{}]}, {}])
async def test_vectors_that_do_not_fit_the_texts_are_an_error(answer: object) -> None:
    with Upstream(Answer.of(answer)) as upstream:
        async with gemini(upstream) as adapter:
            with pytest.raises(GatewayError) as caught:
                await adapter.embed(embed("a"), CallContext())
    assert caught.value.reason.name == "UPSTREAM_INVALID"


FLASH = {
    "name": "models/gemini-2.5-flash",
    "displayName": "Gemini 2.5 Flash",
    "inputTokenLimit": 1048576,
    "outputTokenLimit": 65536,
    "supportedGenerationMethods": ["generateContent", "countTokens"],
    "thinking": True,
}
EMBEDDING = {"name": "models/gemini-embedding-001", "supportedGenerationMethods": ["embedContent"]}
IMAGEN = {"name": "models/imagen-4.0", "supportedGenerationMethods": ["predict"]}


async def test_models_are_read_page_by_page_and_only_those_that_chat_or_embed() -> None:
    def pages(sent: Sent) -> Answer:
        if "pageToken" in sent.query:
            return Answer.of({"models": [IMAGEN, EMBEDDING]})
        return Answer.of({"models": [FLASH], "nextPageToken": "a b"})

    with Upstream(script=pages) as upstream:
        async with gemini(upstream) as adapter:
            found = await adapter.list_models(CallContext())
    assert [(sent.method, sent.path, sent.query.get("pageToken")) for sent in upstream.requests] == [
        ("GET", "/v1beta/models", None),
        ("GET", "/v1beta/models", ["a b"]),
    ]
    for model in found:
        model.ClearField("native_json")
    assert found == [
        model_pb2.Model(
            id="gemini-2.5-flash",
            provider="gemini",
            upstream_model="gemini-2.5-flash",
            owned_by="google",
            display_name="Gemini 2.5 Flash",
            context_window=1048576,
            max_output_tokens=65536,
            reasoning=True,
        ),
        model_pb2.Model(
            id="gemini-embedding-001",
            provider="gemini",
            upstream_model="gemini-embedding-001",
            owned_by="google",
            output_modalities=["embedding"],
        ),
    ]


async def test_a_model_list_without_end_is_left_at_some_point() -> None:
    with Upstream(Answer.of({"models": [FLASH], "nextPageToken": "again"})) as upstream:
        async with gemini(upstream) as adapter:
            assert len(await adapter.list_models(CallContext())) == 50


async def test_a_model_list_that_is_none_is_an_error() -> None:
    with Upstream(Answer.of({"models": "x"})) as upstream:
        async with gemini(upstream) as adapter:
            with pytest.raises(GatewayError) as caught:
                await adapter.list_models(CallContext())
    assert caught.value.reason.name == "UPSTREAM_INVALID"
