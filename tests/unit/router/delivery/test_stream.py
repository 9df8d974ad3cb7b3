"""Delivery into a real stream: acknowledged is stored, stored once, and whatever fails is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aigateway.v1 import usage_service_pb2
from aigateway_common.event_stream import STREAM, SUBJECT, EventStream
from aigateway_common.jetstream import StreamError, events
from aigateway_router.delivery import stream
from aigateway_router.delivery.stream import StreamTransport
from aigateway_router.leftovers import Leftovers
from aigateway_router.outbox import Outbox
from aigateway_router.settings import RouterSettings
from structlog.testing import capture_logs
from support import nats
from support.attempts import attempt


@pytest.fixture
def server(tmp_path: Path) -> Iterator[nats.NatsServer]:
    with nats.running(tmp_path / "nats") as running:
        yield running


@asynccontextmanager
async def transport(server: nats.NatsServer) -> AsyncIterator[StreamTransport]:
    made = StreamTransport(EventStream(server.url))
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def outbox(folder: Path, way: StreamTransport, grace: float = 10, **more: int) -> AsyncIterator[Outbox]:
    box = Outbox(RouterSettings(outbox_dir=folder / "outbox", **more), way)  # type: ignore[arg-type] # numbers
    await box.start()
    try:
        yield box
    finally:
        await box.stop(grace)


async def stored(server: nats.NatsServer) -> list[tuple[str, usage_service_pb2.Attempt]]:
    """The messages of the stream: the id of each, and its event."""
    async with server.client() as client:
        context = client.jetstream()
        state = (await context.stream_info(STREAM)).state
        numbers = range(state.first_seq, state.last_seq + 1) if state.messages else ()
        found = []
        for number in numbers:
            message = await context.get_msg(STREAM, number)
            assert message.subject == SUBJECT
            event = usage_service_pb2.Attempt.FromString(message.data or b"")
            found.append(((message.headers or {})["Nats-Msg-Id"], event))
        return found


async def until(happened: Callable[[], object]) -> None:
    """Wait for what tells nobody."""
    async with asyncio.timeout(20):
        while not happened():  # noqa: ASYNC110 -- there is nothing to wait on
            await asyncio.sleep(0.001)


def named(*numbers: int) -> list[tuple[str, usage_service_pb2.Attempt]]:
    return [(attempt(number).event_id, attempt(number)) for number in numbers]


async def test_an_event_is_a_message_under_its_own_id(server: nats.NatsServer) -> None:
    async with transport(server) as way:
        assert await way.deliver([attempt(number) for number in range(50)]) == []
    assert await stored(server) == named(*range(50))


async def test_what_is_delivered_again_is_stored_once(server: nats.NatsServer) -> None:
    async with transport(server) as way:
        await way.deliver([attempt(1), attempt(2)])
        await way.deliver([attempt(1), attempt(2), attempt(3)])
    async with transport(server) as other:
        await other.deliver([attempt(3), attempt(1)])
    assert await stored(server) == named(1, 2, 3)


async def test_an_event_too_large_for_the_server_is_named_and_holds_up_no_other(server: nats.NatsServer) -> None:
    large = attempt(2, usage={"native_json": b"x" * (1024 * 1024 - 500)})
    async with transport(server) as way:
        (rejected,) = await way.deliver([attempt(1), large, attempt(3)])
    assert rejected.attempt == large
    assert rejected.why.startswith("the server takes no message of 104")
    assert await stored(server) == named(1, 3)


async def test_the_largest_event_of_an_outbox_that_fits_a_message_is_stored(server: nats.NatsServer) -> None:
    large = attempt(1, usage={"native_json": b"x" * (1024 * 1024 - 2000)})
    async with transport(server) as way:
        assert await way.deliver([large]) == []
    assert [event for _, event in await stored(server)] == [large]


async def test_a_stream_that_does_not_take_the_subject_is_told_with_the_setting(server: nats.NatsServer) -> None:
    async with server.client() as client:
        await client.jetstream().add_stream(replace(events(1), subjects=["other"]))
    async with transport(server) as way:
        with pytest.raises(StreamError, match=r"^`usage.nats_url` .* no stream takes the subject `aigateway.usage"):
            await way.deliver([attempt(1)])


async def test_a_full_stream_takes_no_more_and_gives_up_nothing(server: nats.NatsServer, tmp_path: Path) -> None:
    async with server.client() as client, transport(server) as way:
        context = client.jetstream()
        await context.add_stream(replace(events(1), max_bytes=10_000))
        with pytest.raises(StreamError, match="maximum bytes exceeded"):
            await way.deliver([attempt(number) for number in range(100)])
        assert (await context.stream_info(STREAM)).config.max_bytes == 10_000
        before = await stored(server)
        assert before == named(*range(len(before)))
        async with outbox(tmp_path, way, grace=0.1) as box:
            box.append(attempt(100))
        await context.update_stream(replace(events(1), max_bytes=1_000_000))
        async with outbox(tmp_path, way):
            pass
    assert await stored(server) == [*before, *named(100)]


async def test_a_connection_that_is_lost_before_the_word_of_the_server_fails_the_delivery(
    server: nats.NatsServer,
) -> None:
    async with transport(server) as way:
        await way.deliver([attempt(1)])
        client = (await way._link.connected()).client
        sent = client.stats["out_msgs"]
        server.freeze()
        delivery = asyncio.create_task(way.deliver([attempt(2)]))
        await until(lambda: client.stats["out_msgs"] > sent)
        server.kill()
        with pytest.raises(StreamError, match="connection was lost before all events were acknowledged"):
            await delivery
        server.start()
        await way.deliver([attempt(2)])
    assert await stored(server) == named(1, 2)


async def test_a_user_who_may_not_publish_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "ACKNOWLEDGED_WITHIN", 0.5)
    config = tmp_path / "nats.conf"
    may = 'permissions: {publish: ["$JS.API.>"], subscribe: ["_INBOX.>"]}'
    config.write_text("authorization: {users: [{user: me, password: word, %s}]}" % may)  # noqa: UP031 -- it has braces
    with nats.running(tmp_path / "strict", "-c", str(config), user="me:word@") as server:
        async with transport(server) as way:
            with pytest.raises(StreamError, match=r'permissions violation for publish to "aigateway.usage.attempts"'):
                await way.deliver([attempt(1)])


async def test_events_wait_on_disk_while_the_server_is_away(server: nats.NatsServer, tmp_path: Path) -> None:
    server.kill()
    with capture_logs() as lines:
        async with transport(server) as way, outbox(tmp_path, way, grace=0.2) as box:
            for number in range(20):
                box.append(attempt(number))
    told = [line["error"] for line in lines if line["event"] == "outbox: delivery failed, trying again"]
    assert all("`usage.nats_url` (NATS_URL)" in text for text in told)
    server.start()
    async with transport(server) as way, outbox(tmp_path, way) as box:
        box.append(attempt(20))
    assert await stored(server) == named(*range(21))


async def test_kill_9_of_the_server_in_the_middle_of_it_loses_nothing_and_doubles_nothing(
    server: nats.NatsServer, tmp_path: Path
) -> None:
    """An event may be stored and the word of it lost: it is sent again, and known by its id."""
    async with transport(server) as way, outbox(tmp_path, way, outbox_batch=50) as box:
        for number in range(1000):
            box.append(attempt(number))
            if number in {300, 700}:
                await until(lambda: box._opened().backlog_bytes < 10_000)
                server.kill()
                server.start()
        await until(lambda: not box._opened().backlog_bytes)
    assert await stored(server) == named(*range(1000))


async def test_what_fewer_workers_find_goes_the_same_way(server: nats.NatsServer, tmp_path: Path) -> None:
    settings = RouterSettings(outbox_dir=tmp_path / "outbox")
    server.kill()
    async with transport(server) as way:
        box = Outbox(settings, way, settings.outbox_dir / "worker-1")
        await box.start()
        box.append(attempt(1))
        await box.stop(0.1)
    server.start()
    async with transport(server) as way:
        leftovers = Leftovers(settings, way)
        leftovers.start()
        await asyncio.gather(*leftovers._tasks)
        await leftovers.stop()
    assert await stored(server) == named(1)
