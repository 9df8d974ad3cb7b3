"""UsageService on a real port: what it answers, refuses and shows to SQL users."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aigateway.v1 import usage_service_pb2
from aigateway_common import metrics
from aigateway_common.errors import GatewayError, from_rpc_error
from aigateway_usage.ledger import Recorded
from aigateway_usage.rows import to_row
from aigateway_usage.server import UsageComponent
from aigateway_usage.settings import PriceOverride, UsageSettings
from grpc import aio
from support.attempts import NOON, attempt, record, settings, usage_service
from support.ledger import rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aigateway.v1.usage_service_pb2_grpc import UsageServiceAsyncStub

_ERROR = usage_service_pb2.ATTEMPT_STATUS_ERROR
_CANCELLED = usage_service_pb2.ATTEMPT_STATUS_CANCELLED
_DAY = 86_400_000_000
_PRICES = {"acme/*": PriceOverride(input=1, output=10, cache_read=0.1)}


def _filter(**fields: Any) -> usage_service_pb2.AttemptFilter:
    return usage_service_pb2.AttemptFilter(**fields)


@pytest.fixture
async def usage(database_url: str) -> AsyncIterator[UsageServiceAsyncStub]:
    async with usage_service(UsageSettings(database_url, price_overrides=_PRICES)) as stub:
        yield stub


@pytest.fixture
async def in_file(tmp_path: Path) -> AsyncIterator[UsageServiceAsyncStub]:
    """With its database in the file `ledger.db`, for tests that read it as SQL users do."""
    async with usage_service(settings(tmp_path, price_overrides=_PRICES)) as stub:
        yield stub


async def listed(in_file: UsageServiceAsyncStub, **selection: Any) -> list[int]:
    """Numbers of the attempts that a filter finds."""
    chosen = usage_service_pb2.AttemptFilter(**selection)
    answer = await in_file.ListAttempts(usage_service_pb2.ListAttemptsRequest(filter=chosen))
    return [int(found.event_id, 16) for found in answer.attempts]


async def refused(call: Any) -> tuple[str, str]:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    error = from_rpc_error(caught.value)
    return error.reason.name, error.details.get("param", "")


async def test_what_was_recorded_is_listed_with_its_cost_newest_first(usage: UsageServiceAsyncStub) -> None:
    answer = await usage.RecordAttempts(record(attempt(1), attempt(2), attempt(1)))
    assert answer == usage_service_pb2.RecordAttemptsResponse(recorded=2, duplicates=1)
    found = await usage.ListAttempts(usage_service_pb2.ListAttemptsRequest())
    # 100 x 1 + 10 x 10, in millionths
    expected = [attempt(2, cost_usd=0.0002), attempt(1, cost_usd=0.0002)]
    assert found == usage_service_pb2.ListAttemptsResponse(attempts=expected)


async def test_a_cost_that_the_sender_sets_is_ignored(usage: UsageServiceAsyncStub) -> None:
    await usage.RecordAttempts(record(attempt(1, cost_usd=99.0)))
    found = await usage.ListAttempts(usage_service_pb2.ListAttemptsRequest())
    assert found.attempts[0].cost_usd == 0.0002


async def test_one_malformed_attempt_refuses_the_request_and_names_itself(
    in_file: UsageServiceAsyncStub, tmp_path: Path
) -> None:
    batch = record(attempt(1), attempt(2, request_id=""), attempt(3))
    assert await refused(in_file.RecordAttempts(batch)) == ("INVALID_REQUEST", "attempts[1].request_id")
    many = record(*[attempt(number) for number in range(10_001)])
    assert await refused(in_file.RecordAttempts(many)) == ("INVALID_REQUEST", "attempts")
    assert rows(tmp_path) == []


async def test_each_filter_finds_its_own(usage: UsageServiceAsyncStub) -> None:
    await usage.RecordAttempts(
        record(
            attempt(1, provider="openai"),
            attempt(2, project="search"),
            attempt(3, status=_ERROR),
            attempt(4, status=_CANCELLED),
            attempt(5, requested_model="mine"),
            attempt(6, sent_model="theirs"),
            attempt(7, answered_model="its"),
            attempt(8, request_id="call-x", attempt=1),
            attempt(9, request_id="call-x", attempt=2),
        )
    )
    assert await listed(usage) == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert await listed(usage, providers=["openai", "groq"]) == [1]
    assert await listed(usage, projects=["search"]) == [2]
    assert await listed(usage, statuses=[_ERROR, _CANCELLED]) == [4, 3]
    assert await listed(usage, models=["mine", "theirs", "its"]) == [7, 6, 5]
    assert await listed(usage, request_id="call-x") == [9, 8]
    assert await listed(usage, from_us=NOON + 3, until_us=NOON + 5) == [4, 3]
    assert await listed(usage, statuses=[_ERROR], providers=["openai"]) == []


@pytest.mark.parametrize("size", [1, 3, 10, 11])
async def test_pages_join_without_gaps_even_when_times_are_equal(usage: UsageServiceAsyncStub, size: int) -> None:
    await usage.RecordAttempts(record(*[attempt(number, started_at_us=NOON + number // 4) for number in range(10)]))
    chosen = usage_service_pb2.AttemptFilter(providers=["acme"])
    found, token, pages = list[int](), "", 0
    while pages == 0 or token:
        request = usage_service_pb2.ListAttemptsRequest(filter=chosen, page_size=size, page_token=token)
        answer = await usage.ListAttempts(request)
        found += [int(each.event_id, 16) for each in answer.attempts]
        token, pages = answer.next_page_token, pages + 1
    assert found == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert pages == -(-10 // size)


async def test_attempts_that_arrive_meanwhile_do_not_shift_the_next_page(usage: UsageServiceAsyncStub) -> None:
    await usage.RecordAttempts(record(*[attempt(number) for number in range(4)]))
    first = await usage.ListAttempts(usage_service_pb2.ListAttemptsRequest(page_size=2))
    await usage.RecordAttempts(record(attempt(50)))
    second = await usage.ListAttempts(
        usage_service_pb2.ListAttemptsRequest(page_size=2, page_token=first.next_page_token)
    )
    assert [int(each.event_id, 16) for each in second.attempts] == [1, 0]


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (usage_service_pb2.ListAttemptsRequest(page_size=-1), "page_size"),
        (usage_service_pb2.ListAttemptsRequest(page_size=1001), "page_size"),
        (usage_service_pb2.ListAttemptsRequest(page_token="nonsense"), "page_token"),
        (
            usage_service_pb2.ListAttemptsRequest(filter=_filter(statuses=[0])),
            "filter.statuses[0]",
        ),
        (
            usage_service_pb2.ListAttemptsRequest(filter=_filter(models=["m"] * 1001)),
            "filter.models",
        ),
    ],
)
async def test_a_list_that_makes_no_sense_is_refused_by_name(
    usage: UsageServiceAsyncStub, request_: usage_service_pb2.ListAttemptsRequest, param: str
) -> None:
    assert await refused(usage.ListAttempts(request_)) == ("INVALID_REQUEST", param)


async def test_sums_by_any_combination_of_keys(usage: UsageServiceAsyncStub) -> None:
    await usage.RecordAttempts(
        record(
            attempt(1, usage={"input_uncached": 90, "input_cache_read": 10, "output_text": 8, "output_reasoning": 2}),
            attempt(2, duration_us=750_000),
            attempt(3, status=_ERROR, usage=None, duration_us=9_000_000),
            attempt(4, status=_CANCELLED, project="search", started_at_us=NOON + _DAY),
            attempt(5, provider="nobody", sent_model="thing", started_at_us=NOON + _DAY),
        )
    )

    async def sums(*keys: usage_service_pb2.SummaryKey.ValueType) -> list[tuple[Any, ...]]:
        answer = await usage.SummarizeAttempts(usage_service_pb2.SummarizeAttemptsRequest(group_by=keys))
        return [(*row.keys, row.attempts) for row in answer.rows]

    key = usage_service_pb2.SummaryKey
    assert await sums(key.SUMMARY_KEY_MODEL) == [("acme-1", 4), ("thing", 1)]
    assert await sums(key.SUMMARY_KEY_PROVIDER) == [("acme", 4), ("nobody", 1)]
    assert await sums(key.SUMMARY_KEY_PROJECT, key.SUMMARY_KEY_STATUS) == [
        ("default", "ok", 3),
        ("default", "error", 1),
        ("search", "cancelled", 1),
    ]
    assert await sums(key.SUMMARY_KEY_DAY) == [("2026-07-24", 3), ("2026-07-25", 2)]
    assert await sums(key.SUMMARY_KEY_DAY, key.SUMMARY_KEY_PROVIDER) == [
        ("2026-07-24", "acme", 3),
        ("2026-07-25", "acme", 1),
        ("2026-07-25", "nobody", 1),
    ]
    acme = usage_service_pb2.AttemptFilter(providers=["acme"])
    answer = await usage.SummarizeAttempts(usage_service_pb2.SummarizeAttemptsRequest(filter=acme))
    # 90 x 1 + 10 x 0.1 + 10 x 10 = 191; 200; unknown; 200
    assert answer.rows[0].cost_usd == pytest.approx(0.000591, abs=1e-12)
    answer.rows[0].ClearField("cost_usd")
    assert list(answer.rows) == [
        usage_service_pb2.SummaryRow(
            attempts=4, errors=1, cancelled=1, input_tokens=300, output_tokens=30, unpriced=0, mean_duration_us=500_000
        )
    ]


async def test_unpriced_are_those_that_used_or_may_have_used_tokens(
    in_file: UsageServiceAsyncStub, tmp_path: Path
) -> None:
    batch = record(
        attempt(1, provider="unpriced"),
        attempt(2, provider="unpriced", status=_CANCELLED, usage=None),
        attempt(3, provider="unpriced", status=_ERROR),
        attempt(4, provider="unpriced", status=_ERROR, usage={"output_text": 0}),
        attempt(5, provider="unpriced", status=_ERROR, usage=None),
    )
    for new in (5, 0):  # a redelivery counts nothing twice
        answer = await in_file.RecordAttempts(batch)
        assert (answer.recorded, answer.duplicates) == (new, 5 - new)
    (summed,) = (await in_file.SummarizeAttempts(usage_service_pb2.SummarizeAttemptsRequest())).rows
    assert (summed.attempts, summed.unpriced) == (5, 4)
    value = metrics.REGISTRY.get_sample_value("aigateway_unpriced_attempts_total", {"provider": "unpriced"})
    assert value == 4
    assert [row["cost_usd"] for row in rows(tmp_path)] == [None] * 5


async def test_sums_of_nothing(usage: UsageServiceAsyncStub) -> None:
    answer = await usage.SummarizeAttempts(usage_service_pb2.SummarizeAttemptsRequest())
    assert list(answer.rows) == [usage_service_pb2.SummaryRow()]
    by_day = usage_service_pb2.SummarizeAttemptsRequest(group_by=[usage_service_pb2.SUMMARY_KEY_DAY])
    assert list((await usage.SummarizeAttempts(by_day)).rows) == []


@pytest.mark.parametrize(("keys", "param"), [([0], "group_by[0]"), ([1, 9], "group_by[1]"), ([2, 2], "group_by[1]")])
async def test_keys_that_make_no_sense_are_refused(usage: UsageServiceAsyncStub, keys: list[Any], param: str) -> None:
    request = usage_service_pb2.SummarizeAttemptsRequest(group_by=keys)
    assert await refused(usage.SummarizeAttempts(request)) == ("INVALID_REQUEST", param)


async def test_sql_users_see_requests(in_file: UsageServiceAsyncStub, tmp_path: Path) -> None:
    failed = {"status": _ERROR, "error_reason": "UPSTREAM_ERROR", "upstream_status": 500, "usage": None}
    everything = {
        "input_uncached": 1,
        "input_cache_read": 20,
        "input_cache_write_5m": 300,
        "input_cache_write_1h": 4000,
        "tool_use_prompt": 50_000,
        "output_text": 7,
        "output_reasoning": 80,
    }
    await in_file.RecordAttempts(
        record(
            attempt(1, usage=everything, first_event_us=1500, duration_us=2500),
            attempt(2, error_message="it broke", **failed),
            attempt(3, provider="nobody", usage={"input_uncached": 0}, status=_CANCELLED),
        )
    )
    sql = "SELECT model, provider, prompt_tokens, completion_tokens, total_tokens, cost_usd, latency_ms, success, error"
    found = rows(tmp_path, f"{sql} FROM requests ORDER BY id")
    # 1 + 20 x 0.1 + 300 + 4000 + 50000 + 87 x 10 = 55173
    assert [tuple(row.values()) for row in found] == [
        ("acme-1", "acme", 54321, 87, 54408, 0.055173, 2.5, 1, None),
        ("acme-1", "acme", None, None, None, None, 250.0, 0, "it broke"),
        ("acme-1", "nobody", 0, None, 0, None, 250.0, 0, "cancelled"),
    ]
    more = "SELECT id, request_id, project, started_at, first_event_ms, error_reason, upstream_status FROM requests"
    assert [tuple(row.values()) for row in rows(tmp_path, f"{more} ORDER BY id LIMIT 2")] == [
        (f"{1:032x}", "call-1", "default", "2026-07-24T12:00:00.000Z", 1.5, None, None),
        (f"{2:032x}", "call-2", "default", "2026-07-24T12:00:00.000Z", None, "UPSTREAM_ERROR", 500),
    ]


async def test_the_documented_queries_run(in_file: UsageServiceAsyncStub, tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "ledger.md").read_text(encoding="utf-8")
    queries = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    await in_file.RecordAttempts(record(attempt(1), attempt(2, started_at_us=time.time_ns() // 1000)))
    by_model, by_day, slowest = [[tuple(row.values()) for row in rows(tmp_path, query)] for query in queries]
    assert by_model == [("acme", "acme-1", 2, 220, 0.0004, 0)]
    assert by_day[0] == ("2026-07-24", 1, 0, 0.0002)
    assert [row[1:] for row in slowest] == [("call-2", "acme", "acme-1", 250.0, 10)]


async def test_the_documented_columns_are_those_of_the_view(in_file: UsageServiceAsyncStub, tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "ledger.md").read_text(encoding="utf-8")
    names = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    await in_file.RecordAttempts(record(attempt(1)))
    assert set(re.findall(r"`(\w+)`", " ".join(names))) == set(rows(tmp_path)[0])


@pytest.mark.parametrize("grace", [0, 5])
async def test_stopping_answers_everyone_who_waits(tmp_path: Path, grace: float) -> None:
    component = UsageComponent(settings(tmp_path))
    await component.start()
    ledger = component._ledger
    waiting = [asyncio.create_task(ledger.record([to_row(attempt(number), 0)])) for number in range(50)]
    await asyncio.sleep(0)
    await component.stop(grace)
    answers = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    kept = {int(row["id"], 16) for row in rows(tmp_path)}
    assert {number for number, answer in enumerate(answers) if isinstance(answer, Recorded)} == kept
    assert all(isinstance(answer, Recorded | GatewayError) for answer in answers)
    assert grace == 0 or len(kept) == 50
