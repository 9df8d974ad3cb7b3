"""The Ollama adapter beside Ollama on a host of its own, as on a GPU box: what crosses the cable, and a cut one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from support.gateway import Running, environment, start
from support.hosts import THERE, Host, UpstreamThere
from support.replay import Answer, Sent

KEY = "two-hosts-key-0123456789abcdef"
RECOVERED_SECONDS = 60


def line(text: str, *, end: bool = False) -> bytes:
    counts = {"done_reason": "stop", "prompt_eval_count": 5, "eval_count": 2} if end else {}
    message = {"role": "assistant", "content": text}
    return json.dumps({"model": "llama3.2", "message": message, "done": end} | counts).encode() + b"\n"


LINES = {"content-type": "application/x-ndjson"}
HELD = Answer(headers=LINES, pieces=(line("Hi"),), hold=True)


def answered(sent: Sent) -> Answer:
    if sent.json()["stream"]:
        return Answer(headers=LINES, pieces=(line("Hi"), line("", end=True)))
    return Answer(pieces=(line("Hi", end=True),))


@dataclass
class TwoHosts:
    """The gateway on this host, but for Ollama and its adapter."""

    host: Host
    ollama: UpstreamThere
    adapter: Running
    gateway: Running

    def body(self, model: str = "ollama/llama3.2", **more: Any) -> dict[str, Any]:
        return {"model": model, "messages": [{"role": "user", "content": "Hi"}]} | more


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHosts]:
    folder = tmp_path_factory.mktemp("hosts")
    with Host() as host, UpstreamThere(host) as ollama:
        there = environment(ollama.url, "ollama", AIGATEWAY_GRPC_HOST=THERE)
        options = ("--grpc-port", "0", "--data-dir", str(folder / "data"))
        adapter = start(folder, there, "serve", "provider:ollama", *options, before=host.command)
        target = f"ollama={adapter.grpc('provider:ollama')}"
        here = environment(None, AIGATEWAY_PROVIDER_TARGETS=target, AIGATEWAY_SANDBOX="1", GATEWAY_API_KEY=KEY)
        config = folder / "aigateway.yaml"
        config.write_text("retries: {attempts: 1}\n")
        services = "edge,router,usage,provider:sandbox"
        gateway = start(folder, here, "serve", services, "--config", str(config), "--port", "0", *options)
        try:
            yield TwoHosts(host, ollama, adapter, gateway)
        finally:
            host.mend()
            codes = [gateway.stop(), adapter.stop()]
        assert codes == [0, 0], gateway.text() + adapter.text()


@pytest.fixture
def hosts(running: TwoHosts) -> Iterator[TwoHosts]:
    running.ollama.reset(script=answered)
    yield running
    running.host.mend()


@pytest.fixture
async def http(hosts: TwoHosts) -> AsyncIterator[httpx.AsyncClient]:
    url, headers = hosts.gateway.http + "/v1", {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=90) as client:
        yield client


async def recovered(hosts: TwoHosts, http: httpx.AsyncClient) -> None:
    """Wait until a call is answered again."""
    hosts.ollama.script = answered
    async with asyncio.timeout(RECOVERED_SECONDS):
        while (await http.post("/chat/completions", json=hosts.body())).status_code != 200:  # noqa: ASYNC110 -- nobody says when
            await asyncio.sleep(0.2)


async def test_calls_cross_whole_and_streamed(hosts: TwoHosts, http: httpx.AsyncClient) -> None:
    whole = await http.post("/chat/completions", json=hosts.body())
    streamed = await http.post("/chat/completions", json=hosts.body(stream=True))
    assert whole.json()["choices"][0]["message"]["content"] == "Hi"
    assert whole.headers["x-provider"] == "ollama"
    assert streamed.text.endswith("data: [DONE]\n\n")


async def test_a_caller_who_leaves_here_stops_ollama_there(hosts: TwoHosts, http: httpx.AsyncClient) -> None:
    hosts.ollama.reset(HELD)
    async with http.stream("POST", "/chat/completions", json=hosts.body(stream=True)) as stream:
        await anext(stream.aiter_lines())
    await hosts.ollama.wait_hung_up()


async def test_a_cut_cable_is_a_504_in_the_callers_own_time_and_harms_no_other_provider(
    hosts: TwoHosts, http: httpx.AsyncClient
) -> None:
    assert (await http.post("/chat/completions", json=hosts.body())).status_code == 200
    hosts.host.cut()
    late = await http.post("/chat/completions", json=hosts.body(), headers={"x-gateway-timeout": "1"})
    other = await http.post("/chat/completions", json=hosts.body("sandbox/echo"))
    hosts.host.mend()
    assert (late.status_code, late.json()["error"]["code"]) == (504, "timeout")
    assert other.status_code == 200
    await recovered(hosts, http)


async def test_a_call_whose_caller_would_wait_gets_a_503_once_the_connection_is_given_up(
    hosts: TwoHosts, http: httpx.AsyncClient
) -> None:
    hosts.ollama.reset(Answer(hold_before_headers=True))
    waiting = asyncio.create_task(http.post("/chat/completions", json=hosts.body()))
    await hosts.ollama.wait_arrived()
    hosts.host.cut()
    answer = await waiting
    hosts.host.mend()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    await recovered(hosts, http)


async def test_a_stream_that_is_cut_ends_with_an_error_and_without_done(
    hosts: TwoHosts, http: httpx.AsyncClient
) -> None:
    hosts.ollama.reset(HELD)
    async with http.stream("POST", "/chat/completions", json=hosts.body(stream=True)) as stream:
        lines = stream.aiter_lines()
        first = await anext(lines)
        hosts.host.cut()
        rest = [text async for text in lines if text.startswith("data: ")]
    hosts.host.mend()
    assert first.startswith("data: ")
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "unavailable"
    await recovered(hosts, http)
    await hosts.ollama.wait_hung_up(RECOVERED_SECONDS)
