"""Sums: the same as adding the attempts up one by one, whatever is asked and in whatever order they came."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from contextlib import AsyncExitStack
from fractions import Fraction
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any, Final

import pytest
from aigateway.v1 import tokens_pb2, usage_service_pb2
from aigateway_common.errors import GatewayError
from aigateway_usage import ledger as ledger_module
from aigateway_usage.rollups import DAY_US, HOUR_US, digest
from aigateway_usage.rows import STATUSES
from aigateway_usage.spans import Parts, Stretch, parts
from hypothesis import given
from hypothesis import strategies as st
from support.accounts import Books, books, service
from support.attempts import NOON, attempt, record, time_near, varied

if TYPE_CHECKING:
    from aigateway.v1.usage_service_pb2_grpc import UsageServiceAsyncStub

_Key = usage_service_pb2.SummaryKey
KEYS: Final = (
    _Key.SUMMARY_KEY_MODEL,
    _Key.SUMMARY_KEY_PROVIDER,
    _Key.SUMMARY_KEY_PROJECT,
    _Key.SUMMARY_KEY_STATUS,
    _Key.SUMMARY_KEY_DAY,
)
COMBINATIONS: Final = [keys for size in range(len(KEYS) + 1) for keys in combinations(KEYS, size)]
INPUT: Final = ("input_uncached", "input_cache_read")
OUTPUT: Final = ("output_text", "output_reasoning")


def asked(chance: random.Random) -> usage_service_pb2.AttemptFilter:
    """A filter of several things, or few, or none."""

    def some(*values: Any) -> list[Any]:
        return chance.sample(values, chance.randrange(1, len(values))) if chance.random() < 0.3 else []

    selection = usage_service_pb2.AttemptFilter(
        models=some("smart", "acme-1", "acme-2", "", "acme-1-2026"),
        providers=some("acme", "other", "nobody"),
        projects=some("default", "search", "Größe"),
        statuses=some(*STATUSES),
        request_id=chance.choice(("",) * 9 + ("call-7",)),
    )
    if chance.random() < 0.7:
        selection.from_us = time_near(chance)
    if chance.random() < 0.7:
        selection.until_us = time_near(chance)
    return selection


def is_in(one: usage_service_pb2.Attempt, selection: usage_service_pb2.AttemptFilter) -> bool:
    names = {one.requested_model, one.sent_model, one.answered_model} - {""}
    return all(
        (
            not selection.HasField("from_us") or one.started_at_us >= selection.from_us,
            not selection.HasField("until_us") or one.started_at_us < selection.until_us,
            not selection.models or names & set(selection.models),
            not selection.providers or one.provider in selection.providers,
            not selection.projects or one.project in selection.projects,
            not selection.statuses or one.status in selection.statuses,
            not selection.request_id or one.request_id == selection.request_id,
        )
    )


def value(one: usage_service_pb2.Attempt, key: int) -> str:
    match key:
        case _Key.SUMMARY_KEY_MODEL:
            return one.sent_model
        case _Key.SUMMARY_KEY_PROVIDER:
            return one.provider
        case _Key.SUMMARY_KEY_PROJECT:
            return one.project
        case _Key.SUMMARY_KEY_STATUS:
            return STATUSES[one.status]
        case _:
            return f"2026-07-{24 + one.started_at_us // DAY_US - NOON // DAY_US}"


def added(found: list[usage_service_pb2.Attempt], keys: list[str]) -> usage_service_pb2.SummaryRow:
    ok, error, cancelled = STATUSES
    known = [one for one in found if one.HasField("cost_usd")]
    durations = [one.duration_us for one in found if one.status == ok]
    return usage_service_pb2.SummaryRow(
        keys=keys,
        attempts=len(found),
        errors=sum(one.status == error for one in found),
        cancelled=sum(one.status == cancelled for one in found),
        input_tokens=sum(getattr(one.usage, name) for one in found for name in INPUT),
        output_tokens=sum(getattr(one.usage, name) for one in found for name in OUTPUT),
        cost_usd=sum(one.cost_usd for one in known),
        unpriced=sum(
            not one.HasField("cost_usd") and (one.status != error or one.usage != tokens_pb2.TokenUsage())
            for one in found
        ),
        mean_duration_us=round(Fraction(sum(durations), len(durations))) if durations else 0,
    )


def scanned(
    every: list[usage_service_pb2.Attempt], selection: usage_service_pb2.AttemptFilter, keys: tuple[int, ...]
) -> list[usage_service_pb2.SummaryRow]:
    """What a summary must be: attempts looked at one by one."""
    groups = defaultdict[tuple[str, ...], list[usage_service_pb2.Attempt]](list)
    for one in every:
        if is_in(one, selection):
            groups[tuple(value(one, key) for key in keys)].append(one)
    if not keys:
        return [added(groups[()], [])]
    return [added(found, list(named)) for named, found in groups.items()]


def comparable(rows: Any) -> dict[tuple[str, ...], tuple[usage_service_pb2.SummaryRow, Any]]:
    """Rows by their keys; costs are sums of doubles, which depend on the order of addition in the last digits."""
    result = {}
    for row in rows:
        usd = pytest.approx(row.cost_usd, rel=1e-12, abs=1e-15)
        row.ClearField("cost_usd")
        result[tuple(row.keys)] = (row, usd)
    assert len(result) == len(rows)
    return result


async def all_of(usage: UsageServiceAsyncStub) -> list[usage_service_pb2.Attempt]:
    found, token = list[usage_service_pb2.Attempt](), ""
    while not found or token:
        page = await usage.ListAttempts(usage_service_pb2.ListAttemptsRequest(page_size=1000, page_token=token))
        found += page.attempts
        token = page.next_page_token
    return found


@pytest.mark.parametrize("seed", range(3))
async def test_sums_are_what_adding_up_attempts_gives(database_url: str, seed: int) -> None:
    chance = random.Random(seed)
    events = [varied(number, chance) for number in range(1500)]
    async with service(database_url) as one:
        sent = 0
        while sent < len(events):  # in batches of all sizes, with repetitions
            size = chance.choice((1, 7, 300))
            again = chance.sample(events[:sent], min(sent, chance.choice((0, 0, 5))))
            recorded = await one.usage.RecordAttempts(record(*again, *events[sent : sent + size], *again))
            assert recorded.recorded == len(events[sent : sent + size])
            sent += size
        every = await all_of(one.usage)
        assert len(every) == len(events)
        for _ in range(100):
            selection, keys = asked(chance), chance.choice(COMBINATIONS)
            request = usage_service_pb2.SummarizeAttemptsRequest(filter=selection, group_by=keys)
            answer = await one.usage.SummarizeAttempts(request)
            assert comparable(answer.rows) == comparable(scanned(every, selection, keys)), request
            counts = [row.attempts for row in answer.rows]
            assert counts == sorted(counts, reverse=True)


async def test_several_services_that_record_at_once_lose_and_double_nothing(database_url: str) -> None:
    chance = random.Random(7)
    events = [varied(number, chance) for number in range(1500)]
    async with AsyncExitStack() as stack:
        services = [await stack.enter_async_context(service(database_url)) for _ in range(3)]

        async def deliver(usage: UsageServiceAsyncStub, seed: int) -> int:
            order, new = random.Random(seed), 0
            for start in range(0, len(events), 300):
                batch = events[start : start + 600]  # what the others deliver too, in another order
                new += (await usage.RecordAttempts(record(*order.sample(batch, len(batch))))).recorded
            return new

        new = await asyncio.gather(*(deliver(each.usage, seed) for seed, each in enumerate(services)))
        assert sum(new) == len(events)
        usage = services[0].usage
        answer = await usage.SummarizeAttempts(usage_service_pb2.SummarizeAttemptsRequest(group_by=KEYS))
        selection = usage_service_pb2.AttemptFilter()
        assert comparable(answer.rows) == comparable(scanned(await all_of(usage), selection, KEYS))


async def test_a_write_that_fails_sums_nothing_up_and_the_next_one_does(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it was the first to meet a series."""

    def fails(*_: object) -> None:
        raise ValueError("crash")

    async with books(database_url) as kept:
        with monkeypatch.context() as patch:
            patch.setattr(ledger_module, "settle", fails)
            with pytest.raises(GatewayError):
                await kept.record(1, 10)
        assert await sums(kept) == []
        await kept.record(2, 10)
        await kept.record(1, 20)
        assert await sums(kept) == [(2, 30)]


async def test_nonsense_counts_are_written_and_overflow_nothing(database_url: str) -> None:
    most = {"input_uncached": 2**63 - 1, "input_cache_read": 2**63 - 1, "output_text": 2**63 - 1}
    async with service(database_url) as one:
        for number in range(3):
            await one.usage.RecordAttempts(record(attempt(number, usage=most, duration_us=2**63 - 1)))
        for until in (None, NOON + 10):  # by the sums of a day, and by the attempts
            selection = usage_service_pb2.AttemptFilter(until_us=until)
            answer = await one.usage.SummarizeAttempts(usage_service_pb2.SummarizeAttemptsRequest(filter=selection))
            assert (answer.rows[0].attempts, answer.rows[0].input_tokens >= 10**17) == (3, True)


async def sums(kept: Books) -> list[tuple[Any, ...]]:
    by_day = await kept.rows("SELECT attempts, cost_nano FROM attempt_days ORDER BY 1")
    assert await kept.rows("SELECT attempts, cost_nano FROM attempt_hours ORDER BY 1") == by_day
    return by_day


@given(st.none() | st.integers(-5, 60), st.none() | st.integers(-5, 60), st.integers(-1, 1))
def test_the_parts_of_a_stretch_of_time_cover_it_once(first: int | None, end: int | None, shift: int) -> None:
    """In hours, so that a few integers meet all cases."""
    from_us = None if first is None else first * HOUR_US
    until_us = None if end is None else end * HOUR_US + shift
    found = parts(from_us, until_us)
    covered = [(each.first * DAY_US, each.end * DAY_US) for each in found.days]
    covered += [(each.first * HOUR_US, each.end * HOUR_US) for each in found.hours]
    covered += [(each.first, each.end) for each in found.rest]
    assert all(low < high for low, high in covered)
    assert len(found.days) <= 1
    assert all(each.end - each.first < HOUR_US for each in found.rest)
    assert all(each.end - each.first < 48 for each in found.hours)
    borders = sorted(covered)
    assert all(before[1] == after[0] for before, after in pairwise(borders))
    if from_us is not None and until_us is not None:
        assert sum(high - low for low, high in covered) == max(0, until_us - from_us)
    if borders:
        assert borders[0][0] == (from_us or 0)


def test_the_ends_of_time_fit_a_database() -> None:
    last = 2**63 - 1
    found = parts(last - 10, None)
    assert found.days == ()
    assert [stretch for stretch in found.rest if not 0 <= stretch.first < stretch.end <= last] == []
    assert parts(5, 3) == Parts((), (), ())
    assert parts(0, DAY_US) == Parts((Stretch(0, 1),), (), ())


def test_absent_is_another_series_than_any_word() -> None:
    assert digest(("a", "b", "ok", None, "x", "y")) != digest(("a", "b", "ok", "null", "x", "y"))
