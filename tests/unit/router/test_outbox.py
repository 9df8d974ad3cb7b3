"""Delivery: a ledger that is away, slow, picky or forgetful costs time, never an event."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from aigateway.v1 import usage_service_pb2, usage_service_pb2_grpc
from aigateway_common import metrics
from aigateway_common.errors import GatewayError
from aigateway_common.serving import grpc_channel
from aigateway_launcher.children import hold_port
from aigateway_router.delivery.rpc import RpcTransport
from aigateway_router.leftovers import Leftovers
from aigateway_router.outbox import Outbox
from aigateway_router.settings import RouterSettings, Share
from aigateway_router.store import OutboxLockedError
from aigateway_usage.server import UsageComponent
from aigateway_usage.settings import UsageSettings
from grpc import aio
from support.attempts import attempt
from support.router import ScriptedLedger, served
from typing_extensions import override


def settings(folder: Path, **more: Any) -> RouterSettings:
    return RouterSettings(outbox_dir=folder / "outbox", **more)


@pytest.fixture
def port() -> Iterator[int]:
    """Where a ledger may come, go and come again: nobody else gets it in between."""
    with hold_port() as held:
        yield held.number


@asynccontextmanager
async def outbox(of: RouterSettings, port: int, grace: float = 5) -> AsyncIterator[Outbox]:
    async with grpc_channel(f"127.0.0.1:{port}") as channel:
        box = Outbox(of, RpcTransport(channel))
        await box.start()
        try:
            yield box
        finally:
            await box.stop(grace)


def ids(count: int, first: int = 0) -> set[str]:
    return {attempt(first + number).event_id for number in range(count)}


async def test_each_event_is_delivered_once(tmp_path: Path) -> None:
    ledger = ScriptedLedger()
    async with served(ledger) as server, outbox(settings(tmp_path), server.port) as box:
        for number in range(100):
            box.append(attempt(number))
        recorded = await ledger.of(100)
    assert recorded == [attempt(number) for number in range(100)]
    assert sum(map(len, ledger.deliveries)) == 100


async def test_what_queues_up_during_one_delivery_goes_out_in_one_batch(tmp_path: Path) -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    async def wait(_request: Any, _context: Any) -> None:
        entered.set()
        await go.wait()

    ledger = ScriptedLedger(before=wait)
    async with served(ledger) as server, outbox(settings(tmp_path, outbox_batch=50), server.port) as box:
        box.append(attempt(0))
        await asyncio.wait_for(entered.wait(), 10)
        for number in range(1, 101):
            box.append(attempt(number))
        go.set()
        await ledger.of(101)
    assert [len(delivery) for delivery in ledger.deliveries] == [1, 50, 50]


async def test_a_ledger_that_goes_away_and_comes_back_misses_nothing(tmp_path: Path, port: int) -> None:
    ledger = ScriptedLedger()
    async with outbox(settings(tmp_path), port) as box:
        async with served(ledger, port):
            box.append(attempt(0))
            await ledger.of(1)
        for number in range(1, 300):
            box.append(attempt(number))
        async with served(ledger, port):
            await ledger.of(300)
    assert set(ledger.events) == ids(300)


async def test_events_wait_for_the_next_start_when_the_ledger_stays_away(tmp_path: Path, port: int) -> None:
    ledger = ScriptedLedger()
    async with outbox(settings(tmp_path), port, grace=5) as box:
        for number in range(20):
            box.append(attempt(number))
    async with served(ledger, port), outbox(settings(tmp_path), port) as box:
        box.append(attempt(20))
        await ledger.of(21)
    assert set(ledger.events) == ids(21)


async def test_stop_delivers_what_is_left(tmp_path: Path) -> None:
    ledger = ScriptedLedger()
    async with served(ledger) as server:
        async with outbox(settings(tmp_path), server.port) as box:
            for number in range(50):
                box.append(attempt(number))
        assert set(ledger.events) == ids(50)


async def test_an_answer_that_is_lost_means_the_same_ids_again(tmp_path: Path) -> None:
    ledger = ScriptedLedger()

    class Forgetful(ScriptedLedger):
        @override
        async def RecordAttempts(self, request: Any, context: Any) -> Any:
            await ledger.RecordAttempts(request, context)
            if len(ledger.deliveries) == 1:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "recorded, but you will never know")
            return usage_service_pb2.RecordAttemptsResponse()

    async with served(Forgetful()) as server, outbox(settings(tmp_path), server.port) as box:
        box.append(attempt(1))
        await ledger.of(1)
        box.append(attempt(2))
        await ledger.of(2)
    assert set(ledger.events) == ids(2, 1)
    assert sum(delivery.count(attempt(1).event_id) for delivery in ledger.deliveries) == 2


async def test_an_event_the_ledger_refuses_is_set_aside_alone(tmp_path: Path) -> None:
    async def picky(request: Any, context: Any) -> None:
        if any(one.event_id == attempt(7).event_id for one in request.attempts):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "number 7 is bad")

    ledger = ScriptedLedger(before=picky)
    async with served(ledger) as server, outbox(settings(tmp_path), server.port) as box:
        for number in range(20):
            box.append(attempt(number))
        await ledger.of(19)
    assert set(ledger.events) == ids(20) - {attempt(7).event_id}
    (aside,) = (tmp_path / "outbox").glob("rejected-*")
    assert attempt(7).SerializeToString() in aside.read_bytes()


async def test_too_many_waiting_events_refuse_new_calls_until_the_ledger_is_back(tmp_path: Path, port: int) -> None:
    ledger = ScriptedLedger()
    async with outbox(settings(tmp_path, outbox_max_bytes=2000, outbox_segment_bytes=500), port) as box:
        kept = 0
        while (refusal := _refusal(box)) is None:
            box.append(attempt(kept))
            kept += 1
        assert refusal.reason.name == "OVERLOADED"
        assert refusal.retry_after
        box.append(attempt(kept))  # a call that was under way is still kept
        async with served(ledger, port):
            await ledger.of(kept + 1)
            await _until_admitted(box)
    assert set(ledger.events) == ids(kept + 1)
    assert len(list((tmp_path / "outbox").glob("*.log"))) == 1


async def test_a_full_disk_fails_the_call_and_refuses_others_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    ledger = ScriptedLedger()
    async with served(ledger) as server, outbox(settings(tmp_path), server.port) as box:
        monkeypatch.setattr("aigateway_router.outbox._PROBE_INTERVAL", 0.0)
        monkeypatch.setattr(os, "write", full)
        monkeypatch.setattr(Path, "write_bytes", full)
        box.admit()
        with pytest.raises(GatewayError, match="cannot be written to disk"):
            box.append(attempt(1))
        for _ in range(2):
            refusal = _refusal(box)
            assert refusal is not None
            assert refusal.reason.name == "OVERLOADED"
        monkeypatch.undo()
        monkeypatch.setattr("aigateway_router.outbox._PROBE_INTERVAL", 0.0)
        box.admit()
        box.append(attempt(2))
        await ledger.of(1)
    assert set(ledger.events) == {attempt(2).event_id}


async def test_bytes_that_are_no_event_are_set_aside(tmp_path: Path) -> None:
    ledger = ScriptedLedger()
    async with served(ledger) as server, outbox(settings(tmp_path), server.port) as box:
        box._opened().append(b"\xff\xff not protobuf")
        box.append(attempt(1))
        await ledger.of(1)
    assert len(list((tmp_path / "outbox").glob("unreadable-*"))) == 1


async def test_the_backlog_is_measured(tmp_path: Path) -> None:
    def gauge(name: str) -> float:
        return metrics.REGISTRY.get_sample_value(f"aigateway_outbox_{name}") or 0.0

    asked, again = asyncio.Event(), asyncio.Event()

    async def away(_request: Any, context: Any) -> None:
        if not asked.is_set():
            asked.set()
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        again.set()

    ledger = ScriptedLedger(before=away)
    async with served(ledger) as server, outbox(settings(tmp_path), server.port) as box:
        old = attempt(1, started_at_us=1_000_000)
        box.append(old)
        box.append(attempt(2))
        await asyncio.wait_for(again.wait(), 10)
        assert gauge("events") == 2
        assert gauge("bytes") > 100
        assert gauge("lag_seconds") > 1_000_000
        await ledger.of(2)
    assert [gauge("events"), gauge("bytes"), gauge("lag_seconds")] == [0, 0, 0]


async def test_two_routers_never_share_a_folder(tmp_path: Path) -> None:
    async with served(ScriptedLedger()) as server, outbox(settings(tmp_path), server.port):
        with pytest.raises(OutboxLockedError, match="another process uses the outbox"):
            async with outbox(settings(tmp_path), server.port):
                pass


async def test_before_start_and_after_stop_nothing_is_taken(tmp_path: Path) -> None:
    async with grpc_channel("127.0.0.1:1") as channel:
        box = Outbox(settings(tmp_path), RpcTransport(channel))
        with pytest.raises(GatewayError, match="starting or stopping"):
            box.admit()
        await box.start()
        box.admit()
        await box.stop(0)
        with pytest.raises(GatewayError, match="starting or stopping"):
            box.append(attempt(1))


WRITER = """
import asyncio, sys
from pathlib import Path
from aigateway_common import logs
from aigateway_common.serving import grpc_channel
from aigateway_router.delivery.rpc import RpcTransport
from aigateway_router.leftovers import Leftovers
from aigateway_router.outbox import Outbox
from aigateway_router.settings import RouterSettings, Share
from support.attempts import attempt

logs.configure("error", json=True)

async def main(folder, port, first):
    async with grpc_channel(f"127.0.0.1:{port}") as channel:
        settings = RouterSettings(outbox_dir=Path(folder), outbox_segment_bytes=5000, outbox_batch=7)
        box = Outbox(settings, RpcTransport(channel))
        await box.start()
        for number in range(first, first + 100_000):
            box.append(attempt(number))
            print(number, flush=True)  # the caller has its answer
            await asyncio.sleep(0)

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


async def test_kill_9_of_the_router_loses_nothing_that_was_acknowledged(tmp_path: Path, port: int) -> None:
    """Killed again and again in the middle of it, before the real ledger, which is restarted as well."""
    usage = UsageSettings(f"sqlite+aiosqlite:///{tmp_path / 'ledger.db'}")
    acknowledged: set[str] = set()
    async with served(UsageComponent(usage), port) as server:
        for life, lines in enumerate((60, 1, 250)):
            acknowledged |= await asyncio.to_thread(_killed_after, lines, tmp_path, port, life * 200_000)
            if life == 1:
                await server.drain(1)
    async with served(UsageComponent(usage), port):
        async with outbox(RouterSettings(outbox_dir=tmp_path / "killed"), port, grace=60):
            pass
        async with grpc_channel(f"127.0.0.1:{port}") as channel:
            recorded = await _recorded(channel)
    assert len(acknowledged) >= 311
    assert acknowledged <= set(recorded)
    assert len(set(recorded)) == len(recorded)
    # Besides what was acknowledged there is at most what each life had kept but not said yet.
    assert not [path for path in (tmp_path / "killed").iterdir() if path.suffix == ".bin"]


def _killed_after(lines: int, folder: Path, port: int, first: int) -> set[str]:
    """Run a router's outbox until it has acknowledged `lines` events, kill it, and say what it acknowledged."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder / "killed"), str(port), str(first)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    said += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    return {attempt(int(line)).event_id for line in said if line.endswith(b"\n")}


async def _recorded(channel: aio.Channel) -> list[str]:
    stub = usage_service_pb2_grpc.UsageServiceStub(channel)
    request, found = usage_service_pb2.ListAttemptsRequest(page_size=1000), list[str]()
    while True:
        page = await stub.ListAttempts(request)
        found += [one.event_id for one in page.attempts]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def _refusal(box: Outbox) -> GatewayError | None:
    try:
        box.admit()
    except GatewayError as refusal:
        return refusal
    return None


async def _until_admitted(box: Outbox) -> None:
    async with asyncio.timeout(10):
        while _refusal(box) is not None:  # noqa: ASYNC110 -- the ledger's answer is still on its way back
            await asyncio.sleep(0.01)


def worker(folder: Path, number: int, workers: int) -> RouterSettings:
    return settings(folder, share=Share(number, workers, folder / "limits"))


async def leave_behind(folder: Path, port: int, workers: int) -> None:
    """Each worker's outbox with ten events, the ledger being away."""
    for number in range(workers):
        async with outbox(worker(folder, number, workers), port, grace=0.1) as box:
            for event in range(10):
                box.append(attempt(10 * number + event))


@pytest.mark.parametrize("workers", [1, 2, 3])
async def test_fewer_workers_deliver_what_those_before_left(tmp_path: Path, workers: int, port: int) -> None:
    ledger = ScriptedLedger()
    await leave_behind(tmp_path, port, 4)
    async with served(ledger, port), grpc_channel(f"127.0.0.1:{port}") as channel:
        alone = [settings(tmp_path)] if workers == 1 else [worker(tmp_path, n, workers) for n in range(workers)]
        boxes = [Outbox(one, RpcTransport(channel)) for one in alone]
        left = [Leftovers(one, RpcTransport(channel)) for one in alone]
        for box, leftovers in zip(boxes, left, strict=True):
            await box.start()
            leftovers.start()
        await ledger.of(40)
        for box, leftovers in zip(boxes, left, strict=True):
            await leftovers.stop()
            await box.stop(5)
    assert set(ledger.events) == ids(40)
    assert sum(map(len, ledger.deliveries)) == 40, "each by one of them"


async def test_more_workers_again_find_their_folders_free_and_empty(tmp_path: Path, port: int) -> None:
    ledger = ScriptedLedger()
    await leave_behind(tmp_path, port, 2)
    async with served(ledger, port), grpc_channel(f"127.0.0.1:{port}") as channel:
        leftovers = Leftovers(settings(tmp_path), RpcTransport(channel))
        leftovers.start()
        await ledger.of(10)
        await leftovers.stop()
        async with outbox(worker(tmp_path, 1, 2), port) as box:
            box.append(attempt(99))
            await ledger.of(11)
    assert set(ledger.events) == ids(10, first=10) | ids(1, first=99)


async def test_a_folder_that_a_worker_still_has_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    monkeypatch.setattr("aigateway_router.leftovers._PAUSE", 0.01)
    ledger = ScriptedLedger()
    async with grpc_channel(f"127.0.0.1:{port}") as channel:
        async with outbox(worker(tmp_path, 1, 2), port, grace=0.1) as box:
            box.append(attempt(0))
            leftovers = Leftovers(settings(tmp_path), RpcTransport(channel))
            leftovers.start()
            await asyncio.sleep(0.05)
        async with served(ledger, port):
            await ledger.of(1)
            await leftovers.stop()
    assert set(ledger.events) == ids(1)
