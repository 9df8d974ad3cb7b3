"""`kill -9` in the middle of transactions: attempts and their sums are there together, or neither is."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from support.accounts import books

ROUNDS: Final = 5
BATCHES: Final = 6
"""Batches that a round waits for before it kills."""
PROGRAM: Final = """
import asyncio, random, sys
from aigateway_usage.rows import to_row
from support.accounts import books
from support.attempts import varied

async def main(url, start):
    chance = random.Random(start)
    async with books(url) as kept:
        while True:
            numbers = range(start, start + 50)
            await kept.ledger.record([to_row(varied(n, chance), 0) | {"cost_usd": n * 1e-6} for n in numbers])
            print(start, flush=True)
            start += 50

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""
SUMS: Final = (
    "SELECT count(*), sum(duration_us) FROM attempts",
    "SELECT sum(attempts), sum(duration_us) FROM attempt_hours",
    "SELECT sum(attempts), sum(duration_us) FROM attempt_days",
)


async def test_attempts_and_their_sums_agree_whenever_the_ledger_is_killed(database_url: str) -> None:
    acknowledged = 0
    for number in range(ROUNDS):
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, database_url, str(number * 1_000_000)),
            env={"PYTHONPATH": ":".join(sys.path)},
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdout is not None
        for _ in range(BATCHES):
            assert await child.stdout.readline()
        child.kill()
        rest = await child.stdout.read()
        await child.wait()
        acknowledged += 50 * (BATCHES + rest.count(b"\n"))
    async with books(database_url) as kept:
        (attempts, hours, days) = [await kept.rows(query) for query in SUMS]
        assert attempts == hours == days
        assert acknowledged <= attempts[0][0] <= acknowledged + 50 * ROUNDS
        (kept_by_key,) = await kept.rows("SELECT sum(cost_nano) FROM attempt_key_days")
        (scanned,) = await kept.rows("SELECT sum(round(cost_usd * 1e9)) FROM attempts WHERE key_id IS NOT NULL")
        assert kept_by_key[0] == scanned[0]
