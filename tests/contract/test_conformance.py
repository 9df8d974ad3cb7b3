"""Every adapter of ours keeps the contract that others are held to, and the checker tells when one does not."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from aigateway.v1 import chat_pb2
from aigateway_common.errors import GatewayError
from aigateway_common.serving import grpc_channel, grpc_server
from aigateway_providers.adapter import Adapter, CallContext
from aigateway_providers.conformance import suite
from aigateway_providers.conformance.verdict import Result
from aigateway_providers.registry import PROVIDERS, create_adapter
from aigateway_providers.sandbox.adapter import SandboxAdapter
from aigateway_providers.server import ProviderComponent
from aigateway_providers.settings import ProviderSettings
from grpc import aio
from support.gateway import command, environment
from support.replay import Answer, Upstream
from support.scripts import EMBEDDING_MODELS, PLAIN, StandIn
from typing_extensions import override

CLAIMED = {"unclaimed": "every operation is claimed"}
UNCLAIMED = {"embeddings": "`embed` not claimed"}
SKIPPED = {"openai": CLAIMED, "gemini": CLAIMED, "ollama": CLAIMED, "groq": UNCLAIMED, "anthropic": UNCLAIMED}
TOLD = "needs a provider that does as it is told"


@contextlib.asynccontextmanager
async def serving(adapter: Adapter, name: str) -> AsyncIterator[aio.Channel]:
    server = grpc_server([ProviderComponent(adapter, name=name)], "127.0.0.1:0")
    await server.start()
    async with grpc_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel
    await server.drain(0)


def settings(kind: str, url: str = "") -> ProviderSettings:
    return ProviderSettings(kind, kind, url + ("/v1" if kind == "openai" else ""), api_key="k")


def outcomes(results: list[Result], outcome: str) -> dict[str, str]:
    return {result.case: result.detail for result in results if result.outcome == outcome}


def test_every_provider_is_held_to_the_contract() -> None:
    assert {*SKIPPED, "sandbox"} == set(PROVIDERS)


@pytest.mark.parametrize("kind", SKIPPED)
async def test_our_adapters_pass_every_case_that_they_claim(kind: str) -> None:
    with Upstream(Answer.of({})) as upstream:
        async with serving(create_adapter(settings(kind, upstream.url)), kind) as channel:
            results = await suite.run(
                channel,
                model=PLAIN[kind].model,
                embed_model=EMBEDDING_MODELS.get(kind, ""),
                seconds=20,
                script=StandIn(kind, upstream),
            )

    assert outcomes(results, "fail") == {}
    assert outcomes(results, "skip") == SKIPPED[kind]
    assert len(results) == len(suite.CASES)


async def test_the_sandbox_passes_as_a_live_provider_does() -> None:
    seen: list[Result] = []
    async with serving(create_adapter(settings("sandbox")), "sandbox") as channel:
        results = await suite.run(channel, seconds=20, done=seen.append)

    assert results == seen
    assert outcomes(results, "fail") == {}
    told = {case.name: TOLD for case in suite.CASES if case.scripted}
    images = dict.fromkeys(("image", "large image"), "`images` not claimed")
    assert outcomes(results, "skip") == told | images | CLAIMED


class Broken(SandboxAdapter):
    """An adapter that breaks the promises that `broken` names."""

    def __init__(self, *broken: str) -> None:
        super().__init__(settings("sandbox"))
        self._broken = broken

    @override
    async def chat(self, call: chat_pb2.ChatCall, context: CallContext) -> chat_pb2.ChatCompletion:
        if "reason" in self._broken and call.model == "conformance-no-such-model":
            raise GatewayError("INTERNAL", "no such model")
        if "crash" in self._broken:
            raise ValueError("boo")
        completion = await super().chat(call, context)
        if "usage" in self._broken:
            completion.usage.input_audio = 10_000
        if "arguments" in self._broken:
            for part in completion.choices[0].message.parts:
                if part.HasField("tool_call"):
                    part.tool_call.arguments = b"{"
        if "report" in self._broken:
            del completion.translation[:]
        return completion

    @override
    async def stream_chat(
        self, call: chat_pb2.ChatCall, context: CallContext
    ) -> AsyncGenerator[list[chat_pb2.ChatEvent], None]:
        async for events in super().stream_chat(call, context):
            kept: list[chat_pb2.ChatEvent] = events
            match self._broken:
                case ("start",):
                    kept = [event for event in events if not event.HasField("start")]
                case ("finish twice",):
                    kept = [copy for event in events for copy in [event] * (1 + event.HasField("finish"))]
                case ("usage first",):
                    kept = sorted(events, key=lambda event: not event.HasField("usage"))
                case ("no finish",):
                    kept = [event for event in events if not event.HasField("finish")]
                case _:
                    pass
            if kept:
                yield kept


STREAMS = ("streaming", "streamed tools", "parallel tools", "structured output", "reasoning", "usage")


@pytest.mark.parametrize(
    ("broken", "cases"),
    [
        ("start", {*STREAMS}),
        ("finish twice", {*STREAMS}),
        ("usage first", {*STREAMS}),
        ("no finish", {*STREAMS}),
        ("usage", {"usage"}),
        ("arguments", {"tools", "parallel tools"}),
        ("report", {"unknown fields"}),
        ("reason", {"unknown model"}),
    ],
)
async def test_a_broken_promise_fails_its_cases_and_no_others(broken: str, cases: set[str]) -> None:
    async with serving(Broken(broken), "sandbox") as channel:
        results = await suite.run(channel, seconds=20)

    assert set(outcomes(results, "fail")) == cases


async def test_an_adapter_that_throws_fails_with_the_status(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Broken("crash"), "sandbox") as channel:
        results = await suite.run(channel, seconds=20)

    failed = outcomes(results, "fail")
    assert failed["basic"].startswith("INTERNAL: internal error")
    assert "streaming" not in failed


async def test_a_server_that_is_no_adapter_fails_at_once() -> None:
    server: Any = aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc_channel(f"127.0.0.1:{port}") as channel:
        [result] = await suite.run(channel, seconds=5)
    await server.stop(None)

    assert (result.case, result.outcome) == ("capabilities", "fail")
    assert result.detail.startswith("UNIMPLEMENTED")


async def shell(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command("conformance", *arguments),
        env=environment(None) | {"COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_the_command_reports_every_case_and_ends_well() -> None:
    server = grpc_server([ProviderComponent(create_adapter(settings("sandbox")), name="sandbox")], "127.0.0.1:0")
    await server.start()
    code, out, err = await shell("--target", f"127.0.0.1:{server.port}")
    await server.drain(0)

    assert (code, err) == (0, "")
    assert all(f"\n{case.name} " in out for case in suite.CASES)
    assert out.endswith("\n20 passed, 0 failed, 10 skipped\n")


async def test_the_command_fails_with_the_promise_that_was_broken() -> None:
    server = grpc_server([ProviderComponent(Broken("usage"), name="sandbox")], "127.0.0.1:0")
    await server.start()
    target = f"127.0.0.1:{server.port}"
    code, out, err = await shell("--target", target, "--model", "echo", "--timeout", "20", "--json")
    await server.drain(0)

    assert (code, err) == (1, "")
    [failed] = [result for result in json.loads(out) if result["outcome"] == "fail"]
    assert failed["case"] == "usage"
    assert failed["detail"].startswith("`input_audio` is 10000 of ")


async def test_a_target_that_is_not_there_is_said() -> None:
    code, out, err = await shell("--target", "127.0.0.1:1", "--timeout", "5")

    assert (code, err) == (1, "")
    assert "UNAVAILABLE" in out
