"""The adapter against a stand-in that answers as Ollama's documentation has it: whole answers, vectors, models, errors.

https://docs.ollama.com/api/chat, /api/embed, /api/tags, /api/errors and /api/usage. For streams see `test_stream.py`.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aigateway.v1 import chat_pb2, embedding_pb2, message_pb2, model_pb2, tokens_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.adapter import CallContext
from aigateway_providers.registry import PROVIDERS, create_adapter
from aigateway_providers.settings import ProviderSettings
from support.replay import Answer, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aigateway_providers.adapter import Adapter

MEASURED = {
    "total_duration": 4883583458,
    "load_duration": 1334875,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 342546000,
    "eval_count": 282,
    "eval_duration": 4535599000,
}


def finished(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "model": "llama3.2",
        "created_at": "2025-10-17T23:14:07.414671123Z",
        "message": {"role": "assistant", **message},
        "done": True,
        "done_reason": "stop",
        **MEASURED,
        **more,
    }


@asynccontextmanager
async def ollama(ollama_server: Upstream, path: str = "", **settings: Any) -> AsyncIterator[Adapter]:
    adapter = create_adapter(ProviderSettings("ollama", "ollama", ollama_server.url + path, **settings))
    try:
        yield adapter
    finally:
        await adapter.aclose()


def call(**more: Any) -> chat_pb2.ChatCall:
    user = message_pb2.Message(
        role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=message_pb2.TextPart(text="Hi"))]
    )
    return chat_pb2.ChatCall(model="llama3.2", messages=[user], dialect=message_pb2.DIALECT_OPENAI_CHAT, **more)


async def answered(body: dict[str, Any], asked: chat_pb2.ChatCall | None = None, **settings: Any) -> Any:
    with Upstream(Answer.of(body)) as server:
        async with ollama(server, **settings) as adapter:
            return await adapter.chat(asked or call(), CallContext())


async def failed(answer: Answer) -> GatewayError:
    with Upstream(answer) as server:
        async with ollama(server) as adapter:
            with pytest.raises(GatewayError) as caught:
                await adapter.chat(call(), CallContext())
    return caught.value


async def test_a_plain_answer() -> None:
    with Upstream(Answer.of(finished({"content": "Hello."}))) as server:
        async with ollama(server) as adapter:
            context = CallContext()
            completion = await adapter.chat(call(), context)
    assert completion.id.startswith("chatcmpl-")
    completion.id = "id"
    native = completion.usage.native_json
    completion.usage.native_json = b""
    assert json.loads(native) == MEASURED
    assert completion == chat_pb2.ChatCompletion(
        id="id",
        created=1760742847,
        model="llama3.2",
        choices=[
            chat_pb2.Choice(
                message=message_pb2.Message(
                    role=message_pb2.ROLE_ASSISTANT,
                    parts=[message_pb2.Part(text=message_pb2.TextPart(text="Hello."))],
                ),
                finish_reason=chat_pb2.FINISH_REASON_STOP,
                native_finish_reason="stop",
            )
        ],
        usage=tokens_pb2.TokenUsage(input_uncached=26, output_text=282),
        dialect=message_pb2.DIALECT_OLLAMA,
    )
    request = server.requests[0]
    assert (request.method, request.path, request.json()["stream"]) == ("POST", "/api/chat", False)
    assert "authorization" not in request.headers
    assert context.upstream_status == 200
    assert context.upstream_ns > 0


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/api", "/api/"])
async def test_the_address_may_end_in_what_other_clients_need(path: str) -> None:
    with Upstream(Answer.of({"models": []})) as server:
        async with ollama(server, path) as adapter:
            await adapter.list_models(CallContext())
    assert server.requests[0].path == "/api/tags"


async def test_a_key_is_sent_where_there_is_one() -> None:
    with Upstream(Answer.of({"models": []})) as server:
        async with ollama(server, api_key="secret") as adapter:
            await adapter.list_models(CallContext())
    assert server.requests[0].headers["authorization"] == "Bearer secret"


async def test_thinking_comes_before_the_text() -> None:
    completion = await answered(finished({"content": "4", "thinking": "2+2"}))
    assert list(completion.choices[0].message.parts) == [
        message_pb2.Part(reasoning=message_pb2.ReasoningPart(text="2+2")),
        message_pb2.Part(text=message_pb2.TextPart(text="4")),
    ]


async def test_thinking_that_the_caller_excludes_stays_here() -> None:
    asked = call(reasoning=chat_pb2.ReasoningOptions(include=False))
    completion = await answered(finished({"content": "4", "thinking": "2+2"}), asked)
    assert list(completion.choices[0].message.parts) == [message_pb2.Part(text=message_pb2.TextPart(text="4"))]
    assert [note.field for note in completion.translation] == ["reasoning.exclude"]


async def test_parallel_tool_calls_have_ids_of_their_own() -> None:
    calls = [
        {"function": {"name": "weather", "arguments": {"city": "Oslo"}}},
        {"function": {"name": "weather", "arguments": {"city": "Rome"}}},
        {"id": "call_2k7ryu9k", "function": {"index": 2, "name": "now", "arguments": None}},
    ]
    completion = await answered(finished({"content": "", "tool_calls": calls}))
    choice = completion.choices[0]
    made = [part.tool_call for part in choice.message.parts]
    assert [(one.name, one.arguments, one.type) for one in made] == [
        ("weather", b'{"city": "Oslo"}', message_pb2.TOOL_CALL_TYPE_FUNCTION),
        ("weather", b'{"city": "Rome"}', message_pb2.TOOL_CALL_TYPE_FUNCTION),
        ("now", b"{}", message_pb2.TOOL_CALL_TYPE_FUNCTION),
    ]
    assert made[2].id == "call_2k7ryu9k"
    assert len({one.id for one in made}) == 3
    assert all(one.id.startswith("call_") for one in made)
    assert (choice.finish_reason, choice.native_finish_reason) == (chat_pb2.FINISH_REASON_TOOL_CALLS, "stop")


async def test_ids_are_unique_across_answers() -> None:
    body = finished({"content": "", "tool_calls": [{"function": {"name": "now", "arguments": {}}}]})
    first, second = await answered(body), await answered(body)
    assert first.choices[0].message.parts[0].tool_call.id != second.choices[0].message.parts[0].tool_call.id
    assert first.id != second.id


async def test_text_beside_tool_calls_is_kept() -> None:
    calls = [{"function": {"name": "now", "arguments": {}}}]
    completion = await answered(finished({"content": "One moment.", "tool_calls": calls}))
    kinds = [part.WhichOneof("kind") for part in completion.choices[0].message.parts]
    assert kinds == ["text", "tool_call"]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", chat_pb2.FINISH_REASON_STOP),
        ("length", chat_pb2.FINISH_REASON_LENGTH),
        ("load", chat_pb2.FINISH_REASON_ERROR),
        ("unload", chat_pb2.FINISH_REASON_ERROR),
        ("something new", chat_pb2.FINISH_REASON_STOP),
        (None, chat_pb2.FINISH_REASON_STOP),
    ],
)
async def test_why_the_model_stopped(reason: str | None, expected: chat_pb2.FinishReason.ValueType) -> None:
    choice = (await answered(finished({"content": ""}, done_reason=reason))).choices[0]
    assert (choice.finish_reason, choice.native_finish_reason) == (expected, reason or "")


async def test_a_prompt_count_that_is_left_out_stays_absent() -> None:
    body = finished({"content": "Hello."})
    for absent in (None, 0):
        usage = (await answered(body | {"prompt_eval_count": absent})).usage
        assert not usage.HasField("input_uncached")
        assert usage.output_text == 282


async def test_cached_prompt_tokens_are_told_apart() -> None:
    usage = (await answered(finished({"content": "Hello."}, prompt_eval_cached_count=20))).usage
    assert (usage.input_uncached, usage.input_cache_read, usage.output_text) == (6, 20, 282)
    assert json.loads(usage.native_json) == {**MEASURED, "prompt_eval_cached_count": 20}


async def test_no_counts_is_no_usage_and_the_durations_remain() -> None:
    body = finished({"content": "Hello."}, prompt_eval_count=None, eval_count=None)
    completion = await answered(body)
    assert not completion.HasField("usage")
    assert json.loads(completion.extra_json)["total_duration"] == 4883583458


async def test_unknown_fields_come_back() -> None:
    body = finished({"content": "Hello.", "mood": [1]}, remote_model="gpt-oss:120b", remote_host="https://ollama.com")
    completion = await answered(body)
    assert json.loads(completion.extra_json) == {"remote_model": "gpt-oss:120b", "remote_host": "https://ollama.com"}
    assert json.loads(completion.choices[0].message.extra_json) == {"mood": [1]}


async def test_log_probabilities_come_in_openais_shape() -> None:
    logprobs = [
        {
            "token": "Hi",
            "logprob": -0.25,
            "bytes": [72, 105],
            "top_logprobs": [{"token": "Hi", "logprob": -0.25}, {"token": "Yo", "logprob": -1.5}],
        },
        {"token": "!", "logprob": -0.5},
    ]
    completion = await answered(finished({"content": "Hi!"}, logprobs=logprobs))
    assert json.loads(completion.choices[0].logprobs_json) == {
        "content": [
            {
                "token": "Hi",
                "logprob": -0.25,
                "bytes": [72, 105],
                "top_logprobs": [
                    {"token": "Hi", "logprob": -0.25, "bytes": None},
                    {"token": "Yo", "logprob": -1.5, "bytes": None},
                ],
            },
            {"token": "!", "logprob": -0.5, "bytes": None, "top_logprobs": []},
        ],
        "refusal": None,
    }


@pytest.mark.parametrize(("num_ctx", "count"), [(26, 26), (46, 25)])
async def test_a_prompt_that_was_likely_cut_is_in_the_report_of_a_whole_answer(num_ctx: int, count: int) -> None:
    body = finished({"content": "Hello."}, prompt_eval_count=count)
    completion = await answered(body, model_options={"llama*": {"num_ctx": num_ctx}})
    (note,) = completion.translation
    assert (note.field, note.action) == ("messages", chat_pb2.TRANSLATION_ACTION_CLAMPED)
    assert f"context window of {num_ctx}" in note.detail
    roomy = await answered(body, model_options={"llama*": {"num_ctx": 4096}})
    assert list(roomy.translation) == []


async def test_the_window_that_a_model_was_loaded_with_is_learned_from_the_list_of_models() -> None:
    running = {"models": [{"name": "llama3.2:latest", "context_length": 26}]}
    with Upstream(Answer.of({"models": []}), Answer.of(running), Answer.of(finished({"content": "Hello."}))) as server:
        async with ollama(server) as adapter:
            await adapter.list_models(CallContext())
            completion = await adapter.chat(call(), CallContext())
    assert [note.field for note in completion.translation] == ["messages"]


@pytest.mark.parametrize(
    ("status", "body", "reason", "words"),
    [
        (400, {"error": "llama3.2 does not support tools"}, "INVALID_REQUEST", "does not support tools"),
        (401, {"error": "unauthorized", "signin_url": "https://ollama.com/connect"}, "UPSTREAM_AUTH", "own key"),
        (
            401,
            {"error": {"message": "Unauthorized", "type": "api_error", "param": None, "code": None}},
            "UPSTREAM_AUTH",
            "own key",
        ),
        (404, {"error": "model 'llama3.2' not found"}, "MODEL_NOT_FOUND", "`ollama pull llama3.2`"),
        (429, {"error": "rate limit exceeded"}, "UPSTREAM_RATE_LIMITED", "rate limit exceeded"),
        (500, {"error": "the model failed to generate a response"}, "UPSTREAM_ERROR", "failed to generate"),
        (502, {"error": {"message": "cannot reach the cloud"}}, "UPSTREAM_ERROR", "cannot reach"),
        (
            503,
            {"error": "server busy, please try again.  maximum pending requests exceeded"},
            "UPSTREAM_OVERLOADED",
            "busy",
        ),
        (200, {"error": "unexpected"}, "UPSTREAM_ERROR", "unexpected"),
        (200, {"model": "llama3.2", "done": False}, "UPSTREAM_INVALID", "finished message"),
        (200, ["no", "object"], "UPSTREAM_INVALID", "base URL"),
    ],
)
async def test_a_failure_has_its_reason(status: int, body: object, reason: str, words: str) -> None:
    error = await failed(Answer.of(body, status))
    assert error.reason.name == reason
    assert words in error.message
    assert error.details["provider"] == "ollama"
    assert error.details["upstream_status"] == ("500" if body == {"error": "unexpected"} else str(status))


async def test_a_missing_model_is_not_fetched_unasked() -> None:
    with Upstream(Answer.of({"error": "model 'llama3.2' not found"}, 404)) as server:
        async with ollama(server) as adapter:
            with pytest.raises(GatewayError) as caught:
                await adapter.chat(call(), CallContext())
    assert (caught.value.reason.name, caught.value.http_status) == ("MODEL_NOT_FOUND", 404)
    assert [request.path for request in server.requests] == ["/api/chat"]


async def test_a_full_queue_is_overload_that_may_be_tried_again() -> None:
    words = "server busy, please try again.  maximum pending requests exceeded"
    error = await failed(Answer.of({"error": words}, 503))
    assert (error.reason.name, error.http_status, error.reason.retryable) == ("UPSTREAM_OVERLOADED", 503, True)
    assert error.message == f"ollama: {' '.join(words.split())}"


async def test_a_model_that_takes_too_long_to_load_ends_in_the_limit_to_the_first_byte() -> None:
    with Upstream(Answer(hold_before_headers=True)) as server:
        async with ollama(server, first_byte_timeout=0.1, idle_timeout=0.01) as adapter:
            with pytest.raises(GatewayError) as whole:
                await adapter.chat(call(), CallContext())
            with pytest.raises(GatewayError) as streamed:
                await anext(adapter.stream_chat(call(), CallContext()))
            await server.wait_hung_up()
    for caught in (whole, streamed):
        assert caught.value.reason.name == "UPSTREAM_TIMEOUT"
        assert caught.value.details["limit"] == "first_byte_timeout"


async def test_a_limit_says_when_to_come_back() -> None:
    error = await failed(Answer.of({"error": "slow down"}, 429, retry_after="7"))
    assert error.retry_after == 7


@pytest.mark.parametrize(
    ("status", "reason"), [(200, "UPSTREAM_INVALID"), (404, "UPSTREAM_INVALID"), (502, "UPSTREAM_ERROR")]
)
async def test_html_is_an_error_of_the_address(status: int, reason: str) -> None:
    error = await failed(Answer(status, {"content-type": "text/html"}, [b"<html>404 page not found</html>"]))
    assert error.reason.name == reason
    assert "html" not in error.message.split("HTTP")[0].lower()


async def test_an_answer_cut_off_is_an_error() -> None:
    assert (await failed(Answer(pieces=[b'{"model":'], cut=True))).reason.name == "UPSTREAM_INVALID"


async def test_a_cancelled_call_closes_the_connection() -> None:
    with Upstream(Answer(hold_before_headers=True)) as server:
        async with ollama(server) as adapter:
            task = asyncio.ensure_future(adapter.chat(call(), CallContext()))
            await server.wait_arrived()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await server.wait_hung_up()


async def test_vectors_come_in_the_order_of_the_inputs() -> None:
    body = {
        "model": "all-minilm",
        "embeddings": [[0.010071029, -0.0017594862], [-0.0098027075, 0.06042469]],
        "total_duration": 14143917,
        "load_duration": 1019500,
        "prompt_eval_count": 8,
    }
    asked = embedding_pb2.EmbedCall(
        model="all-minilm",
        inputs=[embedding_pb2.EmbeddingInput(text="a"), embedding_pb2.EmbeddingInput(text="b")],
    )
    with Upstream(Answer.of(body)) as server:
        async with ollama(server) as adapter:
            made = await adapter.embed(asked, CallContext())
    assert json.loads(made.usage.native_json) == {
        "total_duration": 14143917,
        "load_duration": 1019500,
        "prompt_eval_count": 8,
    }
    made.usage.native_json = b""
    assert made == embedding_pb2.Embeddings(
        model="all-minilm",
        embeddings=[
            embedding_pb2.Embedding(index=0, values=[0.010071029, -0.0017594862]),
            embedding_pb2.Embedding(index=1, values=[-0.0098027075, 0.06042469]),
        ],
        usage=tokens_pb2.TokenUsage(input_uncached=8),
        dialect=message_pb2.DIALECT_OLLAMA,
    )
    assert (server.requests[0].path, server.requests[0].json()) == (
        "/api/embed",
        {"model": "all-minilm", "input": ["a", "b"]},
    )


@pytest.mark.parametrize("count", [{}, {"prompt_eval_count": 0}])
async def test_vectors_without_a_count_have_no_usage(count: dict[str, int]) -> None:
    asked = embedding_pb2.EmbedCall(model="m", inputs=[embedding_pb2.EmbeddingInput(text="a")])
    with Upstream(Answer.of({"model": "m", "embeddings": [[1.0]], "load_duration": 7} | count)) as server:
        async with ollama(server) as adapter:
            made = await adapter.embed(asked, CallContext())
    assert not made.HasField("usage")
    assert json.loads(made.extra_json) == {"load_duration": 7} | count


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer.of({"model": "m", "embeddings": []}), "UPSTREAM_INVALID"),
        (Answer.of({"error": "no"}), "UPSTREAM_ERROR"),
        (Answer(pieces=[b"<html>"]), "UPSTREAM_INVALID"),
        (Answer.of({"error": 'model "m" not found, try pulling it first'}, 404), "MODEL_NOT_FOUND"),
        (Answer.of({"error": "the input length exceeds the context length"}, 400), "INVALID_REQUEST"),
    ],
)
async def test_vectors_that_are_not_there_are_an_error(answer: Answer, reason: str) -> None:
    asked = embedding_pb2.EmbedCall(model="m", inputs=[embedding_pb2.EmbeddingInput(text="a")])
    with Upstream(answer) as server:
        async with ollama(server) as adapter:
            with pytest.raises(GatewayError) as caught:
                await adapter.embed(asked, CallContext())
    assert caught.value.reason.name == reason


async def test_models_are_those_the_server_has() -> None:
    plain = {
        "name": "llama3.2:latest",
        "model": "llama3.2:latest",
        "modified_at": "2025-05-04T17:37:44.706015396-07:00",
        "size": 3826793677,
        "digest": "fe938a131f40",
        "details": {"format": "gguf", "family": "llama", "parameter_size": "7B"},
    }
    able = {"name": "ann/look:1b", "capabilities": ["completion", "tools", "thinking", "vision"]}
    vectors = {"name": "all-minilm:latest", "capabilities": ["embedding"]}
    with Upstream(Answer.of({"models": [plain, able, vectors]}), Answer.of({"error": "no"}, 404)) as server:
        async with ollama(server) as adapter:
            models = await adapter.list_models(CallContext())
    assert [json.loads(model.native_json) for model in models] == [plain, able, vectors]
    for model in models:
        assert model.id == model.upstream_model
        model.native_json = b""
        model.upstream_model = ""
    created = models[1].created
    assert models[2].created == created == 0
    assert models == [
        model_pb2.Model(id="llama3.2:latest", provider="ollama", created=1746405464, owned_by="library"),
        model_pb2.Model(
            id="ann/look:1b",
            provider="ollama",
            owned_by="ann",
            input_modalities=["text", "image"],
            output_modalities=["text"],
            tools=True,
            reasoning=True,
        ),
        model_pb2.Model(
            id="all-minilm:latest",
            provider="ollama",
            owned_by="library",
            input_modalities=["text"],
            output_modalities=["embedding"],
            tools=False,
            reasoning=False,
        ),
    ]


PS = {
    "name": "gemma3",
    "model": "gemma3",
    "size": 6591830464,
    "digest": "a2af6cc3eb7fa8be8504abaf9b04e88f17a119ec3f04a3addf55f92841195f5a",
    "details": {"parent_model": "", "format": "gguf", "family": "gemma3", "quantization_level": "Q4_K_M"},
    "expires_at": "2025-10-17T16:47:07.93355-07:00",
    "size_vram": 5333539264,
    "context_length": 4096,
}
"""The example of https://docs.ollama.com/api/ps."""
TAGS = {"models": [{"name": "gemma3:latest"}, {"name": "gemma3:27b"}, {"name": "ann/gemma3:latest"}]}


async def residencies(*answers: Answer) -> list[model_pb2.Residency | None]:
    with Upstream(Answer.of(TAGS), *answers) as server:
        async with ollama(server) as adapter:
            context = CallContext()
            models = await adapter.list_models(context)
    assert [request.path for request in server.requests] == ["/api/tags", "/api/ps"]
    assert context.upstream_status == 200
    return [model.residency if model.HasField("residency") else None for model in models]


async def test_models_in_memory_say_how_long_and_where() -> None:
    forever = {"name": "ann/gemma3:latest", "expires_at": "2318-01-30T12:00:00.123456789Z", "size": 7, "size_vram": 0}
    assert await residencies(Answer.of({"models": [PS, forever]})) == [
        model_pb2.Residency(
            loaded=True,
            expires=1760744827,
            memory_bytes=6591830464,
            vram_bytes=5333539264,
            context_window=4096,
        ),
        model_pb2.Residency(loaded=False),
        model_pb2.Residency(loaded=True, expires=10984334400, memory_bytes=7, vram_bytes=0),
    ]


async def test_what_an_older_server_does_not_say_of_a_model_in_memory_stays_away() -> None:
    found = await residencies(Answer.of({"models": [{"name": "gemma3:27b", "expires_at": "soon"}]}))
    assert found[1] == model_pb2.Residency(loaded=True)


@pytest.mark.parametrize("nothing", [{"models": []}, {"models": None}, {}])
async def test_an_empty_memory_is_not_an_unknown_one(nothing: dict[str, Any]) -> None:
    assert await residencies(Answer.of(nothing)) == [model_pb2.Residency()] * 3


@pytest.mark.parametrize(
    "answer",
    [
        Answer.of({"error": "not here"}, 404),
        Answer(500, {"content-type": "text/html"}, [b"<html>"]),
        Answer(pieces=[b"Ollama is running"]),
        Answer.of({"models": 7}),
        Answer(pieces=[b"{"], cut=True),
        Answer(hold_before_headers=True),
    ],
    ids=["404", "500", "no JSON", "another shape", "cut off", "silent"],
)
async def test_models_are_listed_though_nobody_says_which_are_in_memory(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aigateway_providers.ollama.adapter._PATIENCE", 0.2)
    assert await residencies(answer) == [None, None, None]


async def test_a_model_list_that_is_none_is_an_error() -> None:
    with Upstream(Answer(pieces=[b"Ollama is running"])) as server:
        async with ollama(server) as adapter:
            with pytest.raises(GatewayError) as caught:
                await adapter.list_models(CallContext())
    assert caught.value.reason.name == "UPSTREAM_INVALID"


async def test_the_capabilities_are_those_exercised_here() -> None:
    adapter = create_adapter(ProviderSettings("ollama", "ollama", PROVIDERS["ollama"].base_url))
    assert adapter.capabilities == model_pb2.Capabilities(
        provider="ollama",
        dialect=message_pb2.DIALECT_OLLAMA,
        chat=True,
        embed=True,
        list_models=True,
        tools=True,
        images=True,
        structured_output=True,
        reasoning=True,
        finish_reasons=["stop", "length", "load", "unload"],
    )
    await adapter.aclose()
