"""Alerts as they are kept: one of a kind and subject, over by itself, and the same after a restart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aigateway_common import metrics
from aigateway_usage import budget_queries
from aigateway_usage.account_rows import budget_row
from aigateway_usage.alerts import deliveries, register
from aigateway_usage.alerts import watch as watches
from aigateway_usage.alerts.watch import FORGOTTEN_US
from aigateway_usage.audit import Act
from aigateway_usage.ledger import Recorded
from aigateway_usage.tables import alerts, spending
from sqlalchemy import insert, text, update
from support.accounts import budget
from support.alerts import SECOND, Clock, Watching, opened, queued, settings, watching
from support.attempts import NOON

ERRORS = "consecutive_errors"
USD = 1_000_000_000
URLS = ("https://one.example/", "https://two.example/")


async def test_an_alert_is_there_once_is_seen_on_and_ends_with_the_first_success(database_url: str) -> None:
    async with watching(database_url) as one:
        await one.record(failed=3)
        (alert,) = await one.alerts()
        assert alert == {
            "id": alert["id"],
            "kind": ERRORS,
            "subject": "acme/acme-1",
            "message": "3 calls to `acme/acme-1` failed one after the other; the last with UPSTREAM_ERROR",
            "level": 0,
            "opened_at_us": NOON + SECOND,
            "seen_at_us": NOON + 3 * SECOND,
            "resolved_at_us": None,
        }
        await one.record(failed=2)
        await one.watch.tick()
        assert await one.alerts() == [alert | {"seen_at_us": NOON + 5 * SECOND}]
        await one.record(worked=2)
        assert await one.alerts() == [alert | {"seen_at_us": NOON + 5 * SECOND, "resolved_at_us": NOON + 6 * SECOND}]
        await one.record(failed=3)
        assert await one.states() == [(ERRORS, "acme/acme-1", True), (ERRORS, "acme/acme-1", False)]


async def test_one_batch_may_hold_the_begin_and_the_end(database_url: str) -> None:
    async with watching(database_url, settings(*URLS)) as one:
        await one.record(failed=3, worked=1)
        assert await one.states() == [(ERRORS, "acme/acme-1", False)]
        assert [row["event"] for row in await one.deliveries()] == ["opened", "opened", "resolved", "resolved"]


async def test_each_webhook_gets_each_change(database_url: str) -> None:
    async with watching(database_url, settings(*URLS)) as one:
        await one.record(failed=3)
        (alert,) = await one.alerts()
        queue = await one.deliveries()
        assert [row["url"] for row in queue] == list(URLS)
        assert queue[0] == {
            "id": queue[0]["id"],
            "alert_id": alert["id"],
            "event": "opened",
            "url": URLS[0],
            "body": queue[0]["body"],
            "next_try_us": NOON + 3 * SECOND,
            "tries": 0,
            "delivered_at_us": None,
            "abandoned_at_us": None,
        }
        assert json.loads(queue[0]["body"]) == {
            "id": alert["id"],
            "kind": ERRORS,
            "subject": "acme/acme-1",
            "message": alert["message"],
            "state": "open",
            "opened_at": "2026-07-24T12:00:01.000Z",
            "resolved_at": None,
        }
        assert len(one.told) == 1
        await one.record(failed=5)
        assert len(await one.deliveries()) == 2
        await one.record(worked=1)
        last = (await one.deliveries())[-1]
        assert json.loads(last["body"])["state"] == "resolved"
        assert json.loads(last["body"])["resolved_at"] == "2026-07-24T12:00:09.000Z"


async def test_an_alert_and_its_deliveries_are_written_both_or_neither(tmp_path: Path) -> None:
    async with watching(f"sqlite:///{tmp_path / 'ledger.db'}", settings(*URLS)) as one:
        await one.database.write(lambda c: c.execute(text("ALTER TABLE webhook_deliveries RENAME TO away")))
        await one.record(failed=3)
        assert await one.alerts() == []
        assert one.told == []
        await one.database.write(lambda c: c.execute(text("ALTER TABLE away RENAME TO webhook_deliveries")))
        assert len(await one.alerts()) == 1
        assert len(await one.deliveries()) == 2


async def test_a_restart_remembers_what_is_open(database_url: str) -> None:
    clock = Clock()
    async with watching(database_url, clock=clock) as one:
        await one.record(failed=3)
        await one.watch.flush()
    async with watching(database_url, clock=clock) as one:
        await one.record(failed=2)
        assert await one.states() == [(ERRORS, "acme/acme-1", True)]
        await one.record(worked=1)
        assert await one.states() == [(ERRORS, "acme/acme-1", False)]


async def test_a_restart_finds_in_the_ledger_what_was_not_written(database_url: str) -> None:
    clock = Clock()
    async with watching(database_url, clock=clock, looks=False) as killed:
        await killed.record(failed=3)
    async with watching(database_url, clock=clock) as one:
        assert await one.states() == [(ERRORS, "acme/acme-1", True)]
    async with watching(database_url, clock=clock, looks=False) as killed:
        await killed.record(worked=1)
    async with watching(database_url, clock=clock) as one:
        assert await one.states() == [(ERRORS, "acme/acme-1", False)]


async def test_a_restart_goes_on_counting_and_repeats_nothing(database_url: str) -> None:
    clock = Clock()
    async with watching(database_url, clock=clock) as one:
        await one.record(failed=4, worked=1)
        await one.record(failed=2)
        before = await one.alerts()
    async with watching(database_url, settings(*URLS), clock=clock) as one:
        assert await one.alerts() == before
        assert await one.deliveries() == []
        await one.record(failed=1)
        assert [open_ for _, _, open_ in await one.states()] == [True, False]


async def test_several_services_keep_one_alert_and_tell_each_webhook_once(database_url: str) -> None:
    clock, of = Clock(), settings(*URLS)
    async with watching(database_url, of, clock) as one, watching(database_url, of, clock) as two:
        await one.record(failed=3)
        await two.record(failed=3)
        assert len(await one.alerts()) == len(await two.alerts()) == 1
        assert len(await one.deliveries()) == 2
        assert (len(one.told), len(two.told)) == (1, 0)


async def test_what_one_service_opened_another_ends(database_url: str) -> None:
    clock = Clock()
    async with watching(database_url, clock=clock) as one, watching(database_url, clock=clock) as two:
        await one.record(failed=3)
        await one.watch.flush()
        await two.watch.tick()
        await two.record(worked=1)
        assert await two.states() == [(ERRORS, "acme/acme-1", False)]
        await one.watch.tick()
        await one.record(failed=1)  # its streak goes on, and what is wrong is told anew
        assert [open_ for _, _, open_ in await one.states()] == [True, False]


async def test_what_nobody_sees_any_more_is_over_after_a_day(database_url: str) -> None:
    async with watching(database_url) as one:
        await one.record(failed=3)
        await one.watch.flush()
        one.clock.now_us += FORGOTTEN_US
        await one.watch.tick()
        assert await one.states() == [(ERRORS, "acme/acme-1", True)]
        one.clock.sleep(1)
        await one.watch.tick()
        assert await one.states() == [(ERRORS, "acme/acme-1", False)]


async def set_budget(one: Watching, limit_usd: float) -> str:
    row = budget_row(budget(limit_usd=limit_usd))
    act = Act("tester", "SetBudget", "", one.clock.now_us)
    state = await one.database.write(lambda connection: budget_queries.set_budget(connection, row, act))
    return str(state["id"])


async def spend(one: Watching, usd: float) -> None:
    await one.database.write(lambda connection: connection.execute(update(spending).values(spent_nano=int(usd * USD))))
    await one.watch.tick()


async def test_a_budget_is_told_at_70_and_at_90_per_cent_and_over_when_it_begins_anew(database_url: str) -> None:
    async with watching(database_url, settings(URLS[0])) as one:
        name = await set_budget(one, 100)
        await spend(one, 69.9)
        assert await one.alerts() == []
        await spend(one, 70)
        await spend(one, 80)
        (low,) = await one.alerts()
        assert (low["kind"], low["subject"], low["level"]) == ("budget_threshold", name, 70)
        await spend(one, 90)
        await spend(one, 95)
        (lower,) = await one.alerts()
        assert (lower["id"], lower["level"], lower["resolved_at_us"]) == (low["id"], 90, None)
        assert lower["message"].startswith(f"90 % of the 100 US dollars of the budget `{name}` are spent")
        one.clock.sleep(40 * 86_400)
        await one.watch.tick()
        (over,) = await one.alerts()
        assert over == lower | {"resolved_at_us": one.clock.now_us, "seen_at_us": over["seen_at_us"]}
        bodies = [json.loads(row["body"]) for row in await one.deliveries()]
        assert [(body["state"], body["message"][:4]) for body in bodies] == [
            ("open", "70 %"),
            ("open", "90 %"),
            ("resolved", "90 %"),
        ]


async def test_a_budget_that_is_raised_or_removed_is_told_again_only_when_it_is_worse(database_url: str) -> None:
    async with watching(database_url, settings(URLS[0])) as one:
        name = await set_budget(one, 100)
        await spend(one, 90)
        await set_budget(one, 120)
        await one.watch.tick()
        (alert,) = await one.alerts()
        assert (alert["level"], alert["message"][:4]) == (70, "70 %")
        await spend(one, 110)
        assert [row["event"] for row in await one.deliveries()] == ["opened", "worse"]
        act = Act("tester", "DeleteBudget", "", one.clock.now_us)
        await one.database.write(lambda connection: budget_queries.delete_budget(connection, name, act))
        await one.watch.tick()
        assert await one.states() == [("budget_threshold", name, False)]


async def test_what_cannot_be_looked_at_is_recorded_all_the_same(tmp_path: Path) -> None:
    async with watching(f"sqlite:///{tmp_path / 'ledger.db'}") as one:
        one.watch.see({})
        row = one.row(failed=True)
        one.watch._detectors = None  # type: ignore[assignment] # whatever goes wrong in there
        assert await one.ledger.record([row]) == Recorded(1, 0)


async def test_a_database_that_is_away_delays_alerts_and_loses_none(tmp_path: Path) -> None:
    async with watching(f"sqlite:///{tmp_path / 'ledger.db'}") as one:
        await one.database.write(lambda connection: connection.execute(text("ALTER TABLE alerts RENAME TO away")))
        await one.record(failed=3, worked=1)
        await one.watch.tick()
        await one.database.write(lambda connection: connection.execute(text("ALTER TABLE away RENAME TO alerts")))
        await one.watch.tick()
        assert await one.states() == [(ERRORS, "acme/acme-1", False)]


async def test_what_waits_and_what_is_open_is_bounded_and_told_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "MAX_OPEN", 3)
    monkeypatch.setattr(watches, "MAX_PENDING", 2)
    async with watching(f"sqlite:///{tmp_path / 'ledger.db'}") as one:
        for model in range(4):
            await one.record(failed=3, sent_model=f"m{model}")
        assert len(await one.alerts()) == 2
        for model in (2, 3):
            await one.record(failed=1, sent_model=f"m{model}")
        assert len(await one.alerts()) == 3
        await one.record(worked=1, sent_model="m0")
        await one.record(failed=1, sent_model="m3")
        assert sorted(subject for _, subject, open_ in await one.states() if open_) == [
            "acme/m1",
            "acme/m2",
            "acme/m3",
        ]


async def test_the_oldest_of_what_is_over_is_forgotten(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register, "MAX_KEPT", 3)
    monkeypatch.setattr(deliveries, "MAX_KEPT", 3)
    async with watching(database_url, settings(URLS[0])) as one:
        await one.record(failed=3, sent_model="lasting")
        for _ in range(5):
            await one.record(failed=3, worked=1)
        before = given_up()
        await one.watch.tick()
        kept = await one.states()
        assert kept == [(ERRORS, "acme/acme-1", False)] * 3 + [(ERRORS, "acme/lasting", True)]
        assert given_up() - before == 8
        waiting = [row["abandoned_at_us"] is None for row in await one.deliveries()]
        assert waiting == [False] * 3 + [True] * 3


def given_up() -> float:
    return metrics.REGISTRY.get_sample_value("aigateway_webhooks_total", {"result": "abandoned"}) or 0.0


async def test_the_database_itself_holds_one_open_alert_of_a_kind_and_subject(database_url: str) -> None:
    row: dict[str, Any] = {
        "kind": ERRORS,
        "subject": "a/b",
        "message": "m",
        "level": 0,
        "opened_at_us": 1,
        "seen_at_us": 1,
    }
    async with opened(database_url) as database:
        await database.write(lambda c: c.execute(insert(alerts), row | {"id": "1"}))
        with pytest.raises(Exception, match="ledger failed"):
            await database.write(lambda c: c.execute(insert(alerts), row | {"id": "2"}))
        await database.write(lambda c: c.execute(insert(alerts), row | {"id": "3", "resolved_at_us": 2}))
        assert await queued(database) == []
