"""The router between a caller and a provider, every hop on a real gRPC port, and again all in process."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from aigateway.v1 import (
    chat_pb2,
    embedding_pb2,
    gateway_service_pb2,
    gateway_service_pb2_grpc,
    model_pb2,
    provider_service_pb2,
    tokens_pb2,
    usage_service_pb2,
)
from aigateway_common import metrics
from aigateway_common.errors import GatewayError
from aigateway_common.serving import grpc_channel
from aigateway_common.telemetry import Telemetry
from aigateway_router.server import RouterComponent
from aigateway_router.settings import RouterSettings
from grpc import aio
from support.router import (
    CANCELLED,
    COMPLETION,
    END_USAGE,
    ERROR,
    FINISH,
    OK,
    START,
    TIMING,
    USAGE,
    ChatAnswer,
    EmbedAnswer,
    Event,
    Hops,
    Response,
    ScriptedProvider,
    always,
    answering,
    chat_call,
    chat_request,
    chunks,
    collected,
    fails,
    hangs,
    models,
    only_attempt,
    refused,
    route,
    router,
    served,
    stream_request,
    streams,
    text,
)


@pytest.fixture(params=["wire", "in process"], autouse=True)
def _transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hops, "in_process", request.param == "in process")


# Whole answers.


async def test_a_chat_call_reaches_its_provider_and_comes_back_whole(tmp_path: Path) -> None:
    provider = answering()
    async with router(tmp_path, {"acme": provider}, aliases={"smart": "acme/acme-1"}) as running:
        response = await running.stub.Chat(
            chat_request("smart"), timeout=20, metadata=(("x-request-id", "req-1"), ("traceparent", "ignored"))
        )
        attempt = await only_attempt(running)
    assert response == gateway_service_pb2.ChatResponse(
        completion=COMPLETION,
        route=route("req-1", "smart"),
        timing=chat_pb2.CallTiming(upstream_us=30, adapter_us=20, router_us=response.timing.router_us),
    )
    assert response.timing.router_us > 0
    (seen,) = provider.calls
    assert seen.request.call == chat_call("acme-1")
    assert seen.metadata["x-request-id"] == "req-1"
    assert seen.remaining is not None
    assert 15 < seen.remaining < 21
    assert attempt == usage_service_pb2.Attempt(
        event_id=attempt.event_id,
        request_id="req-1",
        attempt=1,
        project="default",
        operation=usage_service_pb2.OPERATION_CHAT,
        provider="acme",
        requested_model="smart",
        sent_model="acme-1",
        answered_model="acme-1-2026",
        started_at_us=attempt.started_at_us,
        duration_us=attempt.duration_us,
        status=OK,
        finish_reason="end_turn",
        usage=USAGE,
    )
    assert abs(attempt.started_at_us / 1e6 - time.time()) < 60
    assert attempt.duration_us > 0


async def test_embeddings_come_back_whole(tmp_path: Path) -> None:
    vectors = embedding_pb2.Embeddings(
        model="acme-e", embeddings=[embedding_pb2.Embedding(values=[0.1, 0.2])], usage=tokens_pb2.TokenUsage()
    )
    provider = ScriptedProvider(embed=always(EmbedAnswer(embeddings=vectors, timing=TIMING)))
    call = embedding_pb2.EmbedCall(model="acme/e", inputs=[embedding_pb2.EmbeddingInput(text="a")], dimensions=2)
    async with router(tmp_path, {"acme": provider}) as running:
        response = await running.stub.Embed(gateway_service_pb2.EmbedRequest(call=call))
        attempt = await only_attempt(running)
    assert response.embeddings == vectors
    assert response.route == route(attempt.request_id, "acme/e", "e")
    sent = embedding_pb2.EmbedCall()
    sent.CopyFrom(call)
    sent.model = "e"
    assert provider.calls[0].request.call == sent
    assert (attempt.operation, attempt.status) == (usage_service_pb2.OPERATION_EMBED, OK)
    assert attempt.HasField("usage")


async def test_a_call_without_id_gets_one_and_without_deadline_the_default(tmp_path: Path) -> None:
    provider = answering()
    async with router(tmp_path, {"acme": provider}, default_timeout=77) as running:
        first = await running.stub.Chat(chat_request())
        second = await running.stub.Chat(chat_request(), metadata=(("x-request-id", "not one: spaces"),))
    assert len({first.route.request_id, second.route.request_id}) == 2
    assert len(first.route.request_id) == len(second.route.request_id) == 32
    assert provider.calls[0].metadata["x-request-id"] == first.route.request_id
    # gRPC rounds a long deadline up to whole seconds on the wire.
    assert all(70 < (seen.remaining or 0) < 79 for seen in provider.calls)


async def test_the_callers_message_is_left_as_it_is(tmp_path: Path) -> None:
    request = chat_request()
    async with router(tmp_path, {"acme": answering()}) as running:
        await running.stub.Chat(request)
    assert request == chat_request()


async def test_tokens_are_counted_ahead_and_the_ledger_is_told_nothing(tmp_path: Path) -> None:
    count = chat_pb2.TokenCount(input_tokens=14)
    provider = answering()
    provider.answers["count"] = always(
        provider_service_pb2.ProviderServiceCountTokensResponse(count=count, timing=TIMING)
    )
    async with router(tmp_path, {"acme": provider}) as running:
        answer = await running.stub.CountTokens(
            gateway_service_pb2.CountTokensRequest(call=chat_call()), metadata=(("x-request-id", "count-1"),)
        )
        await running.stub.Chat(chat_request())
        attempt = await only_attempt(running)
    assert (answer.count, answer.route) == (count, route("count-1"))
    assert provider.calls[0].request.call.model == "acme-1"
    assert attempt.operation == usage_service_pb2.OPERATION_CHAT


# Streams.


async def test_a_stream_is_forwarded_message_by_message(tmp_path: Path) -> None:
    provider = ScriptedProvider(stream=streams(chunks([START, text("he")], [text("llo")], [FINISH, END_USAGE])))
    async with router(tmp_path, {"acme": provider}) as running:
        first, *rest = await collected(running.stub.StreamChat(stream_request()))
        attempt = await only_attempt(running)
    assert first == Response(
        events=[START, text("he")],
        route=route(attempt.request_id),
        timing=chat_pb2.CallTiming(upstream_us=30, adapter_us=20, router_us=first.timing.router_us),
    )
    assert first.timing.router_us > 0
    assert rest == [Response(events=[text("llo")]), Response(events=[FINISH, END_USAGE])]
    assert (attempt.operation, attempt.status) == (usage_service_pb2.OPERATION_STREAM_CHAT, OK)
    assert (attempt.answered_model, attempt.finish_reason, attempt.usage) == ("acme-1-2026", "end_turn", USAGE)
    assert 0 < attempt.first_event_us <= attempt.duration_us


@pytest.mark.parametrize(
    "batches",
    [
        [[START, text("a"), FINISH, END_USAGE]],
        [[START], [text("a")], [FINISH], [END_USAGE]],
        [[START, text("a")], [FINISH]],
        [[START, text("a"), FINISH], [Event(extra=chat_pb2.StreamExtra())], [END_USAGE]],
        [[START, text("a")], [FINISH, END_USAGE], [Event(extra=chat_pb2.StreamExtra())]],
        [[START, text("a")], [FINISH], [text("late", 1)], [Event(choice=1, finish=FINISH.finish), END_USAGE]],
        [[START, text("a"), FINISH], *([Event(extra=chat_pb2.StreamExtra())] for _ in range(1200))],
    ],
)
async def test_every_event_arrives_in_order_and_the_end_is_recorded_once(
    tmp_path: Path, batches: list[list[chat_pb2.ChatEvent]]
) -> None:
    provider = ScriptedProvider(stream=streams(chunks(*batches)))
    async with router(tmp_path, {"acme": provider}) as running:
        messages = await collected(running.stub.StreamChat(stream_request()))
        attempt = await only_attempt(running)
    assert [event for message in messages for event in message.events] == [e for batch in batches for e in batch]
    assert [message.HasField("route") for message in messages] == [True] + [False] * (len(messages) - 1)
    assert all(message.events for message in messages)
    assert attempt.status == OK
    assert attempt.HasField("usage") == any(END_USAGE in batch for batch in batches)


async def test_the_event_is_on_disk_before_the_caller_sees_the_end(tmp_path: Path) -> None:
    ledger_may_answer = asyncio.Event()

    async def wait(_request: Any, _context: Any) -> None:
        await ledger_may_answer.wait()

    provider = ScriptedProvider(
        stream=streams(chunks([START, text("a")], [FINISH], [END_USAGE])),
        chat=always(ChatAnswer(completion=COMPLETION)),
    )
    async with router(tmp_path, {"acme": provider}) as running:
        running.ledger.before = wait
        sizes = [
            (message.events[-1].WhichOneof("event"), _size(running.folder))
            async for message in running.stub.StreamChat(stream_request())
        ]
        assert sizes[0][0] == "text"
        assert sizes[-1][0] == "usage"
        assert sizes[-1][1] > 0
        await running.stub.Chat(chat_request())
        assert _size(running.folder) > sizes[-1][1]
        ledger_may_answer.set()
        await running.ledger.of(2)


async def test_an_unfinished_stream_is_an_error_and_never_a_short_answer(tmp_path: Path) -> None:
    for number, batches in enumerate(([[START, text("12345")]], [[START]], [])):
        provider = ScriptedProvider(stream=streams(chunks(*batches)))
        async with router(tmp_path / str(number), {"acme": provider}) as running:
            error = await refused(collected(running.stub.StreamChat(stream_request())))
            attempt = await only_attempt(running)
        assert error.reason.name == "UPSTREAM_INVALID"
        assert error.details["provider"] == "acme"
        assert (attempt.status, attempt.error_reason) == (ERROR, "UPSTREAM_INVALID")
        assert attempt.usage.estimated == bool(batches)
        assert attempt.usage.output_text == (2 if number == 0 else 0)


async def test_a_provider_that_fails_mid_stream_is_passed_on_after_what_came(tmp_path: Path) -> None:
    usage = tokens_pb2.TokenUsage(input_uncached=40, output_text=1)
    start = Event(start=chat_pb2.StreamStart(model="acme-1-2026", usage=usage))
    failure = GatewayError(
        "UPSTREAM_OVERLOADED", "busy", details={"provider": "acme", "upstream_status": "529"}, retry_after=3
    )
    provider = ScriptedProvider(stream=fails(failure, *chunks([start, text("x" * 40)])))
    async with router(tmp_path, {"acme": provider}) as running:
        call = running.stub.StreamChat(stream_request())
        first = await call.read()
        error = await refused(call.read())
        attempt = await only_attempt(running)
    assert isinstance(first, Response)
    assert list(first.events) == [start, text("x" * 40)]
    assert (error.reason.name, error.message, error.retry_after) == ("UPSTREAM_OVERLOADED", "busy", 3)
    assert error.details == {"provider": "acme", "upstream_status": "529", "request_id": attempt.request_id}
    assert (attempt.status, attempt.error_reason, attempt.upstream_status) == (ERROR, "UPSTREAM_OVERLOADED", 529)
    assert attempt.usage == tokens_pb2.TokenUsage(input_uncached=40, output_text=10, estimated=True)
    assert attempt.error_message == "busy"


async def test_a_failure_after_the_end_of_an_answer_changes_nothing(tmp_path: Path) -> None:
    failure = GatewayError("UPSTREAM_INVALID", "garbage after the end")
    provider = ScriptedProvider(stream=fails(failure, *chunks([START, text("a")], [FINISH, END_USAGE])))
    async with router(tmp_path, {"acme": provider}) as running:
        messages = await collected(running.stub.StreamChat(stream_request()))
        attempt = await only_attempt(running)
    assert messages[-1] == Response(events=[FINISH, END_USAGE])
    assert attempt.status == OK


# Callers that go away, and deadlines.


async def test_cancel_before_the_first_event_cancels_the_provider_at_once(tmp_path: Path) -> None:
    provider = ScriptedProvider(stream=hangs())
    async with router(tmp_path, {"acme": provider}) as running:
        call = running.stub.StreamChat(stream_request())
        reading = asyncio.ensure_future(call.read())
        await asyncio.wait_for(provider.called.wait(), 10)
        call.cancel()
        await asyncio.wait_for(provider.calls[0].cancelled.wait(), 10)
        attempt = await only_attempt(running)
        await asyncio.wait([reading])
    assert (attempt.status, attempt.error_reason) == (CANCELLED, "CANCELLED")
    assert attempt.usage == tokens_pb2.TokenUsage(input_uncached=1, estimated=True)
    assert not attempt.HasField("first_event_us")


async def test_cancel_in_the_middle_records_what_was_streamed(tmp_path: Path) -> None:
    provider = ScriptedProvider(stream=hangs(*chunks([START], [Event(reasoning="y" * 8), text("x" * 400)])))
    async with router(tmp_path, {"acme": provider}) as running:
        call = running.stub.StreamChat(stream_request())
        await call.read()  # what comes before the first content comes with it
        call.cancel()
        await asyncio.wait_for(provider.calls[0].cancelled.wait(), 10)
        attempt = await only_attempt(running)
    assert (attempt.status, attempt.answered_model) == (CANCELLED, "acme-1-2026")
    assert attempt.usage == tokens_pb2.TokenUsage(input_uncached=1, output_text=100, output_reasoning=2, estimated=True)
    assert attempt.first_event_us > 0


async def test_a_caller_that_leaves_between_messages_is_never_a_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = chunks([START], *([text("x")] for _ in range(50)), [FINISH, END_USAGE])
    async with router(tmp_path, {"acme": ScriptedProvider(stream=streams(script))}) as running:
        for number in range(40):
            call = running.stub.StreamChat(stream_request())
            for _ in range(number % 20 + 1):
                await call.read()
            call.cancel()
            await asyncio.sleep(0)
        attempts = await running.ledger.of(40)
    assert {attempt.status for attempt in attempts} <= {CANCELLED, OK}
    assert not caplog.records


async def test_cancel_of_a_whole_answer_cancels_the_provider(tmp_path: Path) -> None:
    provider = ScriptedProvider(chat=hangs())
    async with router(tmp_path, {"acme": provider}) as running:
        call = running.stub.Chat(chat_request())
        waiting = asyncio.ensure_future(call.code())
        await asyncio.wait_for(provider.called.wait(), 10)
        call.cancel()
        await asyncio.wait_for(provider.calls[0].cancelled.wait(), 10)
        attempt = await only_attempt(running)
        await waiting
    assert (attempt.status, attempt.error_reason) == (CANCELLED, "CANCELLED")
    assert attempt.usage == tokens_pb2.TokenUsage(input_uncached=1, estimated=True)


@pytest.mark.parametrize("streamed", [True, False])
async def test_the_callers_deadline_ends_the_call_everywhere(tmp_path: Path, streamed: bool) -> None:
    provider = ScriptedProvider(chat=hangs(), stream=hangs())
    async with router(tmp_path, {"acme": provider}) as running:
        if streamed:
            error = await refused(collected(running.stub.StreamChat(stream_request(), timeout=0.3)))
        else:
            error = await refused(running.stub.Chat(chat_request(), timeout=0.3))
        await asyncio.wait_for(provider.calls[0].cancelled.wait(), 10)
        attempt = await only_attempt(running)
    assert error.reason.name == "DEADLINE_EXCEEDED"
    assert (attempt.status, attempt.error_reason) == (CANCELLED, "DEADLINE_EXCEEDED")
    assert attempt.usage.estimated


async def test_the_routers_own_limit_is_the_providers_timeout(tmp_path: Path) -> None:
    provider = ScriptedProvider(chat=hangs())
    async with router(tmp_path, {"acme": provider}, default_timeout=0.2) as running:
        error = await refused(running.stub.Chat(chat_request()))
        attempt = await only_attempt(running)
    assert (error.reason.name, error.message) == ("UPSTREAM_TIMEOUT", "`acme` did not answer within 0.2 seconds")
    assert (attempt.status, attempt.error_reason) == (ERROR, "UPSTREAM_TIMEOUT")


# Metrics and traces.


def _sample(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(f"aigateway_{name}", labels) or 0.0


async def test_calls_and_tokens_are_counted_once(tmp_path: Path) -> None:
    ok = {"service": "router", "operation": "chat", "provider": "acme", "status": "ok"}
    bad = {**ok, "status": "UPSTREAM_QUOTA"}
    tokens = {"provider": "acme", "token_class": "input_uncached"}
    before = _sample("calls_total", **ok), _sample("calls_total", **bad), _sample("tokens_total", **tokens)
    provider = answering()
    provider.answers["stream"] = fails(GatewayError("UPSTREAM_QUOTA", "spent"))
    async with router(tmp_path, {"acme": provider}) as running:
        await running.stub.Chat(chat_request())
        await refused(collected(running.stub.StreamChat(stream_request())))
        await running.ledger.of(2)
    after = _sample("calls_total", **ok), _sample("calls_total", **bad), _sample("tokens_total", **tokens)
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1, 11]
    assert _sample("streams_in_flight", service="router") == 0


async def test_a_trace_goes_on_through_the_router_and_into_the_ledger(tmp_path: Path) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    telemetry = Telemetry("router", "http://127.0.0.1:9")
    provider = answering()
    async with router(tmp_path, {"acme": provider}, telemetry=telemetry) as running:
        metadata = (("traceparent", f"00-{trace}-{parent}-00"),)
        await running.stub.Chat(chat_request(), metadata=metadata)
        attempt = await only_attempt(running)
    await telemetry.shutdown()
    assert provider.calls[0].metadata["traceparent"] == f"00-{trace}-{parent}-00"
    assert attempt.trace_id == trace


# Models.


async def test_models_of_all_providers_and_the_aliases_are_listed_by_id(tmp_path: Path) -> None:
    b = ScriptedProvider(
        models=always(
            provider_service_pb2.ProviderServiceListModelsResponse(
                models=[model_pb2.Model(id="b/1", owned_by="them", context_window=9)]
            )
        )
    )
    a = ScriptedProvider(models=always(models("z", "a")))
    aliases = {"mine": "bbb/b/1", "other": "aaa/unlisted", "off": "openai/gpt-4o"}
    async with router(tmp_path, {"bbb": b, "aaa": a}, aliases=aliases) as running:
        every = await running.stub.ListModels(gateway_service_pb2.ListModelsRequest())
        one = await running.stub.ListModels(gateway_service_pb2.ListModelsRequest(provider="bbb"))
        unknown = await refused(running.stub.ListModels(gateway_service_pb2.ListModelsRequest(provider="mars")))
        off = await refused(running.stub.ListModels(gateway_service_pb2.ListModelsRequest(provider="openai")))
    listed = model_pb2.Model(id="bbb/b/1", provider="bbb", upstream_model="b/1", owned_by="them", context_window=9)
    alias = model_pb2.Model(id="mine", provider="bbb", upstream_model="b/1", owned_by="them", context_window=9)
    assert every == gateway_service_pb2.ListModelsResponse(
        models=[
            model_pb2.Model(id="aaa/a", provider="aaa", upstream_model="a"),
            model_pb2.Model(id="aaa/z", provider="aaa", upstream_model="z"),
            listed,
            alias,
            model_pb2.Model(id="other", provider="aaa", upstream_model="unlisted"),
        ]
    )
    assert one == gateway_service_pb2.ListModelsResponse(models=[listed, alias])
    assert len(b.calls) == len(a.calls) == 1
    assert unknown.reason.name == "NOT_FOUND"
    assert off.reason.name == "PROVIDER_DISABLED"


async def test_a_provider_that_does_not_list_costs_only_its_own_models(tmp_path: Path) -> None:
    failing = ScriptedProvider(models=fails(GatewayError("UPSTREAM_AUTH", "the key of `acme` is wrong")))
    providers = {
        "good": ScriptedProvider(models=always(models("m"))),
        "bad": failing,
        "slow": ScriptedProvider(models=hangs()),
    }
    async with router(tmp_path, providers, models_timeout=0.3) as running:
        listed = await running.stub.ListModels(gateway_service_pb2.ListModelsRequest())
        again = await running.stub.ListModels(gateway_service_pb2.ListModelsRequest())
    assert [model.id for model in listed.models] == ["good/m"]
    assert dict(listed.unavailable) == {
        "bad": "the key of `acme` is wrong",
        "slow": "`slow` did not answer within 0.3 seconds",
    }
    assert again == listed
    assert len(failing.calls) == 1


async def test_lists_are_asked_for_again_when_they_are_old_and_once_at_a_time(tmp_path: Path) -> None:
    provider = ScriptedProvider(models=always(models("m")))
    async with router(tmp_path, {"acme": provider}, models_ttl=0) as running:
        request = gateway_service_pb2.ListModelsRequest()
        await running.stub.ListModels(request)
        await running.stub.ListModels(request)
        assert len(provider.calls) == 2
    async with router(tmp_path / "other", {"acme": provider}) as running:
        await asyncio.gather(*(running.stub.ListModels(request) for _ in range(20)))
        assert len(provider.calls) == 3


async def test_without_a_ledger_calls_are_served_and_nothing_is_written(tmp_path: Path) -> None:
    async with served(answering()) as provider, grpc_channel(f"127.0.0.1:{provider.port}") as channel:
        component = RouterComponent(RouterSettings(outbox_dir=tmp_path / "o"), providers={"acme": channel}, usage=None)
        async with served(component) as server, grpc_channel(f"127.0.0.1:{server.port}") as door:
            assert (await _stub(door).Chat(chat_request())).completion == COMPLETION
    assert not (tmp_path / "o").exists()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.log"))


def _stub(channel: aio.Channel) -> Any:
    return gateway_service_pb2_grpc.GatewayServiceStub(channel)
