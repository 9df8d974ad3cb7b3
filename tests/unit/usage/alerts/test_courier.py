"""Webhooks: signed, tried again, at least once and by one of several; and never led inside the network."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from aigateway_common import metrics
from aigateway_common.errors import GatewayError
from aigateway_usage.alerts import courier as couriers
from aigateway_usage.alerts import register
from aigateway_usage.alerts.courier import LEASE, Courier
from aigateway_usage.alerts.signs import Sign
from aigateway_usage.database import Database
from aigateway_usage.settings import Webhook
from structlog.testing import capture_logs
from support.alerts import SECOND, SECRET, Clock, opened, queued, verified
from support.attempts import NOON
from support.names import Names
from support.replay import Answer, Upstream
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.abc import AbstractResolver
    from sqlalchemy import Connection

_T = TypeVar("_T")
OK = Answer(200)


def sign(*, wrong: bool = True, subject: str = "acme/acme-1", at_us: int = NOON) -> Sign:
    return Sign("consecutive_errors", subject, wrong, at_us, "it fails" if wrong else "")


async def change(database: Database, clock: Clock, *signs: Sign, urls: list[str]) -> None:
    await database.write(lambda connection: register.apply(connection, signs, urls, clock()))


def courier(
    database: Database,
    clock: Clock,
    *urls: str,
    allow_private: bool = True,
    resolver: AbstractResolver | None = None,
) -> Courier:
    return Courier(database, [Webhook(url, SECRET, allow_private) for url in urls], clock, resolver)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'ledger.db'}"


def counted(result: str) -> float:
    return metrics.REGISTRY.get_sample_value("aigateway_webhooks_total", {"result": result}) or 0.0


async def test_a_webhook_is_told_the_begin_and_the_end_signed(url: str) -> None:
    clock = Clock()
    with Upstream(OK) as receiver:
        hook = f"{receiver.url}/alerts?team=a%2Fb"
        async with opened(url) as database:
            one = courier(database, clock, hook)
            await change(database, clock, sign(), urls=[hook])
            clock.sleep(2)
            assert await one.deliver() == 0
            await change(database, clock, sign(wrong=False, at_us=NOON + SECOND), urls=[hook])
            await one.deliver()
            assert await one.deliver() == couriers.POLL
            queue = await queued(database)
    begin, end = receiver.requests
    alert = queue[0]["alert_id"]
    said = {
        "id": alert,
        "kind": "consecutive_errors",
        "subject": "acme/acme-1",
        "message": "it fails",
        "state": "open",
        "opened_at": "2026-07-24T12:00:00.000Z",
        "resolved_at": None,
        "sent_at": "2026-07-24T12:00:02.000Z",
    }
    assert verified(begin) == said
    assert verified(end) == said | {"state": "resolved", "resolved_at": "2026-07-24T12:00:01.000Z"}
    assert (begin.method, begin.path, begin.query) == ("POST", "/alerts", {"team": ["a/b"]})
    assert (begin.headers["content-type"], begin.headers["user-agent"]) == ("application/json", "aigateway")
    assert begin.headers["webhook-timestamp"] == str(NOON // SECOND + 2)
    assert [sent.headers["webhook-id"] for sent in (begin, end)] == [row["id"] for row in queue]
    assert [row["delivered_at_us"] for row in queue] == [NOON + 2 * SECOND] * 2


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_what_may_pass_is_tried_again_under_the_same_id(url: str, status: int) -> None:
    clock = Clock()
    with Upstream(Answer(status), OK) as receiver:
        async with opened(url) as database:
            one = courier(database, clock, receiver.url)
            await change(database, clock, sign(), urls=[receiver.url])
            before = counted("again")
            await one.deliver()
            assert counted("again") - before == 1
            pause = await one.deliver()
            assert 2.5 <= pause <= 5
            clock.sleep(pause + 0.001)
            await one.deliver()
            (row,) = await queued(database)
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == row["id"]
    assert first.headers["webhook-timestamp"] < second.headers["webhook-timestamp"]
    assert verified(first) | {"sent_at": ""} == verified(second) | {"sent_at": ""}
    assert (row["tries"], row["delivered_at_us"]) == (2, clock.now_us)


async def test_a_receiver_that_asks_for_time_gets_it(url: str) -> None:
    clock = Clock()
    with Upstream(Answer(429, {"retry-after": "120"})) as receiver:
        async with opened(url) as database:
            one = courier(database, clock, receiver.url)
            await change(database, clock, sign(), urls=[receiver.url])
            await one.deliver()
            (row,) = await queued(database)
    assert row["next_try_us"] == NOON + 120 * SECOND


async def told_why(url: str, *hooks: str) -> set[str]:
    """Why a message did not arrive at any of `hooks`, each of which is tried again."""
    clock = Clock()
    async with opened(url) as database:
        one = courier(database, clock, *hooks)
        await change(database, clock, sign(), urls=list(hooks))
        with capture_logs() as logs:
            await one.deliver()
        queue = await queued(database)
    assert all(row["abandoned_at_us"] is None and row["next_try_us"] > NOON for row in queue)
    return {log["why"].split(" (")[0] for log in logs}


async def test_nobody_there_and_half_an_answer_are_tried_again(url: str) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    rude = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen, nor does anybody else
        ports = [one.getsockname()[1] for one in (silent, *rude.sockets)]
        why = await told_why(url, *(f"http://127.0.0.1:{port}/" for port in ports))
    rude.close()
    await rude.wait_closed()
    assert why == {"cannot be reached", "did not answer properly"}


async def test_no_answer_is_tried_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(couriers, "TIMEOUT", 0.1)
    with Upstream(Answer(hold_before_headers=True)) as slow:
        assert await told_why(url, slow.url) == {"did not answer within 0.1 seconds"}
        await slow.wait_hung_up()


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
async def test_what_the_receiver_refuses_is_given_up_at_once(url: str, status: int) -> None:
    clock = Clock()
    with Upstream(Answer(status)) as receiver:
        hook = f"{receiver.url}/services/T0/a-secret-in-the-path"
        async with opened(url) as database:
            one = courier(database, clock, hook)
            await change(database, clock, sign(), urls=[hook])
            before = counted("abandoned")
            with capture_logs() as logs:
                await one.deliver()
            assert await one.deliver() == couriers.POLL
            (row,) = await queued(database)
    assert (row["abandoned_at_us"], row["delivered_at_us"], row["tries"]) == (NOON, None, 1)
    assert counted("abandoned") - before == 1
    (log,) = logs
    assert (log["event"], log["why"], log["host"]) == (
        "a webhook was given up",
        f"answered with status {status}",
        "127.0.0.1",
    )
    assert "a-secret-in-the-path" not in str(log)
    assert len(receiver.requests) == 1


async def test_after_a_day_it_is_given_up(url: str) -> None:
    clock = Clock()
    with Upstream(Answer(503)) as receiver:
        async with opened(url) as database:
            one = courier(database, clock, receiver.url)
            await change(database, clock, sign(), urls=[receiver.url])
            for _ in range(200):
                await one.deliver()
                (row,) = await queued(database)
                if row["abandoned_at_us"] is not None:
                    break
                clock.now_us = row["next_try_us"]
    assert row["abandoned_at_us"] - NOON == 86_400 * SECOND
    assert 30 < len(receiver.requests) == row["tries"] < 80


@pytest.mark.parametrize("location", ["http://169.254.169.254/latest/meta-data/", "/elsewhere"])
async def test_redirects_are_not_followed(url: str, location: str) -> None:
    clock = Clock()
    with Upstream(Answer(307, {"location": location})) as receiver:
        async with opened(url) as database:
            one = courier(database, clock, receiver.url)
            await change(database, clock, sign(), urls=[receiver.url])
            await one.deliver()
            (row,) = await queued(database)
    assert row["abandoned_at_us"] == NOON
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("host", "allow_private"),
    [
        ("127.0.0.1", False),
        ("127.1", False),
        ("2130706433", False),
        ("[::1]", False),
        ("[::ffff:127.0.0.1]", False),
        ("[::ffff:169.254.169.254]", True),
        ("10.0.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("169.254.169.254", True),
        ("[fe80::1]", True),
        ("[fd00:ec2::254]", True),
        ("100.100.100.200", True),
        ("localhost", False),
        ("hooks.example", False),
    ],
)
async def test_no_address_inside_the_network_is_asked(url: str, host: str, *, allow_private: bool) -> None:
    clock = Clock()
    with Upstream(OK) as receiver:
        hook = f"http://{host}:{receiver.url.rpartition(':')[2]}/"
        names = Names(["8.8.8.8", "127.0.0.1"])
        async with opened(url) as database:
            one = courier(database, clock, hook, allow_private=allow_private, resolver=names)
            await change(database, clock, sign(), urls=[hook])
            with capture_logs() as logs:
                await one.deliver()
            (row,) = await queued(database)
    assert receiver.requests == []
    assert row["abandoned_at_us"] == NOON
    assert logs[0]["why"].startswith("leads to an address that is not public")


async def test_a_name_is_connected_to_where_it_was_checked(url: str) -> None:
    clock = Clock()
    with Upstream(OK) as receiver:
        hook = f"http://hooks.example:{receiver.url.rpartition(':')[2]}/"
        names = Names(["127.0.0.1"], ["169.254.169.254"])
        async with opened(url) as database:
            one = courier(database, clock, hook, resolver=names)
            await change(database, clock, sign(), urls=[hook])
            await one.deliver()
    assert names.asked == ["hooks.example"]
    assert len(receiver.requests) == 1


async def test_a_webhook_that_is_not_configured_any_more_is_given_up(url: str) -> None:
    clock = Clock()
    async with opened(url) as database:
        one = courier(database, clock, "http://127.0.0.1:9/")
        await change(database, clock, sign(), urls=["http://127.0.0.1:10/"])
        await one.deliver()
        (row,) = await queued(database)
    assert row["abandoned_at_us"] == NOON


async def test_the_end_is_told_after_the_begin_and_others_do_not_wait_for_it(url: str) -> None:
    clock = Clock()
    with Upstream(Answer(503), OK) as receiver:
        async with opened(url) as database:
            one = courier(database, clock, receiver.url)
            await change(database, clock, sign(), urls=[receiver.url])
            await one.deliver()
            await change(database, clock, sign(wrong=False), sign(subject="other"), urls=[receiver.url])
            await one.deliver()
            clock.sleep(5)
            await one.deliver()
            await one.deliver()
    said = [(verified(sent)["subject"], verified(sent)["state"]) for sent in receiver.requests]
    assert said == [
        ("acme/acme-1", "open"),
        ("other", "open"),
        ("acme/acme-1", "open"),
        ("acme/acme-1", "resolved"),
    ]


class Dying(Database):
    """A database of a service that is killed after its webhooks are sent and before that is written."""

    def __init__(self, url: str) -> None:
        super().__init__(url, busy_timeout=10)
        self.writes_left = 1000

    @override
    async def write(self, work: Callable[[Connection], _T]) -> _T:
        self.writes_left -= 1
        if self.writes_left < 0:
            raise GatewayError("UNAVAILABLE", "killed")
        return await super().write(work)


async def test_killed_between_sending_and_marking_it_sends_again_with_the_same_id_once_the_lease_is_over(
    url: str,
) -> None:
    clock = Clock()
    with Upstream(OK) as receiver:
        database = Dying(url)
        await database.open()
        killed = courier(database, clock, receiver.url)
        await change(database, clock, sign(), urls=[receiver.url])
        database.writes_left = 1
        await killed.deliver()
        await database.close()
        async with opened(url) as again:
            one = courier(again, clock, receiver.url)
            await one.deliver()
            assert len(receiver.requests) == 1
            clock.sleep(LEASE)
            await one.deliver()
            await one.deliver()
            (row,) = await queued(again)
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == row["id"]
    assert (row["delivered_at_us"], row["tries"]) == (clock.now_us, 2)


async def test_what_waits_outlives_the_service(url: str) -> None:
    clock = Clock()
    with Upstream(OK) as receiver:
        async with opened(url) as database:
            await change(database, clock, sign(), urls=[receiver.url])
        async with opened(url) as database:
            one = courier(database, clock, receiver.url)
            await one.deliver()
    assert len(receiver.requests) == 1


async def test_of_several_services_one_delivers(database_url: str) -> None:
    clock = Clock()
    with Upstream(OK) as receiver:
        async with opened(database_url) as first, opened(database_url) as second:
            one, two = (courier(database, clock, receiver.url) for database in (first, second))
            for number in range(40):
                await change(first, clock, sign(subject=f"s{number}"), urls=[receiver.url])
            for _ in range(20):
                await asyncio.gather(one.deliver(), two.deliver())
            queue = await queued(first)
    told = [sent.headers["webhook-id"] for sent in receiver.requests]
    assert sorted(told) == [row["id"] for row in queue]
    assert len(told) == 40


async def test_one_that_runs_delivers_what_it_is_woken_for_and_survives_a_database_that_is_away(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(couriers, "POLL", 0.01)
    clock = Clock()
    looked = asyncio.Event()

    class Away(Database):
        @override
        async def read(self, work: Callable[[Connection], Any]) -> Any:
            if not looked.is_set():
                looked.set()
                raise GatewayError("UNAVAILABLE", "away")
            return await super().read(work)

    with Upstream(OK) as receiver:
        database = Away(url, busy_timeout=10)
        await database.open()
        one = courier(database, clock, receiver.url)
        running = asyncio.create_task(one.run())
        await looked.wait()
        await change(database, clock, sign(), urls=[receiver.url])
        one.wake()
        await receiver.wait_arrived()
        running.cancel()
        await asyncio.wait([running])
        await database.close()
    assert running.cancelled()
