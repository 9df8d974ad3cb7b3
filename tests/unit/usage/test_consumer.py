"""Events from a real stream into the ledger: acknowledged once committed, counted once, and none blocked by another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aigateway.v1 import usage_service_pb2
from aigateway_common import metrics
from aigateway_common.errors import GatewayError
from aigateway_common.event_stream import CONSUMER, REFUSED, STREAM, SUBJECT, EventStream
from aigateway_common.jetstream import Link, StreamError, events
from aigateway_usage import pull
from aigateway_usage.consumer import Consumer
from aigateway_usage.database import Database
from aigateway_usage.ledger import Ledger, Recorded
from aigateway_usage.pricing import Pricer
from aigateway_usage.recording import Recorder
from aigateway_usage.settings import UsageSettings
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NoStreamResponseError
from structlog.testing import capture_logs
from support import nats
from support.attempts import attempt
from typing_extensions import override


@pytest.fixture
def server(tmp_path: Path) -> Iterator[nats.NatsServer]:
    with nats.running(tmp_path / "nats") as running:
        yield running


@dataclass
class Scripted(Recorder):
    """Records, after `before` has let it; notes what it recorded."""

    inner: Recorder
    before: Callable[[], None] = lambda: None
    go: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    recorded: list[str] = field(default_factory=list)

    @override
    async def record(self, attempts: Sequence[usage_service_pb2.Attempt]) -> Recorded:
        self.asked.set()
        await self.go.wait()
        self.before()
        done = await self.inner.record(attempts)
        self.recorded += [one.event_id for one in attempts]
        return done


@asynccontextmanager
async def recorder(database_url: str) -> AsyncIterator[Scripted]:
    """A ledger of its own on the database."""
    database = Database(database_url, busy_timeout=10)
    await database.open()
    settings = UsageSettings(database_url, free_providers=frozenset({"acme"}))
    ledger = Ledger(database, max_queued=10_000, written=lambda _: None)
    made = Scripted(Recorder(ledger, Pricer(settings)))
    made.go.set()
    try:
        yield made
    finally:
        await ledger.flush()
        await database.close()


@asynccontextmanager
async def consuming(server: nats.NatsServer, into: Recorder, grace: float = 10) -> AsyncIterator[Consumer]:
    link = Link(EventStream(server.url), "test")
    with suppress(StreamError):  # tests may have a server that cannot be used yet
        await link.connected()  # nats-server 2.9 may forget requests for a stream that is being made twice at once
    await link.close()
    consumer = Consumer(EventStream(server.url), into)
    consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop(grace)


async def publish(server: nats.NatsServer, *payloads: bytes | int) -> None:
    """Put events into the stream, or any bytes, and see them acknowledged."""
    link = Link(EventStream(server.url), "test")
    waiting = [one if isinstance(one, bytes) else attempt(one).SerializeToString() for one in payloads]
    async with asyncio.timeout(30):
        await link.connected()
        while waiting:
            try:
                await (await link.connected()).context.publish(SUBJECT, waiting[0])
            except NoStreamResponseError:  # a stream that is just being made takes nothing yet
                await asyncio.sleep(0.01)
            else:
                waiting.pop(0)
    await link.close()


async def waiting(server: nats.NatsServer, stream: str = STREAM) -> int:
    """How many messages a stream holds."""
    async with server.client() as client:
        return (await client.jetstream().stream_info(stream)).state.messages


async def emptied(server: nats.NatsServer) -> None:
    """Wait until everything has been acknowledged."""
    async with asyncio.timeout(30), server.client() as client:
        context = client.jetstream()
        while (await context.stream_info(STREAM)).state.messages:  # noqa: ASYNC110 -- the server tells nobody
            await asyncio.sleep(0.01)


async def said(lines: Sequence[Mapping[str, Any]], event: str) -> None:
    """Wait until the log says so."""
    async with asyncio.timeout(30):
        while event not in [line["event"] for line in lines]:  # noqa: ASYNC110 -- a log tells nobody
            await asyncio.sleep(0.01)


async def stored(database_url: str) -> list[str]:
    """The ids in the ledger."""
    database = Database(database_url, busy_timeout=10)
    await database.open()
    sql = "SELECT event_id FROM attempts ORDER BY event_id"
    try:
        return list(await database.read(lambda connection: connection.exec_driver_sql(sql).scalars().all()))
    finally:
        await database.close()


def ids(*numbers: int) -> list[str]:
    return [attempt(number).event_id for number in numbers]


async def test_events_are_recorded_and_leave_the_stream(server: nats.NatsServer, database_url: str) -> None:
    await publish(server, *range(20))
    async with recorder(database_url) as into, consuming(server, into):
        await emptied(server)
        await publish(server, *range(20, 30))
        await emptied(server)
    assert await stored(database_url) == ids(*range(30))


async def test_an_event_stays_in_the_stream_until_its_transaction_is_committed(
    server: nats.NatsServer, database_url: str
) -> None:
    await publish(server, 1, 2, 3)
    async with recorder(database_url) as into:
        into.go.clear()
        async with consuming(server, into):
            await asyncio.wait_for(into.asked.wait(), 20)
            assert await waiting(server) == 3
            into.go.set()
            await emptied(server)
    assert await stored(database_url) == ids(1, 2, 3)


async def test_what_is_recorded_and_not_acknowledged_comes_again_and_is_counted_once(
    server: nats.NatsServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the service is killed in between. The consumer here is an operator's, who waits less than we do."""
    await publish(server)
    async with server.client() as client:
        theirs = ConsumerConfig(durable_name=CONSUMER, ack_policy=AckPolicy.EXPLICIT, ack_wait=0.2)
        await client.jetstream().add_consumer(STREAM, theirs)

    async def killed(_: Msg) -> None:
        monkeypatch.undo()
        raise OSError("killed before it could say so")

    async with recorder(database_url) as into:
        monkeypatch.setattr(Msg, "ack", killed)
        async with consuming(server, into):
            await publish(server, 1)
            await emptied(server)
        assert into.recorded == ids(1) * 2
    assert await stored(database_url) == ids(1)
    async with server.client() as client:
        assert (await client.jetstream().consumer_info(STREAM, CONSUMER)).config.ack_wait == 0.2


async def test_an_event_that_is_in_the_stream_twice_is_counted_once(server: nats.NatsServer, database_url: str) -> None:
    """As when it is published again after the stream has forgotten its id."""
    await publish(server, 1, 2, 1, 1)
    async with recorder(database_url) as into, consuming(server, into):
        await emptied(server)
        assert len(into.recorded) == 4
    assert await stored(database_url) == ids(1, 2)


async def test_what_the_ledger_can_never_take_is_kept_apart_and_blocks_nothing(
    server: nats.NatsServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nameless = attempt(7, event_id="").SerializeToString()
    foreign = b"\xff\xff no protobuf"
    await publish(server, 1, 2, nameless, 3, foreign, 4)
    finished: list[tuple[Any, ...]] = []  # a metric knows so many combinations of labels, which a whole run exceeds
    monkeypatch.setattr(metrics, "call_finished", lambda *call: finished.append(call[:4]))
    with capture_logs() as lines:
        async with recorder(database_url) as into, consuming(server, into):
            await emptied(server)
            assert await waiting(server, REFUSED) == 2
    assert await stored(database_url) == ids(1, 2, 3, 4)
    assert ("usage", "ConsumeAttempts", "", "INVALID_REQUEST") in finished
    assert ("usage", "ConsumeAttempts", "", metrics.OK) in finished
    told = {line["number"]: line["error"] for line in lines if line["log_level"] == "error"}
    assert told == {3: "`attempts[0].event_id` is missing", 5: "it is no usage event"}
    async with server.client() as client:
        kept = {(await client.jetstream().get_msg(REFUSED, number)).data for number in (1, 2)}
    assert kept == {nameless, foreign}


async def test_while_the_ledger_is_away_events_wait_and_it_is_said_once(
    server: nats.NatsServer, database_url: str
) -> None:
    tries = iter(range(10))

    def away() -> None:
        if next(tries) < 3:
            raise GatewayError("UNAVAILABLE", "the ledger's database cannot be used right now")

    await publish(server, 1, 2)
    with capture_logs() as lines:
        async with recorder(database_url) as into:
            into.before = away
            async with consuming(server, into):
                await emptied(server)
    assert await stored(database_url) == ids(1, 2)
    assert "usage events are recorded again" in [line["event"] for line in lines]
    assert [line["event"] for line in lines if line["log_level"] == "error"] == [
        "usage events cannot be recorded; they wait in the stream"
    ]


async def test_kill_9_of_the_server_is_said_once_and_costs_no_event(server: nats.NatsServer, database_url: str) -> None:
    with capture_logs() as lines:
        async with recorder(database_url) as into, consuming(server, into):
            await publish(server, *range(10))
            await emptied(server)
            assert metrics.REGISTRY.get_sample_value("aigateway_event_stream_available") == 1
            lines.clear()  # a server may say that nobody has the stream while it is making it
            server.kill()
            await said(lines, "usage events cannot be fetched; it is tried again")
            assert metrics.REGISTRY.get_sample_value("aigateway_event_stream_available") == 0
            server.start()
            await publish(server, *range(5, 20))
            await emptied(server)
    assert await stored(database_url) == ids(*range(20))
    assert [line["event"] for line in lines if line["log_level"] in {"error", "warning"}] == [
        "usage events cannot be fetched; it is tried again"
    ]
    assert metrics.REGISTRY.get_sample_value("aigateway_event_stream_available") == 1


async def test_a_server_that_comes_later_than_the_service_is_waited_for(
    server: nats.NatsServer, database_url: str
) -> None:
    server.kill()
    with capture_logs() as lines:
        async with recorder(database_url) as into, consuming(server, into):
            await said(lines, "usage events cannot be fetched; it is tried again")
            server.start()
            await said(lines, "usage events are fetched again")
            await publish(server, 1)
            await emptied(server)
    assert await stored(database_url) == ids(1)


async def test_several_services_share_the_events_of_one_stream(
    server: nats.NatsServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may have a few at once, so that neither can take all."""
    monkeypatch.setattr(pull, "BATCH", 20)
    monkeypatch.setattr(pull, "_REQUEST", pull._REQUEST.replace(b"500", b"20"))
    async with recorder(database_url) as one, recorder(database_url) as two:
        async with consuming(server, one), consuming(server, two):
            for first in range(0, 400, 40):
                await publish(server, *range(first, first + 40))
            await emptied(server)
        assert sorted(one.recorded + two.recorded) == ids(*range(400))
        assert one.recorded
        assert two.recorded
    assert await stored(database_url) == ids(*range(400))


async def test_a_service_that_stops_finishes_what_it_writes_and_leaves_the_rest_to_others(
    server: nats.NatsServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with recorder(database_url) as into, recorder(database_url) as other:
        into.go.clear()
        async with consuming(server, into) as consumer:
            await publish(server, 1)
            await asyncio.wait_for(into.asked.wait(), 20)
            await publish(server, 2, 3)
            async with asyncio.timeout(20):
                while consumer._pull is None or len(consumer._pull._here) < 2:  # noqa: ASYNC110 -- tells nobody
                    await asyncio.sleep(0.001)
            stopping = asyncio.create_task(consumer.stop(20))
            await asyncio.sleep(0)
            into.go.set()
            await stopping
        assert into.recorded == ids(1)
        assert await waiting(server) == 2
        async with consuming(server, other):
            await emptied(server)  # sooner than the server would give them out again by itself
        assert sorted(other.recorded) == ids(2, 3)
    assert await stored(database_url) == ids(1, 2, 3)


async def test_a_stop_that_may_not_last_acknowledges_nothing_that_is_not_committed(
    server: nats.NatsServer, database_url: str
) -> None:
    await publish(server, 1)
    async with recorder(database_url) as into:
        into.go.clear()
        async with consuming(server, into, grace=0):
            await asyncio.wait_for(into.asked.wait(), 20)
        assert await waiting(server) == 1
    assert await stored(database_url) == []


async def test_the_budget_of_what_is_under_way_is_bounded(server: nats.NatsServer, database_url: str) -> None:
    async with recorder(database_url) as into, consuming(server, into):
        await publish(server, 1)
        await emptied(server)
        async with server.client() as client:
            config = (await client.jetstream().consumer_info(STREAM, CONSUMER)).config
    assert (config.max_ack_pending, config.ack_policy, config.deliver_subject) == (10_000, "explicit", None)
    assert config.max_deliver == -1, "no event is ever given up"


async def test_a_user_with_the_permissions_of_the_documents_needs_no_others(tmp_path: Path) -> None:
    may = 'publish: ["aigateway.usage.>", "$JS.API.>", "$JS.ACK.>"], subscribe: ["_INBOX.>"]'
    config = tmp_path / "nats.conf"
    config.write_text("authorization: {users: [{user: me, password: word, permissions: {" + may + "}}]}")
    with nats.running(tmp_path / "strict", "-c", str(config), user="me:word@") as strict:
        async with recorder(f"sqlite:///{tmp_path / 'ledger.db'}") as into, consuming(strict, into):
            await publish(strict, 1, b"no event", 2)
            await emptied(strict)
            assert await waiting(strict, REFUSED) == 1
        assert into.recorded == ids(1, 2)


async def test_a_server_that_gives_out_nothing_is_not_waited_for_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "EXPIRES", 0.1)
    monkeypatch.setattr(pull, "GRACE", 0.1)
    may = 'publish: {deny: ["$JS.API.CONSUMER.MSG.NEXT.>"]}'
    config = tmp_path / "nats.conf"
    config.write_text("authorization: {users: [{user: me, password: word, permissions: {" + may + "}}]}")
    with nats.running(tmp_path / "strict", "-c", str(config), user="me:word@") as strict, capture_logs() as lines:
        async with recorder(f"sqlite:///{tmp_path / 'ledger.db'}") as into, consuming(strict, into):
            await said(lines, "usage events cannot be fetched; it is tried again")
    told = next(line["error"] for line in lines if line["log_level"] == "error")
    assert told.startswith("`usage.nats_url` (NATS_URL): the server does not answer a request for events; it said: ")
    assert "permissions violation for publish" in told


async def test_a_consumer_of_another_kind_is_refused_with_the_setting(server: nats.NatsServer, tmp_path: Path) -> None:
    async with server.client() as client:
        await client.jetstream().add_stream(events(1))
        push = ConsumerConfig(durable_name=CONSUMER, deliver_subject="somewhere", ack_policy=AckPolicy.EXPLICIT)
        await client.jetstream().add_consumer(STREAM, push)
    with capture_logs() as lines:
        async with recorder(f"sqlite:///{tmp_path / 'ledger.db'}") as into, consuming(server, into):
            await said(lines, "usage events cannot be fetched; it is tried again")
    (told,) = [line["error"] for line in lines if line["log_level"] == "error"]
    kind = "must be a pull consumer with explicit acks"
    assert told == f"`usage.nats_url` (NATS_URL): the consumer `ledger` of `AIGATEWAY_USAGE` {kind}"
