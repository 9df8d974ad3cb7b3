"""Statements that go past SQLAlchemy, on real databases."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import pytest
from aigateway_common.errors import GatewayError
from aigateway_usage import plain
from aigateway_usage.plain import LIST, PAIRS, Statement
from aigateway_usage.tables import budgets
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from support.accounts import books, budget

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection


def test_postgresql_numbers_its_values_and_has_lists_of_its_own() -> None:
    statement = Statement.of(f"SELECT ? WHERE a IN {LIST} AND (b, c) IN {PAIRS} AND d = ?")
    assert statement.postgresql == (
        "SELECT $1 WHERE a IN (SELECT jsonb_array_elements_text($2::text::jsonb)) AND (b, c) IN (SELECT value ->> 0, "
        "value ->> 1 FROM jsonb_array_elements($3::text::jsonb) AS each(value)) AND d = $4"
    )


def _put(connection: Connection, number: int, text: str) -> None:
    row = {"id": f"b{number}", "scope": "key", "subject": text, "period": "day", "limit_nano": 1}
    connection.execute(insert(budgets), row | {"allow_unpriced": False, "created_at_us": 1})


async def test_lists_and_pairs_are_any_text_there_is(database_url: str) -> None:
    strange = ["a'b", 'c"d', "ü€😀", "", "\\n", "1", "null"]
    one = Statement.of(f"SELECT id FROM budgets WHERE subject IN {LIST} ORDER BY id")
    two = Statement.of(f"SELECT id FROM budgets WHERE (scope, subject) IN {PAIRS} ORDER BY id")
    async with books(database_url) as ledger:
        await ledger.set(budget("default"))
        for at, text in enumerate(strange):
            await ledger.database.write(partial(_put, number=at, text=text))
        found = await ledger.database.read(lambda c: one.rows(c, json.dumps(strange)))
        pairs = await ledger.database.read(lambda c: two.rows(c, json.dumps([["key", text] for text in strange[1:]])))
    assert [tuple(row) for row in found] == [(f"b{at}",) for at in range(len(strange))]
    assert [tuple(row) for row in pairs] == [(f"b{at}",) for at in range(1, len(strange))]


async def test_what_fails_on_sqlite_is_told_like_all_else_and_undone_with_its_transaction(tmp_path: Path) -> None:
    def twice(connection: Connection) -> None:
        plain.run(connection, "INSERT INTO budget_spending VALUES (?, 1, 2, 3), (?, 1, 2, 3)", ("a", "a"))

    async with books(f"sqlite+aiosqlite:///{tmp_path}/ledger.db") as ledger:
        with pytest.raises(GatewayError) as failed:
            await ledger.database.write(twice)
        assert isinstance(failed.value.__cause__, IntegrityError)
        assert await ledger.rows("SELECT * FROM budget_spending") == []
