"""What a caller is told when a call fails at the router or behind it, over real gRPC ports and in process."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from aigateway.v1 import (
    chat_pb2,
    embedding_pb2,
    gateway_service_pb2,
    gateway_service_pb2_grpc,
    message_pb2,
)
from aigateway_common.errors import GatewayError
from aigateway_common.serving import grpc_channel
from aigateway_launcher.children import hold_port
from aigateway_router import models as models_module
from aigateway_router.authn import key_id
from aigateway_router.provider_errors import from_provider
from aigateway_router.server import RouterComponent
from aigateway_router.settings import RouterSettings
from grpc import aio
from support.router import (
    ERROR,
    TIMING,
    ChatAnswer,
    EmbedAnswer,
    Hops,
    ScriptedProvider,
    always,
    answering,
    chat_call,
    chat_request,
    collected,
    fails,
    models,
    only_attempt,
    refused,
    router,
    served,
    stream_request,
)


@pytest.fixture(params=["wire", "in process"], autouse=True)
def _transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hops, "in_process", request.param == "in process")
    monkeypatch.setattr(models_module, "_IDS_WAIT", 20.0)  # a busy machine is no slow provider


# Failures.


async def test_a_providers_error_is_passed_on_with_details(tmp_path: Path) -> None:
    failure = GatewayError(
        "UPSTREAM_RATE_LIMITED", "slow down", details={"provider": "acme", "upstream_status": "429"}, retry_after=7
    )
    provider = ScriptedProvider(chat=fails(failure))
    async with router(tmp_path, {"acme": provider}) as running:
        error = await refused(running.stub.Chat(chat_request(), metadata=(("x-request-id", "r9"),)))
        attempt = await only_attempt(running)
    assert (error.reason.name, error.message, error.retry_after) == ("UPSTREAM_RATE_LIMITED", "slow down", 7)
    assert error.details == {"provider": "acme", "upstream_status": "429", "request_id": "r9"}
    assert (attempt.status, attempt.error_reason, attempt.upstream_status) == (ERROR, "UPSTREAM_RATE_LIMITED", 429)
    assert not attempt.HasField("usage")


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_provider_service_that_is_down_is_named(tmp_path: Path, streamed: bool) -> None:
    with hold_port() as nobody:
        channel = grpc_channel(f"127.0.0.1:{nobody.number}")
        component = RouterComponent(RouterSettings(outbox_dir=tmp_path), providers={"acme": channel}, usage=None)
        async with served(component) as server, grpc_channel(f"127.0.0.1:{server.port}") as door:
            stub = gateway_service_pb2_grpc.GatewayServiceStub(door)
            call = collected(stub.StreamChat(stream_request())) if streamed else stub.Chat(chat_request())
            error = await refused(call)
        await channel.close()
    assert (error.reason.name, error.message) == (
        "UNAVAILABLE",
        "the gateway's service for `acme` cannot be reached; try again",
    )
    assert error.details["provider"] == "acme"


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_provider_service_that_ends_calls_by_itself_is_not_the_caller_leaving(
    tmp_path: Path, streamed: bool
) -> None:
    async def end(_request: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.CANCELLED, "shutting down")

    provider = ScriptedProvider(chat=end, stream=end)
    async with router(tmp_path, {"acme": provider}) as running:
        stub = running.stub
        call = collected(stub.StreamChat(stream_request())) if streamed else stub.Chat(chat_request())
        error = await refused(call)
        attempt = await only_attempt(running)
    assert error.reason.name == "UNAVAILABLE"
    assert (attempt.status, attempt.error_reason) == (ERROR, "UNAVAILABLE")


async def test_an_answer_that_holds_nothing_is_the_providers_fault(tmp_path: Path) -> None:
    provider = ScriptedProvider(chat=always(ChatAnswer(timing=TIMING)), embed=always(EmbedAnswer()))
    call = embedding_pb2.EmbedCall(model="acme/e", inputs=[embedding_pb2.EmbeddingInput(text="a")])
    async with router(tmp_path, {"acme": provider}) as running:
        chat = await refused(running.stub.Chat(chat_request()))
        embed = await refused(running.stub.Embed(gateway_service_pb2.EmbedRequest(call=call)))
        attempts = await running.ledger.of(2)
    assert [chat.reason.name, embed.reason.name] == ["UPSTREAM_INVALID"] * 2
    assert [(one.status, one.error_reason) for one in attempts] == [(ERROR, "UPSTREAM_INVALID")] * 2


def _failed(code: grpc.StatusCode, details: str = "") -> aio.AioRpcError:
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(), details=details)


@pytest.mark.parametrize(
    ("code", "own_timeout", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, None, "UNAVAILABLE"),
        (grpc.StatusCode.CANCELLED, None, "UNAVAILABLE"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, None, "DEADLINE_EXCEEDED"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 5.0, "UPSTREAM_TIMEOUT"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, None, "REQUEST_TOO_LARGE"),
        (grpc.StatusCode.UNKNOWN, None, "INTERNAL"),
    ],
)
def test_what_grpc_itself_says_of_a_provider_has_a_reason(
    code: grpc.StatusCode, own_timeout: float | None, reason: str
) -> None:
    error = from_provider(_failed(code, "inner words"), "acme", own_timeout=own_timeout)
    assert (error.reason.name, error.details) == (reason, {"provider": "acme"})
    assert "inner words" not in error.message


async def test_a_crash_in_an_adapter_is_internal_and_shows_nothing(tmp_path: Path) -> None:
    async def crash(_request: Any, _context: Any) -> None:
        raise RuntimeError("secret inner state")

    async with router(tmp_path, {"acme": ScriptedProvider(chat=crash)}) as running:
        error = await refused(running.stub.Chat(chat_request()))
        attempt = await only_attempt(running)
    assert error.reason.name == "INTERNAL"
    assert "secret" not in error.message + attempt.error_message


@pytest.mark.parametrize(
    ("call", "param"),
    [
        (chat_pb2.ChatCall(messages=chat_call().messages), "call.model"),
        (chat_call("x" * 513), "call.model"),
        (chat_pb2.ChatCall(model="acme/acme-1"), "call.messages"),
        (
            chat_pb2.ChatCall(model="acme/acme-1", messages=[*chat_call().messages, message_pb2.Message()]),
            "call.messages[1].role",
        ),
    ],
)
async def test_a_bad_chat_call_names_the_field(tmp_path: Path, call: chat_pb2.ChatCall, param: str) -> None:
    async with router(tmp_path, {"acme": answering()}) as running:
        error = await refused(running.stub.Chat(gateway_service_pb2.ChatRequest(call=call)))
        streamed = await refused(collected(running.stub.StreamChat(gateway_service_pb2.StreamChatRequest(call=call))))
        assert not running.ledger.events
    for one in (error, streamed):
        assert (one.reason.name, one.details["param"]) == ("INVALID_REQUEST", param)
        assert f"`{param}`" in one.message


@pytest.mark.parametrize(
    ("call", "param"),
    [
        (embedding_pb2.EmbedCall(inputs=[embedding_pb2.EmbeddingInput(text="a")]), "call.model"),
        (embedding_pb2.EmbedCall(model="acme/e"), "call.inputs"),
        (embedding_pb2.EmbedCall(model="acme/e", inputs=[embedding_pb2.EmbeddingInput()]), "call.inputs[0]"),
    ],
)
async def test_a_bad_embed_call_names_the_field(tmp_path: Path, call: embedding_pb2.EmbedCall, param: str) -> None:
    async with router(tmp_path, {"acme": answering()}) as running:
        error = await refused(running.stub.Embed(gateway_service_pb2.EmbedRequest(call=call)))
    assert (error.reason.name, error.details["param"]) == ("INVALID_REQUEST", param)


async def test_an_unknown_model_names_the_nearest_and_a_disabled_provider_the_fix(tmp_path: Path) -> None:
    provider = ScriptedProvider(models=always(models("acme-large", "acme-small")))
    async with router(tmp_path, {"acme": provider}, disabled={"openai": "set OPENAI_API_KEY"}) as running:
        unknown = await refused(running.stub.Chat(chat_request("acme-larg")))
        off = await refused(running.stub.Chat(chat_request("gpt-4o")))
        assert not running.ledger.events
    assert unknown.reason.name == "MODEL_NOT_FOUND"
    assert "did you mean `acme/acme-large`" in unknown.message
    assert (off.reason.name, off.message) == (
        "PROVIDER_DISABLED",
        "the provider `openai` is not enabled; set OPENAI_API_KEY",
    )


async def test_the_nearest_is_named_while_what_is_published_of_models_is_still_being_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time that takes longer than anybody who has mistyped a name should wait."""
    loaded, known = threading.Event(), models_module._known

    def load(*given: Any) -> Any:
        assert loaded.wait(20)
        return known(*given)

    monkeypatch.setattr(models_module, "_known", load)
    provider = ScriptedProvider(models=always(models("acme-large")))
    async with router(tmp_path, {"acme": provider}) as running:
        for _ in range(2):
            unknown = await refused(running.stub.Chat(chat_request("acme-larg")))
            assert "did you mean `acme/acme-large`" in unknown.message
        loaded.set()
        (listed,) = (await running.stub.ListModels(gateway_service_pb2.ListModelsRequest())).models
        assert listed.id == "acme/acme-large"
    assert len(provider.calls) == 1


# Keys.


async def test_only_a_callers_key_opens_any_rpc(tmp_path: Path) -> None:
    provider = answering()
    provider.answers["models"] = always(models("m"))
    async with router(tmp_path, {"acme": provider}, api_keys=("gw-key-one", "gw-key-two")) as running:
        stub = running.stub
        for call in (
            stub.Chat(chat_request()),
            collected(stub.StreamChat(stream_request())),
            stub.Embed(gateway_service_pb2.EmbedRequest()),
            stub.ListModels(gateway_service_pb2.ListModelsRequest()),
            stub.Chat(chat_request(), metadata=(("authorization", "Bearer nope"),)),
        ):
            assert (await refused(call)).reason.name == "UNAUTHENTICATED"
        assert not provider.calls
        await stub.Chat(chat_request(), metadata=(("authorization", "Bearer gw-key-two"),))
        await stub.ListModels(gateway_service_pb2.ListModelsRequest(), metadata=(("x-api-key", "gw-key-one"),))
        attempt = await only_attempt(running)
    assert attempt.key_id == key_id("gw-key-two")
    assert "gw-key-two" not in str(provider.calls[0].metadata)
