"""ProviderService over an adapter, on both transports: answers, timing, errors, and what cancelling a call closes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from aigateway.v1 import (
    chat_pb2,
    embedding_pb2,
    message_pb2,
    model_pb2,
    provider_service_pb2,
    provider_service_pb2_grpc,
)
from aigateway_common import attributes
from aigateway_common.errors import GatewayError, from_rpc_error
from aigateway_common.inprocess import InProcessChannel, InProcessServer
from aigateway_common.metrics import REGISTRY
from aigateway_common.serving import grpc_channel, grpc_server
from aigateway_common.telemetry import Span, SpanKind, Telemetry
from aigateway_providers.openai_compat.adapter import create
from aigateway_providers.registry import create_adapter
from aigateway_providers.server import ProviderComponent
from aigateway_providers.settings import ProviderSettings
from grpc import aio
from support.replay import Answer, Upstream
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from aigateway.v1.provider_service_pb2_grpc import ProviderServiceAsyncStub as Stub
    from aigateway_providers.adapter import Adapter, CallContext

MODEL = "gpt-4o-mini"
HEAD = {"id": "chatcmpl-1", "created": 1700000000, "model": MODEL}
WHOLE = HEAD | {
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
}


def chunk(text: str | None = None, finish: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return HEAD | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def chat(**fields: Any) -> chat_pb2.ChatCall:
    part = message_pb2.Part(text=message_pb2.TextPart(text="Hello"))
    user = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])
    return chat_pb2.ChatCall(model=MODEL, messages=[user], **fields)


def unary(call: chat_pb2.ChatCall) -> provider_service_pb2.ProviderServiceChatRequest:
    return provider_service_pb2.ProviderServiceChatRequest(call=call)


def streamed(call: chat_pb2.ChatCall) -> provider_service_pb2.ProviderServiceStreamChatRequest:
    return provider_service_pb2.ProviderServiceStreamChatRequest(call=call)


@asynccontextmanager
async def serving(transport: str, adapter: Adapter) -> AsyncIterator[Stub]:
    component = ProviderComponent(adapter, name="openai")
    if transport == "in-process":
        local = InProcessServer()
        component.register(local)
        await local.start()
        channel: aio.Channel = InProcessChannel(local)
        yield provider_service_pb2_grpc.ProviderServiceStub(channel)
        await channel.close()
        await local.stop(1)
        await component.stop(1)
    else:
        server = grpc_server([component], "127.0.0.1:0")
        await server.start()
        channel = grpc_channel(f"127.0.0.1:{server.port}")
        yield provider_service_pb2_grpc.ProviderServiceStub(channel)
        await channel.close()
        await server.drain(1)


@pytest.fixture(params=["in-process", "grpc"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def openai(stand_in: Upstream) -> Adapter:
    return create(ProviderSettings("openai", "openai", stand_in.url + "/v1", "key"))


async def failure(call: Any) -> GatewayError:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def drain(call: Any) -> None:
    async for _ in call:
        pass


async def test_a_whole_answer_comes_with_its_timing(transport: str) -> None:
    with Upstream(Answer.of(WHOLE)) as stand_in:
        async with serving(transport, openai(stand_in)) as stub:
            answer = await stub.Chat(unary(chat()))
    assert answer.completion.choices[0].message.parts[0].text.text == "Hi"
    assert answer.completion.usage.input_uncached == 5
    assert answer.timing.upstream_us > 0
    assert answer.timing.adapter_us > 0
    assert answer.timing.router_us == 0


async def test_a_stream_is_one_message_for_each_read_and_the_first_carries_the_timing(transport: str) -> None:
    with Upstream(Answer.sse(chunk("H"), chunk("i"), chunk(None, "stop"), done=True, gap=0.02)) as stand_in:
        async with serving(transport, openai(stand_in)) as stub:
            messages = [message async for message in stub.StreamChat(streamed(chat()))]
    kinds = [[event.WhichOneof("event") for event in message.events] for message in messages]
    assert kinds == [["start", "text"], ["text"], ["finish"]]
    assert messages[0].timing.upstream_us > 0
    assert [message.HasField("timing") for message in messages] == [True, False, False]


async def test_tokens_are_counted_where_the_provider_counts(transport: str) -> None:
    request = provider_service_pb2.ProviderServiceCountTokensRequest(call=chat())
    with Upstream(Answer.of({"input_tokens": 3})) as stand_in:
        claude = create_adapter(ProviderSettings("anthropic", "anthropic", stand_in.url, "key"))
        async with serving(transport, claude) as stub:
            counted = await stub.CountTokens(request)
        assert counted.count.input_tokens == 3
        assert counted.timing.upstream_us > 0
        async with serving(transport, openai(stand_in)) as stub:
            with pytest.raises(aio.AioRpcError) as caught:
                await stub.CountTokens(request)
    error = from_rpc_error(caught.value)
    assert (error.reason.name, error.message) == ("UNIMPLEMENTED", "openai does not count tokens ahead of a call")


async def test_embeddings_models_and_capabilities_are_served(transport: str) -> None:
    vectors = {"data": [{"index": 0, "embedding": [0.5, 1]}], "model": "e", "usage": {"prompt_tokens": 2}}
    models = {"object": "list", "data": [{"id": "m", "object": "model", "created": 3, "owned_by": "o"}]}
    with Upstream(Answer.of(vectors), Answer.of(models)) as stand_in:
        async with serving(transport, openai(stand_in)) as stub:
            call = embedding_pb2.EmbedCall(model="e", inputs=[embedding_pb2.EmbeddingInput(text="x")])
            embedded = await stub.Embed(provider_service_pb2.ProviderServiceEmbedRequest(call=call))
            listed = await stub.ListModels(provider_service_pb2.ProviderServiceListModelsRequest())
            able = await stub.GetCapabilities(provider_service_pb2.GetCapabilitiesRequest())
    assert list(embedded.embeddings.embeddings[0].values) == [0.5, 1]
    assert embedded.timing.upstream_us > 0
    assert [model.id for model in listed.models] == ["m"]
    assert able.capabilities.provider == "openai"
    assert able.capabilities.embed


async def test_a_failure_keeps_its_reason_details_and_delay(transport: str) -> None:
    error = {"message": "Slow down", "type": "requests", "param": None, "code": "rate_limit_exceeded"}
    with Upstream(Answer.of({"error": error}, 429, retry_after="7")) as stand_in:
        async with serving(transport, openai(stand_in)) as stub:
            for call in (stub.Chat(unary(chat())), drain(stub.StreamChat(streamed(chat())))):
                failed = await failure(call)
                assert failed.reason.name == "UPSTREAM_RATE_LIMITED"
                assert failed.retry_after == 7
                assert failed.details == {
                    "provider": "openai",
                    "upstream_status": "429",
                    "upstream_type": "requests",
                    "upstream_code": "rate_limit_exceeded",
                }


async def test_a_call_without_messages_or_inputs_is_refused_before_anything_is_sent(transport: str) -> None:
    with Upstream(Answer.of(WHOLE)) as stand_in:
        async with serving(transport, openai(stand_in)) as stub:
            empty = chat_pb2.ChatCall(model=MODEL)
            embed = provider_service_pb2.ProviderServiceEmbedRequest(call=embedding_pb2.EmbedCall(model=MODEL))
            failures = [
                await failure(stub.Chat(unary(empty))),
                await failure(drain(stub.StreamChat(streamed(empty)))),
                await failure(stub.Embed(embed)),
            ]
    assert [(one.reason.name, one.details["param"]) for one in failures] == [
        ("INVALID_REQUEST", "messages"),
        ("INVALID_REQUEST", "messages"),
        ("INVALID_REQUEST", "input"),
    ]
    assert stand_in.requests == []


async def test_the_strict_policy_refuses_what_cannot_be_carried(transport: str) -> None:
    options = chat_pb2.GenerationOptions(top_k=3)
    with Upstream(Answer.of(WHOLE)) as stand_in:
        async with serving(transport, openai(stand_in)) as stub:
            strict = chat(options=options, translation_policy=chat_pb2.TRANSLATION_POLICY_STRICT)
            failed = await failure(stub.Chat(unary(strict)))
            lenient = await stub.Chat(unary(chat(options=options)))
    assert (failed.reason.name, failed.details) == ("TRANSLATION_REFUSED", {"param": "top_k"})
    assert [note.field for note in lenient.completion.translation] == ["top_k"]
    assert len(stand_in.requests) == 1


async def test_what_came_before_a_failure_in_mid_stream_is_delivered(transport: str) -> None:
    error = {"error": {"message": "died", "type": "server_error"}}
    kinds: list[str | None] = []
    with Upstream(Answer.sse(chunk("H"), error)) as stand_in:
        async with serving(transport, openai(stand_in)) as stub:
            with pytest.raises(aio.AioRpcError) as caught:  # noqa: PT012 - what came before it counts
                async for message in stub.StreamChat(streamed(chat())):
                    kinds += [event.WhichOneof("event") for event in message.events]
    assert kinds == ["start", "text"]
    assert from_rpc_error(caught.value).reason.name == "UPSTREAM_ERROR"


class Recorded(Span):
    """A span that keeps what it is told."""

    recording = True

    def __init__(self, name: str, kind: SpanKind, parent: object) -> None:
        self.name, self.kind, self.parent = name, kind, parent
        self.attributes: dict[str, object] = {}
        self.error: BaseException | None = None

    @override
    def set(self, key: str, value: object) -> None:
        if value is not None:
            self.attributes[key] = value

    @override
    def end(self, error: BaseException | None = None) -> None:
        self.error = error


class Recorder(Telemetry):
    """Makes spans that keep what they are told."""

    def __init__(self) -> None:
        super().__init__("test")
        self.spans: list[Recorded] = []

    @override
    def span(self, name: str, *, kind: SpanKind = SpanKind.INTERNAL, parent: object = None) -> Span:
        self.spans.append(Recorded(name, kind, parent))
        return self.spans[-1]


async def test_a_call_is_one_client_span_with_genai_attributes() -> None:
    recorder = Recorder()
    usage = HEAD | {"choices": [], "usage": WHOLE["usage"]}
    failed = Answer.of({"error": {"message": "no"}}, 500)
    with Upstream(Answer.sse(chunk("H"), chunk(None, "stop"), usage, done=True), failed) as stand_in:
        server = InProcessServer()
        adapter = openai(stand_in)
        ProviderComponent(adapter, name="openai", telemetry=recorder).register(server)
        await server.start()
        stub: Stub = provider_service_pb2_grpc.ProviderServiceStub(InProcessChannel(server))
        parent = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        await drain(stub.StreamChat(streamed(chat()), metadata=(parent,)))
        await failure(stub.Chat(unary(chat())))
        await server.stop(1)
        await adapter.aclose()
    answered, refused = recorder.spans
    assert (answered.name, answered.kind, answered.error) == (f"chat {MODEL}", SpanKind.CLIENT, None)
    assert parent in [tuple(pair) for pair in answered.parent]  # type: ignore[attr-defined] # metadata
    times = [
        answered.attributes.pop(key)
        for key in (attributes.UPSTREAM_TIME, attributes.ADAPTER_TIME, attributes.TIME_TO_FIRST_CHUNK)
    ]
    assert all(isinstance(seconds, float) and seconds > 0 for seconds in times)
    assert answered.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.stream": True,
        "gen_ai.response.model": MODEL,
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 1,
        "http.response.status_code": 200,
    }
    assert isinstance(refused.error, GatewayError)
    assert refused.attributes["http.response.status_code"] == 500


class Broken:
    """An adapter with a fault."""

    capabilities = model_pb2.Capabilities()

    async def chat(self, call: chat_pb2.ChatCall, context: CallContext) -> chat_pb2.ChatCompletion:
        raise RuntimeError("the prompt was `Hello`")

    async def stream_chat(
        self, call: chat_pb2.ChatCall, context: CallContext
    ) -> AsyncGenerator[list[chat_pb2.ChatEvent], None]:
        yield [chat_pb2.ChatEvent(start=chat_pb2.StreamStart(model=MODEL))]
        raise RuntimeError("the prompt was `Hello`")

    async def embed(self, call: embedding_pb2.EmbedCall, context: CallContext) -> embedding_pb2.Embeddings:
        raise NotImplementedError

    async def list_models(self, context: CallContext) -> list[model_pb2.Model]:
        raise NotImplementedError

    async def aclose(self) -> None:
        pass


async def test_a_fault_of_ours_is_internal_and_its_text_stays_in_the_log(
    transport: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(transport, Broken()) as stub:
        for call in (stub.Chat(unary(chat())), drain(stub.StreamChat(streamed(chat())))):
            failed = await failure(call)
            assert (failed.code, failed.reason.name) == (grpc.StatusCode.INTERNAL, "INTERNAL")
            assert "Hello" not in failed.message
    printed = capsys.readouterr()
    assert "adapter failed" in printed.out + printed.err


@pytest.mark.parametrize(
    "answer",
    [Answer(hold_before_headers=True), Answer.sse(chunk("H"), hold=True)],
    ids=["before-the-first-token", "mid-stream"],
)
async def test_cancelling_a_stream_closes_the_upstream_socket(transport: str, answer: Answer) -> None:
    with Upstream(answer) as stand_in:
        async with serving(transport, openai(stand_in)) as stub:
            call = stub.StreamChat(streamed(chat()))
            if answer.pieces:
                first = await call.read()
                assert isinstance(first, provider_service_pb2.ProviderServiceStreamChatResponse)
                assert [event.WhichOneof("event") for event in first.events] == ["start", "text"]
            else:
                await stand_in.wait_arrived()
            call.cancel()
            await stand_in.wait_hung_up()
            with pytest.raises(asyncio.CancelledError):
                await call.read()


async def test_cancelling_a_whole_call_closes_the_upstream_socket(transport: str) -> None:
    with Upstream(Answer(hold_before_headers=True)) as stand_in:
        async with serving(transport, openai(stand_in)) as stub:
            call = stub.Chat(unary(chat()))
            waiting = asyncio.ensure_future(failure(call))
            await stand_in.wait_arrived()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await stand_in.wait_hung_up()


async def test_a_passed_deadline_closes_the_upstream_socket(transport: str) -> None:
    with Upstream(Answer(hold_before_headers=True)) as stand_in:
        async with serving(transport, openai(stand_in)) as stub:
            failed = await failure(stub.Chat(unary(chat()), timeout=0.2))
            assert failed.reason.name == "DEADLINE_EXCEEDED"
            await stand_in.wait_hung_up()


async def test_calls_are_counted_by_how_they_ended(transport: str) -> None:
    def count(status: str) -> float:
        labels = {"service": "provider", "operation": "chat", "provider": "openai", "status": status}
        return REGISTRY.get_sample_value("aigateway_calls_total", labels) or 0

    before = count("ok"), count("UPSTREAM_ERROR")
    with Upstream(Answer.of(WHOLE), Answer.of({"error": "down"}, 500)) as stand_in:
        async with serving(transport, openai(stand_in)) as stub:
            await stub.Chat(unary(chat()))
            await failure(stub.Chat(unary(chat())))
    assert (count("ok"), count("UPSTREAM_ERROR")) == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize(("native", "counted"), [("stop", 0), ("length", 0), ("gave_up", 1)])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_end_that_the_adapter_does_not_know_is_counted(native: str, counted: int, stream: bool) -> None:
    def count() -> float:
        return REGISTRY.get_sample_value("aigateway_unknown_finish_reasons_total", {"provider": "openai"}) or 0

    before = count()
    message = {"role": "assistant", "content": "Hi"}
    whole = WHOLE | {"choices": [{"index": 0, "message": message, "finish_reason": native}]}
    said = Answer.sse(chunk("Hi"), chunk(finish=native), done=True) if stream else Answer.of(whole)
    with Upstream(said) as upstream:
        adapter = create(ProviderSettings(name="openai", kind="openai", base_url=upstream.url))
        async with serving("in-process", adapter) as stub:
            if stream:
                async for _ in stub.StreamChat(streamed(chat())):
                    pass
            else:
                await stub.Chat(unary(chat()))
    assert count() - before == counted


def plain(number: int) -> dict[str, Any]:
    return HEAD | {"choices": [{"index": 0, "delta": {"content": f"{number} "}, "finish_reason": None}]}


@pytest.mark.parametrize("pause", [0.0, 0.002], ids=["quick reader", "slow reader"])
@pytest.mark.parametrize("gap", [0.0, 0.0002], ids=["at once", "one by one"])
async def test_a_long_stream_of_texts_keeps_its_order_however_it_is_read(
    transport: str, gap: float, pause: float
) -> None:
    """In process most texts are handed on while the adapter sleeps, as long as there is room for them."""
    texts = [plain(number) for number in range(300)]
    answer = Answer.sse(plain(-1), *texts, chunk(None, "stop"), done=True, gap=gap)
    with Upstream(answer) as stand_in:
        adapter = openai(stand_in)
        async with serving(transport, adapter) as stub:
            call, said, finished = stub.StreamChat(streamed(chat())), "", 0
            async for message in call:
                said += "".join(event.text for event in message.events)
                finished += sum(event.HasField("finish") for event in message.events)
                await asyncio.sleep(pause)
    assert said == "".join(f"{number} " for number in range(-1, 300))
    assert finished == 1


async def test_a_stream_of_texts_that_is_left_closes_the_providers_socket(transport: str) -> None:
    texts = [plain(number) for number in range(50)]
    with Upstream(Answer.sse(plain(-1), *texts, gap=0.0005, hold=True)) as stand_in:
        adapter = openai(stand_in)
        async with serving(transport, adapter) as stub:
            call, read = stub.StreamChat(streamed(chat())), 0
            async for message in call:
                read += len(message.events)
                if read >= 40:
                    break
            call.cancel()
            await stand_in.wait_hung_up()
