"""Callers of Envoy, over HTTP and gRPC at once, that go on until they are told and write down how each call ended."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Literal
from uuid import uuid4

import httpx
from aigateway.v1 import gateway_service_pb2, gateway_service_pb2_grpc
from grpc import aio

from support.cases import CASES, Case
from support.fleet import KEY
from support.replay import Answer, Sent
from support.router import chat_call

CASE = CASES[0]
OTHER = next(case for case in CASES if case.provider == "anthropic")
_BEARER = f"Bearer {KEY}"
Over = Literal["http", "grpc"]


def answers(sent: Sent) -> Answer:
    """A whole answer at once, a stream slowly, so that there are always some under way."""
    case = next(case for case in (CASE, OTHER) if case.path == sent.path)
    return replace(case.stream, gap=0.03) if sent.json().get("stream") else case.whole


@dataclass
class Load:
    """What became of the calls so far, by how they were made."""

    case: Case = CASE
    outcomes: dict[Over, Counter[str]] = field(default_factory=lambda: {"http": Counter(), "grpc": Counter()})
    later: dict[Over, Counter[str]] = field(default_factory=lambda: {"http": Counter(), "grpc": Counter()})
    """Of these, what became of those begun after `mark`."""
    answered: list[str] = field(default_factory=list)
    """The request ids of the calls that were answered."""
    _turn: asyncio.Condition = field(default_factory=asyncio.Condition)
    _over: bool = False
    _marked: bool = False

    def mark(self) -> None:
        """From now on calls count as `later` too."""
        self._marked = True

    async def more(self, count: int) -> None:
        """Wait until `count` more calls of each kind have ended."""
        wanted = {over: seen.total() + count for over, seen in self.outcomes.items()}
        async with asyncio.timeout(60), self._turn:
            await self._turn.wait_for(lambda: all(self.outcomes[over].total() >= most for over, most in wanted.items()))

    def failed(self, over: Over) -> dict[str, int]:
        return failures(self.outcomes[over])

    async def http(self, url: str, *, stream: bool) -> None:
        body = {"model": self.case.name, "messages": [{"role": "user", "content": "Hi"}]}
        async with httpx.AsyncClient(base_url=url, headers={"authorization": _BEARER}, timeout=30) as client:
            while not self._over:
                later, request_id = self._marked, uuid4().hex
                try:
                    headers = {"x-request-id": request_id}
                    got = await client.post("/v1/chat/completions", json=body | {"stream": stream}, headers=headers)
                    whole = got.text.rstrip().endswith("data: [DONE]" if stream else "}")
                    await self._note("http", later, request_id, _outcome(got, whole=whole))
                except httpx.TransportError as error:
                    await self._note("http", later, request_id, type(error).__name__)

    async def grpc(self, channel: aio.Channel, *, stream: bool) -> None:
        stub: gateway_service_pb2_grpc.GatewayServiceAsyncStub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
        call = chat_call(self.case.name)
        while not self._over:
            later, request_id = self._marked, uuid4().hex
            given = (("authorization", _BEARER), ("x-request-id", request_id))
            try:
                if stream:
                    request = gateway_service_pb2.StreamChatRequest(call=call)
                    _ = [one async for one in stub.StreamChat(request, metadata=given, timeout=30)]
                else:
                    await stub.Chat(gateway_service_pb2.ChatRequest(call=call), metadata=given, timeout=30)
                await self._note("grpc", later, request_id, "answered")
            except aio.AioRpcError as error:
                await self._note("grpc", later, request_id, f"{error.code().name}: {error.details()}")

    def stop(self) -> None:
        self._over = True

    async def _note(self, over: Over, later: bool, request_id: str, outcome: str) -> None:
        async with self._turn:
            if outcome == "answered":
                self.answered.append(request_id)
            self.outcomes[over][outcome] += 1
            self.later[over][outcome] += later
            self._turn.notify_all()


def told(what: str, seen: Load) -> None:
    for over, outcomes in seen.outcomes.items():
        print(f"{what}, {seen.case.provider}, {over}: {outcomes.total()} calls, {dict(outcomes)}")


def failures(outcomes: Counter[str]) -> dict[str, int]:
    return {outcome: count for outcome, count in outcomes.items() if count and outcome != "answered"}


def _outcome(got: httpx.Response, *, whole: bool) -> str:
    if got.status_code != 200:
        return f"{got.status_code}: {got.text[:200]}"
    return "answered" if whole else "cut"


@asynccontextmanager
async def load(address: str, callers: int = 3, case: Case = CASE) -> AsyncIterator[Load]:
    """`callers` of each kind (HTTP and gRPC, whole and streamed) at Envoy's `address`, to the end of the block."""
    running = Load(case)
    async with aio.insecure_channel(address) as channel, asyncio.TaskGroup() as group:
        for stream in (False, True):
            for _ in range(callers):
                group.create_task(running.http(f"http://{address}", stream=stream))
                group.create_task(running.grpc(channel, stream=stream))
        try:
            yield running
        finally:
            running.stop()
