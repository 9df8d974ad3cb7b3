"""The router with the real sandbox and the real ledger beside it, on the wire and in process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aigateway.v1 import (
    chat_pb2,
    embedding_pb2,
    gateway_service_pb2,
    gateway_service_pb2_grpc,
    usage_service_pb2,
    usage_service_pb2_grpc,
)
from aigateway_common.errors import from_rpc_error
from aigateway_providers.registry import create_adapter
from aigateway_providers.server import ProviderComponent
from aigateway_providers.settings import ProviderSettings
from aigateway_router.server import RouterComponent
from aigateway_router.settings import RetryPolicy, RouterSettings
from aigateway_usage.server import UsageComponent
from aigateway_usage.settings import UsageSettings
from grpc import aio
from support.router import Hops, chat_call, stream_request

OK = usage_service_pb2.ATTEMPT_STATUS_OK
ERROR = usage_service_pb2.ATTEMPT_STATUS_ERROR
CANCELLED = usage_service_pb2.ATTEMPT_STATUS_CANCELLED


@pytest.fixture(params=["wire", "in process"], autouse=True)
def _transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hops, "in_process", request.param == "in process")


@dataclass
class Stack:
    gateway: gateway_service_pb2_grpc.GatewayServiceAsyncStub
    usage: usage_service_pb2_grpc.UsageServiceAsyncStub

    async def attempts(self, count: int) -> list[usage_service_pb2.Attempt]:
        """The ledger's attempts, oldest first, once there are `count`."""
        async with asyncio.timeout(20):
            while True:
                page = await self.usage.ListAttempts(usage_service_pb2.ListAttemptsRequest(page_size=1000))
                if len(page.attempts) >= count:
                    return list(reversed(page.attempts))
                await asyncio.sleep(0.01)


@asynccontextmanager
async def stack(folder: Path, pace: float = 0) -> AsyncIterator[Stack]:
    hops = Hops()
    sandbox = ProviderSettings("sandbox", "sandbox", "", pace=pace)
    try:
        usage = await hops.to(UsageComponent(UsageSettings(f"sqlite+aiosqlite:///{folder / 'ledger.db'}")))
        provider = await hops.to(ProviderComponent(create_adapter(sandbox), name="sandbox"))
        router = RouterComponent(
            RouterSettings(
                outbox_dir=folder / "outbox", aliases={"mine": "sandbox/echo"}, retries=RetryPolicy(attempts=1)
            ),
            providers={"sandbox": provider},
            usage=usage,
        )
        gateway = gateway_service_pb2_grpc.GatewayServiceStub(await hops.to(router))
        yield Stack(gateway, usage_service_pb2_grpc.UsageServiceStub(usage))
    finally:
        await hops.stop()


def texts(responses: list[gateway_service_pb2.StreamChatResponse]) -> str:
    return "".join(event.text for response in responses for event in response.events)


async def test_each_kind_of_call_stands_in_the_ledger_once(tmp_path: Path) -> None:
    async with stack(tmp_path) as running:
        call = chat_call("mine", "hello there")
        whole = await running.gateway.Chat(gateway_service_pb2.ChatRequest(call=call))
        streamed = [
            message async for message in running.gateway.StreamChat(gateway_service_pb2.StreamChatRequest(call=call))
        ]
        embed = embedding_pb2.EmbedCall(model="sandbox/embed", inputs=[embedding_pb2.EmbeddingInput(text="hello")])
        await running.gateway.Embed(gateway_service_pb2.EmbedRequest(call=embed))
        attempts = await running.attempts(3)
    answer = whole.completion.choices[0].message.parts[0].text.text
    assert "hello there" in answer
    assert texts(streamed) == answer
    assert [(one.operation, one.status, one.requested_model, one.sent_model) for one in attempts] == [
        (usage_service_pb2.OPERATION_CHAT, OK, "mine", "echo"),
        (usage_service_pb2.OPERATION_STREAM_CHAT, OK, "mine", "echo"),
        (usage_service_pb2.OPERATION_EMBED, OK, "sandbox/embed", "embed"),
    ]
    assert attempts[0].usage == whole.completion.usage
    assert attempts[0].usage.output_text == attempts[1].usage.output_text
    assert [one.cost_usd for one in attempts] == [0, 0, 0]


async def test_every_way_to_fail_reaches_the_caller_and_the_ledger(tmp_path: Path) -> None:
    failing = ["fail-400", "fail-401", "fail-404", "fail-429", "fail-500", "fail-503"]
    late = ["fail-midstream", "fail-cut"]
    reasons = []
    async with stack(tmp_path) as running:
        for model in failing:
            request = gateway_service_pb2.ChatRequest(call=chat_call(f"sandbox/{model}"))
            with pytest.raises(aio.AioRpcError) as caught:
                await running.gateway.Chat(request)
            reasons.append(from_rpc_error(caught.value).reason.name)
        for model in late:
            call = running.gateway.StreamChat(stream_request(f"sandbox/{model}"))
            assert isinstance(await call.read(), gateway_service_pb2.StreamChatResponse)
            with pytest.raises(aio.AioRpcError) as caught:
                _ = [message async for message in _rest(call)]
            reasons.append(from_rpc_error(caught.value).reason.name)
        attempts = await running.attempts(8)
    assert len(set(reasons)) > 4
    assert "INTERNAL" not in reasons
    assert [one.error_reason for one in attempts] == reasons
    assert {one.status for one in attempts} == {ERROR}
    assert [one.usage.estimated for one in attempts] == [False] * 6 + [True] * 2


async def test_a_caller_that_leaves_mid_stream_is_recorded_with_what_it_got(tmp_path: Path) -> None:
    async with stack(tmp_path, pace=0.05) as running:
        request = gateway_service_pb2.StreamChatRequest(call=chat_call("mine", "word " * 500))
        call = running.gateway.StreamChat(request)
        for _ in range(4):
            await call.read()
        call.cancel()
        (attempt,) = await running.attempts(1)
    assert (attempt.status, attempt.error_reason) == (CANCELLED, "CANCELLED")
    assert attempt.usage.estimated
    assert 0 < attempt.usage.output_text < 100
    assert attempt.HasField("first_event_us")


async def test_many_calls_at_once_are_counted_once_each(tmp_path: Path) -> None:
    async with stack(tmp_path) as running:

        async def stream(number: int) -> str:
            request = gateway_service_pb2.StreamChatRequest(call=chat_call("mine", f"number {number}"))
            return texts([message async for message in running.gateway.StreamChat(request)])

        answers = await asyncio.gather(*(stream(number) for number in range(100)))
        attempts = await running.attempts(100)
    assert all(f"number {number}" in answer for number, answer in enumerate(answers))
    assert len({one.request_id for one in attempts}) == len(attempts) == 100


async def test_the_sandboxes_models_and_the_aliases_can_be_called_by_the_ids_listed(tmp_path: Path) -> None:
    async with stack(tmp_path) as running:
        listed = await running.gateway.ListModels(gateway_service_pb2.ListModelsRequest())
        ids = [model.id for model in listed.models]
        for name in ("sandbox/echo", "mine"):
            assert name in ids
            response = await running.gateway.Chat(gateway_service_pb2.ChatRequest(call=chat_call(name)))
            assert response.completion.choices[0].finish_reason == chat_pb2.FINISH_REASON_STOP
        with pytest.raises(aio.AioRpcError) as caught:
            await running.gateway.Chat(gateway_service_pb2.ChatRequest(call=chat_call("sandbx/echo")))
    error = from_rpc_error(caught.value)
    assert (error.reason.name, "`sandbox/echo`" in error.message) == ("MODEL_NOT_FOUND", True)


async def _rest(
    call: aio.UnaryStreamCall[gateway_service_pb2.StreamChatRequest, gateway_service_pb2.StreamChatResponse],
) -> AsyncIterator[gateway_service_pb2.StreamChatResponse]:
    while isinstance(message := await call.read(), gateway_service_pb2.StreamChatResponse):
        yield message
