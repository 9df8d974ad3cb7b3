"""Usage events through a real NATS server, from calls over HTTP to the ledger's file, in processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from aigateway.v1 import usage_service_pb2, usage_service_pb2_grpc
from aigateway_common.event_stream import CONSUMER, STREAM
from aigateway_common.jetstream import events
from aigateway_common.serving import grpc_channel
from nats.js.api import AckPolicy, ConsumerConfig
from support import nats, postgres
from support.cases import CASES
from support.chaos.services import kill, process_of, wait_serving
from support.gateway import Gateway, Running, environment, start
from support.ledger import rows, wait_for
from support.replay import Upstream

CASE = CASES[0]
CALLS = 300
PASSWORD = "not-to-be-seen"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[nats.NatsServer]:
    options = ("--user", "me", "--pass", PASSWORD)
    with nats.running(tmp_path / "nats", *options, user=f"me:{PASSWORD}@") as running:
        yield running


async def call(client: httpx.AsyncClient, number: int) -> str:
    body = {"model": CASE.name, "messages": [{"role": "user", "content": "Hi"}]}
    answer = await client.post("/v1/chat/completions", json=body, headers={"x-request-id": f"call-{number}"})
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-request-id"])


async def passed(server: nats.NatsServer) -> int:
    """How many events have gone through the stream."""
    async with server.client() as client:
        return (await client.jetstream().stream_info(STREAM)).state.last_seq


@pytest.mark.parametrize("topology", ["embedded", "split", "workers"])
async def test_calls_are_recorded_through_nats(tmp_path: Path, server: nats.NatsServer, topology: str) -> None:
    with Upstream(CASE.whole) as upstream:
        env = environment(upstream.url, "openai", NATS_URL=server.url)
        with Gateway(topology, tmp_path / "gateway", env) as gateway:
            async with httpx.AsyncClient(base_url=gateway.http, timeout=60) as client:
                answered = [await call(client, number) for number in range(5)]
            recorded = wait_for(gateway.data, 5)
        text = gateway.running[-1].text()
    assert sorted(row["request_id"] for row in recorded) == answered
    assert await passed(server) == 5
    assert f"server=nats://127.0.0.1:{server.port}" in text.replace('"server":"', "server=")
    assert PASSWORD not in text


@pytest.mark.timeout(180)
async def test_kills_of_nats_and_of_the_ledger_lose_no_call_and_count_none_twice(
    tmp_path: Path, server: nats.NatsServer
) -> None:
    answered: list[str] = []
    killing = asyncio.Lock()
    async with server.client() as own:  # a consumer that gives out again sooner what a killed service had taken
        await own.jetstream().add_stream(events(1))
        theirs = ConsumerConfig(durable_name=CONSUMER, ack_policy=AckPolicy.EXPLICIT, ack_wait=2)
        await own.jetstream().add_consumer(STREAM, theirs)
    with Upstream(CASE.whole) as upstream:
        env = environment(upstream.url, "openai", NATS_URL=server.url)
        with Gateway("split", tmp_path / "gateway", env) as gateway:

            async def one(number: int, gate: asyncio.Semaphore, client: httpx.AsyncClient) -> None:
                async with gate:
                    answered.append(await call(client, number))
                    if len(answered) in {60, 180}:
                        server.kill()
                        server.start()
                    if len(answered) in {120, 240}:
                        async with killing:  # an earlier kill may not be over yet
                            await wait_serving(gateway.running[-1], "usage")
                            kill(gateway, "usage")

            async with httpx.AsyncClient(base_url=gateway.http, timeout=60) as client:
                gate = asyncio.Semaphore(8)
                await asyncio.gather(*(one(number, gate, client) for number in range(CALLS)))
            recorded = wait_for(gateway.data, CALLS, seconds=60)
    assert sorted(row["request_id"] for row in recorded) == sorted(answered)
    summed = "SELECT sum(attempts) AS hours, (SELECT sum(attempts) FROM attempt_days) AS days FROM attempt_hours"
    assert rows(tmp_path / "gateway" / "data", summed) == [{"hours": CALLS, "days": CALLS}]


@pytest.mark.servers
async def test_a_cluster_that_loses_the_leader_of_its_stream_loses_no_call(tmp_path: Path) -> None:
    config = tmp_path / "aigateway.yaml"
    config.write_text("usage: {nats_replicas: 3}\n")
    with nats.cluster(tmp_path / "nats") as servers, Upstream(CASE.whole) as upstream:
        env = environment(upstream.url, "openai", NATS_URL=",".join(server.url for server in servers))
        with Gateway("split", tmp_path / "gateway", env, ("--config", str(config))) as gateway:
            async with httpx.AsyncClient(base_url=gateway.http, timeout=60) as client:
                gate = asyncio.Semaphore(8)

                async def one(number: int) -> str:
                    async with gate:
                        return await call(client, number)

                answered = await asyncio.gather(*(one(number) for number in range(100)))
                wait_for(gateway.data, 100, seconds=60)
                leader = await led_by(servers[0], replicas=3)
                servers[leader].kill()
                answered += await asyncio.gather(*(one(number) for number in range(100, 200)))
                recorded = wait_for(gateway.data, 200, seconds=60)
            assert await led_by(servers[leader - 1], replicas=3) != leader
    assert sorted(row["request_id"] for row in recorded) == sorted(answered)


async def led_by(server: nats.NatsServer, replicas: int) -> int:
    """The number of the server that leads the stream, by what `server` knows, once there is one."""
    async with asyncio.timeout(30), server.client() as client:
        while True:
            info = await client.jetstream().stream_info(STREAM)
            assert info.config.num_replicas == replicas
            if info.cluster and info.cluster.leader:
                return int(info.cluster.leader.removeprefix("server-"))
            await asyncio.sleep(0.05)


async def test_adapters_and_edge_never_hold_the_password(tmp_path: Path, server: nats.NatsServer) -> None:
    with Upstream(CASE.whole) as upstream:
        env = environment(upstream.url, "openai", NATS_URL=server.url)
        with Gateway("split", tmp_path / "gateway", env) as gateway:
            held = {}
            for name in ("usage", "router", "edge", "provider:openai"):
                process = process_of(gateway, name)
                assert process is not None
                held[name] = any(PASSWORD in value for value in process.environ().values())
    assert held == {"usage": True, "router": True, "edge": False, "provider:openai": False}


async def test_two_usage_services_on_one_postgresql_take_the_events_of_one_stream(
    tmp_path: Path, server: nats.NatsServer
) -> None:
    with postgres.running() as database, contextlib.ExitStack() as opened:

        def process(name: str, env: dict[str, str], *arguments: str) -> Running:
            folder = tmp_path / name
            running = start(folder, env, *arguments, "--data-dir", str(folder / "data"), "--grpc-port", "0")
            opened.callback(running.stop)
            return running

        upstream = opened.enter_context(Upstream(CASE.whole))
        env = environment(upstream.url, "openai", NATS_URL=server.url, DATABASE_URL=await database.create())
        ledgers = [process(f"usage-{number}", env, "serve", "usage", "--metrics-port", "0") for number in range(2)]
        gateway = env | {"AIGATEWAY_USAGE_TARGET": ledgers[0].grpc("usage")}
        edge = process("edge", gateway, "serve", "edge,router,provider:openai", "--port", "0")
        async with httpx.AsyncClient(base_url=edge.http, timeout=60) as client:
            gate = asyncio.Semaphore(8)

            async def one(number: int) -> None:
                async with gate:
                    await call(client, number)

            made = 0
            async with asyncio.timeout(60):
                while made < 100 or not all(map(consumed, ledgers)):  # who takes how much of them is NATS' business
                    await asyncio.gather(*(one(number) for number in range(made, made + 50)))
                    made += 50
        async with asyncio.timeout(60), server.client() as own:
            context = own.jetstream()
            # The server tells nobody.
            while (state := await context.consumer_info(STREAM, CONSUMER)).ack_floor.stream_seq != made:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert (state.num_pending, state.num_ack_pending) == (0, 0)
        for ledger in ledgers:
            async with grpc_channel(ledger.grpc("usage")) as channel:
                stub = usage_service_pb2_grpc.UsageServiceStub(channel)
                page = await stub.ListAttempts(usage_service_pb2.ListAttemptsRequest(page_size=1000))
            assert len({one.request_id for one in page.attempts}) == len(page.attempts) == made


def consumed(ledger: Running) -> float:
    """How many batches a usage service has recorded."""
    (address,) = ledger.addresses["metrics"].values()
    name = 'aigateway_calls_total{operation="ConsumeAttempts",provider="",service="usage",status="ok"} '
    text = httpx.get(f"http://{address}/metrics").text
    return sum(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))
