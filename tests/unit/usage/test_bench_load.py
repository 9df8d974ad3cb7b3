"""The ledger that is measured is one that could have come about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.accounts import Books, books
from support.exchanges import ROOT

if TYPE_CHECKING:
    from pathlib import Path

_TABLES = (
    "SELECT * FROM attempts ORDER BY event_id",
    "SELECT key_id, day, cost_nano FROM attempt_key_days ORDER BY 1, 2",
    *(
        f"SELECT digest, {unit}, attempts, unpriced, input_tokens, output_tokens, cost_nano, duration_us "
        f"FROM attempt_{unit}s JOIN attempt_series ON id = series ORDER BY 1, 2"
        for unit in ("hour", "day")
    ),
)


async def test_a_loaded_ledger_is_what_recording_its_events_leaves(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from bench import ledger_events, ledger_load  # noqa: PLC0415 -- found by the line above

    days = 4
    first = ledger_events.events(200, ledger_events.FIRST_US, ledger_events.FIRST_US + ledger_events.DAY_US, seed=0)
    rows = ledger_load.priced(list(first))
    every = [ledger_load.copied(row, day) if day else row for day in range(days) for row in rows]
    async with books(database_url) as loaded, books(f"sqlite:///{tmp_path / 'recorded.db'}") as recorded:
        await ledger_load.load(loaded.database, 200 * days, days, lambda _: None)
        for start in range(0, len(every), 50):
            assert (await recorded.ledger.record(every[start : start + 50])).new == 50
        for query in _TABLES:
            assert await answers(loaded, query) == await answers(recorded, query)
        (costs,) = await loaded.rows("SELECT sum(cost_usd) FROM attempt_days")
        (expected,) = await recorded.rows("SELECT sum(cost_usd) FROM attempts")
        assert costs[0] == pytest.approx(expected[0], rel=1e-12)


async def answers(kept: Books, query: str) -> list[tuple[Any, ...]]:
    found = await kept.rows(query)
    assert len(found) > 10
    return found
