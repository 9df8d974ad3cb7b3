"""Callers that leave at every stage, in each dialect: the provider's connection closes, the attempt is cancelled.

The same stages as `tests/integration/test_disconnect.py` has in every topology, as rows of the table; and many callers
at once that leave where it happens to be.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cases import CASES
from support.chaos.load import Load, Mix
from support.chaos.table import Table
from support.gateway import Gateway, environment
from support.leaving import STAGES, leave_at
from support.ledger import wait_until
from support.replay import Answer, Upstream
from support.whole import KEY, Whole

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(4000)]


async def test_every_stage_in_each_dialect(tmp_path: Path) -> None:
    table = Table("callers that leave", ("provider", *(stage.name for stage in STAGES)))
    with (
        Upstream(Answer()) as upstream,
        Gateway("embedded", tmp_path, environment(upstream.url, GATEWAY_API_KEY=KEY)) as gateway,
    ):
        for case in CASES:
            for stage in STAGES:
                await leave_at(Whole(gateway, upstream), case, stage)
            table.add(case.provider, *("closed, cancelled" for _ in STAGES))
    print(table.text())


async def test_many_leave_at_once(tmp_path: Path, echoing: str, seconds: float, seed: int) -> None:
    mix = Mix(kinds=("leave",), weights=(1,), words=100, gap_ms=50)
    with Gateway("embedded", tmp_path, environment(echoing, "openai")) as gateway:
        load = Load([gateway.http], f"leave{seed}", mix, seed)
        await load.run(64, seconds / 4, rate=200)
        ids = {call.request_id for call in load.calls}
        recorded = wait_until(
            gateway.data, lambda found: len(found) >= len(ids), "select request_id, status from requests"
        )
    assert set(load.counts()) == {"left"}
    assert {(row["request_id"], row["status"]) for row in recorded} == {(one, "cancelled") for one in ids}
    assert len(recorded) == len(ids)
    print(f"{len(ids)} callers left in mid-stream, {len(recorded)} attempts cancelled")
