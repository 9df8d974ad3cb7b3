"""`up --workers`: one gateway to its callers, however many processes it is, and whatever becomes of one of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
from aigateway.v1 import chat_pb2, gateway_service_pb2, message_pb2
from aigateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from grpc import aio
from support.cases import CASES
from support.gateway import Gateway, command, environment, start
from support.ledger import rows, wait_for, wait_until
from support.replay import Answer, Upstream
from support.workers import again, connections, kill, processes, until

pytestmark = pytest.mark.timeout(180)

ADMIN = "operator-key-0123456789"
CHAT = "/v1/chat/completions"
CASE = CASES[0]
CONFIG = """
prices: {"openai/*": {input: 1000, output: 1000}}
concurrency: {openai: {max_in_flight: 6}}
retries: {attempts: 1}
"""
PRICE = 12 * 1000 / 1e6
PROMPT = "a prompt of nine tokens: 36 letters."
"""At four characters a token as many tokens as the stand-in says it had: what is set aside is what is spent."""
WORKERS = ("worker-0", "worker-1")


class Shared:
    """A gateway of two workers in front of a stand-in."""

    def __init__(self, gateway: Gateway, upstream: Upstream) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.key_id = ""

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {ADMIN}"}
        answer = httpx.request(method, f"{self.gateway.http}/admin{path}", json=body, headers=headers, timeout=30)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def key(self, **limits: int) -> str:
        made = self.admin("POST", "/keys", {"project": "default", "limits": limits})
        self.key_id = made["id"]
        return str(made["secret"])

    def client(self, secret: str = "", **options: Any) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        return httpx.AsyncClient(base_url=self.gateway.http, headers=headers, timeout=60, **options)

    async def flood(self, secret: str, calls: int, model: str = CASE.name) -> Counter[int]:
        async with self.client(secret) as client:
            answers = await asyncio.gather(*(client.post(CHAT, json=body(model=model)) for _ in range(calls)))
        return Counter(answer.status_code for answer in answers)

    async def streams(self, secret: str, calls: int, held: contextlib.AsyncExitStack) -> Counter[int]:
        """Begin so many streams, which stay open until `held` is left; their statuses."""
        client = await held.enter_async_context(self.client(secret))

        async def begin() -> int:
            answer = await held.enter_async_context(client.stream("POST", CHAT, json=body(stream=True)))
            return answer.status_code

        return Counter(await asyncio.gather(*(begin() for _ in range(calls))))

    async def calls_of_each(self) -> list[float]:
        """How many calls each worker's edge has answered."""
        found = []
        for name in WORKERS:
            async with httpx.AsyncClient() as client:
                page = await client.get(f"http://{self.gateway.running[-1].addresses['metrics'][name]}/metrics")
            lines = [line for line in page.text.splitlines() if line.startswith("aigateway_calls_total{")]
            found.append(sum(float(line.split()[-1]) for line in lines if 'service="edge"' in line))
        return found


async def callers_of_both(
    gateway: Gateway, held: contextlib.AsyncExitStack, secret: str = ""
) -> list[httpx.AsyncClient]:
    """Callers with a connection each, some at either worker, and the calls that made them."""
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    clients: list[httpx.AsyncClient] = []
    while len(clients) < 4 or min(callers(gateway).values()) == 0:
        assert len(clients) < 40, "one worker takes everything"
        client = httpx.AsyncClient(base_url=gateway.http, headers=headers, timeout=60)
        clients.append(await held.enter_async_context(client))
        assert (await client.get("/v1/models")).status_code == 200
    return clients


def callers(gateway: Gateway) -> dict[str, int]:
    """How many callers each worker has."""
    found = processes(gateway)
    return {name: connections(found[name], gateway.http) for name in WORKERS}


def body(*, stream: bool = False, model: str = CASE.name) -> dict[str, Any]:
    return {"model": model, "max_tokens": 3, "stream": stream, "messages": [{"role": "user", "content": PROMPT}]}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("workers")
    config = folder / "aigateway.yaml"
    config.write_text(CONFIG)
    with Upstream(CASE.whole) as upstream:
        env = environment(upstream.url, "openai", ADMIN_API_KEY=ADMIN, AIGATEWAY_SANDBOX="1")
        with Gateway("workers", folder, env, ("--config", str(config), "--metrics-port", "0")) as gateway:
            yield Shared(gateway, upstream)


@pytest.fixture
def shared(running: Shared) -> Shared:
    running.upstream.reset(CASE.whole)
    return running


async def test_both_workers_answer_on_one_port_and_the_banner_says_so(shared: Shared) -> None:
    assert "is ready (2 workers)" in shared.gateway.running[-1].wait_text("Try it")
    secret = await asyncio.to_thread(shared.key)
    before = await shared.calls_of_each()
    async with contextlib.AsyncExitStack() as held:
        clients = await callers_of_both(shared.gateway, held, secret)
        answers = await asyncio.gather(*(client.post(CHAT, json=body()) for client in clients))
        after = await shared.calls_of_each()
    assert {answer.status_code for answer in answers} == {200}
    assert all(new > old for new, old in zip(after, before, strict=True))
    assert sum(after) - sum(before) == 2 * len(clients)


async def test_a_limit_of_calls_a_minute_holds_over_both(shared: Shared) -> None:
    secret = await asyncio.to_thread(shared.key, requests_per_minute=20)
    before = await shared.calls_of_each()
    assert await shared.flood(secret, 60, "sandbox/echo") == {200: 20, 429: 40}
    after = await shared.calls_of_each()
    assert all(new > old for new, old in zip(after, before, strict=True)), "one worker alone proves nothing"


async def test_a_limit_of_tokens_a_minute_holds_over_both(shared: Shared) -> None:
    secret = await asyncio.to_thread(shared.key, tokens_per_minute=100)
    async with contextlib.AsyncExitStack() as held:
        clients = await callers_of_both(shared.gateway, held, secret)
        answers = [await clients[number % len(clients)].post(CHAT, json=body()) for number in range(16)]
    used = 12 * sum(answer.status_code == 200 for answer in answers)
    assert 100 - 24 < used <= 100 + 12
    assert answers[-1].status_code == 429


@pytest.mark.parametrize(("limit", "granted"), [({"concurrent_calls": 3}, 3), ({}, 6)])
async def test_limits_on_calls_at_the_same_time_hold_over_both(
    shared: Shared, limit: dict[str, int], granted: int
) -> None:
    """Those of a key, and those of a provider."""
    secret = await asyncio.to_thread(lambda: shared.key(**limit))
    first = CASE.stream.pieces[:2]
    shared.upstream.reset(Answer(200, CASE.stream.headers, first, hold=True))
    async with contextlib.AsyncExitStack() as held:
        assert await shared.streams(secret, 20, held) == {200: granted, 429: 20 - granted}
        assert min(callers(shared.gateway).values()) > 0
    shared.upstream.reset(CASE.whole)
    async with asyncio.timeout(30), shared.client(secret) as client:
        while (await client.post(CHAT, json=body())).status_code == 429:  # the ends have not all been noticed
            pass
    async with contextlib.AsyncExitStack() as held:
        shared.upstream.reset(Answer(200, CASE.stream.headers, first, hold=True))
        assert (await shared.streams(secret, 20, held))[200] == granted


async def test_a_budget_is_never_overshot(shared: Shared) -> None:
    secret = await asyncio.to_thread(shared.key)
    wanted = {"scope": "key", "subject": shared.key_id, "period": "month", "limit_usd": PRICE * 15}
    budget = await asyncio.to_thread(shared.admin, "PUT", "/budgets", wanted)
    granted = 0
    for _ in range(20):  # 5 at once: a provider is given 6
        counts = await shared.flood(secret, 5)
        assert set(counts) <= {200, 429}
        granted += counts[200]
    assert granted == 15
    sql = f"select cost_usd from requests where key_id = '{shared.key_id}' and status = 'ok'"
    spent = await asyncio.to_thread(wait_for, shared.gateway.data, 15, sql)
    assert sum(row["cost_usd"] for row in spent) == pytest.approx(PRICE * 15)
    listed = await asyncio.to_thread(shared.admin, "GET", "/budgets")
    (found,) = [one for one in listed["budgets"] if one["id"] == budget["id"]]
    assert found["spent_usd"] == pytest.approx(PRICE * 15)


async def test_a_revoked_key_stops_at_both(shared: Shared) -> None:
    secret = await asyncio.to_thread(shared.key)
    async with contextlib.AsyncExitStack() as held:
        clients = await callers_of_both(shared.gateway, held, secret)
        await asyncio.to_thread(shared.admin, "DELETE", f"/keys/{shared.key_id}")

        async def refused(client: httpx.AsyncClient) -> int:
            while (answer := await client.get("/v1/models")).status_code == 200:
                pass
            return answer.status_code

        async with asyncio.timeout(10):
            after = await asyncio.gather(*(refused(client) for client in clients))
    assert set(after) == {401}


async def test_the_commands_of_operators_work_beside_it(shared: Shared) -> None:
    async def told(*arguments: str) -> Any:
        process = await asyncio.create_subprocess_exec(
            *command(*arguments, "--json"),
            env=environment(None, ADMIN_API_KEY=ADMIN),
            cwd=shared.gateway.folder,
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0
        return json.loads(said)

    data = ("--data-dir", str(shared.gateway.data))
    project = await told("projects", "create", "search", *data)
    assert project["id"] == "search"
    listed = await told("keys", "list", "--url", shared.gateway.http)
    assert isinstance(listed, list)
    secret = await asyncio.to_thread(shared.key)
    await shared.flood(secret, 2)
    sql = f"select * from requests where key_id = '{shared.key_id}'"
    await asyncio.to_thread(wait_for, shared.gateway.data, 2, sql)
    (row,) = [row for row in await told("usage", *data) if row["model"] == CASE.model]
    assert row["calls"] >= 2


async def test_callers_over_grpc_reach_both_and_find_the_other_when_one_dies(tmp_path: Path) -> None:
    with Gateway("workers", tmp_path, environment(None)) as gateway:
        port = int(gateway.grpc.rpartition(":")[2])

        async def ask(channel: aio.Channel) -> int:
            question = message_pb2.Part(text=message_pb2.TextPart(text="Hi"))
            message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[question])
            call = chat_pb2.ChatCall(model="sandbox/echo", messages=[message])
            stub: Any = GatewayServiceStub(channel)
            while True:
                try:
                    answer = await stub.Chat(gateway_service_pb2.ChatRequest(call=call), wait_for_ready=True)
                except aio.AioRpcError as error:  # it was on its way to the one that died
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                else:
                    return len(answer.completion.choices)

        def connected(name: str) -> int:
            found = processes(gateway)[name].net_connections("tcp")
            return sum(one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED for one in found)

        own = (("grpc.use_local_subchannel_pool", 1),)  # else all channels of a process share one connection
        async with contextlib.AsyncExitStack() as held:
            channels = [await held.enter_async_context(aio.insecure_channel(gateway.grpc, own)) for _ in range(24)]
            assert await asyncio.gather(*map(ask, channels)) == [1] * 24
            assert min(connected(name) for name in WORKERS) > 0, "the kernel draws one of two, 24 times"
            kill(gateway, "worker-1")
            async with asyncio.timeout(30):
                assert await asyncio.gather(*map(ask, channels)) == [1] * 24


async def test_a_killed_worker_loses_no_event_and_comes_back_while_the_other_serves(tmp_path: Path) -> None:
    answered: list[str] = []
    failed: list[httpx.TransportError] = []
    with Upstream(CASE.whole) as upstream, Gateway("workers", tmp_path, environment(upstream.url, "openai")) as gateway:
        other = processes(gateway)["worker-1"]
        async with httpx.AsyncClient(base_url=gateway.http, timeout=60) as client:
            gate = asyncio.Semaphore(16)

            async def call(number: int) -> None:
                async with gate:
                    try:
                        answer = await client.post(CHAT, json=body(), headers={"x-request-id": f"kill-{number}"})
                    except httpx.TransportError as error:
                        failed.append(error)
                        return
                    assert answer.status_code == 200, answer.text
                    answered.append(answer.headers["x-request-id"])

            def enough(wanted: int) -> bool:
                return len(answered) >= wanted

            for killing in range(2):
                first = asyncio.gather(*(call(1000 * killing + number) for number in range(150)))
                await until(partial(enough, 200 * killing + 50))
                killed = kill(gateway, "worker-0")
                await first
                await asyncio.gather(*(call(1000 * killing + 500 + number) for number in range(100)))
                back = await again(gateway, "worker-0", killed)
        async with httpx.AsyncClient(base_url=gateway.http, timeout=60) as client:
            await asyncio.gather(*(call(5000 + number) for number in range(32)))
            assert connections(back, gateway.http) > 0, "the new one has its share of the new connections"
        assert processes(gateway)["worker-1"].pid == other.pid
        sql = "select request_id from requests where status = 'ok'"
        wait_until(gateway.data, lambda found: set(answered) <= {row["request_id"] for row in found}, sql)
        ids = [row["request_id"] for row in rows(gateway.data, sql)]
    assert set(answered) <= set(ids)
    assert len(ids) == len(set(ids)), "nothing is counted twice"
    assert not [error for error in failed if isinstance(error, httpx.ConnectError)], "no connection is refused"
    assert len(failed) <= 32, "only calls that were under way at the killed worker are cut"
    assert "starting it again" in gateway.running[-1].text()


async def test_what_a_killed_worker_held_of_a_limit_is_free_again(tmp_path: Path) -> None:
    (tmp_path / "aigateway.yaml").write_text("limits: {concurrent_calls: 4}\nretries: {attempts: 1}\n")
    held_open = Answer(200, CASE.stream.headers, CASE.stream.pieces[:2], hold=True)
    with Upstream(held_open) as upstream, Gateway("workers", tmp_path, environment(upstream.url, "openai")) as gateway:
        shared = Shared(gateway, upstream)
        async with contextlib.AsyncExitStack() as held:
            clients = await callers_of_both(gateway, held)
            statuses = []
            for client in clients[::-1]:  # the last one is at a worker that had none
                answer = await held.enter_async_context(client.stream("POST", CHAT, json=body(stream=True)))
                statuses.append(answer.status_code)
            assert statuses.count(200) == 4
            for client, status in zip(clients[::-1], statuses, strict=True):
                if status == 429:
                    await client.aclose()
            cut = connections(processes(gateway)["worker-1"], gateway.http)
            await again(gateway, "worker-1", kill(gateway, "worker-1"))
            assert await shared.streams("", 10, held) == {200: cut, 429: 10 - cut}
            assert 0 < cut < 4


async def test_fewer_workers_and_none_keep_the_ledger_and_deliver_what_was_left(tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path / "data"), "--port", "0", "--grpc-port", "0")
    env = environment(None)

    async def ask(gateway: Gateway, label: str, calls: int) -> set[str]:
        ids = {f"{label}-{number}" for number in range(calls)}

        async def call(request_id: str) -> None:
            async with httpx.AsyncClient(base_url=gateway.http, timeout=60) as client:
                headers = {"x-request-id": request_id}
                answer = await client.post(CHAT, json=body(model="sandbox/echo"), headers=headers)
            assert answer.status_code == 200

        await asyncio.gather(*(call(request_id) for request_id in ids))
        return ids

    with Gateway("embedded", tmp_path, env) as gateway:
        asked = await ask(gateway, "alone", 3)
    four = Gateway("workers", tmp_path, env)
    four.running.append(start(tmp_path, env, "up", "--workers", "4", *data))
    kill(four, "usage", signal.SIGSTOP)
    asked |= await ask(four, "four", 40)
    everyone = [psutil.Process(four.running[-1].process.pid), *processes(four).values()]
    for process in everyone:  # the parent first, so that nobody is started again
        process.kill()
    psutil.wait_procs(everyone, timeout=20)
    four.running[-1].process.wait(20)
    outboxes = [tmp_path / "data" / "outbox" / f"worker-{number}" for number in (2, 3)]
    assert all(any(path.stat().st_size for path in outbox.glob("*.log")) for outbox in outboxes)
    with Gateway("workers", tmp_path, env) as gateway:
        asked |= await ask(gateway, "two", 5)
        await asyncio.to_thread(wait_for, gateway.data, len(asked))
    with Gateway("embedded", tmp_path, env) as gateway:
        asked |= await ask(gateway, "again", 3)
        found = await asyncio.to_thread(wait_for, gateway.data, len(asked))
    assert sorted(row["request_id"] for row in found) == sorted(asked)


@pytest.mark.parametrize("whom", ["all", "one"])
async def test_a_stop_lets_calls_end_and_leaves_no_process(tmp_path: Path, whom: str) -> None:
    slow = Answer(200, CASE.stream.headers, CASE.stream.pieces, gap=0.3)
    with Upstream(slow) as upstream, Gateway("workers", tmp_path, environment(upstream.url, "openai")) as gateway:
        before = processes(gateway)
        async with httpx.AsyncClient(base_url=gateway.http, timeout=60) as client:
            calls = [asyncio.create_task(client.post(CHAT, json=body(stream=True))) for _ in range(8)]
            await until(lambda: len(upstream.requests) == len(calls))
            if whom == "all":
                os.kill(gateway.running[-1].process.pid, signal.SIGTERM)
                assert await asyncio.to_thread(gateway.running[-1].process.wait, 60) == 0
            else:
                stopped = kill(gateway, "worker-0", signal.SIGTERM)
                late = await asyncio.gather(*(client.post(CHAT, json=body(stream=True)) for _ in range(8)))
                assert all(answer.text.endswith("data: [DONE]\n\n") for answer in late)
                await again(gateway, "worker-0", stopped)
            answers = await asyncio.gather(*calls)
            before |= processes(gateway) if whom == "one" else {}
    assert all(answer.text.endswith("data: [DONE]\n\n") for answer in answers)
    assert not [process for process in before.values() if process.is_running()]


async def test_workers_end_by_themselves_when_their_parent_is_gone(tmp_path: Path) -> None:
    gateway = Gateway("workers", tmp_path, environment(None))
    with contextlib.ExitStack() as stack:
        gateway._start()
        stack.callback(gateway.running[-1].process.wait)
        children = list(processes(gateway).values())
        gateway.running[-1].process.kill()
        _, left = await asyncio.to_thread(psutil.wait_procs, children, 30)
    assert (len(children), left) == (3, [])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--workers", "0"), "--workers: must be from 1 to 64, not 0"),
        (("--workers", "2", "--split"), "`--split` runs one process per service, so it cannot have 2 workers"),
    ],
)
async def test_what_makes_no_sense_is_refused(tmp_path: Path, arguments: tuple[str, ...], text: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command("up", *arguments), env=environment(None), cwd=tmp_path, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert text in said.decode()
    assert "Traceback" not in said.decode()


async def test_each_worker_takes_a_changed_configuration(tmp_path: Path) -> None:
    file = tmp_path / "aigateway.yaml"
    file.write_text("providers: {sandbox: {}}\naliases: {one: sandbox/echo}\n")
    with Gateway("workers", tmp_path, environment(None)) as gateway:
        async with contextlib.AsyncExitStack() as held:
            clients = await callers_of_both(gateway, held)
            before = [(await client.post(CHAT, json=body(model="two"))).status_code for client in clients]
            file.write_text("providers: {sandbox: {}}\naliases: {two: sandbox/echo}\n")

            async def taken(client: httpx.AsyncClient) -> int:
                while (answer := await client.post(CHAT, json=body(model="two"))).status_code == 404:
                    pass
                return answer.status_code

            async with asyncio.timeout(30):
                after = [await taken(client) for client in clients]
    assert (set(before), set(after)) == ({404}, {200})
